//! From udev's records of a whole disk and its partitions to a [`Disk`]; pure. Decides which block devices
//! count as disks that somebody plugged in.

use std::path::Path;

use super::record::{Record, unescape};
use super::{BlockNode, Content, Disk, DiskSeq, Partition, PortPath, disk_ids};

/// Bytes of the sectors in which /sys/block/X/size counts, whatever the device's own are.
const SECTOR: u64 = 512;

/// Kernel names of what is stacked upon other devices, lives in memory or is optical. Loop devices among them:
/// those of configured images are attached and known by whoever attaches them.
const NOT_PLUGGED: [&str; 9] = ["loop", "ram", "zram", "dm-", "md", "sr", "fd", "bcache", "drbd"];

/// The disk that these records tell of; `None` if it is none, has no medium (a size of 0), or if udev's entry is
/// still that of an earlier plug: then udev's own event for this one is yet to come.
///
/// `udev_runs` says that udev will come to handle a device that it has not handled yet; without it, sysfs alone
/// must do, and the disk has no ids.
pub(crate) fn disk(whole: &Record, partitions: &[Record], udev_runs: bool) -> Option<Disk> {
    if !counts_as_disk(whole) || (udev_runs && !whole.initialized) {
        return None;
    }
    let seq = whole.number("diskseq")?;
    if disk_ids::recorded_diskseq(whole).is_some_and(|recorded| recorded != seq) {
        return None;
    }
    let node = node(whole).filter(|node| node.size > 0)?;
    let mut partitions: Vec<Partition> = partitions.iter().filter_map(partition).collect();
    partitions.sort_by_key(|partition| partition.number);
    Some(Disk {
        seq: DiskSeq(seq),
        node,
        ids: disk_ids::ids(whole),
        preferred_id: disk_ids::preferred_id(whole),
        wwns: disk_ids::wwns(whole),
        model: whole.property("ID_MODEL").map(str::to_owned),
        port: port_of(&whole.syspath),
        partitions,
        read_only: whole.attribute("ro") == Some("1"),
    })
}

fn counts_as_disk(whole: &Record) -> bool {
    whole.property("DEVTYPE") == Some("disk")
        // The paths below an NVMe multipath disk: in sysfs, without a device node.
        && whole.attribute("hidden") != Some("1")
        && !NOT_PLUGGED.iter().any(|kind| whole.sysname().starts_with(kind))
}

fn partition(record: &Record) -> Option<Partition> {
    Some(Partition {
        number: record.number("partition")?,
        partuuid: record.property("ID_PART_ENTRY_UUID").map(str::to_owned),
        node: node(record)?,
    })
}

fn node(record: &Record) -> Option<BlockNode> {
    Some(BlockNode {
        devnode: record.devnode()?.to_owned(),
        devnum: record.devnum()?,
        size: record.number::<u64>("size")?.checked_mul(SECTOR)?,
        probed: is_probed(record),
        content: content(record),
    })
}

/// udev's blkid looked and came to a conclusion: its absence of a result is one. It leaves the type out when it
/// finds two that exclude each other (`ID_FS_AMBIVALENT`), and an admin's rule can switch it off.
fn is_probed(record: &Record) -> bool {
    let set = |name| record.property(name) == Some("1");
    record.initialized
        && record.property("ID_FS_AMBIVALENT").is_none()
        && !set("UDEV_DISABLE_PERSISTENT_STORAGE_RULES_FLAG")
        && !set("UDEV_DISABLE_PERSISTENT_STORAGE_BLKID_FLAG")
}

fn content(record: &Record) -> Content {
    let text = |name| record.property(name).map(str::to_owned);
    Content {
        fs_type: text("ID_FS_TYPE"),
        uuid: text("ID_FS_UUID"),
        label: record.property("ID_FS_LABEL_ENC").map(unescape).or_else(|| text("ID_FS_LABEL")),
    }
}

/// The USB port in a sysfs path: the last directory `1-4.2` that is followed by one of its interfaces
/// (`1-4.2:1.0`).
fn port_of(syspath: &Path) -> Option<PortPath> {
    let names: Vec<&str> = syspath.iter().filter_map(|name| name.to_str()).collect();
    let is_interface = |of: &str, name: &str| name.strip_prefix(of).is_some_and(|rest| rest.starts_with(':'));
    names.windows(2).rev().find(|pair| is_interface(pair[0], pair[1])).and_then(|pair| pair[0].parse().ok())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::device::record::recorded::{self, DISKS, ODD, TWINS};

    /// The disk of that node as recorded.
    fn recorded_disk(text: &str, devname: &str) -> Option<Disk> {
        let whole = recorded::named(text, devname);
        disk(&whole, &partitions_of(text, &whole), true)
    }

    fn partitions_of(text: &str, whole: &Record) -> Vec<Record> {
        let below = |record: &Record| record.syspath.parent() == Some(&whole.syspath);
        recorded::read(text).into_iter().filter(below).rev().collect()
    }

    #[test]
    fn a_usb_disk_with_a_file_system_on_the_whole_of_it() {
        let disk = recorded_disk(DISKS, "/dev/sda").unwrap();
        assert_eq!(disk.seq, DiskSeq(10));
        assert_eq!(disk.node.devnode, Path::new("/dev/sda"));
        assert_eq!(disk.node.devnum, 8 << 8);
        assert_eq!(disk.node.size, 64 << 20);
        assert!(disk.node.probed && !disk.read_only);
        assert_eq!(disk.node.content.fs_type.as_deref(), Some("ext4"));
        assert_eq!(disk.node.content.uuid.as_deref(), Some("11111111-2222-3333-4444-555555555555"));
        assert_eq!(disk.node.content.label.as_deref(), Some("my \"back up\""));
        assert_eq!(disk.preferred_id.as_deref(), Some("QEMU_QEMU_HARDDISK_WX91A848D77S-0:0"));
        assert_eq!(disk.port, "2-1".parse().ok());
        assert_eq!(disk.partitions, []);
    }

    #[test]
    fn a_luks_disk_tells_its_headers_uuid_and_label() {
        let content = recorded_disk(DISKS, "/dev/sdb").unwrap().node.content;
        let expected = Content {
            fs_type: Some("crypto_LUKS".into()),
            uuid: Some("aaaaaaaa-bbbb-cccc-dddd-eeeeeeeeeeee".into()),
            label: Some("vault".into()),
        };
        assert_eq!(content, expected);
    }

    #[test]
    fn partitions_come_in_order_with_their_own_content() {
        let disk = recorded_disk(DISKS, "/dev/sdc").unwrap();
        assert_eq!(disk.node.content, Content::default());
        let told: Vec<_> = disk
            .partitions
            .iter()
            .map(|p| (p.number, p.partuuid.as_deref(), p.node.content.fs_type.as_deref()))
            .collect();
        let expected = [
            (1, Some("aaaa0001-0000-4000-8000-000000000001"), Some("vfat")),
            (2, Some("aaaa0001-0000-4000-8000-000000000002"), Some("ext4")),
        ];
        assert_eq!(told, expected);
        assert!(!disk.ids.iter().any(|id| id.contains("part")), "{:?}", disk.ids);
    }

    #[test]
    fn a_virtio_disk_has_no_port_and_may_be_write_protected() {
        let disk = recorded_disk(DISKS, "/dev/vda").unwrap();
        assert!(disk.read_only);
        assert_eq!(disk.port, None);
        assert!(disk.ids.contains("virt-disk-1"));
    }

    #[test]
    fn twins_differ_in_diskseq_alone_and_each_keeps_its_ids_though_one_link_is_lost() {
        let (one, two) =
            (recorded_disk(TWINS, "/dev/sda").unwrap(), recorded_disk(TWINS, "/dev/sdb").unwrap());
        assert_ne!(one.seq, two.seq);
        assert_eq!(one.ids, two.ids);
        assert_eq!(one.preferred_id, two.preferred_id);
    }

    #[test]
    fn a_uas_disk_of_odd_names_is_one_like_any_other() {
        let disk = recorded_disk(ODD, "/dev/sdc").unwrap();
        assert_eq!(disk.preferred_id.as_deref(), Some("ODD____DI..__SK_S_E..R1-0:0"));
        assert_eq!(disk.port, "2-5".parse().ok());
        let numbers: Vec<u32> = disk.partitions.iter().map(|partition| partition.number).collect();
        assert_eq!(numbers, [2], "its first one was deleted");
    }

    #[test]
    fn a_card_in_a_reader_of_hostile_strings_is_a_disk() {
        let disk = recorded_disk(ODD, "/dev/sda").unwrap();
        assert!(disk.ids.contains("a_.._b____q_____"));
        assert_eq!(disk.node.content.label.as_deref(), Some("CARD1"));
    }

    #[test]
    fn only_what_is_plugged_in_counts() {
        let whole = recorded::named(DISKS, "/dev/sda");
        for name in ["loop0", "ram1", "zram0", "dm-0", "md127", "sr0", "fd0"] {
            let mut other = whole.clone();
            other.syspath = Path::new("/sys/devices/virtual/block").join(name);
            assert_eq!(disk(&other, &[], true), None, "{name}");
        }
        for name in ["sdaa", "nvme0n1", "mmcblk0", "vdb", "xvda", "nbd3"] {
            let mut other = whole.clone();
            other.syspath = Path::new("/sys/devices/x/block").join(name);
            assert!(disk(&other, &[], true).is_some(), "{name}");
        }
    }

    #[test]
    fn an_empty_slot_a_hidden_path_and_a_partition_are_no_disks() {
        let changed = |name: &str, value: &str| {
            let mut whole = recorded::named(DISKS, "/dev/sda");
            whole.set_attribute(name, value);
            disk(&whole, &[], true)
        };
        assert_eq!(changed("size", "0"), None);
        assert_eq!(changed("hidden", "1"), None);
        assert_eq!(changed("diskseq", ""), None);
        assert_eq!(changed("size", &u64::MAX.to_string()), None);
        assert_eq!(disk(&recorded::named(DISKS, "/dev/sdc1"), &[], true), None);
    }

    #[test]
    fn an_entry_of_an_earlier_plug_is_not_mistaken_for_this_one() {
        let mut whole = recorded::named(DISKS, "/dev/sda");
        whole.set_attribute("diskseq", "77");
        assert_eq!(disk(&whole, &[], true), None);
        assert_eq!(disk(&whole, &[], false), None);
    }

    #[test]
    fn before_udev_is_done_a_disk_waits_and_a_partition_is_there_unprobed() {
        let mut whole = recorded::named(DISKS, "/dev/sdc");
        let mut partitions = partitions_of(DISKS, &whole);
        partitions[0].initialized = false;
        let found = disk(&whole, &partitions, true).unwrap();
        assert_eq!(found.partitions.iter().map(|p| p.node.probed).collect::<Vec<_>>(), [true, false]);
        whole.initialized = false;
        assert_eq!(disk(&whole, &partitions, true), None);
    }

    #[test]
    fn without_udev_sysfs_alone_makes_a_disk_without_ids() {
        let mut whole = Record::new("/sys/devices/pci0000:00/virtio4/block/vda".into(), false);
        for (name, value) in [("DEVTYPE", "disk"), ("DEVNAME", "/dev/vda"), ("MAJOR", "253"), ("MINOR", "0")]
        {
            whole.set_property(name, value);
        }
        for (name, value) in [("size", "2048"), ("diskseq", "9")] {
            whole.set_attribute(name, value);
        }
        let found = disk(&whole, &[], false).unwrap();
        assert!(found.ids.is_empty() && !found.node.probed);
        assert_eq!(found.node.size, 1 << 20);
    }

    #[test]
    fn ambivalent_or_suppressed_probing_is_no_result() {
        for (name, value) in
            [("ID_FS_AMBIVALENT", "ext4:crypto"), ("UDEV_DISABLE_PERSISTENT_STORAGE_BLKID_FLAG", "1")]
        {
            let mut whole = recorded::named(DISKS, "/dev/sda");
            whole.set_property(name, value);
            assert!(!disk(&whole, &[], true).unwrap().node.probed);
        }
    }

    #[test]
    fn the_port_is_the_last_hop_of_the_path() {
        let port = |path: &str| port_of(Path::new(path)).map(|port| port.to_string());
        let behind_hub = "/sys/devices/pci0/usb1/1-4/1-4.2/1-4.2:1.0/host6/target6:0:0/6:0:0:0/block/sdb";
        assert_eq!(port(behind_hub).as_deref(), Some("1-4.2"));
        assert_eq!(port("/sys/devices/pci0000:00/ata1/host0/target0:0:0/0:0:0:0/block/sda"), None);
        assert_eq!(port("/sys/devices/pci0/usb1/1-4"), None);
        assert_eq!(port(""), None);
    }
}
