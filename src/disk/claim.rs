//! A whole disk for somebody who opens it by name: a guest. Proves that it is the one meant and that nothing on the host
//! has it, and keeps others away for as long as that must be so. Knows nothing of guests.

use std::fs::{File, OpenOptions};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use rustix::io::Errno;

use super::node::{Disk, Node, partitions_of};
use super::{DiskError, ErrorKind, busy, image, virtual_machines};

/// Holds a disk: until it is dropped nothing on the host can mount it, map it or make it swap, nor a partition of it.
#[derive(Debug)]
pub struct Claim {
    _exclusive: File,
}

/// Claims the disk that udev showed as `path` with this DISKSEQ, for the virtual machine of this name.
///
/// # Errors
/// [`ErrorKind::Absent`] if it was unplugged; [`ErrorKind::Busy`], with who, if it or a partition of it is mounted, has
/// a mapping, RAID or loop device on it, is swap, is open exclusively, or in another virtual machine.
pub fn claim(path: &Path, sequence: u64, machine: &str) -> Result<Claim, DiskError> {
    let disk = Disk::open(path, sequence, &[])?;
    let exclusive = open_exclusively(path).map_err(|error| match Errno::from_io_error(&error) {
        Some(Errno::BUSY) => DiskError::new(ErrorKind::Busy, who(&disk.node)),
        _ => DiskError::system(format_args!("Cannot open {}", path.display()), &error),
    })?;
    virtual_machines::refuse_if_open(&disk.node, Some(machine))?;
    // A loop device opens what is under it like any program.
    match loop_device_on(&disk.node)? {
        Some(refusal) => Err(DiskError::new(ErrorKind::Busy, refusal)),
        None => Ok(Claim { _exclusive: exclusive }),
    }
}

/// Fails for partitions that are in use as well (`bd_may_claim` in block/bdev.c).
fn open_exclusively(path: &Path) -> std::io::Result<File> {
    let exclusive = (rustix::fs::OFlags::CLOEXEC | rustix::fs::OFlags::EXCL).bits() as i32;
    OpenOptions::new().read(true).custom_flags(exclusive).open(path)
}

/// Which of the disk and its partitions is held, and by what. The kernel refuses a partition too while the whole disk is
/// held, so that alone tells nothing.
fn who(disk: &Node) -> String {
    let partitions = partitions_of(disk).unwrap_or_default();
    let partitions: Vec<Node> = partitions.iter().filter_map(|(_, path)| Node::open(path).ok()).collect();
    let mut nodes = std::iter::once(disk).chain(&partitions);
    let known = nodes.find_map(|node| Some(format!("{} {}", node.path.display(), busy::known_holder(node)?)));
    known.unwrap_or_else(|| format!("{} {}", disk.path.display(), busy::holder(disk)))
}

fn loop_device_on(disk: &Node) -> Result<Option<String>, DiskError> {
    let unknown = |error| {
        let what = format!("Cannot find out whether a loop device holds {}", disk.path.display());
        DiskError::not_the_disks(what, &error)
    };
    let partitions = partitions_of(disk).unwrap_or_default();
    let nodes: Vec<PathBuf> = partitions.into_iter().map(|(_, path)| path).collect();
    let is_ours = |file: &Path| file == disk.path || nodes.iter().any(|node| node == file);
    let mut loops = image::files().map_err(unknown)?.into_iter();
    let held = loops.find(|(_, file)| is_ours(file));
    Ok(held.map(|(device, file)| format!("{} is held by loop device {}", file.display(), device.display())))
}
