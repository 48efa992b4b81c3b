//! Under which name and on which bus a disk appears in a guest.

use std::collections::BTreeSet;

use crate::guests::Bus;

/// The bus that a target stands for: the name says it, and for `sd*` what the guest has.
pub(super) fn bus(target: &str, has_scsi: bool) -> Bus {
    match (target.starts_with("vd"), has_scsi) {
        (true, _) => Bus::Virtio,
        (false, true) => Bus::Scsi,
        (false, false) => Bus::Usb,
    }
}

/// The first of `vda` … `vdz`, `vdaa` … `vdzz` that is not among `taken`.
pub(super) fn next_free(taken: &BTreeSet<&str>) -> Option<String> {
    let letters = || (b'a'..=b'z').map(char::from);
    let one = letters().map(|last| format!("vd{last}"));
    let two = letters().flat_map(|first| letters().map(move |last| format!("vd{first}{last}")));
    one.chain(two).find(|target| !taken.contains(target.as_str()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_bus_follows_the_target_and_what_the_guest_has() {
        assert_eq!(bus("vdb", false), Bus::Virtio);
        assert_eq!(bus("sdb", true), Bus::Scsi);
        assert_eq!(bus("sdb", false), Bus::Usb);
    }

    #[test]
    fn the_next_free_target_fills_gaps_goes_on_with_two_letters_and_ends() {
        assert_eq!(next_free(&["vda", "vdc"].into()).as_deref(), Some("vdb"));
        let mut all: Vec<String> = Vec::new();
        while let Some(next) = next_free(&all.iter().map(String::as_str).collect()) {
            all.push(next);
        }
        assert_eq!((all.len(), all[26].as_str(), all[701].as_str()), (702, "vdaa", "vdzz"));
    }
}
