//! What libvirt leaves in a guest's private /dev. For each disk that it attaches, its QEMU driver makes a copy of the node
//! there and notes on it whose it was and how many use it (`remember_owner` in qemu.conf). When a disk has been pulled,
//! the node can no longer be opened and so the note stays (`virSecurityManagerMetadataLock`): the next disk that the
//! kernel gives the same name is refused, "already in use", until the guest is turned off. So a node of a disk that the
//! guest does not have is taken away before another one comes. Knows nothing of libvirt's library.

use std::io;
use std::path::{Path, PathBuf};

use rustix::fs::{AtFlags, CWD, FileType, Mode, OFlags, ResolveFlags, openat, openat2, statat, unlinkat};

use super::{Live, LiveKind};
use crate::device::GuestName;

/// The one driver that has such namespaces, as the system's.
const SYSTEM: &str = "qemu:///system";

/// Takes the copy of `node` away from the guest's private /dev, unless a device of the guest is that node. A guest that
/// shares the host's /dev is left alone.
///
/// # Errors
/// What the system says; where there is no copy there is no error.
pub(super) fn forget(uri: &str, guest: &GuestName, live: &Live, node: &Path) -> io::Result<()> {
    let is_its =
        |kind: &LiveKind| matches!(kind, LiveKind::Disk { source: Some(source), .. } if source == node);
    if uri != SYSTEM || live.devices.iter().any(|device| is_its(&device.kind)) {
        return Ok(());
    }
    let Some(process) = process(guest)? else { return Ok(()) };
    if std::fs::read_link(process.join("ns/mnt"))? == std::fs::read_link("/proc/self/ns/mnt")? {
        return Ok(());
    }
    let root =
        openat(CWD, process.join("root"), OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty())?;
    match forget_below(&root, node) {
        Err(rustix::io::Errno::NOENT) => Ok(()),
        other => Ok(other?),
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

fn forget_below(root: impl std::os::fd::AsFd, node: &Path) -> rustix::io::Result<()> {
    let below = node.strip_prefix("/").ok().filter(|below| below.starts_with("dev"));
    let Some((directory, name)) = below.and_then(|below| below.parent().zip(below.file_name())) else {
        return Ok(());
    };
    // Whoever has broken out of QEMU may have laid a link.
    let resolve = ResolveFlags::IN_ROOT | ResolveFlags::NO_SYMLINKS | ResolveFlags::NO_MAGICLINKS;
    let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let directory = openat2(root, directory, flags, Mode::empty(), resolve)?;
    let found = statat(&directory, name, AtFlags::SYMLINK_NOFOLLOW)?;
    if FileType::from_raw_mode(found.st_mode) != FileType::BlockDevice {
        return Ok(());
    }
    unlinkat(&directory, name, AtFlags::empty())
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
        assert_eq!(forget("/dev/none"), Err(rustix::io::Errno::NOENT));
        assert!(dev.join("file").exists() && elsewhere.join("file").exists());
    }
}
