//! The block device whose event udev is handling, for a program that a rule runs: its environment holds what the rules
//! before it have found out, which udev's database does not yet. Knows nothing of what the rule is for.

use std::ffi::OsString;
use std::path::{Path, PathBuf};

use super::record::Record;
use super::udev::{DISK_ATTRIBUTES, PARTITION_ATTRIBUTES, USB_ATTRIBUTES, partitions, record};
use super::{Disk, DiskSpec, Found, UsbDevice, UsbRule, block, usb};

/// A whole disk or partition whose event is being handled.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Handled {
    /// The disk, with those of its partitions that the kernel has by now. What is on a partition that udev has not
    /// handled yet is unknown.
    disk: Disk,
    /// The partition's number, if it is one.
    partition: Option<u32>,
    /// What the disk is plugged in as.
    usb: Option<UsbDevice>,
}

impl Handled {
    /// The device that this environment tells of, which udev gives to what a rule runs: all properties of the device.
    /// `None` if it is no disk or partition, or is gone.
    pub fn of(environment: impl IntoIterator<Item = (OsString, OsString)>) -> Option<Self> {
        let text = |text: OsString| text.to_string_lossy().into_owned();
        let properties: Vec<(String, String)> =
            environment.into_iter().map(|(name, value)| (text(name), text(value))).collect();
        let property =
            |wanted: &str| properties.iter().find(|(name, _)| name == wanted).map(|(_, value)| value);
        let syspath = PathBuf::from(format!("/sys{}", property("DEVPATH")?));
        let is_partition = property("DEVTYPE")? == "partition";
        let attributes: &[_] = if is_partition { &PARTITION_ATTRIBUTES } else { &DISK_ATTRIBUTES };
        let own = record(&syspath, attributes)?.handled_with(properties);
        let number = own.number("partition");
        let (whole, partitions) = if is_partition {
            let parent = syspath.parent()?;
            let mut siblings = partitions(parent);
            siblings.retain(|sibling| sibling.syspath != syspath);
            siblings.push(own);
            (record(parent, &DISK_ATTRIBUTES)?, siblings)
        } else {
            (own, partitions(&syspath))
        };
        let disk = block::disk(&whole, &partitions, true)?;
        let usb = usb_of(&disk, &whole.syspath);
        Some(Self { disk, partition: number.filter(|_| is_partition), usb })
    }

    /// Whether this node is meant, or is on the one that is, or could be it: which node of a disk is meant may be known
    /// only when it is opened.
    pub fn is_meant(&self, spec: &DiskSpec) -> bool {
        match spec.find(&self.disk) {
            Some(Found::Partition(number)) => self.partition == Some(number),
            Some(Found::Whole | Found::Undecided) => true,
            None => false,
        }
    }

    /// Whether the disk is meant, whichever of its nodes.
    pub fn is_on_disk(&self, spec: &DiskSpec) -> bool {
        spec.find(&self.disk).is_some()
    }

    /// Whether it is on a USB device that this rule means.
    pub fn is_on_usb(&self, rule: &UsbRule) -> bool {
        self.usb.as_ref().is_some_and(|device| rule.matches(device))
    }
}

/// The USB device in the disk's path.
fn usb_of(disk: &Disk, syspath: &Path) -> Option<UsbDevice> {
    let port = disk.port.as_ref()?;
    let path = syspath.ancestors().find(|path| path.file_name().is_some_and(|name| name == port.as_str()))?;
    record(path, &USB_ATTRIBUTES).and_then(|record: Record| usb::usb_device(&record, None, true))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::device::arbitrary::{disk, node, partition};

    const A: &str = "1234-ABCD";
    const B: &str = "5678-ABCD";

    fn spec(text: &str) -> DiskSpec {
        let id = DiskSpec { id: "X".parse().ok(), ..DiskSpec::default() };
        match text {
            "id" => id,
            "second" => DiskSpec { partition: Some(2), ..id },
            "other" => DiskSpec { id: "Y".parse().ok(), ..id },
            uuid => DiskSpec { uuid: uuid.parse().ok(), ..DiskSpec::default() },
        }
    }

    fn handled(number: Option<u32>) -> Handled {
        let partitions = vec![partition(1, "p1", node("ext4", A)), partition(2, "p2", node("ext4", B))];
        Handled { disk: disk(&["X"], node("", ""), partitions), partition: number, usb: None }
    }

    #[test]
    fn of_a_partition_that_is_named_no_other_is_meant() {
        for (text, expected) in [
            ("id", [true, true, true]),
            ("second", [false, false, true]),
            (A, [false, true, false]),
            (B, [false, false, true]),
            ("other", [false; 3]),
        ] {
            let found = [None, Some(1), Some(2)].map(|number| handled(number).is_meant(&spec(text)));
            assert_eq!(found, expected, "{text}");
        }
    }

    #[test]
    fn every_node_is_on_the_disk_whatever_on_it_is_named() {
        for (text, expected) in [("id", true), (A, true), (B, true), ("other", false)] {
            let found = [None, Some(1), Some(2)].map(|number| handled(number).is_on_disk(&spec(text)));
            assert_eq!(found, [expected; 3], "{text}");
        }
    }

    #[test]
    fn a_disk_is_on_the_usb_device_in_its_path() {
        let usb = UsbDevice {
            port: "1-4.2".parse().unwrap(),
            id: "46f4:0001".parse().unwrap(),
            serial: Some("S".into()),
            bus: 1,
            address: 2,
            name: None,
            is_hub: false,
            bound: true,
        };
        let on_usb = Handled { usb: Some(usb), ..handled(Some(1)) };
        let rule = |id: &str| UsbRule::Id { id: id.parse().unwrap(), serial: None };
        assert!(
            on_usb.is_on_usb(&rule("46f4:0001")) && on_usb.is_on_usb(&UsbRule::Port("1-4".parse().unwrap()))
        );
        assert!(!on_usb.is_on_usb(&rule("46f4:0002")) && !handled(Some(1)).is_on_usb(&rule("46f4:0001")));
    }

    #[test]
    fn an_environment_that_is_not_of_a_device_tells_of_none() {
        for environment in [
            &[][..],
            &[("DEVPATH", "/devices/none"), ("DEVTYPE", "disk")],
            &[("DEVPATH", "/../../etc"), ("DEVTYPE", "partition")],
            &[("DEVPATH", "/class/block")],
        ] {
            let environment = environment.iter().map(|(name, value)| (name.into(), value.into()));
            assert_eq!(Handled::of(environment), None);
        }
    }
}
