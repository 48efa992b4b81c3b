//! Loop devices by the system calls themselves, as a program would that knows what it wants and nothing else.
#![allow(unsafe_code)]

use std::fs::{self, File};
use std::io;
use std::mem::MaybeUninit;
use std::os::fd::AsRawFd;
use std::path::{Path, PathBuf};

use crate::Outcome;
use crate::place::wait_until;

// linux/loop.h
const LOOP_CONFIGURE: libc::Ioctl = 0x4C0A;
const LOOP_CTL_GET_FREE: libc::Ioctl = 0x4C82;
const LO_FLAGS_AUTOCLEAR: u32 = 4;

/// `struct loop_config` with `struct loop_info64` in it; what is not named here stays zero.
#[repr(C)]
struct LoopConfig {
    fd: u32,
    block_size: u32,
    before_flags: [u64; 6],
    key_size: u32,
    flags: u32,
    after_flags: [u64; 30],
}

/// A loop device that frees itself when this and every mount of it is gone.
#[derive(Debug)]
pub(crate) struct LoopDevice {
    pub(crate) path: PathBuf,
    _device: File,
}

impl LoopDevice {
    /// Attaches a file.
    pub(crate) fn attach(image: &Path) -> Outcome<Self> {
        let open = |path: &Path| File::options().read(true).write(true).open(path);
        let (image, control) = (open(image)?, open(Path::new("/dev/loop-control"))?);
        // SAFETY: takes no argument.
        let number = unsafe { libc::ioctl(control.as_raw_fd(), LOOP_CTL_GET_FREE) };
        if number < 0 {
            return Err(io::Error::last_os_error().into());
        }
        let path = PathBuf::from(format!("/dev/loop{number}"));
        let device = open(&path)?;
        // SAFETY: all zeros is a value of this type.
        let mut config: LoopConfig = unsafe { MaybeUninit::zeroed().assume_init() };
        (config.fd, config.flags) = (u32::try_from(image.as_raw_fd())?, LO_FLAGS_AUTOCLEAR);
        // SAFETY: the kernel reads a struct loop_config, which this is laid out as.
        if unsafe { libc::ioctl(device.as_raw_fd(), LOOP_CONFIGURE, &raw const config) } < 0 {
            return Err(io::Error::last_os_error().into());
        }
        Ok(Self { path, _device: device })
    }
}

/// Waits until no loop device has this file.
pub(crate) fn wait_until_free(image: &Path) -> Outcome {
    let image = image.to_str().ok_or("not UTF-8")?;
    wait_until("the loop device to go", || {
        let has_it = |device: fs::DirEntry| {
            let file = fs::read_to_string(device.path().join("loop/backing_file"));
            file.is_ok_and(|file| file.trim_end() == image)
        };
        Ok(!fs::read_dir("/sys/block")?.flatten().any(has_it))
    })
}
