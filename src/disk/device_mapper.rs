//! What the kernel's device mapper says of its devices, asked through its control node (linux/dm-ioctl.h): no program
//! is run and nothing is changed. Knows nothing of LUKS.

use std::fs::{File, OpenOptions};
use std::io;

use rustix::io::Errno;

use super::ioctl::{self, DM_HEAD};

const DM_LIST_DEVICES: u8 = 2;
const DM_DEV_STATUS: u8 = 7;
const DM_TABLE_DEPS: u8 = 11;
const DM_TABLE_STATUS: u8 = 12;

const DM_STATUS_TABLE_FLAG: u32 = 1 << 4;
const DM_BUFFER_FULL_FLAG: u32 = 1 << 8;
/// The kernel wipes its copy of what passes through: a table may hold a key.
const DM_SECURE_DATA_FLAG: u32 = 1 << 15;
const DM_DEFERRED_REMOVE: u32 = 1 << 17;

/// Offsets in `struct dm_ioctl`.
mod at {
    use std::ops::Range;
    pub(super) const VERSION: Range<usize> = 0..4;
    pub(super) const DATA_START: Range<usize> = 16..20;
    pub(super) const TARGET_COUNT: Range<usize> = 20..24;
    pub(super) const OPEN_COUNT: Range<usize> = 24..28;
    pub(super) const FLAGS: Range<usize> = 28..32;
    pub(super) const DEVICE: Range<usize> = 40..48;
    pub(super) const NAME: Range<usize> = 48..176;
    pub(super) const UUID: Range<usize> = 176..305;
}

/// One device of the device mapper.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Status {
    /// `CRYPT-LUKS2-<uuid>-<name>` for what cryptsetup opened.
    pub(super) uuid: String,
    /// Device number, as in `st_rdev`.
    pub(super) devnum: u64,
    /// How many have it open: mounts, other block devices, programs.
    pub(super) open_count: u32,
    /// It goes away by itself when nobody has it open any more.
    pub(super) goes_when_unused: bool,
}

/// What a device is now; `None`: no device of that name, or a kernel without the device mapper.
pub(super) fn status(name: &str) -> io::Result<Option<Status>> {
    let answer = present(request(DM_DEV_STATUS, name, 0))?;
    Ok(answer.map(|answer| Status {
        uuid: answer.text(at::UUID),
        devnum: answer.u64(at::DEVICE.start),
        open_count: answer.u32(at::OPEN_COUNT.start),
        goes_when_unused: answer.u32(at::FLAGS.start) & DM_DEFERRED_REMOVE != 0,
    }))
}

/// The names of all devices.
pub(super) fn names() -> io::Result<Vec<String>> {
    let Some(answer) = present(request(DM_LIST_DEVICES, "", 0))? else { return Ok(Vec::new()) };
    // struct dm_name_list: u64 dev, u32 next (from this entry), the name. An empty list is one entry with device 0.
    let mut names = Vec::new();
    let mut entry = answer.data_start();
    while answer.u64(entry) != 0 {
        names.push(answer.text(entry + 12..answer.0.len()));
        match answer.u32(entry + 8) {
            0 => break,
            next => entry += next as usize,
        }
    }
    Ok(names)
}

/// The device numbers of what a device lies on; empty if it is gone.
pub(super) fn lies_on(name: &str) -> io::Result<Vec<u64>> {
    let Some(answer) = present(request(DM_TABLE_DEPS, name, 0))? else { return Ok(Vec::new()) };
    // struct dm_target_deps: u32 count, u32 padding, u64 dev[count].
    let start = answer.data_start();
    let count = answer.u32(start) as usize;
    let whole = answer.0.len().saturating_sub(start + 8) / 8;
    Ok((0..count.min(whole)).map(|index| answer.u64(start + 8 + index * 8)).collect())
}

/// The cipher of each segment of a device, such as `aes-xts-plain64`; empty for a segment that is no `crypt`.
pub(super) fn ciphers(name: &str) -> io::Result<Vec<String>> {
    let flags = DM_STATUS_TABLE_FLAG | DM_SECURE_DATA_FLAG;
    let Some(mut answer) = present(request(DM_TABLE_STATUS, name, flags))? else { return Ok(Vec::new()) };
    // struct dm_target_spec: u64 start, u64 length, i32 status, u32 next (from the first), char type[16]; then the
    // parameters, of which the first word is the cipher and the second may be the key.
    let start = answer.data_start();
    let mut spec = start;
    let mut ciphers = Vec::new();
    for _ in 0..answer.u32(at::TARGET_COUNT.start) {
        let is_crypt = answer.text(spec + 24..spec + 40) == "crypt";
        ciphers.push(if is_crypt { answer.word(spec + 40) } else { String::new() });
        spec = start + answer.u32(spec + 20) as usize;
    }
    answer.0.fill(0);
    std::hint::black_box(&answer.0);
    Ok(ciphers)
}

/// No such device, and no device mapper at all, are answers and no failures.
fn present(answer: io::Result<Answer>) -> io::Result<Option<Answer>> {
    match answer {
        Ok(answer) => Ok(Some(answer)),
        Err(error) => match Errno::from_io_error(&error) {
            Some(Errno::NXIO | Errno::NODEV | Errno::NOENT) => Ok(None),
            _ => Err(error),
        },
    }
}

fn request(command: u8, name: &str, flags: u32) -> io::Result<Answer> {
    const LARGEST: usize = 1 << 20;
    if name.len() >= at::NAME.len() || name.contains('\0') {
        return Err(Errno::NXIO.into());
    }
    let control = control()?;
    let mut size = 16 << 10;
    loop {
        let mut buffer = vec![0; size];
        buffer[at::VERSION].copy_from_slice(&4_u32.to_ne_bytes());
        buffer[at::DATA_START].copy_from_slice(&(DM_HEAD as u32).to_ne_bytes());
        buffer[at::FLAGS].copy_from_slice(&flags.to_ne_bytes());
        buffer[at::NAME.start..at::NAME.start + name.len()].copy_from_slice(name.as_bytes());
        ioctl::device_mapper(&control, command, &mut buffer)?;
        let answer = Answer(buffer);
        if answer.u32(at::FLAGS.start) & DM_BUFFER_FULL_FLAG == 0 {
            return Ok(answer);
        }
        if size >= LARGEST {
            return Err(io::ErrorKind::FileTooLarge.into());
        }
        size *= 4;
    }
}

fn control() -> io::Result<File> {
    OpenOptions::new().read(true).write(true).open("/dev/mapper/control")
}

/// The buffer that came back; reading beyond its end gives zeros, which end every list.
struct Answer(Vec<u8>);

impl Answer {
    fn bytes<const N: usize>(&self, start: usize) -> [u8; N] {
        let bytes = self.0.get(start..start.saturating_add(N)).and_then(|bytes| bytes.try_into().ok());
        bytes.unwrap_or([0; N])
    }

    fn u32(&self, start: usize) -> u32 {
        u32::from_ne_bytes(self.bytes(start))
    }

    fn u64(&self, start: usize) -> u64 {
        u64::from_ne_bytes(self.bytes(start))
    }

    fn data_start(&self) -> usize {
        self.u32(at::DATA_START.start) as usize
    }

    /// Up to the first NUL.
    fn text(&self, range: std::ops::Range<usize>) -> String {
        let bytes = self.0.get(range).unwrap_or_default();
        String::from_utf8_lossy(bytes.split(|&byte| byte == 0).next().unwrap_or_default()).into_owned()
    }

    /// Up to the first space or NUL, and nothing of what follows.
    fn word(&self, start: usize) -> String {
        let bytes = self.0.get(start..).unwrap_or_default();
        let word = bytes.split(|&byte| byte == 0 || byte == b' ').next().unwrap_or_default();
        String::from_utf8_lossy(word).into_owned()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_that_no_device_has_is_no_device() {
        for name in ["mydisks-no-such-mapping", "a\0b", &"x".repeat(200)] {
            assert_eq!(status(name).unwrap(), None, "{name:?}");
            assert_eq!(lies_on(name).unwrap(), Vec::<u64>::new());
            assert_eq!(ciphers(name).unwrap(), Vec::<String>::new());
        }
        assert!(!names().unwrap().iter().any(|name| name == "mydisks-no-such-mapping"));
    }

    #[test]
    fn reading_beyond_an_answer_gives_zeros() {
        let answer = Answer(vec![1; 10]);
        assert_eq!((answer.u64(8), answer.u32(usize::MAX)), (0, 0));
        assert_eq!((answer.text(8..40), answer.word(99)), (String::new(), String::new()));
        assert_eq!(answer.word(0), "\u{1}".repeat(10));
    }
}
