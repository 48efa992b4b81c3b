//! Every key of the configuration, by the table that it stands in.

pub(super) const ROOT: &[&str] = &["mountpoint", "libvirt", "on-exit", "defaults", "mounts", "guests"];
pub(super) const DEFAULTS: &[&str] = &["idle-timeout", "access-timeout", "options"];
pub(super) const MOUNT: &[&str] =
    &["disks", "key-file", "filesystem", "options", "idle-timeout", "access-timeout"];
pub(super) const DISK: &[&str] =
    &["id", "uuid", "partuuid", "label", "wwn", "luks-uuid", "image", "partition"];
pub(super) const GUEST: &[&str] = &["usb", "disks"];
pub(super) const GUEST_DISK: &[&str] =
    &["id", "uuid", "partuuid", "label", "wwn", "luks-uuid", "image", "target", "readonly"];
pub(super) const USB: &[&str] = &["id", "serial", "port"];

/// Where a key belongs, for one that stands where it is not known; `None` if it is known nowhere.
pub(super) fn home(key: &str) -> Option<&'static str> {
    Some(match key {
        "mountpoint" | "libvirt" | "on-exit" => {
            "it must stand at the top of the file, before the first [table]"
        }
        "defaults" | "mounts" | "guests" => "it is a table of its own at the top of the file",
        "idle-timeout" | "access-timeout" | "options" => "it is a key of [defaults] and [mounts.NAME]",
        "key-file" | "filesystem" => "it is a key of [mounts.NAME]",
        "usb" => "it is a key of [guests.NAME]",
        "disks" => "it is a key of [mounts.NAME] and [guests.NAME]",
        "partition" => "it is a key of a disk of [mounts.NAME]; a guest gets the whole disk",
        "target" | "readonly" => "it is a key of a disk of [guests.NAME]",
        "serial" | "port" => "it is a key of a USB device of [guests.NAME]",
        "id" | "uuid" | "partuuid" | "label" | "wwn" | "luks-uuid" | "image" => {
            "it is a key of a disk, { … } in a list of `disks`"
        }
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_key_has_a_home() {
        for key in [ROOT, DEFAULTS, MOUNT, DISK, GUEST, GUEST_DISK, USB].concat() {
            assert!(home(key).is_some(), "{key}");
        }
    }
}
