//! libblkid, as much of it as tells what is on an opened block device. The device is read through the descriptor that
//! was checked, never by name. Knows nothing of what should be there.
#![allow(unsafe_code)]

use std::ffi::{CStr, CString, c_char, c_int, c_void};
use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, RawFd};
use std::ptr::{self, NonNull};

use thiserror::Error;

// blkid/blkid.h
const SUBLKS_LABEL: c_int = 1 << 1;
const SUBLKS_UUID: c_int = 1 << 3;
const SUBLKS_TYPE: c_int = 1 << 5;
const SUBLKS_USAGE: c_int = 1 << 7;
const SUBLKS_BADCSUM: c_int = 1 << 10;
const FLTR_ONLYIN: c_int = 2;

#[link(name = "blkid")]
unsafe extern "C" {
    fn blkid_new_probe() -> *mut c_void;
    fn blkid_free_probe(probe: *mut c_void);
    fn blkid_probe_set_device(probe: *mut c_void, fd: RawFd, offset: i64, size: i64) -> c_int;
    fn blkid_probe_enable_superblocks(probe: *mut c_void, enable: c_int) -> c_int;
    fn blkid_probe_set_superblocks_flags(probe: *mut c_void, flags: c_int) -> c_int;
    fn blkid_probe_filter_superblocks_type(probe: *mut c_void, flag: c_int, names: *mut *mut c_char)
    -> c_int;
    fn blkid_do_safeprobe(probe: *mut c_void) -> c_int;
    fn blkid_probe_lookup_value(
        probe: *mut c_void,
        name: *const c_char,
        data: *mut *const c_char,
        length: *mut usize,
    ) -> c_int;
}

/// What libblkid recognised.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Found {
    /// libblkid's name: `ext4`, `crypto_LUKS`, `ntfs`, `LVM2_member`, …
    pub(super) kind: String,
    /// UUID, in libblkid's case.
    pub(super) uuid: Option<String>,
    /// Label, decoded lossily; the disk chose it.
    pub(super) label: Option<String>,
    /// `filesystem`, `crypto`, `raid` or `other`.
    pub(super) usage: Option<String>,
    /// The superblock's checksum is wrong.
    pub(super) bad_checksum: bool,
}

/// Why probing gave no answer.
#[derive(Debug, Error)]
pub(super) enum ProbeError {
    /// Signatures of more than one kind: which of them is valid cannot be known.
    #[error("signatures of several kinds")]
    Ambivalent,
    /// Reading failed.
    #[error(transparent)]
    Io(#[from] io::Error),
}

/// What is on the device; `None`: nothing that libblkid knows. If `hint` is given only that kind is looked for at
/// first, which saves reading the places of all others. A superblock with a wrong checksum is reported only if there is
/// no valid one.
pub(super) fn probe(device: impl AsFd, hint: Option<&str>) -> Result<Option<Found>, ProbeError> {
    let device = device.as_fd();
    if let Some(kind) = hint {
        if let Some(found) = look(device, Some(kind), 0)? {
            return Ok(Some(found));
        }
    }
    match look(device, None, 0)? {
        Some(found) => Ok(Some(found)),
        None => look(device, None, SUBLKS_BADCSUM),
    }
}

fn look(device: BorrowedFd<'_>, kind: Option<&str>, flags: c_int) -> Result<Option<Found>, ProbeError> {
    let probe = Probe::new(device)?;
    probe.configure(kind, SUBLKS_LABEL | SUBLKS_UUID | SUBLKS_TYPE | SUBLKS_USAGE | flags)?;
    // SAFETY: a valid probe with a device set.
    match unsafe { blkid_do_safeprobe(probe.handle.as_ptr()) } {
        0 => Ok(probe.found()),
        1 => Ok(None),
        -2 => Err(ProbeError::Ambivalent),
        _ => Err(last_error()),
    }
}

/// A `blkid_probe`, and the descriptor that it reads from.
struct Probe<'fd> {
    handle: NonNull<c_void>,
    _device: BorrowedFd<'fd>,
}

impl<'fd> Probe<'fd> {
    fn new(device: BorrowedFd<'fd>) -> Result<Self, ProbeError> {
        // SAFETY: takes nothing; returns an owned probe or NULL.
        let handle = NonNull::new(unsafe { blkid_new_probe() })
            .ok_or_else(|| io::Error::from(io::ErrorKind::OutOfMemory))?;
        let probe = Self { handle, _device: device };
        // SAFETY: a valid probe and a descriptor that is open for as long as the probe (the borrow); libblkid does not
        // close a descriptor that it did not open.
        match unsafe { blkid_probe_set_device(probe.handle.as_ptr(), device.as_raw_fd(), 0, 0) } {
            0 => Ok(probe),
            _ => Err(last_error()),
        }
    }

    fn configure(&self, kind: Option<&str>, flags: c_int) -> Result<(), ProbeError> {
        let handle = self.handle.as_ptr();
        // SAFETY: a valid probe; plain integers.
        let mut result = unsafe {
            blkid_probe_enable_superblocks(handle, 1) | blkid_probe_set_superblocks_flags(handle, flags)
        };
        if let Some(kind) = kind.and_then(|kind| CString::new(kind).ok()) {
            let mut names = [kind.as_ptr().cast_mut(), ptr::null_mut()];
            // SAFETY: a valid probe and a NULL-terminated array of C strings, which libblkid only compares
            // (blkid_probe_filter_superblocks_type sets bits and keeps no pointer).
            result |= unsafe { blkid_probe_filter_superblocks_type(handle, FLTR_ONLYIN, names.as_mut_ptr()) };
        }
        if result == 0 { Ok(()) } else { Err(last_error()) }
    }

    fn found(&self) -> Option<Found> {
        Some(Found {
            kind: self.value(c"TYPE")?,
            uuid: self.value(c"UUID"),
            label: self.value(c"LABEL"),
            usage: self.value(c"USAGE"),
            bad_checksum: self.value(c"SBBADCSUM").is_some(),
        })
    }

    fn value(&self, name: &CStr) -> Option<String> {
        let mut data = ptr::null();
        let mut length = 0;
        // SAFETY: a valid probe, a C string, and two places to write to.
        let result = unsafe {
            blkid_probe_lookup_value(self.handle.as_ptr(), name.as_ptr(), &raw mut data, &raw mut length)
        };
        if result != 0 || data.is_null() {
            return None;
        }
        // SAFETY: on success `data` points to `length` bytes that the probe owns; they are copied here, while it lives.
        let bytes = unsafe { std::slice::from_raw_parts(data.cast::<u8>(), length) };
        let bytes = bytes.split(|&byte| byte == 0).next().unwrap_or_default();
        Some(String::from_utf8_lossy(bytes).into_owned())
    }
}

impl Drop for Probe<'_> {
    fn drop(&mut self) {
        // SAFETY: the probe is owned and used no more.
        unsafe { blkid_free_probe(self.handle.as_ptr()) }
    }
}

fn last_error() -> ProbeError {
    let error = io::Error::last_os_error();
    // libblkid returns -1 without an errno for what it cannot name.
    if error.raw_os_error() == Some(0) {
        ProbeError::Io(io::ErrorKind::Other.into())
    } else {
        ProbeError::Io(error)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::{Seek, SeekFrom, Write};

    /// A LUKS1 header that nothing but a probe would believe.
    fn luks_header() -> Vec<u8> {
        let mut header = vec![0_u8; 592];
        header[..6].copy_from_slice(b"LUKS\xba\xbe");
        header[6..8].copy_from_slice(&1_u16.to_be_bytes());
        header[168..204].copy_from_slice(b"123E4567-e89b-12d3-a456-426614174000");
        header
    }

    fn image(parts: &[(u64, &[u8])]) -> std::fs::File {
        let mut file = tempfile::tempfile().unwrap();
        file.set_len(4 << 20).unwrap();
        for (offset, bytes) in parts {
            file.seek(SeekFrom::Start(*offset)).unwrap();
            file.write_all(bytes).unwrap();
        }
        file
    }

    #[test]
    fn nothing_is_found_on_zeros_whatever_the_hint() {
        for hint in [None, Some("ext4"), Some("no-such-type"), Some("a\0b"), Some("")] {
            assert_eq!(probe(image(&[]), hint).unwrap(), None, "{hint:?}");
        }
    }

    #[test]
    fn a_wrong_hint_does_not_hide_what_is_there() {
        let file = image(&[(0, &luks_header())]);
        for hint in [None, Some("crypto_LUKS"), Some("ext4"), Some("no-such-type")] {
            let found = probe(&file, hint).unwrap().unwrap();
            assert_eq!(found.kind, "crypto_LUKS", "{hint:?}");
            assert_eq!(found.uuid.as_deref(), Some("123E4567-e89b-12d3-a456-426614174000"));
            assert_eq!(found.usage.as_deref(), Some("crypto"));
        }
    }

    #[test]
    fn signatures_of_two_file_systems_are_ambivalent() {
        // romfs and vxfs: libblkid looks at nothing but their magic.
        let file = image(&[(0, b"-rom1fs-"), (1024, b"\xf5\xfc\x01\xa5")]);
        assert!(matches!(probe(&file, None), Err(ProbeError::Ambivalent)));
    }
}
