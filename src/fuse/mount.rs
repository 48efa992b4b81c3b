//! The mount of the FUSE root: made detached, so that it appears only when it is served.

use std::fs::File;
use std::io;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::path::Path;

use rustix::fs::{AtFlags, CWD, Mode, OFlags, StatxFlags, makedev, minor, openat, statx};
use rustix::mount::{
    FsMountFlags, FsOpenFlags, MountAttrFlags, MoveMountFlags, fsconfig_create, fsconfig_set_flag,
    fsconfig_set_string, fsmount, fsopen, move_mount,
};

/// The type in mountinfo.
pub const FUSE_TYPE: &str = "fuse.mydisks";

/// Attributes of the root's mount that mount(8) passes on.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct RootAttributes {
    /// `ro`
    pub read_only: bool,
    /// `noexec`
    pub no_exec: bool,
}

/// A FUSE mount that is nowhere to be seen yet.
#[derive(Debug)]
pub struct DetachedRoot {
    mount: OwnedFd,
}

impl DetachedRoot {
    /// Makes it, with the open /dev/fuse that its requests come from.
    ///
    /// # Errors
    /// `ENOENT` or `ENODEV` without the kernel's FUSE, `EPERM` without `CAP_SYS_ADMIN`.
    pub fn new(attributes: RootAttributes) -> io::Result<(Self, OwnedFd)> {
        let device = OwnedFd::from(File::options().read(true).write(true).open("/dev/fuse")?);
        let context = fsopen("fuse", FsOpenFlags::FSOPEN_CLOEXEC)?;
        let context = context.as_fd();
        fsconfig_set_string(context, "source", "mydisks")?;
        fsconfig_set_string(context, "subtype", "mydisks")?;
        fsconfig_set_string(context, "fd", device.as_raw_fd().to_string())?;
        fsconfig_set_string(context, "rootmode", "40755")?;
        fsconfig_set_string(context, "user_id", "0")?;
        fsconfig_set_string(context, "group_id", "0")?;
        fsconfig_set_flag(context, "allow_other")?;
        fsconfig_create(context)?;
        let mut flags = MountAttrFlags::MOUNT_ATTR_NOSUID | MountAttrFlags::MOUNT_ATTR_NODEV;
        flags.set(MountAttrFlags::MOUNT_ATTR_RDONLY, attributes.read_only);
        flags.set(MountAttrFlags::MOUNT_ATTR_NOEXEC, attributes.no_exec);
        let mount = fsmount(context, FsMountFlags::FSMOUNT_CLOEXEC, flags)?;
        Ok((Self { mount }, device))
    }

    /// The kernel's number of the mount, and the device number of its file system as in `st_dev`.
    ///
    /// # Errors
    /// Those of statx(2); Linux 5.8 and later have `STATX_MNT_ID`.
    pub fn numbers(&self) -> io::Result<(u64, u64)> {
        // Not fstat: nothing is to be asked of the daemon, which does not serve yet.
        let flags = AtFlags::EMPTY_PATH | AtFlags::STATX_DONT_SYNC;
        let stat = statx(self.mount.as_fd(), "", flags, StatxFlags::MNT_ID)?;
        Ok((stat.stx_mnt_id, makedev(stat.stx_dev_major, stat.stx_dev_minor)))
    }

    /// Attaches it to a directory.
    ///
    /// # Errors
    /// Those of open(2) and move_mount(2).
    pub fn attach(self, mountpoint: &Path) -> io::Result<()> {
        let target =
            openat(CWD, mountpoint, OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty())?;
        let flags = MoveMountFlags::MOVE_MOUNT_F_EMPTY_PATH | MoveMountFlags::MOVE_MOUNT_T_EMPTY_PATH;
        move_mount(self.mount.as_fd(), "", target.as_fd(), "", flags)?;
        Ok(())
    }
}

/// Ends the connection of a root, whoever has its /dev/fuse open: it is dead, as after its daemon's end, and what is
/// mounted below it stays (fs/fuse/control.c, `fuse_conn_abort_write`). `device` is its file system's number.
///
/// # Errors
/// Those of mounting fusectl and of writing to a file.
pub fn abort(device: u64) -> io::Result<()> {
    let context = fsopen("fusectl", FsOpenFlags::FSOPEN_CLOEXEC)?;
    fsconfig_create(context.as_fd())?;
    let control = fsmount(context.as_fd(), FsMountFlags::FSMOUNT_CLOEXEC, MountAttrFlags::empty())?;
    let path = format!("{}/abort", minor(device));
    let file = openat(&control, path, OFlags::WRONLY | OFlags::CLOEXEC, Mode::empty())?;
    rustix::io::write(&file, b"1")?;
    Ok(())
}
