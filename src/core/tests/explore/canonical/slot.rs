//! A slot, its job and its callers, as a key has them.

use super::View;
use super::writer::{byte, quarters};
use crate::core::closing::Residue;
use crate::core::leaving::Command;
use crate::core::outside::Taken;
use crate::core::slot::{GRACE, InUse, Membership, Slot, State};
use crate::core::tests::jobs::{Job, disk_of};
use crate::core::waiting::{Caller, Waiting, Wants};
use crate::core::{Detached, Hold, SlotId, Unmount, Wish};
use crate::disk::Opened;

impl View<'_> {
    pub(super) fn slot(&mut self, slot: &Slot) {
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
        self.key.put(id.0);
        self.mount(config);
        self.key.flag(next.is_some());
        next.iter().for_each(|next| self.mount(next));
        self.key.put(match membership {
            Membership::Configured => 0,
            Membership::Leaving => 1,
            Membership::Gone => 2,
        });
        self.key.flag(*disk_leaves);
        self.state(*id, state);
        self.waiting(waiting);
        self.key.put(residues.len());
        residues.iter().for_each(|residue| self.residue(residue));
        self.commands(commands);
        self.key.moment(*eject_at);
        // A table that is read from now on is older only if it was now.
        self.key.flag(*gone == Some(self.world.instant()));
        // In words, for people.
        self.key.flag(covered.is_some());
        self.key.flag(taken.is_some());
        if let Some(Taken { in_use, since: _ }) = taken.as_deref() {
            self.in_use(in_use);
        }
        let grace = last_retry.map(|last| last + GRACE);
        self.key.moment(grace.filter(|&end| end > self.world.instant()));
    }

    fn state(&mut self, slot: SlotId, state: &State) {
        let mut jobs = self.world.jobs.iter().filter(|(_, (of, _))| *of == slot);
        let (known, work) = jobs.next().map(|(job, (_, work))| (*job, work)).unzip();
        assert!(jobs.next().is_none());
        let job = match state {
            State::Idle => {
                self.key.put(0);
                None
            }
            State::Preparing { job, place, spec, is_deserted } => {
                self.key.put(1);
                self.place(*place);
                self.key.put(*spec);
                self.key.flag(*is_deserted);
                Some(*job)
            }
            State::Attaching { job, in_use } => {
                self.key.put(2);
                self.in_use(in_use);
                Some(*job)
            }
            // Since when is for people; no table is read that is older than now.
            State::Mounted { in_use, since: _, attached: _, expire_at, unmount_at } => {
                self.key.put(3);
                self.in_use(in_use);
                self.key.moment(*expire_at);
                self.key.moment(*unmount_at);
                None
            }
            State::Unmounting { job, in_use, since: _, attached: _, how } => {
                self.key.put(4);
                self.in_use(in_use);
                self.how(*how);
                Some(*job)
            }
            // What is asked decides only what is told.
            State::Locking { job, place, opened, attempts, asks: _ } => {
                self.key.put(5);
                self.place(*place);
                self.opened(opened);
                self.key.put(*attempts as usize);
                Some(*job)
            }
            State::Ejecting { job, place } => {
                self.key.put(6);
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
                self.key.put(0);
                self.disk(disk_of(order));
            }
            Job::Attach(mapping) => {
                self.key.put(1);
                self.mapping(Some(mapping));
            }
            Job::Unmount(mount, how) => {
                self.key.put(2);
                self.key.number(*mount);
                self.how(*how);
            }
            Job::Lock(mapping) => {
                self.key.put(3);
                self.mapping(mapping.as_deref());
            }
            Job::Eject(disk) => {
                self.key.put(4);
                self.key.number(disk.0);
            }
        }
    }

    fn how(&mut self, how: Unmount) {
        self.key.put(match how {
            Unmount::Expire => 0,
            Unmount::Now => 1,
            Unmount::Lazy => 2,
        });
    }

    fn in_use(&mut self, in_use: &InUse) {
        let InUse { place, detached, spec } = in_use;
        // What it is and how it is mounted is for people.
        let Detached { mount, opened, filesystem: _, read_only: _, errors: _, notes: _ } = detached;
        self.place(*place);
        self.key.number(*mount);
        self.opened(opened);
        self.key.put(spec.map_or(0, |spec| 1 + spec));
    }

    fn opened(&mut self, opened: &Opened) {
        let Opened { mapping, loop_device, devnum, device, disk_sequence } = opened;
        assert!(loop_device.is_none() && device.as_os_str().is_empty(), "the world has mappings only");
        assert_eq!((*devnum, *disk_sequence), (0, 0));
        self.mapping(mapping.as_deref());
    }

    pub(super) fn mapping(&mut self, mapping: Option<&str>) {
        let number = mapping.and_then(|name| name.rsplit_once(' ')?.1.parse().ok());
        self.key.number(number.expect("a mapping has a number"));
    }

    fn waiting(&mut self, waiting: &Waiting) {
        let Waiting { slot, callers } = waiting;
        let mut all: Vec<_> = callers.iter().map(|caller| self.caller(*slot, caller)).collect();
        // Who came first makes no difference.
        all.sort_unstable();
        self.key.put(all.len());
        all.iter().for_each(|caller| self.key.bytes(caller));
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
        self.key.moment(Some(*retry_at));
        self.key.put(*attempts as usize);
    }

    fn commands(&mut self, commands: &[Command]) {
        self.key.put(commands.len());
        // Commands of one wish differ by nothing else; what was told is for people.
        for Command { id, wish, waits, told } in commands {
            assert!(self.world.commands.contains(id));
            self.key.put(match wish {
                Wish::Locked => 0,
                Wish::LockedLater => 1,
                Wish::Ejected => 2,
            });
            self.key.flag(*waits);
            self.key.flag(told.is_some());
        }
    }
}
