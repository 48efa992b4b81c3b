//! What libvirt leaves in a guest's private /dev. For each disk that it attaches, its QEMU driver makes a copy of the node
//! there and notes on it whose it was and how many use it (`remember_owner` in qemu.conf). When a disk has been pulled,
//! the node can no longer be opened and so the note stays (`virSecurityManagerMetadataLock`): the next disk that the
//! kernel gives the same name is refused, "already in use", until the guest is turned off. So a node of a disk that the
//! guest does not have is taken away before another one comes. Knows nothing of libvirt's library.

use std::ffi::OsStr;
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::path::{Path, PathBuf};

use rustix::fs::{AtFlags, CWD, FileType, Mode, OFlags, ResolveFlags, openat, openat2, statat, unlinkat};

use super::{Live, LiveKind};
use crate::device::GuestName;

/// The one driver that has such namespaces, as the system's.
const SYSTEM: &str = "qemu:///system";

/// The copy of a node in a guest's private /dev.
pub(super) struct Copy<'a> {
    root: OwnedFd,
    node: &'a Path,
}

/// The copy of `node` in the guest's private /dev, if there is one. A guest that shares the host's /dev has none.
///
/// # Errors
/// What the system says.
pub(super) fn copy<'a>(uri: &str, guest: &GuestName, node: &'a Path) -> io::Result<Option<Copy<'a>>> {
    if uri != SYSTEM {
        return Ok(None);
    }
    let Some(process) = process(guest)? else { return Ok(None) };
    if std::fs::read_link(process.join("ns/mnt"))? == std::fs::read_link("/proc/self/ns/mnt")? {
        return Ok(None);
    }
    let root =
        openat(CWD, process.join("root"), OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty())?;
    Ok(find_below(&root, node)?.map(|_| Copy { root, node }))
}

impl Copy<'_> {
    /// Takes it away, unless a device of the guest is that node.
    ///
    /// # Errors
    /// What the system says.
    pub(super) fn forget(&self, live: &Live) -> io::Result<()> {
        let is_its = |kind: &LiveKind| matches!(kind, LiveKind::Disk { source: Some(source), .. } if source == self.node);
        if live.devices.iter().any(|device| is_its(&device.kind)) {
            return Ok(());
        }
        Ok(forget_below(&self.root, self.node)?)
    }
}

/// `/proc/PID` of the guest's QEMU.
fn process(guest: &GuestName) -> io::Result<Option<PathBuf>> {
    match std::fs::read_to_string(format!("/run/libvirt/qemu/{guest}.pid")) {
        Ok(text) => Ok(text.trim().parse::<u32>().ok().map(|pid| PathBuf::from(format!("/proc/{pid}")))),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error),
    }
}

fn forget_below(root: impl AsFd, node: &Path) -> rustix::io::Result<()> {
    match find_below(root, node)? {
        Some((directory, name)) => unlinkat(&directory, name, AtFlags::empty()),
        None => Ok(()),
    }
}

/// The directory that has a block device of this name, and the name in it.
fn find_below(root: impl AsFd, node: &Path) -> rustix::io::Result<Option<(OwnedFd, &OsStr)>> {
    let below = node.strip_prefix("/").ok().filter(|below| below.starts_with("dev"));
    let Some((directory, name)) = below.and_then(|below| below.parent().zip(below.file_name())) else {
        return Ok(None);
    };
    // Whoever has broken out of QEMU may have laid a link.
    let resolve = ResolveFlags::IN_ROOT | ResolveFlags::NO_SYMLINKS | ResolveFlags::NO_MAGICLINKS;
    let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let found = openat2(root, directory, flags, Mode::empty(), resolve)
        .and_then(|directory| Ok((statat(&directory, name, AtFlags::SYMLINK_NOFOLLOW)?, directory)));
    match found {
        Ok((stat, directory)) if FileType::from_raw_mode(stat.st_mode) == FileType::BlockDevice => {
            Ok(Some((directory, name)))
        }
        Ok(_) | Err(rustix::io::Errno::NOENT) => Ok(None),
        Err(error) => Err(error),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs::File;

    #[test]
    fn nothing_but_a_block_device_below_dev_is_taken_away() {
        let place = tempfile::tempdir().unwrap();
        let (dev, elsewhere) = (place.path().join("dev"), place.path().join("elsewhere"));
        for directory in [&dev, &elsewhere] {
            std::fs::create_dir(directory).unwrap();
            std::fs::write(directory.join("file"), "").unwrap();
        }
        std::os::unix::fs::symlink(&elsewhere, dev.join("link")).unwrap();
        let forget = |node: &str| forget_below(File::open(place.path()).unwrap(), Path::new(node));
        assert_eq!(forget("/dev/file"), Ok(()));
        assert_eq!(forget("/elsewhere/file"), Ok(()));
        assert!(forget("/dev/link/file").is_err());
        assert_eq!(forget("/dev/none"), Ok(()));
        assert!(dev.join("file").exists() && elsewhere.join("file").exists());
    }
}
