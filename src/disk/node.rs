//! Opened block devices, and the proof that they are the ones meant. Knows nothing of what is on them.
//!
//! A device is opened by name once and compared with the disk sequence number of the udev event that told of it. From
//! then on its name and number belong to it: the kernel frees them only when the last descriptor is closed (an open
//! block device pins its `gendisk`; `disk_release` in block/genhd.c calls `scsi_disk_free_disk`, and only the following
//! `scsi_disk_release` in drivers/scsi/sd.c returns the index that `sdX` and its numbers are made of; numbers of the
//! extended range are freed by `bdev_free_inode` in block/bdev.c). So what must be told to the kernel or to
//! `cryptsetup` by path is still the same device for as long as the descriptor lives.

use std::fs::{File, OpenOptions};
use std::io;
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{FileTypeExt, MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use rustix::fs::{major, minor};
use rustix::io::Errno;

use super::ioctl;
use super::{DiskError, ErrorKind};

/// An opened block device: a whole disk, a partition, a mapping or a loop device. Clones share the descriptor.
#[derive(Clone, Debug)]
pub(super) struct Node {
    /// By which it was opened.
    pub(super) path: PathBuf,
    /// Device number, as in `st_rdev`.
    pub(super) devnum: u64,
    file: Arc<File>,
    /// The image file that has the same bytes.
    image: Option<Arc<File>>,
}

impl Node {
    /// Opens a block device for reading.
    pub(super) fn open(path: &Path) -> Result<Self, DiskError> {
        let what = |error| DiskError::system(format_args!("Cannot open {}", path.display()), &error);
        let file = OpenOptions::new()
            .read(true)
            .custom_flags((rustix::fs::OFlags::CLOEXEC | rustix::fs::OFlags::NONBLOCK).bits() as i32)
            .open(path)
            .map_err(what)?;
        Self::from_file(path, file)
    }

    /// Takes a descriptor that is open already.
    pub(super) fn from_file(path: &Path, file: File) -> Result<Self, DiskError> {
        let metadata = file
            .metadata()
            .map_err(|error| DiskError::system(format_args!("Cannot look at {}", path.display()), &error))?;
        if !metadata.file_type().is_block_device() {
            let message = format!("{} is not a block device", path.display());
            return Err(DiskError::new(ErrorKind::Other, message));
        }
        Ok(Self { path: path.to_owned(), devnum: metadata.rdev(), file: Arc::new(file), image: None })
    }

    /// A loop device that has just been attached to all of `image`.
    pub(super) fn backed_by(self, image: File) -> Self {
        Self { image: Some(Arc::new(image)), ..self }
    }

    /// Where its content is read: each block that is read through a loop device waits for the kernel's worker, which a
    /// read of the image's cached bytes does not.
    pub(super) fn content(&self) -> BorrowedFd<'_> {
        self.image.as_ref().unwrap_or(&self.file).as_fd()
    }

    /// The sequence number of this plug of the disk that this is, or is a partition of.
    pub(super) fn disk_sequence(&self) -> Result<u64, DiskError> {
        ioctl::disk_sequence(self).map_err(|error| {
            DiskError::system(
                format_args!("Cannot ask the kernel which plug {} belongs to", self.path.display()),
                &error,
            )
        })
    }

    /// Whether it is write-protected.
    pub(super) fn is_read_only(&self) -> Result<bool, DiskError> {
        ioctl::is_read_only(self).map_err(|error| {
            DiskError::system(
                format_args!("Cannot ask whether {} is write-protected", self.path.display()),
                &error,
            )
        })
    }

    /// Whether a mount, a mapping, swap, RAID or a program with O_EXCL holds it, or a partition of it
    /// (`bd_may_claim` in block/bdev.c). Leaves nothing behind: the claim is given back at once.
    pub(super) fn is_claimed(&self) -> Result<bool, DiskError> {
        Ok(self.claim()?.is_none())
    }

    /// Keeps everybody else from what [`Node::is_claimed`] lists for as long as the file is open; `None` if it is claimed.
    pub(super) fn claim(&self) -> Result<Option<File>, DiskError> {
        let exclusive = (rustix::fs::OFlags::CLOEXEC | rustix::fs::OFlags::EXCL).bits() as i32;
        match OpenOptions::new().read(true).custom_flags(exclusive).open(&self.path) {
            Ok(claim) => Ok(Some(claim)),
            Err(error) if Errno::from_io_error(&error) == Some(Errno::BUSY) => Ok(None),
            Err(error) => Err(DiskError::system(format_args!("Cannot open {}", self.path.display()), &error)),
        }
    }

    /// Writes out what the kernel still keeps for it (fsync(2) of a block device).
    pub(super) fn flush(&self) -> io::Result<()> {
        self.file.sync_all()
    }

    /// It and the partitions that the kernel knows on it.
    pub(super) fn with_partitions(&self) -> Result<Vec<Self>, DiskError> {
        let partitions = partitions_of(self).map_err(|error| {
            DiskError::system(format_args!("Cannot list the partitions of {}", self.path.display()), &error)
        })?;
        let partitions = partitions.iter().map(|(_, path)| Self::open(path));
        std::iter::once(Ok(self.clone())).chain(partitions).collect()
    }

    /// Whether the device can no longer be reached under its name: unplugged, or its medium taken out.
    pub(super) fn is_gone(&self) -> bool {
        match Self::open(&self.path) {
            Ok(again) => again.devnum != self.devnum,
            Err(error) => error.kind == ErrorKind::Absent,
        }
    }

    /// `/sys/dev/block/MAJOR:MINOR`, where the kernel describes it.
    pub(super) fn sysfs(&self) -> PathBuf {
        sysfs(self.devnum)
    }
}

impl AsFd for Node {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.file.as_fd()
    }
}

/// `/sys/dev/block/MAJOR:MINOR`; exists as long as the device is plugged in (`del_gendisk` removes it).
pub(super) fn sysfs(devnum: u64) -> PathBuf {
    PathBuf::from(format!("/sys/dev/block/{}:{}", major(devnum), minor(devnum)))
}

/// The kernel's own name of a device: `sdb1`, `dm-0`, `loop3`.
pub(super) fn kernel_name(devnum: u64) -> io::Result<String> {
    let target = std::fs::read_link(sysfs(devnum))?;
    Ok(target.file_name().unwrap_or_default().to_string_lossy().into_owned())
}

/// A whole disk that is proven to be the one meant, held open until the work is done.
#[derive(Debug)]
pub(super) struct Disk {
    pub(super) node: Node,
    /// Which plug of it.
    pub(super) sequence: u64,
    /// Partition nodes by number, in order of number.
    pub(super) partitions: Vec<(u32, PathBuf)>,
    /// The loop device that the kernel frees when its last user is gone.
    pub(super) loop_device: Option<PathBuf>,
}

impl Disk {
    /// Opens a device that udev told of; [`ErrorKind::Absent`] if `path` means another plug by now.
    pub(super) fn open(path: &Path, sequence: u64, partitions: &[(u32, PathBuf)]) -> Result<Self, DiskError> {
        let node = Node::open(path)?;
        let now = node.disk_sequence()?;
        if now != sequence {
            let message = format!(
                "{} is another disk than a moment ago (DISKSEQ {now}, was {sequence}): it was unplugged",
                path.display()
            );
            return Err(DiskError::new(ErrorKind::Absent, message));
        }
        Ok(Self { node, sequence, partitions: partitions.to_vec(), loop_device: None })
    }

    /// Takes a loop device that was attached just now, with the partitions that the kernel found on it.
    pub(super) fn from_loop(node: Node, loop_device: Option<PathBuf>) -> Result<Self, DiskError> {
        let sequence = node.disk_sequence()?;
        let partitions = partitions_of(&node).map_err(|error| {
            DiskError::system(format_args!("Cannot list the partitions of {}", node.path.display()), &error)
        })?;
        Ok(Self { node, sequence, partitions, loop_device })
    }

    /// Opens a partition, and proves that it is that partition of this disk.
    pub(super) fn partition(&self, number: u32) -> Result<Node, DiskError> {
        let disk = self.node.path.display();
        let Some((_, path)) = self.partitions.iter().find(|(present, _)| *present == number) else {
            let message = format!("{disk} has no partition {number} (it has: {})", self.partition_list());
            return Err(DiskError::new(ErrorKind::Absent, message));
        };
        let node = Node::open(path)?;
        let is_of_disk = node.disk_sequence()? == self.sequence;
        let told = std::fs::read_to_string(node.sysfs().join("partition"));
        if is_of_disk && told.is_ok_and(|told| told.trim().parse() == Ok(number)) {
            return Ok(node);
        }
        let message = format!("{} is no longer partition {number} of {disk}", path.display());
        Err(DiskError::new(ErrorKind::Absent, message))
    }

    fn partition_list(&self) -> String {
        if self.partitions.is_empty() {
            return "none".to_owned();
        }
        self.partitions.iter().map(|(number, _)| number.to_string()).collect::<Vec<_>>().join(", ")
    }
}

/// The partitions that the kernel knows of: directories below the disk's own in sysfs with a file `partition`.
pub(super) fn partitions_of(disk: &Node) -> io::Result<Vec<(u32, PathBuf)>> {
    let name = kernel_name(disk.devnum)?;
    let mut partitions = Vec::new();
    for entry in std::fs::read_dir(disk.sysfs())? {
        let entry = entry?;
        // Most are attributes; a partition is a directory with the disk's name and more (`disk_name` in block/genhd.c).
        if !entry.file_type()?.is_dir() || !entry.file_name().as_bytes().starts_with(name.as_bytes()) {
            continue;
        }
        let number = std::fs::read_to_string(entry.path().join("partition"));
        if let Some(number) = number.ok().and_then(|text| text.trim().parse().ok()) {
            partitions.push((number, Path::new("/dev").join(entry.file_name())));
        }
    }
    partitions.sort_unstable();
    Ok(partitions)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_not_there_is_absent_and_what_is_no_block_device_is_refused() {
        let absent = Node::open(Path::new("/dev/no-such-disk")).unwrap_err();
        assert_eq!(absent.kind, ErrorKind::Absent);
        assert!(absent.message.contains("/dev/no-such-disk"));
        let null = Node::open(Path::new("/dev/null")).unwrap_err();
        assert!(null.message.contains("not a block device"), "{null}");
    }
}
