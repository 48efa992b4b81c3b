//! When two states are the same: numbers are renamed in the order in which they are met, moments are counted from now,
//! callers have no names. Every field is listed, so that a new one has to be dealt with here; what is left out is named
//! with `_`, and why.

use std::collections::HashSet;
use std::sync::Arc;
use std::time::{Duration, Instant};

use crate::config::{Config, Mount};
use crate::core::closing::Residue;
use crate::core::inventory::{Inventory, Place};
use crate::core::leaving::Command;
use crate::core::outside::Taken;
use crate::core::reload::Reload;
use crate::core::shared::Shared;
use crate::core::slot::{GRACE, InUse, Membership, Slot, State};
use crate::core::tests::world::{Job, Open, World, disk_of};
use crate::core::waiting::{Caller, Waiting, Wants};
use crate::core::{Core, Detached, Hold, RequestId, SlotId, Unmount, Wish};
use crate::device::{Disk, DiskSeq};
use crate::disk::Opened;

/// All of a state that matters. Equal keys: whatever happens next, the same comes of it.
pub(super) type Key = Box<[u8]>;

/// The canonical form of a state in a search that knows these configs.
pub(super) fn key(world: &World, configs: &[Arc<Config>]) -> Key {
    let mut view = View { world, configs, numbers: Vec::new(), bytes: Vec::with_capacity(128) };
    view.core(&world.core);
    view.world();
    view.bytes.into()
}

struct View<'a> {
    world: &'a World,
    configs: &'a [Arc<Config>],
    /// Met so far, of requests, disks, mounts and mappings: one counter gives them all.
    numbers: Vec<u64>,
    bytes: Vec<u8>,
}

impl View<'_> {
    fn put(&mut self, value: usize) {
        self.bytes.push(u8::try_from(value).ok().filter(|&byte| byte < 255).expect("a small number"));
    }

    fn flag(&mut self, flag: bool) {
        self.bytes.push(flag.into());
    }

    fn number(&mut self, number: u64) {
        let known = self.numbers.iter().position(|&known| known == number);
        let name = known.unwrap_or_else(|| {
            self.numbers.push(number);
            self.numbers.len() - 1
        });
        self.put(name);
    }

    fn time(&mut self, time: Duration) {
        self.put(quarters(time));
    }

    /// What is due is due, however long.
    fn moment(&mut self, at: Option<Instant>) {
        self.flag(at.is_some());
        if let Some(at) = at {
            self.time(at.saturating_duration_since(self.world.instant()));
        }
    }

    fn core(&mut self, core: &Core) {
        let Core {
            config,
            slots,
            shared,
            guests,
            timers,
            ticks,
            stop,
            ending,
            root_gone,
            leaving,
            forgetting,
            reloads,
            reloaded,
        } = core;
        self.config(config);
        self.put(slots.len());
        slots.iter().for_each(|slot| self.slot(slot));
        self.shared(shared);
        assert!(guests.are_unheard_of(), "a search has no guests");
        let next: Vec<_> = slots.iter().map(Slot::next_tick).collect();
        assert_eq!(*ticks, next, "the core knows when each slot has something to do");
        let ticks = ticks.iter().enumerate().filter_map(|(slot, tick)| Some(((*tick)?, SlotId(slot))));
        assert_eq!(*timers, ticks.collect());
        // When it began decides only what happens to a job that hangs for longer than a search looks; what was open then,
        // what is told.
        let stop = stop
            .as_ref()
            .map(|stop| 1 + usize::from(stop.command.is_some()) + 2 * usize::from(stop.is_ordered));
        self.put(stop.unwrap_or(0));
        self.flag(*ending);
        self.flag(*root_gone);
        self.put(leaving.len());
        leaving.iter().for_each(|slot| self.put(slot.0));
        self.put(*forgetting);
        self.put(reloads.len());
        for Reload { command, config } in reloads {
            self.flag(command.is_some());
            self.flag(config.is_ok());
            config.iter().for_each(|config| self.config(config));
        }
        // What is said of a reload is for people.
        self.put(reloaded.len());
    }

    fn config(&mut self, config: &Arc<Config>) {
        let place = self.configs.iter().position(|known| Arc::ptr_eq(known, config));
        self.put(place.expect("the search knows its configs"));
    }

    /// Equal ones are one, whichever config they are of.
    fn mount(&mut self, mount: &Arc<Mount>) {
        let all = || self.configs.iter().flat_map(|config| &config.mounts);
        let place = all()
            .position(|known| Arc::ptr_eq(known, mount))
            .and_then(|_| all().position(|known| Arc::ptr_eq(known, mount) || **known == **mount));
        assert!(place.is_some() || mount.disks.is_empty(), "of no config: {mount:?}");
        self.put(place.map_or(0, |place| 1 + place));
    }

    fn slot(&mut self, slot: &Slot) {
        let Slot {
            id,
            config,
            next,
            membership,
            disk_leaves,
            state,
            waiting,
            residues,
            commands,
            eject_at,
            // Only shown, and logged if it is another.
            failure: _,
            gone,
            covered,
            taken,
            // Only shown.
            loss: _,
            last_retry,
        } = slot;
        self.put(id.0);
        self.mount(config);
        self.flag(next.is_some());
        next.iter().for_each(|next| self.mount(next));
        self.put(match membership {
            Membership::Configured => 0,
            Membership::Leaving => 1,
            Membership::Gone => 2,
        });
        self.flag(*disk_leaves);
        self.state(*id, state);
        self.waiting(waiting);
        self.put(residues.len());
        residues.iter().for_each(|residue| self.residue(residue));
        self.commands(commands);
        self.moment(*eject_at);
        // A table that is read from now on is older only if it was now.
        self.flag(*gone == Some(self.world.instant()));
        // In words, for people.
        self.flag(covered.is_some());
        self.flag(taken.is_some());
        if let Some(Taken { in_use, since: _ }) = taken.as_deref() {
            self.in_use(in_use);
        }
        let grace = last_retry.map(|last| last + GRACE);
        self.moment(grace.filter(|&end| end > self.world.instant()));
    }

    fn state(&mut self, slot: SlotId, state: &State) {
        let mut jobs = self.world.jobs.iter().filter(|(_, (of, _))| *of == slot);
        let (known, work) = jobs.next().map(|(job, (_, work))| (*job, work)).unzip();
        assert!(jobs.next().is_none());
        let job = match state {
            State::Idle => {
                self.put(0);
                None
            }
            State::Preparing { job, place, spec, is_deserted } => {
                self.put(1);
                self.place(*place);
                self.put(*spec);
                self.flag(*is_deserted);
                Some(*job)
            }
            State::Attaching { job, in_use } => {
                self.put(2);
                self.in_use(in_use);
                Some(*job)
            }
            // Since when is for people; no table is read that is older than now.
            State::Mounted { in_use, since: _, attached: _, expire_at, unmount_at } => {
                self.put(3);
                self.in_use(in_use);
                self.moment(*expire_at);
                self.moment(*unmount_at);
                None
            }
            State::Unmounting { job, in_use, since: _, attached: _, how } => {
                self.put(4);
                self.in_use(in_use);
                self.how(*how);
                Some(*job)
            }
            // What is asked decides only what is told.
            State::Locking { job, place, opened, attempts, asks: _ } => {
                self.put(5);
                self.place(*place);
                self.opened(opened);
                self.put(*attempts as usize);
                Some(*job)
            }
            State::Ejecting { job, place } => {
                self.put(6);
                self.place(Some(*place));
                Some(*job)
            }
        };
        assert_eq!(job, known, "the job of a slot is the one that it waits for");
        work.into_iter().for_each(|work| self.work(work));
    }

    fn work(&mut self, work: &Job) {
        match work {
            Job::Prepare(order) => {
                self.put(0);
                self.disk(disk_of(order));
            }
            Job::Attach(mapping) => {
                self.put(1);
                self.mapping(Some(mapping));
            }
            Job::Unmount(mount, how) => {
                self.put(2);
                self.number(*mount);
                self.how(*how);
            }
            Job::Lock(mapping) => {
                self.put(3);
                self.mapping(mapping.as_deref());
            }
            Job::Eject(disk) => {
                self.put(4);
                self.number(disk.0);
            }
        }
    }

    fn how(&mut self, how: Unmount) {
        self.put(match how {
            Unmount::Expire => 0,
            Unmount::Now => 1,
            Unmount::Lazy => 2,
        });
    }

    fn disk(&mut self, disk: Option<DiskSeq>) {
        self.flag(disk.is_some());
        disk.into_iter().for_each(|disk| self.number(disk.0));
    }

    fn place(&mut self, place: Option<Place>) {
        self.disk(place.map(|place| place.disk));
        if let Some(Place { disk: _, partition }) = place {
            self.put(partition.map_or(0, |number| 1 + number as usize));
        }
    }

    fn in_use(&mut self, in_use: &InUse) {
        let InUse { place, detached, spec } = in_use;
        // What it is and how it is mounted is for people.
        let Detached { mount, opened, filesystem: _, read_only: _, errors: _, notes: _ } = detached;
        self.place(*place);
        self.number(*mount);
        self.opened(opened);
        self.put(spec.map_or(0, |spec| 1 + spec));
    }

    fn opened(&mut self, opened: &Opened) {
        let Opened { mapping, loop_device, devnum, device, disk_sequence } = opened;
        assert!(loop_device.is_none() && device.as_os_str().is_empty(), "the world has mappings only");
        assert_eq!((*devnum, *disk_sequence), (0, 0));
        self.mapping(mapping.as_deref());
    }

    fn mapping(&mut self, mapping: Option<&str>) {
        let number = mapping.and_then(|name| name.rsplit_once(' ')?.1.parse().ok());
        self.number(number.expect("a mapping has a number"));
    }

    fn waiting(&mut self, waiting: &Waiting) {
        let Waiting { slot, callers } = waiting;
        let mut all: Vec<_> = callers.iter().map(|caller| self.caller(*slot, caller)).collect();
        // Who came first makes no difference.
        all.sort_unstable();
        self.put(all.len());
        all.iter().for_each(|caller| self.bytes.extend_from_slice(caller));
    }

    fn caller(&self, slot: SlotId, caller: &Caller) -> [u8; 4] {
        // A table that is read now shows what was when the last caller came.
        let Caller { request, wants, arrived: _, deadline, look_at } = caller;
        let known = self.world.waiting[request];
        assert_eq!(known.slot, slot);
        let left = deadline.saturating_duration_since(self.world.instant());
        assert_eq!(left + self.world.elapsed, known.deadline, "no other deadline");
        let wants = match wants {
            Wants::Enter(Hold::Directory) => 0,
            Wants::Enter(Hold::Nothing) => 1,
            Wants::Walk => 2,
        };
        let again = look_at.map(|at| at.saturating_duration_since(self.world.instant()));
        let byte = |number: usize| u8::try_from(number).expect("a small number");
        [
            wants,
            byte(quarters(left)),
            byte(again.map_or(0, |again| 1 + quarters(again))),
            self.world.looked_at.contains(request).into(),
        ]
    }

    fn residue(&mut self, residue: &Residue) {
        // The message is for people.
        let Residue { place, opened, retry_at, attempts, message: _ } = residue;
        self.place(*place);
        self.opened(opened);
        self.moment(Some(*retry_at));
        self.put(*attempts as usize);
    }

    fn commands(&mut self, commands: &[Command]) {
        self.put(commands.len());
        // Commands of one wish differ by nothing else; what was told is for people.
        for Command { id, wish, waits, told } in commands {
            assert!(self.world.commands.contains(id));
            self.put(match wish {
                Wish::Locked => 0,
                Wish::LockedLater => 1,
                Wish::Ejected => 2,
            });
            self.flag(*waits);
            self.flag(told.is_some());
        }
    }

    fn shared(&mut self, shared: &Shared) {
        let Shared {
            // Moments are counted from it.
            now: _,
            inventory,
            stopping,
            keeping,
            refusals,
            // For people.
            events: _,
            triggers: _,
            actions,
            jobs,
            // Only the next number.
            last_job: _,
            requests,
            early,
        } = shared;
        self.inventory(inventory);
        self.flag(*stopping);
        self.flag(*keeping);
        // Which they are is for people.
        self.flag(refusals.is_empty());
        assert!(actions.is_empty() && early.is_empty());
        assert!(
            jobs.len() == self.world.jobs.len() && jobs.keys().all(|job| self.world.jobs.contains_key(job))
        );
        let waiting: HashSet<&RequestId> = self.world.waiting.keys().collect();
        assert_eq!(requests.keys().collect::<HashSet<_>>(), waiting, "who waits is known");
    }

    fn inventory(&mut self, inventory: &Inventory) {
        let Inventory {
            disks,
            usb,
            owners,
            guests,
            sources,
            // Counts changes, for guests.
            revision: _,
            // A hint for probing.
            images: _,
        } = inventory;
        assert!(usb.is_empty() && guests.is_empty() && sources.is_empty(), "a search has no guests");
        assert!(disks.keys().eq(self.world.disks.keys()));
        let mut present: Vec<&Disk> = disks.values().collect();
        present.sort_by(|one, other| one.preferred_id.cmp(&other.preferred_id));
        self.put(present.len());
        for disk in present {
            self.flag(disk.preferred_id.as_deref() == Some("near"));
            self.number(disk.seq.0);
        }
        let mut owned: Vec<_> =
            owners.iter().flat_map(|(disk, of)| of.iter().map(move |of| (of, disk))).collect();
        owned.sort_unstable();
        self.put(owned.len());
        for (&(slot, partition), disk) in owned {
            self.put(slot.0);
            self.place(Some(Place { disk: *disk, partition }));
        }
    }

    fn world(&mut self) {
        let World {
            core: _,
            // Moments are counted from now.
            start: _,
            elapsed,
            // Those of the inventory and of the slots: compared above.
            disks: _,
            jobs: _,
            waiting: _,
            looked_at: _,
            // Only the next number.
            last: _,
            // Told, and decides nothing.
            cancelled: _,
            replies: _,
            told: _,
            errors: _,
            commands,
            open,
            mounted,
            moved,
            back,
            covered,
            // Shown only.
            broken: _,
            last_retry,
            // The table can be read at any time.
            asked: _,
            ended,
            // Told, and decides nothing.
            loss: _,
            // There are no guests.
            hypervisor: _,
            shown,
            forgetting,
        } = self.world;
        self.put(commands.len());
        self.put(open.len());
        for (mapping, Open { slot, disk, partition, mount, mounts, is_left }) in open {
            self.mapping(Some(mapping));
            self.put(slot.0);
            self.disk(*disk);
            self.put(partition.map_or(0, |number| 1 + number as usize));
            self.number(*mount);
            self.put(usize::from(*is_left));
            // Of those before it only what is there still.
            for on_name in [mounted, moved] {
                self.flag(on_name.get(slot).is_some_and(|mount| mounts.contains(mount)));
            }
        }
        for mounts in [mounted, moved] {
            self.put(mounts.len());
            for (slot, mount) in mounts {
                self.put(slot.0);
                self.number(*mount);
            }
        }
        for slots in [back, covered] {
            self.put(slots.len());
            slots.iter().for_each(|slot| self.put(slot.0));
        }
        for (slot, last) in last_retry {
            if let Some(left) = (*last + GRACE).checked_sub(*elapsed).filter(|left| !left.is_zero()) {
                self.put(slot.0);
                self.time(left);
            }
        }
        self.flag(*ended);
        self.put(shown.len());
        // A slot's name is always the same.
        shown.keys().for_each(|slot| self.put(slot.0));
        self.put(*forgetting);
    }
}

/// Time passes in quarters of a second.
fn quarters(time: Duration) -> usize {
    assert_eq!(time.as_nanos() % 250_000_000, 0, "{time:?}");
    usize::try_from(time.as_millis() / 250).expect("a short time")
}
