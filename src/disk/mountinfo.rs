//! The mount table of this mount namespace: its entries, and waiting for it to change. Knows nothing of disks.

use std::ffi::OsString;
use std::fs::File;
use std::io::{self, Read};
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::ffi::OsStringExt;
use std::path::PathBuf;
use std::time::Duration;

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::fs::makedev;
use rustix::io::Errno;

use crate::device::printable;

/// Bytes of a mount table that is read without growing the buffer.
const USUAL: usize = 16 << 10;

/// One line of /proc/self/mountinfo (proc_pid_mountinfo(5)).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MountEntry {
    /// Identity of the mount; used again after it is gone.
    pub id: u64,
    /// Identity of the mount that it is mounted on.
    pub parent: u64,
    /// `st_dev` of what is in it; btrfs makes one up.
    pub devnum: u64,
    /// The directory of the file system that is mounted, `/` unless bound.
    pub root: PathBuf,
    /// Where.
    pub mount_point: PathBuf,
    /// Options of this mount, `rw,nosuid`.
    pub options: String,
    /// File system type, with its subtype: `ext4`, `fuse.mydisks`.
    pub kind: String,
    /// What was mounted: `/dev/sdb1`, or any string.
    pub source: OsString,
    /// Options of the superblock.
    pub super_options: String,
}

impl MountEntry {
    /// Nobody can write to it, by the mount's own options or by those of its superblock, which the kernel changes after
    /// errors.
    pub fn is_read_only(&self) -> bool {
        let has_it = |options: &str| options.split(',').any(|word| word == "ro" || word == "emergency_ro");
        has_it(&self.options) || has_it(&self.super_options)
    }

    /// For people: `tmpfs (none)`. Whoever mounts chooses the source's text.
    pub fn what(&self) -> String {
        format!("{} ({})", printable(&self.kind), printable(&self.source.to_string_lossy()))
    }
}

/// The mount table as it is now. Costs in proportion to the number of mounts.
///
/// # Errors
/// /proc is not mounted or cannot be read.
pub fn read() -> io::Result<Vec<MountEntry>> {
    read_table("/proc/self/mountinfo")
}

/// The mount table that another process sees: that of its mount namespace, below its root directory.
///
/// # Errors
/// It has ended, or /proc is not mounted.
pub(super) fn of_process(pid: u32) -> io::Result<Vec<MountEntry>> {
    read_table(&format!("/proc/{pid}/mountinfo"))
}

fn read_table(path: &str) -> io::Result<Vec<MountEntry>> {
    // The file has no size; each read(2) takes the namespace's lock anew, and between two of them the table may change.
    let mut table = Vec::with_capacity(USUAL);
    File::open(path)?.read_to_end(&mut table)?;
    Ok(parse(&table))
}

/// Parses a whole mount table; lines that are none are left out.
pub fn parse(table: &[u8]) -> Vec<MountEntry> {
    table.split(|&byte| byte == b'\n').filter_map(parse_line).collect()
}

fn parse_line(line: &[u8]) -> Option<MountEntry> {
    let mut fields = line.split(|&byte| byte == b' ');
    let mut field = || fields.next();
    let id = number(field()?)?;
    let parent = number(field()?)?;
    let devnum = device(field()?)?;
    let root = path(field()?);
    let mount_point = path(field()?);
    let options = text(field()?);
    // Any number of optional fields, then a hyphen alone.
    while field()? != b"-" {}
    let kind = text(field()?);
    let source = OsString::from_vec(unescape(field()?));
    let super_options = text(field()?);
    Some(MountEntry { id, parent, devnum, root, mount_point, options, kind, source, super_options })
}

fn number<T: std::str::FromStr>(field: &[u8]) -> Option<T> {
    std::str::from_utf8(field).ok()?.parse().ok()
}

fn device(field: &[u8]) -> Option<u64> {
    let colon = field.iter().position(|&byte| byte == b':')?;
    Some(makedev(number(&field[..colon])?, number(&field[colon + 1..])?))
}

fn path(field: &[u8]) -> PathBuf {
    PathBuf::from(OsString::from_vec(unescape(field)))
}

fn text(field: &[u8]) -> String {
    String::from_utf8_lossy(&unescape(field)).into_owned()
}

/// Undoes `mangle` (fs/seq_file.c): space, tab, newline, backslash and `#` are written as `\ooo`. A backslash that
/// begins no such escape stands for itself.
pub(super) fn unescape(field: &[u8]) -> Vec<u8> {
    let mut plain = Vec::with_capacity(field.len());
    let mut rest = field;
    while let Some((&first, tail)) = rest.split_first() {
        match (first, tail) {
            (b'\\', [a @ b'0'..=b'3', b @ b'0'..=b'7', c @ b'0'..=b'7', after @ ..]) => {
                plain.push((a - b'0') << 6 | (b - b'0') << 3 | (c - b'0'));
                rest = after;
            }
            _ => {
                plain.push(first);
                rest = tail;
            }
        }
    }
    plain
}

/// Waits for the mount table to change. The kernel tells of a change, not of which: [`read`] it then.
#[derive(Debug)]
pub struct Watch(File);

impl Watch {
    /// Watches from now on.
    ///
    /// # Errors
    /// /proc is not mounted, or out of file descriptors.
    pub fn new() -> io::Result<Self> {
        File::open("/proc/self/mountinfo").map(Self)
    }

    /// Sleeps until the table changes, one of `also` becomes readable, or `most` has passed; without that no timer runs.
    /// Several changes may be told as one (`mounts_poll` in fs/proc_namespace.c compares a counter).
    ///
    /// # Errors
    /// poll(2) fails: out of memory.
    pub fn wait(&self, also: &[BorrowedFd<'_>], most: Option<Duration>) -> io::Result<()> {
        let table = PollFd::from_borrowed_fd(self.0.as_fd(), PollFlags::PRI);
        let others = also.iter().map(|fd| PollFd::from_borrowed_fd(*fd, PollFlags::IN));
        let mut fds: Vec<_> = std::iter::once(table).chain(others).collect();
        loop {
            let most = most.map(Timespec::try_from).transpose().map_err(|_| Errno::INVAL)?;
            match poll(&mut fds, most.as_ref()) {
                Err(Errno::INTR) => {}
                Ok(_) => return Ok(()),
                Err(errno) => return Err(errno.into()),
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::os::unix::ffi::OsStrExt;

    #[test]
    fn a_line_with_everything_is_understood() {
        let line = b"36 35 98:300 /mnt1 /mnt\\0402\\134x rw,noatime master:1 shared:7 - ext3 /dev/root rw,errors=continue\n";
        let entries = parse(line);
        assert_eq!(entries.len(), 1);
        let entry = &entries[0];
        assert_eq!((entry.id, entry.parent, entry.devnum), (36, 35, makedev(98, 300)));
        assert_eq!(entry.root.to_str(), Some("/mnt1"));
        assert_eq!(entry.mount_point.to_str(), Some("/mnt 2\\x"));
        assert_eq!((entry.kind.as_str(), entry.source.to_str()), ("ext3", Some("/dev/root")));
        assert_eq!(
            (entry.options.as_str(), entry.super_options.as_str()),
            ("rw,noatime", "rw,errors=continue")
        );
    }

    #[test]
    fn paths_are_bytes_and_an_empty_source_is_a_source() {
        let entries = parse(b"1 0 0:5 / /\xff\\012 rw - tmpfs  rw");
        assert_eq!(entries[0].mount_point.as_os_str().as_bytes(), b"/\xff\n");
        assert_eq!(entries[0].source, "");
    }

    #[test]
    fn broken_lines_are_left_out_and_hide_no_other() {
        for broken in
            ["", "x", "1 2", "a 0 0:5 / / rw - t s o", "1 0 0 / / rw - t s o", "1 0 0:5 / / rw t s o"]
        {
            let table = format!("{broken}\n1 0 0:5 / /ok rw - tmpfs s rw\n");
            assert_eq!(parse(table.as_bytes()).len(), 1, "{broken:?}");
        }
    }

    #[test]
    fn the_root_is_in_our_own_table() {
        assert!(read().unwrap().iter().any(|entry| entry.mount_point.as_os_str() == "/"));
    }

    #[test]
    fn a_readable_stop_descriptor_ends_the_wait() {
        let cancel = crate::disk::Cancel::new().unwrap();
        cancel.cancel();
        Watch::new().unwrap().wait(&[cancel.as_fd()], None).unwrap();
    }

    /// As the kernel's `mangle` does.
    fn escape(bytes: &[u8]) -> Vec<u8> {
        let escaped = bytes.iter().flat_map(|&byte| match byte {
            b' ' | b'\t' | b'\n' | b'\\' | b'#' => format!("\\{byte:03o}").into_bytes(),
            _ => vec![byte],
        });
        escaped.collect()
    }

    proptest! {
        #[test]
        fn any_path_comes_back(bytes in proptest::collection::vec(1_u8.., 1..40)) {
            let mut line = b"1 0 0:5 / ".to_vec();
            line.extend(escape(&bytes));
            line.extend(b" rw - tmpfs tmpfs rw\n");
            let entries = parse(&line);
            prop_assert_eq!(entries[0].mount_point.as_os_str().as_bytes(), &bytes[..]);
        }

        #[test]
        fn no_bytes_make_it_panic(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
            parse(&bytes);
        }
    }
}
