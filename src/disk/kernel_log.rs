//! What file system drivers say in the kernel's log while they mount: most of it never reaches the fs context. Knows
//! nothing of what the words mean.

use std::fs::{File, OpenOptions};
use std::io::{Read, Seek, SeekFrom};
use std::os::unix::fs::OpenOptionsExt;
use std::sync::{Mutex, MutexGuard, PoisonError};

use rustix::fs::OFlags;
use rustix::io::Errno;

/// How many lines are kept.
const KEPT: usize = 8;

/// An open log that nobody uses. Opening one costs a tenth of a whole mount (measured: 90 µs), and nearly every mount
/// needs no more than its place; so one is kept.
static KEPT_OPEN: Mutex<Option<File>> = Mutex::new(None);

/// A place in the kernel's log (/dev/kmsg, Documentation/ABI/testing/dev-kmsg).
pub(super) struct Mark(Option<File>);

impl Mark {
    /// The log's end as it is now; silently nothing where it may not be read, for it is never needed to go on.
    pub(super) fn now() -> Self {
        let flags = (OFlags::NONBLOCK | OFlags::CLOEXEC).bits() as i32;
        let open = || OpenOptions::new().read(true).custom_flags(flags).open("/dev/kmsg").ok();
        // Each has its own place in the log: whoever comes while it is in use opens another.
        let log = kept_open().take().or_else(open);
        Self(log.and_then(|mut log| log.seek(SeekFrom::End(0)).is_ok().then_some(log)))
    }

    /// The first warnings and errors since then that name the block device `device` (`sdb1`, `dm-0`).
    pub(super) fn lines_about(&mut self, device: &str) -> Vec<String> {
        let Some(log) = &mut self.0 else { return Vec::new() };
        let mut lines = Vec::new();
        // Each read gives one record; PRINTK_MESSAGE_MAX bounds it.
        let mut record = [0; 8192];
        while lines.len() < KEPT {
            match log.read(&mut record) {
                Ok(0) => break,
                Ok(length) => lines.extend(message(&record[..length]).filter(|line| names(line, device))),
                // EPIPE: records were overwritten before they were read; what follows is whole.
                Err(error) if Errno::from_io_error(&error) == Some(Errno::PIPE) => {}
                Err(_) => break,
            }
        }
        lines
    }
}

impl Drop for Mark {
    fn drop(&mut self) {
        if let Some(log) = self.0.take() {
            kept_open().get_or_insert(log);
        }
    }
}

fn kept_open() -> MutexGuard<'static, Option<File>> {
    KEPT_OPEN.lock().unwrap_or_else(PoisonError::into_inner)
}

/// The text of a record that is a warning or worse: after the first `;`, up to the line's end; dictionary lines follow.
fn message(record: &[u8]) -> Option<String> {
    /// `KERN_WARNING`; the number before the first comma has the facility above its lowest three bits.
    const WARNING: u32 = 4;
    let priority = record.split(|&byte| byte == b',').next()?;
    let priority: u32 = std::str::from_utf8(priority).ok()?.parse().ok()?;
    if priority & 7 > WARNING {
        return None;
    }
    let start = record.iter().position(|&byte| byte == b';')? + 1;
    let text = record[start..].split(|&byte| byte == b'\n').next()?;
    Some(String::from_utf8_lossy(text).trim().to_owned())
}

/// Whether a device is named in a line as a word of its own: `sdb1` is not in `(sdb12)`.
fn names(line: &str, device: &str) -> bool {
    let is_part = |c: char| c.is_ascii_alphanumeric() || c == '-';
    line.match_indices(device)
        .any(|(at, _)| !line[..at].ends_with(is_part) && !line[at + device.len()..].starts_with(is_part))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_record_gives_its_text() {
        let record = b"3,1234,5678,-;EXT4-fs (sdb1): no journal found\n SUBSYSTEM=block\n DEVICE=b8:17\n";
        assert_eq!(message(record).as_deref(), Some("EXT4-fs (sdb1): no journal found"));
        assert_eq!(message(b"6,1234,5678,-;BTRFS info (device sdb1): using crc32c"), None);
        assert_eq!(message(b"28,1234,5678,-;a daemon's warning").as_deref(), Some("a daemon's warning"));
        for garbage in [&b"garbage"[..], b"", b";", b"x,1;y"] {
            assert_eq!(message(garbage), None);
        }
    }

    #[test]
    fn a_device_is_named_only_by_its_whole_name() {
        assert!(names("EXT4-fs (sdb1): x", "sdb1"));
        assert!(names("BTRFS error (device dm-0): x", "dm-0"));
        assert!(!names("EXT4-fs (sdb12): x", "sdb1"));
        assert!(!names("EXT4-fs (xsdb1): x", "sdb1"));
        assert!(!names("EXT4-fs (dm-01): x", "dm-0"));
    }
}
