//! A daemon that dies and is started again, and the attaches that the dead one had asked for.

use std::sync::Arc;

use super::hypervisor::{Hypervisor, Piece, has, same};
use super::jobs::{Job, disk_of};
use super::world::World;
use crate::core::{Core, Event, JobId, Now, SlotId};
use crate::device::{Disk, DiskSeq, GuestName};
use crate::guests::NewDevice;

impl World {
    /// Nobody waits for the answer any more.
    pub(super) fn end_orphan(&mut self, which: usize, is_good: bool) {
        if self.hypervisor.orphans.is_empty() {
            return;
        }
        let (guest, device) = self.hypervisor.orphans.remove(which % self.hypervisor.orphans.len());
        // A device that was pulled meanwhile is not attached, nor one to a guest that has ended.
        if is_good && self.is_plugged(&device) {
            let _ = self.hypervisor.attach(&guest, &device);
            self.report_guest(&guest);
        }
    }

    fn is_plugged(&self, device: &NewDevice) -> bool {
        match device {
            NewDevice::Disk { diskseq, .. } => self.disks.contains_key(&DiskSeq(*diskseq)),
            NewDevice::Usb { bus, address, .. } => self.hypervisor.usb.contains_key(&(*bus, *address)),
        }
    }

    /// The daemon is killed, or has ended, while it has nothing open; it is started again and finds what is plugged in.
    /// What libvirt was asked for goes on.
    pub(super) fn restart(&mut self) {
        assert!(self.open.is_empty() && self.jobs.is_empty() && self.waiting.is_empty());
        let config = Arc::clone(&self.core.config);
        let now = Now { monotonic: self.instant(), wall: std::time::SystemTime::UNIX_EPOCH + self.elapsed };
        let names = config.mounts.iter().enumerate();
        self.shown = names.map(|(place, mount)| (SlotId(place), mount.name.to_string())).collect();
        self.core = Core::new(config, now);
        (self.ended, self.asked, self.forgetting) = (false, false, 0);
        self.commands.clear();
        self.told_by.clear();
        self.hypervisor.connected = false;
        self.hypervisor.looks.clear();
        for (guest, (ticket, piece)) in std::mem::take(&mut self.hypervisor.pieces) {
            if let (Some(_), Piece::Attach(device)) = (ticket, piece) {
                self.hypervisor.orphans.push((guest.to_string(), device));
            }
        }
        for disk in self.disks.values().cloned().collect::<Vec<_>>() {
            self.send(Event::DiskPresent(Box::new(disk)));
        }
        for device in self.hypervisor.usb.values().cloned().collect::<Vec<_>>() {
            self.send(Event::UsbPresent(device));
        }
    }

    /// Whether the disk that a job prepares is refused to it.
    pub(super) fn is_refused(&self, job: JobId) -> bool {
        let Some((_, Job::Prepare(order))) = self.jobs.get(&job) else { return false };
        let disk = disk_of(order).and_then(|seq| self.disks.get(&seq));
        disk.is_some_and(|disk| self.hypervisor.refuses(disk))
    }

    /// Whether what a guest is to get is claimed for another, by a daemon that is dead.
    pub(super) fn is_claimed_for_another(&self, guest: &str) -> bool {
        let piece = guest.parse().ok().and_then(|guest: GuestName| self.hypervisor.pieces.get(&guest));
        let Some((Some(_), Piece::Attach(device))) = piece else { return false };
        self.hypervisor.orphans.iter().any(|(_, other)| same(device, other))
    }
}

impl Hypervisor {
    /// Who attaches a disk, living daemon or dead, has claimed it, and QEMU has it open from then on.
    pub(super) fn refuses(&self, disk: &Disk) -> bool {
        let orphans = self.orphans.iter().map(|(_, device)| device);
        orphans.into_iter().any(|device| has(device, disk.seq))
            || !self.holders(&disk.node.devnode).is_empty()
    }
}
