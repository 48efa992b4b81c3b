//! Idle expiry in the kernel.

use std::fs::{self, File};
use std::path::Path;

use rustix::io::Errno;
use rustix::mount::{UnmountFlags, unmount};

use crate::lab::Lab;
use crate::program::Program;
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

fn mount() -> Outcome {
    fs::create_dir_all(POINT)?;
    Program::new("mount").args(["-i", "-t", "tmpfs", "lab", POINT]).ok().map(drop)
}

fn expire() -> Result<(), Errno> {
    unmount(POINT, UnmountFlags::EXPIRE)
}
