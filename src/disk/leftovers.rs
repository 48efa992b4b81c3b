//! What an earlier run of the daemon left on this machine: mappings, mounts and loop devices, found with the kernel and
//! in no state file. Knows nothing of what is configured.

use std::io;
use std::path::{Path, PathBuf};

use super::busy::block_devnum;
use super::mountinfo::{self, MountEntry};
use super::node::{self, Node};
use super::{Opened, device_mapper, image, mapping};

/// A mapping whose name begins with `mydisks-`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Mapping {
    /// `mydisks-NAME`, or `mydisks-NAME:2` and so on while a pulled disk still held the first.
    pub name: String,
    /// Its own device number.
    pub devnum: u64,
    /// Device numbers of what it lies on.
    pub lies_on: Vec<u64>,
    /// All of those are unplugged.
    pub is_dead: bool,
    /// How many have it open: a mount counts as one.
    pub open_count: u32,
    /// It goes away by itself with its last user.
    pub goes_when_unused: bool,
}

/// A loop device over one of our images.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Loop {
    /// `/dev/loopN`
    pub device: PathBuf,
    /// Its device number.
    pub devnum: u64,
    /// The image, as it was asked for.
    pub image: PathBuf,
    /// It goes away by itself with its last user: attached as we do it.
    pub frees_itself: bool,
}

/// The prefix of our mappings' names.
const PREFIX: &str = "mydisks-";

/// The mappings that are named like ours.
///
/// # Errors
/// The device mapper cannot be asked. A kernel without one has no mappings.
pub fn mappings() -> io::Result<Vec<Mapping>> {
    let mut found = Vec::new();
    for name in device_mapper::names()?.into_iter().filter(|name| name.starts_with(PREFIX)) {
        // Gone since the list was made: left out.
        let Some(status) = device_mapper::status(&name)? else { continue };
        if !status.uuid.starts_with("CRYPT-LUKS") {
            continue;
        }
        found.push(Mapping {
            lies_on: mapping::lies_on(&name)?,
            is_dead: mapping::is_dead(&name)?,
            devnum: status.devnum,
            open_count: status.open_count,
            goes_when_unused: status.goes_when_unused,
            name,
        });
    }
    Ok(found)
}

/// The mounts on directories directly in `root`, in the order in which they were made: of several on one directory the
/// last is on top.
///
/// # Errors
/// As [`mountinfo::read`].
pub fn mounts(root: &Path) -> io::Result<Vec<MountEntry>> {
    let mut mounts = mountinfo::read()?;
    mounts.retain(|mount| mount.mount_point.parent() == Some(root));
    Ok(mounts)
}

/// The loop devices that have one of `images` attached.
pub fn loops(images: &[PathBuf]) -> Vec<Loop> {
    let files: Vec<_> =
        images.iter().filter_map(|path| Some((path, std::fs::metadata(path).ok()?))).collect();
    let found = image::attached().into_iter().filter_map(|attached| {
        let (image, _) = files.iter().find(|(_, file)| attached.is_of(file))?;
        Some(Loop {
            device: attached.node.path.clone(),
            devnum: attached.node.devnum,
            image: (*image).clone(),
            frees_itself: attached.frees_itself(),
        })
    });
    found.collect()
}

/// What the disk below a mount holds, so that it can be taken over and later [locked](super::lock()) as if
/// [`prepare`](super::prepare()) had just made it; `None` if no block device is below.
pub fn opened(mount: &MountEntry) -> Option<Opened> {
    let devnum = block_devnum(Path::new(&mount.source))
        .or_else(|| node::sysfs(mount.devnum).exists().then_some(mount.devnum))?;
    let kernel_name = node::kernel_name(devnum).ok()?;
    let mapping = mapping::name_of(Path::new(&kernel_name)).filter(|name| name.starts_with(PREFIX));
    let on = match &mapping {
        Some(name) => mapping::lies_on(name).ok()?.first().copied(),
        None => Some(devnum),
    };
    let device = on.and_then(|on| node::kernel_name(on).ok()).map(|name| Path::new("/dev").join(name));
    let disk = device.as_deref().and_then(|device| Node::open(device).ok());
    let loop_device = image::attached().into_iter().find_map(|attached| {
        let is_below = device.as_deref().is_some_and(|device| is_part(device, &attached.node.path));
        (is_below && attached.frees_itself()).then(|| attached.node.path.clone())
    });
    Some(Opened {
        mapping,
        loop_device,
        devnum,
        disk_sequence: disk.and_then(|disk| disk.disk_sequence().ok()).unwrap_or(0),
        device: device.unwrap_or_default(),
    })
}

/// Whether a node is a disk's own or one of its partitions' (`/dev/loop3p1` of `/dev/loop3`).
fn is_part(node: &Path, disk: &Path) -> bool {
    let (Some(node), Some(disk)) = (node.to_str(), disk.to_str()) else { return false };
    let number = |rest: &str| rest.strip_prefix('p').is_some_and(|number| number.parse::<u32>().is_ok());
    node.strip_prefix(disk).is_some_and(|rest| rest.is_empty() || number(rest))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_partition_belongs_to_its_own_loop_device_only() {
        let is_part = |node, disk| is_part(Path::new(node), Path::new(disk));
        assert!(is_part("/dev/loop3", "/dev/loop3"));
        assert!(is_part("/dev/loop3p12", "/dev/loop3"));
        assert!(!is_part("/dev/loop33", "/dev/loop3"));
        assert!(!is_part("/dev/loop3", "/dev/loop33"));
        assert!(!is_part("/dev/loop3p", "/dev/loop3"));
    }
}
