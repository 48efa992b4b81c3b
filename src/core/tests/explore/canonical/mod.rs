//! When two states are the same: numbers are renamed in the order in which they are met, moments are counted from now,
//! callers have no names. Every field is listed, so that a new one has to be dealt with here; what is left out is named
//! with `_`, and why.

mod slot;
mod world;
mod writer;

use std::sync::Arc;

use super::super::world::World;
use crate::config::{Config, Mount};
use crate::core::inventory::{Inventory, Place};
use crate::core::reload::Reload;
use crate::core::shared::Shared;
use crate::core::slot::Slot;
use crate::core::{Core, SlotId};
use crate::device::{Disk, DiskSeq};

pub(in crate::core) use writer::{Key, Writer};

/// The canonical form of a state in a search that knows these configs.
pub(super) fn key(world: &World, configs: &[Arc<Config>]) -> Key {
    let mut view = View { world, configs, key: Writer::new(world.instant()) };
    view.core(&world.core);
    view.world();
    view.key.key()
}

struct View<'a> {
    world: &'a World,
    configs: &'a [Arc<Config>],
    key: Writer,
}

impl View<'_> {
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
        self.key.put(slots.len());
        slots.iter().for_each(|slot| self.slot(slot));
        self.shared(shared);
        guests.write(&shared.inventory, &mut self.key);
        let next: Vec<_> = slots.iter().map(Slot::next_tick).collect();
        assert_eq!(*ticks, next, "the core knows when each slot has something to do");
        let ticks = ticks.iter().enumerate().filter_map(|(slot, tick)| Some(((*tick)?, SlotId(slot))));
        assert_eq!(*timers, ticks.collect());
        // When it began decides only what happens to a job that hangs for longer than a search looks; what was open then,
        // what is told.
        let stop = stop
            .as_ref()
            .map(|stop| 1 + usize::from(stop.command.is_some()) + 2 * usize::from(stop.is_ordered));
        self.key.put(stop.unwrap_or(0));
        self.key.flag(*ending);
        self.key.flag(*root_gone);
        self.key.put(leaving.len());
        for slot in leaving {
            self.key.put(slot.0);
        }
        self.key.put(*forgetting);
        self.key.put(reloads.len());
        for Reload { command, config } in reloads {
            self.key.flag(command.is_some());
            self.key.flag(config.is_ok());
            config.iter().for_each(|config| self.config(config));
        }
        // What is said of a reload is for people.
        self.key.put(reloaded.len());
    }

    fn config(&mut self, config: &Arc<Config>) {
        let place = self.configs.iter().position(|known| Arc::ptr_eq(known, config));
        self.key.put(place.expect("the search knows its configs"));
    }

    /// Equal ones are one, whichever config they are of.
    fn mount(&mut self, mount: &Arc<Mount>) {
        let all = || self.configs.iter().flat_map(|config| &config.mounts);
        let place = all()
            .position(|known| Arc::ptr_eq(known, mount))
            .and_then(|_| all().position(|known| Arc::ptr_eq(known, mount) || **known == **mount));
        assert!(place.is_some() || mount.disks.is_empty(), "of no config: {mount:?}");
        self.key.put(place.map_or(0, |place| 1 + place));
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
        self.key.flag(*stopping);
        self.key.flag(*keeping);
        // Which they are is for people.
        self.key.flag(refusals.is_empty());
        assert!(actions.is_empty() && early.is_empty());
        assert!(
            jobs.len() == self.world.jobs.len() && jobs.keys().all(|job| self.world.jobs.contains_key(job))
        );
        let waiting = &self.world.waiting;
        assert!(
            requests.len() == waiting.len() && requests.keys().all(|request| waiting.contains_key(request))
        );
    }

    fn inventory(&mut self, inventory: &Inventory) {
        let Inventory {
            disks,
            usb,
            owners,
            guests,
            // Only images are looked for among them.
            sources: _,
            // Written with the guests.
            revision: _,
            // A hint for probing.
            images: _,
        } = inventory;
        assert!(usb.is_empty(), "a search has no USB devices");
        assert!(disks.keys().eq(self.world.disks.keys()));
        let mut present: Vec<&Disk> = disks.values().collect();
        // Guests get theirs in the order in which they were plugged in.
        if self.world.hypervisor.domains.is_empty() {
            present.sort_by(|one, other| one.preferred_id.cmp(&other.preferred_id));
        }
        self.key.put(present.len());
        for disk in present {
            self.key.flag(disk.preferred_id.as_deref() == Some("near"));
            self.key.number(disk.seq.0);
            // Whose it is is for people.
            self.key.flag(guests.contains_key(&disk.seq));
        }
        let mut owned: Vec<_> =
            owners.iter().flat_map(|(disk, of)| of.iter().map(move |of| (of, disk))).collect();
        owned.sort_unstable();
        self.key.put(owned.len());
        for (&(slot, partition), disk) in owned {
            self.key.put(slot.0);
            self.place(Some(Place { disk: *disk, partition }));
        }
    }

    fn disk(&mut self, disk: Option<DiskSeq>) {
        self.key.flag(disk.is_some());
        disk.into_iter().for_each(|disk| self.key.number(disk.0));
    }

    fn place(&mut self, place: Option<Place>) {
        self.disk(place.map(|place| place.disk));
        if let Some(Place { disk: _, partition }) = place {
            self.key.put(partition.map_or(0, |number| 1 + number as usize));
        }
    }
}
