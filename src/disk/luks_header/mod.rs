//! LUKS headers, looked at before `cryptsetup` is: whether what they describe is encrypted, and by a key that matters.
//! Nothing in a header is authenticated, so whoever had the disk may have written it. Knows nothing of keys and
//! mappings.
//!
//! A disk may also answer differently when it is read again. So each byte is read once, what was checked is kept in
//! memory, and `cryptsetup` gets that as a detached header: of the disk it sees nothing but the data.

mod cipher;
mod luks1;
mod luks2;

use std::fs::File;
use std::io;
use std::ops::Range;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd};
use std::os::unix::fs::FileExt;
use std::path::PathBuf;

use rustix::fs::{MemfdFlags, memfd_create};
use rustix::io::Errno;

use super::error::one_line;
use super::node::Node;
use super::{DiskError, ErrorKind};

const FIRST_MAGIC: &[u8] = b"LUKS\xba\xbe";
const SECOND_MAGIC: &[u8] = b"SKUL\xba\xbe";

/// The sizes that a copy of a LUKS2 header may have, in bytes; the second copy lies at one of them as its offset
/// (`LUKS2_HDR2_OFFSETS` in cryptsetup's lib/luks2/luks2.h).
const SIZES: [u64; 9] =
    [16 << 10, 32 << 10, 64 << 10, 128 << 10, 256 << 10, 512 << 10, 1 << 20, 2 << 20, 4 << 20];

/// A header that was checked, as a file in memory.
#[derive(Debug)]
pub(super) struct Header {
    /// `luks1` or `luks2`.
    pub(super) kind: &'static str,
    /// The UUID in the header.
    pub(super) uuid: String,
    /// A copy on the disk is damaged; the other one is used.
    pub(super) is_partly_damaged: bool,
    image: File,
}

impl Header {
    /// Under which a program that we start finds the file for as long as this value lives.
    pub(super) fn path(&self) -> PathBuf {
        // Not /proc/self/fd: that would need a descriptor that every program started meanwhile inherits.
        let process = rustix::process::getpid().as_raw_nonzero();
        PathBuf::from(format!("/proc/{process}/fd/{}", self.image.as_raw_fd()))
    }
}

/// Reads and checks the header on `node`. Every copy that `cryptsetup` could choose must be one that encrypts; a copy
/// that cannot be understood is left out. Takes 44 MiB of memory at the most, normally 0.3.
///
/// [`ErrorKind::WrongContent`]: it was made so that nothing is encrypted, any key opens it, or this cannot be ruled
/// out. [`ErrorKind::Damaged`]: no copy can be understood.
pub(super) fn read(node: &Node) -> Result<Header, DiskError> {
    let device = node.path.display();
    read_from(node.as_fd()).map_err(|fault| match fault {
        Fault::Forged(what) => {
            let message = format!("The LUKS header on {device} {what}: the disk may have been tampered with");
            DiskError::new(ErrorKind::WrongContent, message)
        }
        Fault::Damaged(what) => {
            DiskError::new(ErrorKind::Damaged, format!("The LUKS header on {device} is damaged: it {what}"))
        }
        Fault::Io(_) if node.is_gone() => {
            let message = format!("{device} was unplugged while its LUKS header was read");
            DiskError::new(ErrorKind::Absent, message)
        }
        Fault::Io(error) => {
            let what = format!("Cannot read the LUKS header on {device}");
            DiskError { kind: ErrorKind::Io, ..DiskError::system(what, &error) }
        }
    })
}

/// Why a header is not used; the texts complete "the header …".
#[derive(Debug)]
enum Fault {
    /// It can be understood, and must not be used.
    Forged(String),
    /// It cannot be understood.
    Damaged(String),
    Io(io::Error),
}

impl Fault {
    fn forged(what: String) -> Self {
        Self::Forged(one_line(&what))
    }

    fn damaged(what: String) -> Self {
        Self::Damaged(one_line(&what))
    }
}

impl From<io::Error> for Fault {
    fn from(error: io::Error) -> Self {
        Self::Io(error)
    }
}

/// What of a checked header matters further on.
#[derive(Debug)]
struct Contents {
    uuid: String,
    /// Where the key material is, in bytes from the start of the disk.
    areas: Vec<Range<u64>>,
    /// Up to where header and key material may reach.
    length: u64,
}

/// A checked header, or copy of one.
#[derive(Debug)]
struct Copy {
    offset: u64,
    bytes: Vec<u8>,
    contents: Contents,
}

fn read_from(device: BorrowedFd<'_>) -> Result<Header, Fault> {
    let start = read_up_to(device, 0, luks1::LENGTH)?;
    if start.starts_with(FIRST_MAGIC) && number(&start, 6..8) == 1 {
        if start.len() < luks1::LENGTH {
            return Err(Fault::damaged("is cut short".to_owned()));
        }
        let contents = luks1::check(&start)?;
        return keep(device, "luks1", vec![Copy { offset: 0, bytes: start, contents }]);
    }
    keep(device, "luks2", copies(device)?)
}

/// All copies of a LUKS2 header that can be understood, the first one last.
fn copies(device: BorrowedFd<'_>) -> Result<Vec<Copy>, Fault> {
    let mut copies = Vec::new();
    let mut damage = None;
    for offset in SIZES.into_iter().rev().chain([0]) {
        match copy_at(device, offset) {
            Ok(copy) => copies.extend(copy),
            Err(Fault::Damaged(what)) => damage = Some(what),
            Err(error) => return Err(error),
        }
    }
    let Some(uuid) = copies.first().map(|copy| &copy.contents.uuid) else {
        return Err(Fault::Damaged(damage.unwrap_or_else(|| "is not there any more".to_owned())));
    };
    if copies.iter().any(|copy| copy.contents.uuid != *uuid) {
        return Err(Fault::damaged("has copies with different UUIDs".to_owned()));
    }
    Ok(copies)
}

fn copy_at(device: BorrowedFd<'_>, offset: u64) -> Result<Option<Copy>, Fault> {
    let head = read_up_to(device, offset, luks2::HEAD)?;
    if !head.starts_with(if offset == 0 { FIRST_MAGIC } else { SECOND_MAGIC }) {
        return Ok(None);
    }
    let size = luks2::size(&head, offset)?;
    let mut bytes = head;
    let left = usize::try_from(size).unwrap_or(usize::MAX).saturating_sub(bytes.len());
    bytes.append(&mut read_up_to(device, offset + luks2::HEAD as u64, left)?);
    if bytes.len() as u64 != size {
        return Err(Fault::damaged("is cut short".to_owned()));
    }
    let contents = luks2::check(&bytes)?;
    Ok(Some(Copy { offset, bytes, contents }))
}

/// Makes the file in memory: key material, and over it the checked copies, so that nothing read later replaces them.
fn keep(device: BorrowedFd<'_>, kind: &'static str, copies: Vec<Copy>) -> Result<Header, Fault> {
    let image = File::from(memfd_create("luks-header", MemfdFlags::CLOEXEC).map_err(io::Error::from)?);
    image.set_len(copies.iter().map(|copy| copy.contents.length).max().unwrap_or(0))?;
    for area in copies.iter().flat_map(|copy| &copy.contents.areas) {
        let length = usize::try_from(area.end - area.start).unwrap_or(usize::MAX);
        image.write_all_at(&read_up_to(device, area.start, length)?, area.start)?;
    }
    for copy in &copies {
        image.write_all_at(&copy.bytes, copy.offset)?;
    }
    if kind == "luks2" {
        hide_unchecked(&image, &copies)?;
    }
    let has_first = copies.iter().any(|copy| copy.offset == 0);
    let is_partly_damaged = kind == "luks2" && !(has_first && copies.len() > 1);
    let uuid = copies.into_iter().next().map(|copy| copy.contents.uuid).unwrap_or_default();
    Ok(Header { kind, uuid, is_partly_damaged, image })
}

/// Key material must not pass for a copy either, for `cryptsetup` looks for one there if it finds no first copy.
fn hide_unchecked(image: &File, copies: &[Copy]) -> io::Result<()> {
    for offset in SIZES {
        let is_checked = copies.iter().any(|copy| copy.offset == offset);
        let magic = read_up_to(image.as_fd(), offset, SECOND_MAGIC.len())?;
        if !is_checked && magic == SECOND_MAGIC {
            image.write_all_at(&[0; 6], offset)?;
        }
    }
    Ok(())
}

/// `length` bytes, fewer at the end of the device.
fn read_up_to(device: BorrowedFd<'_>, offset: u64, length: usize) -> io::Result<Vec<u8>> {
    let mut bytes = vec![0; length];
    let mut filled = 0;
    while filled < length {
        match rustix::io::pread(device, &mut bytes[filled..], offset + filled as u64) {
            Ok(0) => break,
            Ok(count) => filled += count,
            Err(Errno::INTR) => {}
            Err(errno) => return Err(errno.into()),
        }
    }
    bytes.truncate(filled);
    Ok(bytes)
}

/// A big-endian number of up to eight bytes; zero if `bytes` ends before it does.
fn number(bytes: &[u8], range: Range<usize>) -> u64 {
    let digits = bytes.get(range).unwrap_or_default();
    digits.iter().fold(0, |number, &byte| number << 8 | u64::from(byte))
}

/// Text up to the first NUL, decoded lossily.
fn text(bytes: &[u8], range: Range<usize>) -> String {
    let bytes = bytes.get(range).unwrap_or_default();
    String::from_utf8_lossy(bytes.split(|&byte| byte == 0).next().unwrap_or_default()).into_owned()
}

#[cfg(test)]
mod tests;
