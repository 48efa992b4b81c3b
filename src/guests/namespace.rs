//! What libvirt leaves in a guest's private /dev. For each disk that it attaches, its QEMU driver makes a copy of the node
//! there and notes on it whose it was and how many use it (`remember_owner` in qemu.conf). It never takes a copy away
//! (`qemuDomainNamespaceTeardownDisk` in qemu_namespace.c), and after a pull the note stays: what is gone from the
//! host's /dev cannot be restored. The next disk that the kernel gives the same name and number is then refused,
//! "already in use", until the guest is turned off. Seen with libvirt 9.0; the lab's fact
//! `node_of_a_pulled_disk_refuses_the_next_one` fails when that has changed.
//!
//! So the copy of a disk that the guest does not have is taken away right before the next one is attached, which makes a
//! new copy: whoever has the old one open keeps what he has. Only what libvirt made is touched: the directory must be
//! libvirt's own file system in the namespace of the very process that holds the guest's pid file. Knows nothing of
//! libvirt's library.

use std::ffi::OsStr;
use std::fs::File;
use std::io::{self, Read};
use std::os::fd::{AsFd, OwnedFd};
use std::path::Path;

use nix::fcntl::{FcntlArg, fcntl};
use rustix::fs::{
    AtFlags, CWD, FileType, Mode, OFlags, ResolveFlags, fstat, openat, openat2, statat, unlinkat,
};

use super::{Live, LiveKind};
use crate::device::GuestName;

/// The one driver that has such namespaces, as the system's.
const SYSTEM: &str = "qemu:///system";

const DIRECTORY: OFlags = OFlags::PATH.union(OFlags::DIRECTORY).union(OFlags::CLOEXEC);

/// The copy of a node in a guest's private /dev.
pub(super) struct Copy<'a> {
    dev: OwnedFd,
    node: &'a Path,
}

/// The copy of `node` in the guest's private /dev, if there is one. A guest that shares a /dev with anybody has none.
///
/// # Errors
/// What the system says.
pub(super) fn copy<'a>(uri: &str, guest: &GuestName, node: &'a Path) -> io::Result<Option<Copy<'a>>> {
    if uri != SYSTEM {
        return Ok(None);
    }
    match copy_of(Path::new(&format!("/run/libvirt/qemu/{guest}.pid")), node) {
        // The guest is off, or has ended meanwhile.
        Err(error) if error.raw_os_error() == Some(libc::ESRCH) => Ok(None),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        other => other,
    }
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
        Ok(forget_below(&self.dev, self.node)?)
    }
}

fn copy_of<'a>(pid_file: &Path, node: &'a Path) -> io::Result<Option<Copy<'a>>> {
    let Some(process) = holder(&File::open(pid_file)?)? else { return Ok(None) };
    let dev = openat(&process, "root/dev", DIRECTORY, Mode::empty())?;
    if find_below(&dev, node)?.is_none() {
        return Ok(None);
    }
    let mut mounts = String::new();
    let table = openat(&process, "mountinfo", OFlags::RDONLY | OFlags::CLOEXEC, Mode::empty())?;
    File::from(table).read_to_string(&mut mounts)?;
    let is_libvirts = libvirts_dev(&mounts) == Some(fstat(&dev)?.st_dev);
    Ok(is_libvirts.then_some(Copy { dev, node }))
}

/// `/proc/PID` of the process that holds the lock of its pid file: QEMU, from its start to its end (`virExec` in
/// vircommand.c). What is opened by it is that process's or fails, whoever may have its number by then.
fn holder(pid_file: &File) -> io::Result<Option<OwnedFd>> {
    let Some(pid) = lock_of(pid_file)? else { return Ok(None) };
    let process = openat(CWD, format!("/proc/{pid}"), DIRECTORY, Mode::empty())?;
    Ok((lock_of(pid_file)? == Some(pid)).then_some(process))
}

/// Who has a lock on a file (`F_GETLK`, fcntl(2)).
fn lock_of(file: &File) -> io::Result<Option<i32>> {
    let (l_type, l_whence) = (libc::F_WRLCK as libc::c_short, libc::SEEK_SET as libc::c_short);
    let mut lock = libc::flock { l_type, l_whence, l_start: 0, l_len: 0, l_pid: 0 };
    fcntl(file, FcntlArg::F_GETLK(&mut lock))?;
    Ok((lock.l_type != libc::F_UNLCK as libc::c_short && lock.l_pid > 0).then_some(lock.l_pid))
}

/// The device number of what is mounted on /dev, if it is what libvirt mounts there for a guest (`virFileSetupDev` in
/// virfile.c): a tmpfs by the name of `devfs`. `mounts` is as in proc_pid_mountinfo(5).
fn libvirts_dev(mounts: &str) -> Option<u64> {
    let on_dev = |line: &&str| line.split(' ').nth(4) == Some("/dev");
    let (mount, file_system) = mounts.lines().rfind(on_dev)?.split_once(" - ")?;
    if !file_system.starts_with("tmpfs devfs ") {
        return None;
    }
    let (major, minor) = mount.split(' ').nth(2)?.split_once(':')?;
    Some(rustix::fs::makedev(major.parse().ok()?, minor.parse().ok()?))
}

fn forget_below(dev: impl AsFd, node: &Path) -> rustix::io::Result<()> {
    match find_below(dev, node)? {
        Some((directory, name)) => unlinkat(&directory, name, AtFlags::empty()),
        None => Ok(()),
    }
}

/// The directory that has a block device of this name, and the name in it.
fn find_below(dev: impl AsFd, node: &Path) -> rustix::io::Result<Option<(OwnedFd, &OsStr)>> {
    let below = node.strip_prefix("/dev").ok();
    let Some((directory, name)) = below.and_then(|below| below.parent().zip(below.file_name())) else {
        return Ok(None);
    };
    // Whoever has broken out of QEMU may have laid a link.
    let resolve = ResolveFlags::BENEATH | ResolveFlags::NO_SYMLINKS | ResolveFlags::NO_XDEV;
    let directory = if directory == Path::new("") { Path::new(".") } else { directory };
    let found = openat2(dev, directory, DIRECTORY, Mode::empty(), resolve)
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

    #[test]
    fn nothing_but_a_block_device_below_dev_is_taken_away() {
        let place = tempfile::tempdir().unwrap();
        let (dev, elsewhere) = (place.path().join("dev"), place.path().join("elsewhere"));
        for directory in [&dev, &elsewhere] {
            std::fs::create_dir(directory).unwrap();
            std::fs::write(directory.join("file"), "").unwrap();
        }
        std::os::unix::fs::symlink(&elsewhere, dev.join("link")).unwrap();
        let forget = |node: &str| forget_below(File::open(&dev).unwrap(), Path::new(node));
        assert_eq!(forget("/dev/file"), Ok(()));
        assert_eq!(forget("/elsewhere/file"), Ok(()));
        assert!(forget("/dev/link/file").is_err());
        assert!(forget("/dev/../elsewhere/file").is_err());
        assert_eq!(forget("/dev/none"), Ok(()));
        assert!(dev.join("file").exists() && elsewhere.join("file").exists());
    }

    #[test]
    fn only_the_directory_that_libvirt_made_for_the_guest_counts() {
        let line = |source: &str| {
            format!("22 1 0:21 / / rw - ext4 /dev/sda rw\n30 22 0:5 / /dev rw - {source} rw\n")
        };
        let below = "31 30 0:6 / /dev/pts rw - devpts devpts rw\n";
        assert_eq!(libvirts_dev(&(line("tmpfs devfs") + below)), Some(rustix::fs::makedev(0, 5)));
        for other in ["devtmpfs devtmpfs", "tmpfs tmpfs", "devtmpfs devfs", "tmpfs devfs-of-others"] {
            assert_eq!(libvirts_dev(&line(other)), None, "{other}");
        }
        // What was mounted last is on top.
        let covered = line("tmpfs devfs") + "40 30 0:9 / /dev rw - tmpfs tmpfs rw\n";
        assert_eq!(libvirts_dev(&covered), None);
        assert_eq!(libvirts_dev(""), None);
    }

    #[test]
    fn a_pid_file_that_nobody_holds_is_of_no_process() {
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), std::process::id().to_string()).unwrap();
        assert!(holder(&File::open(file.path()).unwrap()).unwrap().is_none());
        assert!(copy_of(file.path(), Path::new("/dev/sdz")).unwrap().is_none());
    }
}
