//! What was last reported of each device, and so what is new: reading a device again, or in another order, or
//! twice, reports a difference once or nothing. Pure; what is read, and when, is `udev`'s business.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use super::{DeviceEvent, Disk, DiskSeq, UsbDevice};

/// The devices as last reported, by their directory under /sys: on `remove` that is all that is left of a USB
/// device's identity.
#[derive(Debug, Default)]
pub(crate) struct Inventory {
    disks: BTreeMap<PathBuf, Disk>,
    usb: BTreeMap<PathBuf, UsbDevice>,
}

impl Inventory {
    /// Directories of the disks that are known.
    pub(crate) fn disk_paths(&self) -> impl Iterator<Item = &PathBuf> {
        self.disks.keys()
    }

    /// Directories of the USB devices that are known.
    pub(crate) fn usb_paths(&self) -> impl Iterator<Item = &PathBuf> {
        self.usb.keys()
    }

    /// The USB device last reported there.
    pub(crate) fn usb_at(&self, syspath: &Path) -> Option<&UsbDevice> {
        self.usb.get(syspath)
    }

    /// The disk that was just read from there; `None` if there is none.
    pub(crate) fn disk_read(&mut self, syspath: &Path, disk: Option<Disk>) -> Vec<DeviceEvent> {
        let known = self.disks.get(syspath);
        if known == disk.as_ref() {
            return Vec::new();
        }
        let gone =
            known.map(|known| known.seq).filter(|&seq| disk.as_ref().map(|disk| disk.seq) != Some(seq));
        match &disk {
            Some(disk) => self.disks.insert(syspath.to_owned(), disk.clone()),
            None => self.disks.remove(syspath),
        };
        gone.map(DeviceEvent::DiskGone).into_iter().chain(disk.map(DeviceEvent::DiskPresent)).collect()
    }

    /// udev says that this plug of the disk there is over. `None` if another one is known there: then it is older
    /// or younger than the news, and only reading tells.
    pub(crate) fn disk_removed(&mut self, syspath: &Path, seq: Option<DiskSeq>) -> Option<DeviceEvent> {
        if self.disks.get(syspath).map(|known| known.seq) != seq {
            return None;
        }
        self.disks.remove(syspath).map(|known| DeviceEvent::DiskGone(known.seq))
    }

    /// The USB device that was just read from there; `None` if there is none.
    pub(crate) fn usb_read(&mut self, syspath: &Path, device: Option<UsbDevice>) -> Vec<DeviceEvent> {
        let known = self.usb.get(syspath);
        if known == device.as_ref() {
            return Vec::new();
        }
        let gone =
            known.filter(|known| !device.as_ref().is_some_and(|device| same_plug(known, device))).map(gone);
        match &device {
            Some(device) => self.usb.insert(syspath.to_owned(), device.clone()),
            None => self.usb.remove(syspath),
        };
        gone.into_iter().chain(device.map(DeviceEvent::UsbPresent)).collect()
    }

    /// udev says that the USB device of this address there is gone; as [`Inventory::disk_removed`].
    pub(crate) fn usb_removed(&mut self, syspath: &Path, address: Option<u16>) -> Option<DeviceEvent> {
        if self.usb.get(syspath).map(|known| known.address) != address {
            return None;
        }
        self.usb.remove(syspath).map(|known| gone(&known))
    }
}

fn same_plug(one: &UsbDevice, other: &UsbDevice) -> bool {
    (one.bus, one.address) == (other.bus, other.address)
}

fn gone(device: &UsbDevice) -> DeviceEvent {
    DeviceEvent::UsbGone { port: device.port.clone(), bus: device.bus, address: device.address }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::device::{BlockNode, Content, UsbId};
    use proptest::prelude::*;
    use std::collections::BTreeSet;

    fn disk(seq: u64, label: &str) -> Disk {
        let content = Content { label: Some(label.into()), ..Content::default() };
        let node = BlockNode { devnode: "/dev/sda".into(), devnum: 8 << 8, size: 512, probed: true, content };
        Disk {
            seq: DiskSeq(seq),
            node,
            ids: BTreeSet::new(),
            preferred_id: None,
            wwns: BTreeSet::new(),
            model: None,
            port: None,
            partitions: Vec::new(),
            read_only: false,
        }
    }

    fn usb(port: &str, address: u16, bound: bool) -> UsbDevice {
        UsbDevice {
            port: port.parse().unwrap(),
            id: UsbId { vendor: 1, product: 2 },
            serial: None,
            bus: 1,
            address,
            name: None,
            is_hub: false,
            bound,
        }
    }

    #[test]
    fn the_same_reading_twice_reports_nothing() {
        let (at, mut inventory) = (Path::new("/sys/a"), Inventory::default());
        assert_eq!(inventory.disk_read(at, Some(disk(1, "x"))), [DeviceEvent::DiskPresent(disk(1, "x"))]);
        assert_eq!(inventory.disk_read(at, Some(disk(1, "x"))), []);
        assert_eq!(inventory.disk_read(at, Some(disk(1, "y"))), [DeviceEvent::DiskPresent(disk(1, "y"))]);
        assert_eq!(inventory.disk_read(at, None), [DeviceEvent::DiskGone(DiskSeq(1))]);
        assert_eq!(inventory.disk_read(at, None), []);
    }

    #[test]
    fn another_plug_in_the_same_place_ends_the_first() {
        let (at, mut inventory) = (Path::new("/sys/a"), Inventory::default());
        inventory.disk_read(at, Some(disk(1, "x")));
        let expected = [DeviceEvent::DiskGone(DiskSeq(1)), DeviceEvent::DiskPresent(disk(2, "x"))];
        assert_eq!(inventory.disk_read(at, Some(disk(2, "x"))), expected);
        assert_eq!(inventory.disk_removed(at, Some(DiskSeq(1))), None, "the removal of the first comes late");
        assert_eq!(inventory.disk_removed(at, Some(DiskSeq(2))), Some(DeviceEvent::DiskGone(DiskSeq(2))));
        assert_eq!(inventory.disk_removed(at, Some(DiskSeq(2))), None);
    }

    #[test]
    fn a_usb_device_pulled_is_told_by_what_was_known_of_it() {
        let (at, mut inventory) = (Path::new("/sys/1-4"), Inventory::default());
        inventory.usb_read(at, Some(usb("1-4", 7, false)));
        assert_eq!(
            inventory.usb_read(at, Some(usb("1-4", 7, true))),
            [DeviceEvent::UsbPresent(usb("1-4", 7, true))]
        );
        assert_eq!(inventory.usb_removed(at, Some(6)), None);
        let expected = DeviceEvent::UsbGone { port: "1-4".parse().unwrap(), bus: 1, address: 7 };
        assert_eq!(inventory.usb_removed(at, Some(7)), Some(expected.clone()));
        inventory.usb_read(at, Some(usb("1-4", 7, true)));
        let replug = [expected, DeviceEvent::UsbPresent(usb("1-4", 8, true))];
        assert_eq!(inventory.usb_read(at, Some(usb("1-4", 8, true))), replug);
    }

    /// One thing that may be seen of a place: read (something or nothing) or told to be removed.
    fn step() -> impl Strategy<Value = (usize, Option<u64>, Option<u8>, bool)> {
        (0..3_usize, proptest::option::of(1..5_u64), proptest::option::of(0..2_u8), any::<bool>())
    }

    proptest! {
        #[test]
        fn reports_alternate_and_add_up_to_what_is_known(steps in proptest::collection::vec(step(), 0..60)) {
            let mut inventory = Inventory::default();
            let mut reported: BTreeMap<DiskSeq, Disk> = BTreeMap::new();
            for (place, seq, label, removal) in steps {
                let at = PathBuf::from(format!("/sys/{place}"));
                // A DISKSEQ is in one place only.
                let seq = seq.map(|seq| seq * 3 + place as u64);
                let events = match (removal, seq.zip(label)) {
                    (true, _) => inventory.disk_removed(&at, seq.map(DiskSeq)).into_iter().collect(),
                    (false, read) => inventory.disk_read(&at, read.map(|(seq, label)| disk(seq, &label.to_string()))),
                };
                for event in events {
                    match event {
                        DeviceEvent::DiskPresent(disk) => {
                            let before = reported.insert(disk.seq, disk.clone());
                            prop_assert_ne!(before, Some(disk));
                        }
                        DeviceEvent::DiskGone(seq) => prop_assert!(reported.remove(&seq).is_some()),
                        other => prop_assert!(false, "{other:?}"),
                    }
                }
                let known: Vec<&Disk> = inventory.disks.values().collect();
                prop_assert_eq!(known.len(), reported.len());
                prop_assert!(known.iter().all(|disk| reported.get(&disk.seq) == Some(disk)));
            }
        }
    }
}
