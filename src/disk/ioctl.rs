//! The ioctls that no safe crate offers: of block devices, loop devices and the device mapper's control node. Each is
//! one function over a borrowed descriptor; what they mean is decided elsewhere.
#![allow(unsafe_code)]

use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd};

// linux/fs.h, linux/loop.h, linux/dm-ioctl.h
const BLKROGET: libc::Ioctl = 0x125e;
const BLKGETDISKSEQ: libc::Ioctl = 0x8008_1280_u32 as libc::Ioctl;
const LOOP_GET_STATUS64: libc::Ioctl = 0x4C05;
const LOOP_CONFIGURE: libc::Ioctl = 0x4C0A;
const LOOP_CTL_GET_FREE: libc::Ioctl = 0x4C82;
const DM_IOCTL_BASE: u32 = 0xC138_FD00;

/// LO_FLAGS_READ_ONLY
pub(super) const LOOP_READ_ONLY: u32 = 1;
/// LO_FLAGS_AUTOCLEAR: the kernel detaches the file at the last close.
pub(super) const LOOP_AUTOCLEAR: u32 = 4;
/// LO_FLAGS_PARTSCAN
pub(super) const LOOP_PARTSCAN: u32 = 8;

/// Size of `struct dm_ioctl` (linux/dm-ioctl.h), the head of every request to the device mapper.
pub(super) const DM_HEAD: usize = 312;

/// `struct loop_info64` (linux/loop.h).
#[repr(C)]
#[derive(Clone, Copy)]
pub(super) struct LoopInfo {
    /// `st_dev` of the file's file system, in the kernel's encoding.
    pub(super) device: u64,
    /// `st_ino` of the file.
    pub(super) inode: u64,
    rdevice: u64,
    /// Where in the file the device begins.
    pub(super) offset: u64,
    /// Length of the device; 0 = to the end of the file.
    pub(super) size_limit: u64,
    number: u32,
    encrypt_type: u32,
    encrypt_key_size: u32,
    /// `LOOP_*`
    pub(super) flags: u32,
    /// For people (losetup); cut to 63 bytes.
    pub(super) file_name: [u8; 64],
    crypt_name: [u8; 64],
    encrypt_key: [u8; 32],
    init: [u64; 2],
}

/// `struct loop_config` (linux/loop.h).
#[repr(C)]
struct LoopConfig {
    fd: u32,
    block_size: u32,
    info: LoopInfo,
    reserved: [u64; 8],
}

impl LoopInfo {
    pub(super) fn zeroed() -> Self {
        Self {
            device: 0,
            inode: 0,
            rdevice: 0,
            offset: 0,
            size_limit: 0,
            number: 0,
            encrypt_type: 0,
            encrypt_key_size: 0,
            flags: 0,
            file_name: [0; 64],
            crypt_name: [0; 64],
            encrypt_key: [0; 32],
            init: [0; 2],
        }
    }
}

/// The number of this plug of this disk; a partition answers with its disk's (block/ioctl.c, since Linux 5.15). Never
/// reused until reboot.
pub(super) fn disk_sequence(device: impl AsFd) -> io::Result<u64> {
    let mut sequence = 0_u64;
    // SAFETY: BLKGETDISKSEQ writes one u64 through the pointer, which outlives the call.
    check(unsafe { libc::ioctl(device.as_fd().as_raw_fd(), BLKGETDISKSEQ, &raw mut sequence) })?;
    Ok(sequence)
}

/// Whether the block device is write-protected.
pub(super) fn is_read_only(device: impl AsFd) -> io::Result<bool> {
    let mut read_only: libc::c_int = 0;
    // SAFETY: BLKROGET writes one int through the pointer, which outlives the call.
    check(unsafe { libc::ioctl(device.as_fd().as_raw_fd(), BLKROGET, &raw mut read_only) })?;
    Ok(read_only != 0)
}

/// The number of a loop device that was free a moment ago (loop(4)).
pub(super) fn free_loop(control: impl AsFd) -> io::Result<u32> {
    // SAFETY: LOOP_CTL_GET_FREE takes no argument.
    let number = check(unsafe { libc::ioctl(control.as_fd().as_raw_fd(), LOOP_CTL_GET_FREE) })?;
    u32::try_from(number).map_err(|_| io::ErrorKind::InvalidData.into())
}

/// Attaches a file to a loop device in one step (since Linux 5.8); EBUSY if somebody else was faster.
pub(super) fn configure_loop(device: impl AsFd, file: BorrowedFd<'_>, info: LoopInfo) -> io::Result<()> {
    // A descriptor that is borrowed is never negative.
    let config = LoopConfig { fd: file.as_raw_fd().unsigned_abs(), block_size: 0, info, reserved: [0; 8] };
    // SAFETY: LOOP_CONFIGURE reads one `struct loop_config` through the pointer, which outlives the call.
    check(unsafe { libc::ioctl(device.as_fd().as_raw_fd(), LOOP_CONFIGURE, &raw const config) })?;
    Ok(())
}

/// What is attached to a loop device; ENXIO if nothing is.
pub(super) fn loop_status(device: impl AsFd) -> io::Result<LoopInfo> {
    let mut info = LoopInfo::zeroed();
    // SAFETY: LOOP_GET_STATUS64 writes one `struct loop_info64` through the pointer, which outlives the call; every
    // bit pattern is a valid LoopInfo.
    check(unsafe { libc::ioctl(device.as_fd().as_raw_fd(), LOOP_GET_STATUS64, &raw mut info) })?;
    Ok(info)
}

/// One request to `/dev/mapper/control`: number `command` of linux/dm-ioctl.h, with the request in `buffer`, which
/// receives the answer. `buffer` begins with a `struct dm_ioctl` whose `data_size` this function sets.
pub(super) fn device_mapper(control: impl AsFd, command: u8, buffer: &mut [u8]) -> io::Result<()> {
    if buffer.len() < DM_HEAD {
        return Err(io::ErrorKind::InvalidInput.into());
    }
    let size = u32::try_from(buffer.len()).map_err(|_| io::ErrorKind::InvalidInput)?;
    buffer[12..16].copy_from_slice(&size.to_ne_bytes());
    let request = (DM_IOCTL_BASE | u32::from(command)) as libc::Ioctl;
    // SAFETY: the kernel reads and writes at most `data_size` bytes through the pointer (copy_params and ctl_ioctl in
    // drivers/md/dm-ioctl.c), and that is the buffer's length.
    check(unsafe { libc::ioctl(control.as_fd().as_raw_fd(), request, buffer.as_mut_ptr()) })?;
    Ok(())
}

fn check(result: libc::c_int) -> io::Result<libc::c_int> {
    if result < 0 { Err(io::Error::last_os_error()) } else { Ok(result) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_structures_have_the_kernels_sizes() {
        assert_eq!(size_of::<LoopInfo>(), 232);
        assert_eq!(size_of::<LoopConfig>(), 304);
    }
}
