//! Image files: attached to a loop device that frees itself when its last user is gone. Knows nothing of what is in
//! them.

use std::ffi::OsString;
use std::fs::{File, Metadata, OpenOptions};
use std::io;
use std::os::fd::{AsFd, AsRawFd};
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use rustix::io::Errno;

use super::cancel::Limits;
use super::ioctl::{self, LOOP_AUTOCLEAR, LOOP_PARTSCAN, LOOP_READ_ONLY, LoopInfo};
use super::node::{Disk, Node};
use super::{DiskError, ErrorKind};

/// Bytes of a sector (SECTOR_SIZE in linux/blk_types.h).
const SECTOR: u64 = 512;

/// Attaches an image. One that is attached already, whole, and unused (by an earlier run, or by hand) is taken as it is:
/// two loop devices over one file would each keep a cache of their own. The returned disk must stay open until a mount
/// or a mapping holds the loop device, or the kernel frees it.
pub(super) fn attach(path: &Path, limits: Limits<'_>) -> Result<Disk, DiskError> {
    let (file, read_only) = open(path)?;
    let metadata = file.metadata().map_err(|error| {
        DiskError::system(format_args!("Cannot look at image {}", path.display()), &error)
    })?;
    if !metadata.is_file() {
        let message = format!("Image {} is not a regular file", path.display());
        return Err(DiskError::new(ErrorKind::Other, message));
    }
    if let Some(attached) = find_attached(path, &file, &metadata)? {
        return take_over(path, attached);
    }
    let mut node = attach_to_free(path, &file, read_only, limits)?;
    // The device has whole sectors only, and some contents are found from the end.
    if metadata.len() % SECTOR == 0 {
        node = node.backed_by(file);
    }
    let loop_device = Some(node.path.clone());
    Disk::from_loop(node, loop_device)
}

/// For writing if that is possible; symbolic links are followed, since the administrator wrote the path.
fn open(path: &Path) -> Result<(File, bool), DiskError> {
    // A FIFO must not make us wait for its other end.
    let flags = (rustix::fs::OFlags::NONBLOCK | rustix::fs::OFlags::CLOEXEC).bits() as i32;
    let mut options = OpenOptions::new();
    options.read(true).custom_flags(flags);
    match options.clone().write(true).open(path) {
        Ok(file) => Ok((file, false)),
        Err(error) => match Errno::from_io_error(&error) {
            Some(Errno::ACCESS | Errno::PERM | Errno::ROFS | Errno::TXTBSY) => {
                options.open(path).map(|file| (file, true))
            }
            _ => Err(error),
        }
        .map_err(|error| DiskError::system(format_args!("Cannot open image {}", path.display()), &error)),
    }
}

/// A loop device with a file on it.
pub(super) struct Attached {
    /// `/dev/loopN`, open.
    pub(super) node: Node,
    info: LoopInfo,
}

impl Attached {
    /// Whether the kernel frees the device at its last close.
    pub(super) fn frees_itself(&self) -> bool {
        self.info.flags & LOOP_AUTOCLEAR != 0
    }

    /// Whether it is that file.
    pub(super) fn is_of(&self, file: &Metadata) -> bool {
        self.info.device == file.dev() && self.info.inode == file.ino()
    }

    fn is_whole(&self) -> bool {
        self.info.offset == 0 && self.info.size_limit == 0
    }
}

/// The loop devices that have a file, and its path as the kernel shows it. Asks the file's own file system nothing.
pub(super) fn files() -> io::Result<Vec<(PathBuf, PathBuf)>> {
    let mut files = Vec::new();
    for device in std::fs::read_dir("/sys/block")? {
        let device = device?;
        if !device.file_name().as_bytes().starts_with(b"loop") {
            continue;
        }
        // Present only while a file is attached (loop_sysfs_init in drivers/block/loop.c).
        match std::fs::read(device.path().join("loop/backing_file")) {
            Ok(mut file) => {
                file.truncate(file.strip_suffix(b"\n").map_or(file.len(), <[u8]>::len));
                files.push((Path::new("/dev").join(device.file_name()), OsString::from_vec(file).into()));
            }
            Err(error) if is_absent(&error) => {}
            Err(error) => return Err(error),
        }
    }
    Ok(files)
}

/// All loop devices that have a file, but for those that cannot be asked.
pub(super) fn attached() -> Vec<Attached> {
    let files = files().unwrap_or_default();
    files.iter().filter_map(|(device, _)| ask(device).ok().flatten()).collect()
}

/// What is attached to a loop device.
fn ask(device: &Path) -> Result<Option<Attached>, DiskError> {
    let node = match Node::open(device) {
        Err(error) if error.kind == ErrorKind::Absent => return Ok(None),
        node => node?,
    };
    match ioctl::loop_status(&node) {
        Ok(info) => Ok(Some(Attached { node, info })),
        Err(error) if is_absent(&error) => Ok(None),
        Err(error) => {
            let what = format!("Cannot ask what is attached to {}", device.display());
            Err(DiskError::system(what, &error))
        }
    }
}

fn is_absent(error: &io::Error) -> bool {
    Errno::from_io_error(error).is_some_and(|errno| ErrorKind::of(errno) == ErrorKind::Absent)
}

/// Whether the file that made this loop device the disk `sequence` is still attached (each attaching and detaching
/// changes the number: `loop_configure` and `__loop_clr_fd` in drivers/block/loop.c). A device that cannot be asked is
/// not known to be free.
pub(super) fn is_attached(device: &Path, sequence: u64) -> bool {
    let asked = ask(device).and_then(|attached| match attached {
        Some(attached) => Ok(attached.node.disk_sequence()? == sequence),
        None => Ok(false),
    });
    asked.unwrap_or_else(|error| error.kind != ErrorKind::Absent)
}

/// Fails rather than overlook one: a file on two loop devices could be mounted twice.
fn find_attached(path: &Path, file: &File, metadata: &Metadata) -> Result<Option<Attached>, DiskError> {
    let unknown = |error: &io::Error| {
        let what = format!("Cannot find out whether image {} is attached already", path.display());
        // Absent would mean the image.
        DiskError::not_the_disks(what, error)
    };
    for (device, shown) in files().map_err(|error| unknown(&error))? {
        match ask(&device) {
            Ok(Some(attached)) if attached.is_of(metadata) => return Ok(Some(attached)),
            Ok(_) => {}
            Err(error) => {
                // The device asks its file's own file system, which may be one that is dead: then the name must do.
                let descriptor = format!("/proc/self/fd/{}", file.as_raw_fd());
                let ours = std::fs::read_link(descriptor).map_err(|error| unknown(&error))?;
                if shown == ours {
                    return Err(error);
                }
            }
        }
    }
    Ok(None)
}

fn take_over(path: &Path, attached: Attached) -> Result<Disk, DiskError> {
    if !attached.is_whole() {
        let message = format!(
            "A part of image {} is in use by {}: detach it with `losetup --detach`",
            path.display(),
            attached.node.path.display()
        );
        return Err(DiskError::new(ErrorKind::Busy, message));
    }
    // Whether it is in use is found out later, as for any disk.
    let frees_itself = attached.frees_itself();
    let loop_device = frees_itself.then(|| attached.node.path.clone());
    Disk::from_loop(attached.node, loop_device)
}

fn attach_to_free(path: &Path, file: &File, read_only: bool, limits: Limits<'_>) -> Result<Node, DiskError> {
    let failed = |error: io::Error| {
        let what = format!("Cannot attach image {} to a loop device", path.display());
        // Absent would mean the image; what is absent here is the loop driver.
        DiskError::not_the_disks(what, &error)
    };
    let mut info = LoopInfo::zeroed();
    info.flags = LOOP_AUTOCLEAR | LOOP_PARTSCAN | if read_only { LOOP_READ_ONLY } else { 0 };
    let name = path.as_os_str().as_bytes();
    let shown = name.len().min(info.file_name.len() - 1);
    info.file_name[..shown].copy_from_slice(&name[..shown]);

    let control = OpenOptions::new().read(true).write(true).open("/dev/loop-control").map_err(failed)?;
    loop {
        let device = PathBuf::from(format!("/dev/loop{}", ioctl::free_loop(&control).map_err(failed)?));
        let opened = OpenOptions::new().read(true).write(!read_only).open(&device).map_err(failed)?;
        match ioctl::configure_loop(&opened, file.as_fd(), info) {
            Ok(()) => return Node::from_file(&device, opened),
            // Somebody else took the same free one between the two calls.
            Err(error) if Errno::from_io_error(&error) == Some(Errno::BUSY) => {
                limits.check("a free loop device was found")?;
            }
            Err(error) => return Err(failed(error)),
        }
    }
}
