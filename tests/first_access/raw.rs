//! The system calls of this suite that no safe wrapper offers: fork, loop devices, file handles, faccessat2, mmap.
//!
//! Each is a function with a safe face; nothing here knows what is being tested.
#![allow(unsafe_code)]

use rustix::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use rustix::fs::OFlags;
use rustix::io::{self, Errno};
use rustix::process::Pid;
use std::ffi::CString;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

fn c_path(path: &Path) -> CString {
    CString::new(path.as_os_str().as_bytes()).expect("the suite makes no path with a NUL in it")
}

fn checked(result: libc::c_long) -> io::Result<libc::c_long> {
    if result < 0 {
        let errno = std::io::Error::last_os_error().raw_os_error().unwrap_or(libc::EIO);
        return Err(Errno::from_raw_os_error(errno));
    }
    Ok(result)
}

/// Starts a copy of this process that runs `child` and exits; returns its id to the caller.
///
/// Only sound in a process of one thread, which this program is: it starts none.
pub(crate) fn fork(child: impl FnOnce()) -> Pid {
    // SAFETY: this process has one thread, so the copy finds no lock held by a thread that it lacks.
    match unsafe { libc::fork() } {
        -1 => panic!("fork: {}", std::io::Error::last_os_error()),
        0 => {
            child();
            // SAFETY: ends the copy without running the exit handlers of the process it was copied from.
            unsafe { libc::_exit(0) }
        }
        pid => Pid::from_raw(pid).expect("fork gives the parent an id above zero"),
    }
}

/// faccessat2(2), the call itself: libraries emulate parts of it.
pub(crate) fn faccessat2(path: &Path, mode: i32, flags: i32) -> io::Result<()> {
    let path = c_path(path);
    // SAFETY: the path is a C string that lives through the call; the rest are numbers.
    checked(unsafe { libc::syscall(libc::SYS_faccessat2, libc::AT_FDCWD, path.as_ptr(), mode, flags) })?;
    Ok(())
}

/// name_to_handle_at(2): the handle's type and bytes.
pub(crate) fn file_handle(path: &Path) -> io::Result<(i32, Vec<u8>)> {
    #[repr(C)]
    struct Handle {
        bytes: u32,
        kind: i32,
        body: [u8; 128],
    }
    let mut handle = Handle { bytes: 128, kind: 0, body: [0; 128] };
    let mut mount = 0i32;
    let path = c_path(path);
    // SAFETY: `Handle` is laid out as struct file_handle with room for the 128 bytes it announces.
    checked(unsafe {
        libc::syscall(libc::SYS_name_to_handle_at, libc::AT_FDCWD, path.as_ptr(), &mut handle, &mut mount, 0)
    })?;
    Ok((handle.kind, handle.body[..handle.bytes as usize].to_vec()))
}

/// Maps the first `length` bytes of a file and copies them out of the mapping.
pub(crate) fn read_through_mapping(file: BorrowedFd<'_>, length: usize) -> io::Result<Vec<u8>> {
    use rustix::mm::{MapFlags, ProtFlags, mmap, munmap};
    // SAFETY: a private mapping at an address of the kernel's choice, read within `length` bytes of a file that
    // is at least as long, and unmapped before anybody else could see it.
    unsafe {
        let address = mmap(std::ptr::null_mut(), length, ProtFlags::READ, MapFlags::PRIVATE, file, 0)?;
        let bytes = std::slice::from_raw_parts(address.cast::<u8>(), length).to_vec();
        munmap(address, length)?;
        Ok(bytes)
    }
}

/// Writes `text` into the first bytes of a file through a shared mapping.
pub(crate) fn write_through_mapping(file: BorrowedFd<'_>, text: &[u8]) -> io::Result<()> {
    use rustix::mm::{MapFlags, ProtFlags, mmap, munmap};
    // SAFETY: as above, with a file at least as long as `text`.
    unsafe {
        let address = mmap(
            std::ptr::null_mut(),
            text.len(),
            ProtFlags::WRITE | ProtFlags::READ,
            MapFlags::SHARED,
            file,
            0,
        )?;
        std::ptr::copy_nonoverlapping(text.as_ptr(), address.cast::<u8>(), text.len());
        munmap(address, text.len())
    }
}

/// Two paths in a page of their own, which can be put out of reach while a call waits.
pub(crate) struct Paths(*mut libc::c_void);

// SAFETY: it is an address; what is behind it is changed by nobody but the kernel, in `put_over`.
unsafe impl Sync for Paths {}

impl Paths {
    const PAGE: usize = 4096;
    const SECOND: usize = Self::PAGE / 2;

    pub(crate) fn new(old: &Path, new: &Path) -> Self {
        use rustix::mm::{MapFlags, ProtFlags, mmap_anonymous};
        let protection = ProtFlags::READ | ProtFlags::WRITE;
        let (old, new) = (c_path(old), c_path(new));
        let fits = |path: &CString| path.as_bytes_with_nul().len() <= Self::SECOND;
        assert!(fits(&old) && fits(&new), "the suite's paths are short");
        // SAFETY: a fresh page at an address of the kernel's choice; each path ends within its half.
        unsafe {
            let page = mmap_anonymous(std::ptr::null_mut(), Self::PAGE, protection, MapFlags::PRIVATE)
                .expect("a page of memory");
            for (path, at) in [(&old, 0), (&new, Self::SECOND)] {
                let bytes = path.as_bytes_with_nul();
                std::ptr::copy_nonoverlapping(bytes.as_ptr(), page.cast::<u8>().add(at), bytes.len());
            }
            Self(page)
        }
    }

    /// renameat2(2) of the one to the other.
    pub(crate) fn rename(&self) -> io::Result<()> {
        // SAFETY: the kernel checks both addresses, whatever is behind them.
        checked(unsafe {
            let (here, second) = (libc::AT_FDCWD, self.0.byte_add(Self::SECOND));
            libc::syscall(libc::SYS_renameat2, here, self.0, here, second, 0)
        })?;
        Ok(())
    }

    /// Puts a file where they were.
    pub(crate) fn put_over(&self, file: impl AsFd) -> io::Result<()> {
        use rustix::mm::{MapFlags, ProtFlags, mmap};
        // SAFETY: replaces the page that is ours alone, and that nothing in this process looks at any more.
        unsafe {
            mmap(self.0, Self::PAGE, ProtFlags::READ, MapFlags::PRIVATE | MapFlags::FIXED, file, 0)?;
        }
        Ok(())
    }
}

/// A loop device over `image` that frees itself when its last user, a mount or the returned fd, is gone.
pub(crate) fn attach_loop(image: &Path) -> io::Result<(OwnedFd, PathBuf)> {
    const LOOP_CTL_GET_FREE: libc::c_ulong = 0x4C82;
    const LOOP_CONFIGURE: libc::c_ulong = 0x4C0A;
    const LO_FLAGS_AUTOCLEAR: u32 = 4;
    /// struct loop_config of linux/loop.h: fd, block_size, struct loop_info64 (232 bytes), eight reserved words.
    #[repr(C)]
    struct Config {
        fd: u32,
        block_size: u32,
        info: [u64; 29],
        reserved: [u64; 8],
    }
    let read_write = OFlags::RDWR | OFlags::CLOEXEC;
    let backing = rustix::fs::open(image, read_write, rustix::fs::Mode::empty())?;
    let control = rustix::fs::open("/dev/loop-control", read_write, rustix::fs::Mode::empty())?;
    let mut config =
        Config { fd: backing.as_raw_fd() as u32, block_size: 0, info: [0; 29], reserved: [0; 8] };
    // loop_info64: five u64, then lo_number, lo_encrypt_type, lo_encrypt_key_size, lo_flags.
    config.info[6] = u64::from(LO_FLAGS_AUTOCLEAR) << 32;
    loop {
        // SAFETY: this ioctl takes no argument.
        let number =
            checked(libc::c_long::from(unsafe { libc::ioctl(control.as_raw_fd(), LOOP_CTL_GET_FREE) }))?;
        let device = PathBuf::from(format!("/dev/loop{number}"));
        let opened = rustix::fs::open(&device, read_write, rustix::fs::Mode::empty())?;
        // SAFETY: `Config` is laid out as struct loop_config, and the backing fd is open.
        let set = unsafe { libc::ioctl(opened.as_fd().as_raw_fd(), LOOP_CONFIGURE, &config) };
        match checked(libc::c_long::from(set)) {
            Ok(_) => return Ok((opened, device)),
            // Somebody else was quicker to take this device.
            Err(Errno::BUSY) => {}
            Err(errno) => return Err(errno),
        }
    }
}

/// unshare(2) of what a process may leave without harm to its open descriptors.
pub(crate) fn unshare(what: rustix::thread::UnshareFlags) -> io::Result<()> {
    // SAFETY: only UnshareFlags::FILES could part threads from their descriptors, and there is one thread.
    unsafe { rustix::thread::unshare_unsafe(what) }
}
