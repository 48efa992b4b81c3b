//! Why work on a disk failed: a kind that becomes the errno of the access that asked, and one sentence for people.
//! Knows nothing of the work itself.

use std::fmt::Display;
use std::io;

use rustix::io::Errno;
use thiserror::Error;

use super::Opened;

/// Why a disk could not be made ready or put away; ends as one sentence, and as the errno of the access that asked.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[error("{message}")]
pub struct DiskError {
    /// What kind of failure.
    pub kind: ErrorKind,
    /// One sentence: what was tried on which device, what went wrong, what to do.
    pub message: String,
    /// What had been opened and could not be put away again: it is to be locked.
    pub left: Option<Box<Opened>>,
}

/// The kinds of failure that an access can tell apart.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum ErrorKind {
    /// The device or image is not there (any more): ENOMEDIUM.
    Absent,
    /// Key file missing or unreadable, or LUKS without a `key-file`: ENOKEY.
    NoKey,
    /// The key does not open it: EKEYREJECTED.
    KeyRejected,
    /// Not encrypted although a key is configured, another file system or header than configured: EMEDIUMTYPE.
    WrongContent,
    /// Damaged: EUCLEAN.
    Damaged,
    /// In use elsewhere: EBUSY.
    Busy,
    /// Not allowed: EACCES.
    NotAllowed,
    /// Took too long, or was cancelled: ETIMEDOUT.
    TimedOut,
    /// Two attached devices match: ENOTUNIQ.
    Ambiguous,
    /// The system is out of memory, threads or file descriptors: EAGAIN.
    Exhausted,
    /// The kernel refused a mount option: EINVAL.
    BadOption,
    /// Reading or writing failed: EIO.
    Io,
    /// Something that this list does not foresee: EIO.
    Other,
}

impl ErrorKind {
    /// What the access that asked gets.
    pub fn errno(self) -> Errno {
        match self {
            Self::Absent => Errno::NOMEDIUM,
            Self::NoKey => Errno::NOKEY,
            Self::KeyRejected => Errno::KEYREJECTED,
            Self::WrongContent => Errno::MEDIUMTYPE,
            Self::Damaged => Errno::UCLEAN,
            Self::Busy => Errno::BUSY,
            Self::NotAllowed => Errno::ACCESS,
            Self::TimedOut => Errno::TIMEDOUT,
            Self::Ambiguous => Errno::NOTUNIQ,
            Self::Exhausted => Errno::AGAIN,
            Self::BadOption => Errno::INVAL,
            Self::Io | Self::Other => Errno::IO,
        }
    }

    /// What an errno of the kernel means when a device or an image is opened, asked or read.
    pub(super) fn of(errno: Errno) -> Self {
        match errno {
            Errno::NOENT | Errno::NXIO | Errno::NODEV | Errno::NOMEDIUM | Errno::NOTDIR => Self::Absent,
            Errno::ACCESS | Errno::PERM | Errno::ROFS => Self::NotAllowed,
            Errno::BUSY => Self::Busy,
            Errno::TIMEDOUT => Self::TimedOut,
            Errno::UCLEAN | Errno::BADMSG => Self::Damaged,
            Errno::NOMEM | Errno::AGAIN | Errno::MFILE | Errno::NFILE => Self::Exhausted,
            Errno::IO => Self::Io,
            _ => Self::Other,
        }
    }
}

impl DiskError {
    /// A failure that has left nothing open.
    pub fn new(kind: ErrorKind, message: impl Into<String>) -> Self {
        Self { kind, message: message.into(), left: None }
    }

    /// `what` failed with an error of the system.
    pub(super) fn system(what: impl Display, error: &io::Error) -> Self {
        let kind = Errno::from_io_error(error).map_or(ErrorKind::Other, ErrorKind::of);
        Self::new(kind, format!("{what}: {error}"))
    }

    /// `what` failed for a reason that says nothing of the disk.
    pub(super) fn not_the_disks(what: impl Display, error: &io::Error) -> Self {
        let mut error = Self::system(what, error);
        if error.kind != ErrorKind::Exhausted {
            error.kind = ErrorKind::Other;
        }
        error
    }

    /// The same failure, after which undoing what was done failed too; neither is lost, nor what is `left`.
    pub(crate) fn and_left(mut self, left: Option<Opened>, why: &str) -> Self {
        self.message = format!("{}; then undoing what was done failed too: {why}", self.message);
        self.left = left.map(Box::new);
        self
    }
}

/// Text that a program, the kernel or a disk chose, made fit for one line of a log: control characters are blanked,
/// the lines joined, the length bounded.
pub(super) fn one_line(text: &str) -> String {
    const LONGEST: usize = 600;
    let lines = text.lines().map(str::trim).filter(|line| !line.is_empty());
    let joined = lines.collect::<Vec<_>>().join("; ");
    let clean = joined.chars().map(|c| if c.is_control() { ' ' } else { c });
    let mut kept: String = clean.take(LONGEST).collect();
    if joined.chars().nth(LONGEST).is_some() {
        kept.push('…');
    }
    kept
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hostile_text_becomes_one_bounded_line() {
        assert_eq!(one_line("a\n\n b\x1b[31m\r\nc\0"), "a; b [31m; c ");
        let long = one_line(&"ä".repeat(10_000));
        assert_eq!(long.chars().count(), 601);
        assert!(long.ends_with('…'));
    }

    #[test]
    fn a_failed_roll_back_is_told_beside_the_failure() {
        let error = DiskError::new(ErrorKind::Damaged, "first");
        let left = Opened { mapping: Some("mydisks-x".into()), ..Opened::default() };
        let both = error.and_left(Some(left.clone()), "second");
        assert_eq!(both.left.as_deref(), Some(&left));
        assert_eq!(both.kind, ErrorKind::Damaged);
        assert!(both.to_string().contains("first") && both.to_string().contains("second"));
    }
}
