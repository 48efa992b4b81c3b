//! The ioctl that asks an open block device for its number; blockdev(8) can do that only from util-linux 2.39 on.
#![allow(unsafe_code)]

use std::fs::File;
use std::os::fd::AsRawFd;
use std::path::Path;

use crate::Outcome;

nix::ioctl_read!(blkgetdiskseq, 0x12, 128, u64);

/// `BLKGETDISKSEQ` (linux/fs.h) of the device node `path`.
pub(crate) fn of(path: &Path) -> Outcome<u64> {
    let device = File::open(path)?;
    let mut sequence = 0;
    // SAFETY: the descriptor is open for the length of the call, and the kernel writes one u64 (block/ioctl.c).
    unsafe { blkgetdiskseq(device.as_raw_fd(), &raw mut sequence) }?;
    Ok(sequence)
}
