//! Idle expiry in the kernel, and how it tells of errors of a mounted file system.

use std::fs::{self, File};
use std::path::Path;

use nix::sys::fanotify::{EventFFlags, Fanotify, InitFlags, MarkFlags, MaskFlags};
use rustix::io::Errno;
use rustix::mount::{UnmountFlags, unmount};

use crate::disks::{Filesystem, Recipe};
use crate::lab::Lab;
use crate::program::Program;
use crate::wait::{self, PATIENCE};
use crate::{Outcome, mounts};

const POINT: &str = "/run/lab-expiry";

pub(super) fn expire_marks_first_and_unmounts_if_untouched(_: &mut Lab) -> Outcome {
    mount()?;
    assert_eq!(expire(), Err(Errno::AGAIN), "the first call marks");
    fs::read_dir(POINT)?.for_each(drop);
    assert_eq!(expire(), Err(Errno::AGAIN), "an access takes the mark away");
    assert_eq!(expire(), Ok(()), "the second call in a row unmounts");
    assert_eq!(mounts::at(Path::new(POINT))?, []);
    Ok(())
}

pub(super) fn expire_is_refused_while_busy(_: &mut Lab) -> Outcome {
    mount()?;
    let open = File::open(POINT)?;
    assert_eq!(expire(), Err(Errno::BUSY));
    drop(open);
    assert_eq!(expire(), Err(Errno::AGAIN), "a refused call does not mark");
    assert_eq!(expire(), Ok(()));
    Ok(())
}

/// The mount table is not asked for `ro`: kernels differ in whether it is there.
pub(super) fn error_of_ext4_is_told_by_fanotify_whose_mark_does_not_keep_it_mounted(
    lab: &mut Lab,
) -> Outcome {
    let image = lab.image(&Recipe::plain(Filesystem::Ext4))?;
    fs::create_dir_all(POINT)?;
    Program::new("mount").args(["-i", "-o", "loop,errors=remount-ro"]).arg(&image).arg(POINT).ok()?;
    let report = InitFlags::from_bits_retain(libc::FAN_REPORT_FID);
    let watch = Fanotify::init(InitFlags::FAN_NONBLOCK | report, EventFFlags::O_RDONLY)?;
    let told = || rustix::io::read(&watch, &mut [0; 4096]).is_ok_and(|length| length > 0);
    let whole = MarkFlags::FAN_MARK_ADD | MarkFlags::FAN_MARK_FILESYSTEM;
    watch.mark(whole, MaskFlags::FAN_FS_ERROR, File::open(POINT)?, Some("."))?;
    assert!(!told());
    fs::write("/sys/fs/ext4/loop0/trigger_fs_error", "by hand")?;
    wait::until_true("the error to be told", PATIENCE, told)?;
    let refused = File::create(Path::new(POINT).join("new")).err().and_then(|error| error.raw_os_error());
    assert_eq!(refused, Some(libc::EROFS));
    // More than one: what it refuses from now on, and that its journal was aborted, may be counted too.
    assert_ne!(fs::read_to_string("/sys/fs/ext4/loop0/errors_count")?.trim(), "0");
    assert_eq!(expire(), Err(Errno::AGAIN), "neither the mark nor the error keeps it busy");
    assert_eq!(expire(), Ok(()));
    Ok(())
}

fn mount() -> Outcome {
    fs::create_dir_all(POINT)?;
    Program::new("mount").args(["-i", "-t", "tmpfs", "lab", POINT]).ok().map(drop)
}

fn expire() -> Result<(), Errno> {
    unmount(POINT, UnmountFlags::EXPIRE)
}
