//! LUKS mappings as the kernel has them: whose they are, what they lie on, and the proof that one is what was asked for.
//! Knows nothing of how they are opened and closed.

use std::path::Path;

use super::device_mapper::{self, Status};
use super::node::{self, Node};
use super::{DiskError, ErrorKind};

/// The names that may be used for `wanted`, in order: the others stand in while a mapping over a disk that was pulled
/// still holds the first. A mount's name has no colon, so `mydisks-a:2` is never another mount's first name.
pub(super) fn names(wanted: &str) -> impl Iterator<Item = String> {
    std::iter::once(wanted.to_owned()).chain((2..=9).map(move |number| format!("{wanted}:{number}")))
}

/// The mapping's name of a kernel name (`dm-3`), if it is one's.
pub(super) fn name_of(kernel_name: &Path) -> Option<String> {
    let name = std::fs::read_to_string(Path::new("/sys/block").join(kernel_name).join("dm/name")).ok()?;
    Some(name.trim_end_matches('\n').to_owned())
}

/// The mapping under one of the names for `wanted` that lies on `node`.
pub(super) fn over(node: &Node, wanted: &str) -> Option<String> {
    let holders = std::fs::read_dir(node.sysfs().join("holders")).ok()?;
    let held_by: Vec<String> =
        holders.filter_map(|holder| name_of(Path::new(&holder.ok()?.file_name()))).collect();
    names(wanted).find(|name| held_by.iter().any(|holder| holder == name || *holder == integrity(name)))
}

/// The device between a mapping and its disk if the LUKS2 header asks for authenticated encryption (`INTEGRITY` in
/// cryptsetup's lib/luks2).
fn integrity(name: &str) -> String {
    format!("{name}_dif")
}

/// Device numbers of what a mapping lies on, below dm-integrity.
pub(super) fn lies_on(name: &str) -> std::io::Result<Vec<u64>> {
    let devices = device_mapper::lies_on(name)?;
    let between = device_mapper::status(&integrity(name))?;
    match between {
        Some(between) if devices == [between.devnum] => device_mapper::lies_on(&integrity(name)),
        _ => Ok(devices),
    }
}

/// Whether every device below a mapping is unplugged; also if there is none.
pub(super) fn is_dead(name: &str) -> std::io::Result<bool> {
    Ok(lies_on(name)?.into_iter().all(|devnum| !node::sysfs(devnum).exists()))
}

/// What the kernel says of a mapping; `None` if there is none.
pub(super) fn status(name: &str) -> Result<Option<Status>, DiskError> {
    device_mapper::status(name).map_err(|error| unknown(name, &error))
}

/// Opens a mapping, and proves that it is LUKS, over `node` and nothing else, and that it encrypts: a header can name
/// `cipher_null`, with which whoever brings the disk has chosen what is read.
pub(super) fn open(name: &str, node: &Node) -> Result<Node, DiskError> {
    let wrong = |kind, what: &str| {
        Err(DiskError::new(kind, format!("Mapping {name} over {} {what}", node.path.display())))
    };
    let Some(status) = status(name)? else { return wrong(ErrorKind::Other, "is not there") };
    if !status.uuid.starts_with("CRYPT-LUKS") {
        return wrong(ErrorKind::WrongContent, "is not LUKS");
    }
    if lies_on(name).map_err(|error| unknown(name, &error))? != [node.devnum] {
        return wrong(ErrorKind::Busy, "lies on another device");
    }
    let ciphers = device_mapper::ciphers(name).map_err(|error| unknown(name, &error))?;
    if !encrypts(&ciphers) {
        let what = "does not encrypt all of it with a cipher: the disk may have been tampered with";
        return wrong(ErrorKind::WrongContent, what);
    }
    let kernel_name = node::kernel_name(status.devnum).map_err(|error| unknown(name, &error))?;
    let paths = [Path::new("/dev/mapper").join(name), Path::new("/dev").join(kernel_name)];
    // Without a udev daemon the first may be missing.
    let opened =
        paths.iter().find_map(|path| Node::open(path).ok().filter(|node| node.devnum == status.devnum));
    opened.map_or_else(|| wrong(ErrorKind::Other, "has no device node"), Ok)
}

/// Every segment has a cipher and, whatever the notation, neither it nor its initialisation vector is the null one.
fn encrypts(ciphers: &[String]) -> bool {
    !ciphers.is_empty() && ciphers.iter().all(|cipher| !cipher.is_empty() && !cipher.contains("null"))
}

fn unknown(name: &str, error: &std::io::Error) -> DiskError {
    DiskError::not_the_disks(format!("Cannot ask the device mapper about {name}"), error)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_plain_segment_is_enough_to_not_encrypt() {
        let encrypts =
            |ciphers: &[&str]| encrypts(&ciphers.iter().map(|&c| c.to_owned()).collect::<Vec<_>>());
        assert!(encrypts(&["aes-xts-plain64"]));
        assert!(encrypts(&["capi:authenc(hmac(sha256),xts(aes))-random"]));
        for plain in ["cipher_null-ecb", "capi:ecb(cipher_null)-plain64", "aes-cbc-null", ""] {
            assert!(!encrypts(&[plain]) && !encrypts(&["aes-xts-plain64", plain]), "{plain:?}");
        }
        assert!(!encrypts(&[]));
    }

    #[test]
    fn no_stand_in_name_is_another_mounts_first_name() {
        let all: Vec<String> = names("mydisks-a").collect();
        assert_eq!(all.len(), 9);
        assert_eq!(all[0], "mydisks-a");
        for stand_in in &all[1..] {
            let name = stand_in.strip_prefix("mydisks-").unwrap();
            assert!(name.parse::<crate::device::MountName>().is_err(), "{name}");
        }
    }
}
