//! The strings by which a person may name a disk, gathered from udev's properties of the whole disk. They are
//! compared and shown, never trusted and never made part of a path.

use std::collections::BTreeSet;

use super::DiskId;
use super::printable::printable;
use super::record::Record;

const BY_ID: &str = "/dev/disk/by-id/";
const BY_DISKSEQ: &str = "/dev/disk/by-diskseq/";

/// Bus prefixes of by-id links (60-persistent-storage.rules), the best known first.
const BUSES: [&str; 8] = ["ata-", "nvme-", "usb-", "scsi-", "mmc-", "memstick-", "ieee1394-", "virtio-"];

/// What udev appends for a USB disk's first LUN (`ID_INSTANCE`); other LUNs keep theirs, or the slots of a card
/// reader would be one.
const FIRST_LUN: &str = "-0:0";

/// Everything that a config's `id` may be equal to.
pub(crate) fn ids(whole: &Record) -> BTreeSet<String> {
    let mut ids = BTreeSet::new();
    let serials = [whole.property("ID_SERIAL"), whole.property("ID_SERIAL_SHORT")];
    let stems = by_id_names(whole).flat_map(|name| [Some(name), without_bus(name)]);
    for id in stems.chain(serials).flatten() {
        ids.extend([id, id.strip_suffix(FIRST_LUN).unwrap_or(id)].map(str::to_owned));
    }
    ids.remove("");
    ids
}

/// The one that a person would copy: the by-id link's name less its bus, of the bus that tells most of the disk
/// itself; `ID_SERIAL` if udev made no such link. Always one of [`ids`], and one that a config accepts.
pub(crate) fn preferred_id(whole: &Record) -> Option<String> {
    let mut names: Vec<&str> = by_id_names(whole).collect();
    names.sort_by_key(|name| (name.len(), *name));
    let of_bus = |bus: &'static str| names.iter().filter_map(move |name| name.strip_prefix(bus));
    BUSES
        .iter()
        .flat_map(|bus| of_bus(bus).filter(|stem| !is_number_of_nvme(stem)))
        .chain(whole.property("ID_SERIAL"))
        .chain(whole.property("ID_SERIAL_SHORT"))
        .chain(of_bus("nvme-"))
        .find(|id| id.parse::<DiskId>().is_ok() && printable(id) == *id)
        .map(str::to_owned)
}

/// World wide names as udev has them.
pub(crate) fn wwns(whole: &Record) -> BTreeSet<String> {
    ["ID_WWN", "ID_WWN_WITH_EXTENSION"]
        .iter()
        .filter_map(|name| whole.property(name))
        .map(str::to_owned)
        .collect()
}

/// The DISKSEQ of the plug that udev's database entry is of, from its by-diskseq link; `None` if udev's rules
/// make no such link.
pub(crate) fn recorded_diskseq(whole: &Record) -> Option<u64> {
    links(whole).find_map(|link| link.strip_prefix(BY_DISKSEQ)?.parse().ok())
}

/// Names of the disk's links in /dev/disk/by-id, as `ls` shows them there (udev's `\x2f` stays).
fn by_id_names(whole: &Record) -> impl Iterator<Item = &str> {
    links(whole).filter_map(|link| link.strip_prefix(BY_ID))
}

fn links(whole: &Record) -> impl Iterator<Item = &str> {
    whole.property("DEVLINKS").unwrap_or_default().split(' ')
}

fn without_bus(name: &str) -> Option<&str> {
    BUSES.iter().find_map(|bus| name.strip_prefix(bus))
}

/// The kernel's `wwid` of a namespace (nvme `wwid_show`), which nobody reads off a label.
fn is_number_of_nvme(stem: &str) -> bool {
    ["eui.", "uuid.", "nvme."].iter().any(|form| stem.starts_with(form))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::device::record::recorded;
    use proptest::prelude::*;

    fn record(properties: &[(&str, &str)]) -> Record {
        let mut record = Record::default();
        properties.iter().for_each(|(name, value)| record.set_property(*name, *value));
        record
    }

    #[test]
    fn a_usb_disk_answers_to_its_link_and_both_serials() {
        let ids = ids(&recorded::named(recorded::DISKS, "/dev/sda"));
        let expected = [
            "usb-QEMU_QEMU_HARDDISK_WX91A848D77S-0:0",
            "usb-QEMU_QEMU_HARDDISK_WX91A848D77S",
            "QEMU_QEMU_HARDDISK_WX91A848D77S-0:0",
            "QEMU_QEMU_HARDDISK_WX91A848D77S",
            "WX91A848D77S",
        ];
        assert_eq!(ids, expected.map(str::to_owned).into());
    }

    #[test]
    fn a_card_readers_second_slot_does_not_answer_to_the_first_ones_id() {
        let slot = record(&[
            ("DEVLINKS", "/dev/disk/by-id/usb-Reader_123-0:1"),
            ("ID_SERIAL", "Reader_123-0:1"),
            ("ID_SERIAL_SHORT", "123"),
        ]);
        assert!(ids(&slot).contains("Reader_123-0:1"));
        assert!(!ids(&slot).contains("Reader_123"));
    }

    #[test]
    fn the_preferred_id_names_the_disk_rather_than_its_bridge_or_number() {
        let links = |names: &[&str]| {
            let links: Vec<String> = names.iter().map(|name| format!("{BY_ID}{name}")).collect();
            preferred_id(&record(&[("DEVLINKS", &links.join(" "))]))
        };
        let wwn = "wwn-0x50014ee2b0000000";
        assert_eq!(links(&[wwn, "usb-WD_My_Book-0:0", "ata-WDC_WD20_WX1"]).as_deref(), Some("WDC_WD20_WX1"));
        assert_eq!(
            links(&["nvme-eui.0025385b", "nvme-Samsung_S4_1", "nvme-Samsung_S4"]).as_deref(),
            Some("Samsung_S4")
        );
        assert_eq!(links(&["scsi-35000", "usb-A_B-0:0"]).as_deref(), Some("A_B-0:0"));
        assert_eq!(links(&["nvme-eui.0025385b"]).as_deref(), Some("eui.0025385b"));
        assert_eq!(links(&[wwn]), None);
        let virtio = recorded::named(recorded::DISKS, "/dev/vda");
        assert_eq!(preferred_id(&virtio).as_deref(), Some("virt-disk-1"));
    }

    #[test]
    fn an_id_that_no_config_accepts_is_not_preferred_but_harms_nothing() {
        let hostile = record(&[
            ("DEVLINKS", "/dev/disk/by-id/usb-..\\x2f..\\x2fetc\u{7}  /dev/disk/by-id/ /dev/disk/by-id/usb-"),
            ("ID_SERIAL", "a\nb"),
            ("ID_SERIAL_SHORT", "S/E..R\"1"),
        ]);
        assert_eq!(preferred_id(&hostile).as_deref(), Some("S/E..R\"1"));
        assert!(!ids(&hostile).contains(""));
    }

    #[test]
    fn the_database_entry_tells_its_plug() {
        assert_eq!(recorded_diskseq(&recorded::named(recorded::DISKS, "/dev/sda")), Some(10));
        assert_eq!(recorded_diskseq(&record(&[])), None);
    }

    proptest! {
        #[test]
        fn the_preferred_id_is_always_one_of_the_ids(
            names in proptest::collection::vec("(ata-|usb-|nvme-|nvme-eui.|wwn-|scsi-|)[a-c:0/.\\\\\"-]{0,6}(-0:0)?", 0..5),
            serial in any::<String>(),
            short in "[a-c\n]{0,4}",
        ) {
            let links: Vec<String> = names.iter().map(|name| format!("{BY_ID}{name}")).collect();
            let disk = record(&[("DEVLINKS", &links.join(" ")), ("ID_SERIAL", &serial), ("ID_SERIAL_SHORT", &short)]);
            if let Some(preferred) = preferred_id(&disk) {
                prop_assert!(ids(&disk).contains(&preferred));
                prop_assert!(preferred.parse::<DiskId>().is_ok());
            }
        }
    }
}
