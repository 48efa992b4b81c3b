//! Who holds a block device: read only after the kernel has said that somebody does. Knows nothing of why it matters.

use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::path::{Path, PathBuf};

use super::node::{self, Node};
use super::{mapping, mountinfo};

/// A sentence's end that names the holder as well as it can be known: `is mounted at /mnt`, `is held by mapping x`.
pub(super) fn holder(node: &Node) -> String {
    known_holder(node)
        .unwrap_or_else(|| "is in use by another program, or mounted in another mount namespace".to_owned())
}

/// The same; `None` if it cannot be known.
pub(super) fn known_holder(node: &Node) -> Option<String> {
    mounted(node).or_else(|| held_by_block_device(node)).or_else(|| swap(node))
}

fn mounted(node: &Node) -> Option<String> {
    mounted_on(node.devnum).map(|place| format!("is mounted at {}", place.display()))
}

/// Where a block device is mounted in this mount namespace.
pub(super) fn mounted_on(devnum: u64) -> Option<PathBuf> {
    let mounts = mountinfo::read().ok()?;
    let mount = mounts.into_iter().find(|mount| {
        // A btrfs mount has a device number of its own making: there only the source tells.
        mount.devnum == devnum || block_devnum(Path::new(&mount.source)) == Some(devnum)
    })?;
    Some(mount.mount_point)
}

/// The number of the block device that a path below /dev means.
pub(super) fn block_devnum(path: &Path) -> Option<u64> {
    // Whoever mounts chooses the source's text, and any other path may lead into a file system that does not answer.
    let directory = path.parent()?;
    if directory != Path::new("/dev") && directory != Path::new("/dev/mapper") {
        return None;
    }
    let metadata = std::fs::metadata(path).ok()?;
    metadata.file_type().is_block_device().then(|| metadata.rdev())
}

fn held_by_block_device(node: &Node) -> Option<String> {
    let shown = block_devices_on(node.devnum).join(", ");
    (!shown.is_empty()).then(|| format!("is held by {shown}"))
}

/// The block devices that lie on a block device: `mapping x`, `md0`.
pub(super) fn block_devices_on(devnum: u64) -> Vec<String> {
    let Ok(holders) = std::fs::read_dir(node::sysfs(devnum).join("holders")) else { return Vec::new() };
    let names = holders.filter_map(|holder| Some(holder.ok()?.file_name()));
    let shown = names.map(|name| match mapping::name_of(Path::new(&name)) {
        Some(mapping) => format!("mapping {mapping}"),
        None => name.to_string_lossy().into_owned(),
    });
    shown.collect()
}

fn swap(node: &Node) -> Option<String> {
    let swaps = std::fs::read_to_string("/proc/swaps").ok()?;
    let mut devices = swaps.lines().skip(1).filter_map(|line| line.split_whitespace().next());
    devices
        .any(|device| block_devnum(Path::new(device)) == Some(node.devnum))
        .then(|| "is in use as swap space".to_owned())
}
