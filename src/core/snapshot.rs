//! The one consistent picture that every reader of status gets: files, commands and metrics are made of it.

use std::time::SystemTime;

use super::Core;
use super::guests::usb_entry;
use super::inventory::Matches;
use super::shared::Line;
use super::slot::{Membership, Slot, State};
use crate::device::{Disk, UsbDevice, disk_claims, printable, usb_claims};
use crate::disk::DiskError;

/// Everything there is to say at one moment.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Snapshot {
    /// When.
    pub at: SystemTime,
    /// By name: those of the config, and those that are in use and not in it any more.
    pub mounts: Vec<MountStatus>,
    /// By name, as the config has them.
    pub guests: Vec<GuestStatus>,
    /// Every disk and USB device that is plugged in, hubs left out.
    pub devices: Vec<DeviceStatus>,
    /// The last events, newest last.
    pub events: Vec<Line>,
    /// Accesses that found nothing mounted, since the start.
    pub triggers: u64,
}

/// What a mount is doing.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum MountState {
    /// None of its disks is attached.
    Absent,
    /// A disk is attached and closed.
    Ready,
    /// Being opened for somebody who waits.
    Unlocking,
    /// Mounted, or on its way from there to locked.
    Mounted,
    /// The last access failed, or it cannot be locked; `error` says why.
    Failed,
}

/// One `[mounts.*]`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MountStatus {
    /// The directory's name.
    pub name: String,
    /// What it is doing.
    pub state: MountState,
    /// The config has no place for it any more, or not for the disk that is in use: that is unmounted as soon as it is
    /// idle.
    pub leaving: bool,
    /// The device node of the disk that is, or would be, used.
    pub device: Option<String>,
    /// How the config names that disk.
    pub id: Option<String>,
    /// LUKS; `None` = not known yet.
    pub encrypted: Option<bool>,
    /// The kernel's name of the file system, while mounted.
    pub filesystem: Option<String>,
    /// Nobody can write to it, while mounted.
    pub read_only: Option<bool>,
    /// Other disks of its list that are attached and wait for this one to go: how the config names them.
    pub waiting: Vec<String>,
    /// Mounted since.
    pub since: Option<SystemTime>,
    /// One sentence.
    pub error: Option<String>,
}

/// What a guest is doing.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum GuestState {
    /// It runs.
    Running,
    /// It is defined, or not, and does not run.
    Off,
    /// Nothing can be said of it.
    Unreachable,
}

/// What a device of a guest is doing.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum GuestDeviceState {
    /// Not plugged in.
    Absent,
    /// The guest is being given it.
    Attaching,
    /// The guest has it: its live XML says so.
    Attached,
    /// The guest still has it, and is to release it.
    Detaching,
    /// Plugged in, and kept from the guest; `error` says by what.
    Waiting,
    /// The last attempt failed, `error` says why, and another one follows.
    Failed,
}

/// One `[guests.*]`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct GuestStatus {
    /// The domain's name.
    pub name: String,
    /// What it is doing.
    pub state: GuestState,
    /// One sentence.
    pub error: Option<String>,
    /// Its devices.
    pub devices: Vec<GuestDeviceStatus>,
}

/// A device that the config gives to a guest.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct GuestDeviceStatus {
    /// How the config names it.
    pub id: String,
    /// `disk` or `usb`.
    pub kind: &'static str,
    /// What it is doing.
    pub state: GuestDeviceState,
    /// The device node, or the USB port, while it is plugged in.
    pub device: Option<String>,
    /// The name of a disk in the guest, while the guest has it.
    pub target: Option<String>,
    /// Its alias in the guest's XML.
    pub alias: Option<String>,
    /// One sentence.
    pub error: Option<String>,
}

/// A device that is plugged in.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DeviceStatus {
    /// `disk` or `usb`.
    pub kind: &'static str,
    /// The device node, or the USB port.
    pub device: String,
    /// Maker and model, for people.
    pub name: Option<String>,
    /// Bytes, of a disk.
    pub size: Option<u64>,
    /// The mounts and guests of the config that it is for.
    pub owners: Vec<String>,
    /// What a config line could name it by, as TOML.
    pub ids: Vec<String>,
}

impl Core {
    /// The picture of this moment.
    pub fn snapshot(&self) -> Snapshot {
        let listed = self.slots.iter().filter(|slot| slot.membership != Membership::Gone);
        let mut mounts: Vec<_> = listed.map(|slot| self.mount(slot)).collect();
        // Those that a reload has added stand at the end.
        mounts.sort_by(|one, other| one.name.cmp(&other.name));
        Snapshot {
            at: self.shared.now.wall,
            mounts,
            guests: self.guests.report(self.host()),
            devices: self.disks().chain(self.usb()).collect(),
            events: self.shared.events.iter().cloned().collect(),
            triggers: self.shared.triggers,
        }
    }

    fn mount(&self, slot: &Slot) -> MountStatus {
        let mut status = MountStatus {
            name: slot.config.name.to_string(),
            state: MountState::Absent,
            leaving: slot.is_leaving(),
            device: None,
            id: None,
            encrypted: None,
            filesystem: None,
            read_only: None,
            waiting: self.waiting_disks(slot),
            since: None,
            error: error(slot),
        };
        self.describe_disk(slot, &mut status);
        match &slot.state {
            State::Idle if !slot.residues.is_empty() => status.state = MountState::Failed,
            State::Idle => {
                if let Some(DiskError { kind, .. }) = &slot.failure {
                    let absent = *kind == crate::disk::ErrorKind::Absent;
                    status.state = if absent { MountState::Absent } else { MountState::Failed };
                }
            }
            State::Ejecting { .. } => status.error = Some("its disk is being ejected".to_owned()),
            State::Preparing { .. } | State::Attaching { .. } => status.state = MountState::Unlocking,
            State::Mounted { in_use, since, .. } | State::Unmounting { in_use, since, .. } => {
                status.state = MountState::Mounted;
                status.filesystem = Some(in_use.detached.filesystem.clone());
                status.device = Some(in_use.detached.opened.device.display().to_string());
                status.since = Some(*since);
                status.read_only = Some(in_use.detached.read_only);
                status.encrypted = Some(in_use.detached.opened.mapping.is_some());
            }
            State::Locking { opened, .. } => {
                status.state = MountState::Mounted;
                status.encrypted = Some(opened.mapping.is_some());
            }
        }
        let now = self.shared.now.monotonic;
        if let Some(slow) = slot.under_way(&self.shared).filter(|job| job.is_slow(now)) {
            let known = status.error.into_iter();
            status.error = Some(known.chain([slow.sentence(now)]).collect::<Vec<_>>().join("; "));
        }
        status
    }

    /// The disk that it holds, else the one that an access would take.
    fn describe_disk(&self, slot: &Slot, status: &mut MountStatus) {
        let held = slot.place().and_then(|place| self.shared.inventory.disk(place.disk));
        for spec in &slot.config.disks {
            if let Some(disk) = held {
                if spec.find(disk).is_none() {
                    continue;
                }
                status.device = Some(disk.node.devnode.display().to_string());
            } else if let Some(image) = &spec.image {
                status.device = Some(printable(&image.to_string_lossy()));
                status.encrypted = slot.config.key_file.is_some().then_some(true);
            } else {
                match self.shared.inventory.matches(spec) {
                    Matches::None => continue,
                    Matches::One(disk, found) => {
                        let node = disk.node(found).unwrap_or(&disk.node);
                        status.device = Some(node.devnode.display().to_string());
                        status.encrypted = slot.config.key_file.is_some().then_some(true);
                    }
                    Matches::Several(_) => {
                        status.error.get_or_insert_with(|| format!("several attached disks claim {spec}"));
                    }
                }
            }
            status.id = Some(spec.to_string());
            status.state = MountState::Ready;
            return;
        }
    }

    /// What is attached beside the disk that it holds.
    fn waiting_disks(&self, slot: &Slot) -> Vec<String> {
        let Some(held) = slot.place().map(|place| place.disk) else { return Vec::new() };
        let waits = |spec: &&crate::device::DiskSpec| {
            self.shared.inventory.disks().any(|disk| disk.seq != held && spec.find(disk).is_some())
        };
        slot.config.disks.iter().filter(waits).map(ToString::to_string).collect()
    }

    fn disks(&self) -> impl Iterator<Item = DeviceStatus> {
        self.shared.inventory.disks().map(|disk| DeviceStatus {
            kind: "disk",
            device: disk.node.devnode.display().to_string(),
            name: disk.model.as_deref().map(printable),
            size: Some(disk.node.size),
            owners: self.owners_of_disk(disk),
            ids: disk_claims(disk),
        })
    }

    fn owners_of_disk(&self, disk: &Disk) -> Vec<String> {
        let has = |spec: &crate::device::DiskSpec| spec.find(disk).is_some();
        let mounts = self.config.mounts.iter().filter(|mount| mount.disks.iter().any(has));
        let guests = self.config.guests.iter().filter(|guest| guest.disks.iter().any(|disk| has(&disk.disk)));
        let mounts = mounts.map(|mount| format!("mount {}", mount.name));
        mounts.chain(guests.map(|guest| format!("guest {}", guest.name))).collect()
    }

    fn usb(&self) -> impl Iterator<Item = DeviceStatus> {
        self.shared.inventory.usb().filter(|device| !device.is_hub).map(|device| DeviceStatus {
            kind: "usb",
            device: device.port.to_string(),
            name: device.name.as_deref().map(printable),
            size: None,
            owners: self.owners_of_usb(device),
            ids: usb_claims(device),
        })
    }

    fn owners_of_usb(&self, device: &UsbDevice) -> Vec<String> {
        let entry = usb_entry(&self.config.guests, device);
        let guest = entry.and_then(|(guest, _)| self.config.guests.get(guest));
        guest.map(|guest| format!("guest {}", guest.name)).into_iter().collect()
    }
}

/// What may be lost, and what is wrong now.
fn error(slot: &Slot) -> Option<String> {
    let residue = slot.residues.first().map(|residue| &residue.message);
    let now = residue.or_else(|| slot.failure.as_ref().map(|failure| &failure.message));
    let all: Vec<_> = slot.loss.iter().chain(&slot.covered).chain(now).map(String::as_str).collect();
    (!all.is_empty()).then(|| all.join("; "))
}
