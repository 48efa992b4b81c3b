//! Errors that file systems find in themselves while they are mounted. The kernel tells of them by fanotify(7)
//! (`FAN_FS_ERROR`: ext4 since Linux 5.16), and ext4 counts them in /sys/fs/ext4 (ext4(5)). That a file system has become
//! read-only by one is shown nowhere else: the mount table still says `rw` (since Linux 6.13, and in stable kernels
//! from then on; until then it said `ro`).

use std::fmt;
use std::fs;
use std::io;
use std::os::fd::{AsFd, BorrowedFd};
use std::path::Path;

use nix::sys::fanotify::{EventFFlags, Fanotify, InitFlags, MarkFlags, MaskFlags};

use super::node;

/// Errors that a file system has found in itself, since it was made or last checked.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Damage {
    /// How many.
    pub count: u64,
    /// The function of the kernel that found the last one; may be empty.
    pub last: String,
}

impl fmt::Display for Damage {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{} {}", self.count, if self.count == 1 { "error" } else { "errors" })?;
        if self.last.is_empty() { Ok(()) } else { write!(formatter, ", the last in {}", self.last) }
    }
}

/// What is known of the file system on the block device with this number: for ext2, ext3 and ext4. Other drivers count
/// nothing.
pub fn damage(devnum: u64) -> Damage {
    let Ok(name) = node::kernel_name(devnum) else { return Damage::default() };
    let directory = Path::new("/sys/fs/ext4").join(name);
    let read = |attribute| fs::read_to_string(directory.join(attribute)).unwrap_or_default();
    let count = read("errors_count").trim().parse().unwrap_or(0);
    let last = if count == 0 { String::new() } else { read("last_error_func").trim().to_owned() };
    Damage { count, last }
}

/// Becomes readable when a file system that was added finds an error. It keeps no file system from being unmounted, and
/// forgets those that are (fsnotify_sb_delete in fs/notify/fsnotify.c).
#[derive(Debug)]
pub struct DamageWatch(Fanotify);

impl DamageWatch {
    /// Watches nothing yet.
    ///
    /// # Errors
    /// The kernel has no fanotify with FAN_REPORT_FID (Linux 5.1), or the user has too many of them.
    pub fn new() -> io::Result<Self> {
        // What happened is reported without a descriptor, which an error of the file system has none for.
        let report = InitFlags::from_bits_retain(libc::FAN_REPORT_FID);
        let flags = InitFlags::FAN_CLASS_NOTIF | InitFlags::FAN_CLOEXEC | InitFlags::FAN_NONBLOCK | report;
        Ok(Self(Fanotify::init(flags, EventFFlags::O_RDONLY)?))
    }

    /// Watches the file system of this mount too, if its driver and the kernel can tell.
    pub fn add(&self, mount: BorrowedFd<'_>) {
        let flags = MarkFlags::FAN_MARK_ADD | MarkFlags::FAN_MARK_FILESYSTEM;
        if let Err(error) = self.0.mark(flags, MaskFlags::FAN_FS_ERROR, mount, Some(".")) {
            tracing::debug!("errors of a file system will not be told: {error}");
        }
    }

    /// Forgets what was told: whoever looks after this sees what it was about. Whether there was anything.
    pub fn drain(&self) -> bool {
        // Each is some 60 bytes, and they are merged for a file system.
        let read = || rustix::io::read(&self.0, &mut [0; 4096]).is_ok_and(|length| length > 0);
        let was_told = read();
        while was_told && read() {}
        was_told
    }
}

impl AsFd for DamageWatch {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn errors_are_counted_and_the_last_is_told() {
        let told = |count, last: &str| Damage { count, last: last.to_owned() }.to_string();
        assert_eq!(told(1, ""), "1 error");
        assert_eq!(told(3, "ext4_lookup"), "3 errors, the last in ext4_lookup");
    }

    #[test]
    fn a_device_without_ext4_has_no_errors() {
        assert_eq!(damage(rustix::fs::makedev(1, 3)), Damage::default());
    }
}
