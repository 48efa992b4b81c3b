//! The ways to reach a disk that are compared: each is told to reach it, and to leave it as if it never had.

use std::fs::File;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use rustix::fs::{AtFlags, CWD, Mode, OFlags, fstat, openat, statat};
use rustix::mount::{MountFlags, UnmountFlags, mount, unmount};

use crate::Outcome;
use crate::automount::Automount;
use crate::daemon::Daemon;
use crate::image::MARK;
use crate::loop_device::{self, LoopDevice};

/// The source of what is mounted.
#[derive(Clone, Debug)]
pub(crate) enum Disk {
    /// A block device that is present.
    Device(PathBuf),
    /// A file that needs a loop device.
    Image(PathBuf),
}

/// A way to reach the disk.
pub(crate) enum Contender {
    /// mount(2) of a block device; of an image the loop device's attaching is part of it.
    Raw { disk: Disk, directory: PathBuf },
    /// mount(2) of an image whose loop device is attached before the clock starts.
    RawAttached { image: PathBuf, directory: PathBuf, device: Option<LoopDevice> },
    /// The program under test.
    Mydisks { daemon: Daemon, name: &'static str },
    /// autofs.
    Autofs(Automount),
}

impl Contender {
    /// One first access, from its beginning until the directory is open.
    pub(crate) fn measure(&mut self, disk: &Disk) -> Outcome<Duration> {
        if let Self::RawAttached { image, device, .. } = self {
            *device = Some(LoopDevice::attach(image)?);
        }
        settle();
        let start = Instant::now();
        let opened = self.reach()?;
        let took = start.elapsed();
        statat(&opened, MARK, AtFlags::empty()).map_err(|_| "the access did not end on the disk")?;
        drop(opened);
        self.leave()?;
        if let Disk::Image(image) = disk {
            loop_device::wait_until_free(image)?;
        }
        Ok(took)
    }

    fn reach(&self) -> Outcome<OwnedFd> {
        match self {
            Self::Raw { disk: Disk::Device(device), directory } => mount_and_open(device, directory),
            Self::Raw { disk: Disk::Image(image), directory } => {
                mount_and_open(&LoopDevice::attach(image)?.path, directory)
            }
            Self::RawAttached { device, directory, .. } => {
                mount_and_open(&device.as_ref().ok_or("no loop device")?.path, directory)
            }
            Self::Mydisks { daemon, name } => open_directory(&daemon.mountpoint.join(name)),
            Self::Autofs(automount) => open_directory(&automount.directory.join("disk")),
        }
    }

    fn leave(&mut self) -> Outcome {
        match self {
            Self::Raw { directory, .. } => Ok(unmount(directory.as_path(), UnmountFlags::empty())?),
            Self::RawAttached { directory, device, .. } => {
                unmount(directory.as_path(), UnmountFlags::empty())?;
                *device = None;
                Ok(())
            }
            Self::Mydisks { daemon, name } => {
                unmount(daemon.mountpoint.join(*name), UnmountFlags::empty())?;
                daemon.wait_until_closed(name)
            }
            // mount(8) has noted something beside the mount, which only umount(8) takes away.
            Self::Autofs(automount) => {
                let status = Command::new("/bin/umount").arg(automount.directory.join("disk")).status()?;
                if status.success() { Ok(()) } else { Err(format!("umount: {status}").into()) }
            }
        }
    }
}

/// With the options that the program under test gives every disk.
fn mount_and_open(device: &Path, directory: &Path) -> Outcome<OwnedFd> {
    mount(device, directory, "ext4", MountFlags::NOSUID | MountFlags::NODEV, None)?;
    open_directory(directory)
}

/// opendir(3)
fn open_directory(path: &Path) -> Outcome<OwnedFd> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NONBLOCK | OFlags::CLOEXEC;
    let directory = openat(CWD, path, flags, Mode::empty())?;
    fstat(&directory)?;
    Ok(directory)
}

/// What the one before has left to be done is done, and nobody's thread is still awake.
fn settle() {
    let _ = File::open("/").map(|root| rustix::fs::syncfs(&root));
    std::thread::sleep(Duration::from_millis(20));
}
