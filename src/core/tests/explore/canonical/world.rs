//! What of the world around the core decides what happens next, as a key has it.

use std::collections::BTreeMap;
use std::time::Duration;

use super::View;
use crate::core::guests::write_live;
use crate::core::slot::GRACE;
use crate::core::tests::hypervisor::{Hypervisor, Piece};
use crate::core::tests::world::{Open, World};
use crate::guests::NewDevice;

impl View<'_> {
    pub(super) fn world(&mut self) {
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
            told_by,
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
            hypervisor,
            shown,
            forgetting,
        } = self.world;
        let waiting = self.world.core.guests.commands();
        let waiting: BTreeMap<_, _> = waiting.map(|(command, at)| (command, at - self.world.start)).collect();
        assert_eq!(waiting, *told_by, "no other deadline");
        self.key.put(commands.len());
        self.key.put(open.len());
        for (mapping, Open { slot, disk, partition, mount, mounts, is_left }) in open {
            self.mapping(Some(mapping));
            self.key.put(slot.0);
            self.disk(*disk);
            self.key.put(partition.map_or(0, |number| 1 + number as usize));
            self.key.number(*mount);
            self.key.put(usize::from(*is_left));
            // Of those before it only what is there still.
            for on_name in [mounted, moved] {
                self.key.flag(on_name.get(slot).is_some_and(|mount| mounts.contains(mount)));
            }
        }
        for mounts in [mounted, moved] {
            self.key.put(mounts.len());
            for (slot, mount) in mounts {
                self.key.put(slot.0);
                self.key.number(*mount);
            }
        }
        for slots in [back, covered] {
            self.key.put(slots.len());
            slots.iter().for_each(|slot| self.key.put(slot.0));
        }
        let left = |last: &Duration| (*last + GRACE).saturating_sub(*elapsed);
        let graces =
            || last_retry.iter().map(|(slot, last)| (slot, left(last))).filter(|(_, left)| !left.is_zero());
        self.key.put(graces().count());
        for (slot, left) in graces() {
            self.key.put(slot.0);
            self.key.time(left);
        }
        self.key.flag(*ended);
        self.key.put(shown.len());
        // A slot's name is always the same.
        shown.keys().for_each(|slot| self.key.put(slot.0));
        self.key.put(*forgetting);
        self.hypervisor(hypervisor);
    }

    fn hypervisor(&mut self, hypervisor: &Hypervisor) {
        let Hypervisor {
            connected,
            // Counts only.
            asked_to_connect: _,
            asked: _,
            runs: _,
            domains,
            pieces,
            looks,
            usb,
            orphans,
        } = hypervisor;
        assert!(usb.is_empty() && orphans.is_empty(), "a search has no USB devices and one daemon");
        self.key.flag(*connected);
        self.key.put(domains.len());
        for (name, live) in domains {
            self.key.name(name);
            self.key.flag(live.is_some());
            live.iter().for_each(|live| write_live(live, &mut self.key));
        }
        let asked: BTreeMap<_, _> =
            pieces.iter().map(|(guest, (ticket, _))| (guest.as_str(), *ticket)).collect();
        assert_eq!(self.world.core.guests.tickets(), asked, "what a guest was asked for is waited for");
        for (_, piece) in pieces.values() {
            match piece {
                Piece::Attach(NewDevice::Disk { node, target, alias, .. }) => {
                    self.key.put(1);
                    self.key.name(&node.to_string_lossy());
                    self.key.name(target);
                    self.key.name(alias);
                }
                Piece::Detach(alias) => {
                    self.key.put(2);
                    self.key.name(alias);
                }
                Piece::Look => self.key.put(3),
                Piece::Attach(NewDevice::Usb { .. }) => panic!("a search has no USB devices"),
            }
        }
        self.key.put(looks.len());
        looks.iter().for_each(|guest| self.key.name(guest));
    }
}
