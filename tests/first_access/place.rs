//! Where a call is made: the same paths under the root of the subject and under the plain mount.
//!
//! Every process at once has a *seat* with files of its own (`file.3`, `dir.3`, …), so that calls of different
//! seats do not disturb each other and each one's result can be foretold.

use rustix::io::Errno;
use std::path::PathBuf;

/// How many processes can work at once without touching each other's files.
pub(crate) const SEATS: usize = 16;

/// The one configured name.
pub(crate) const NAME: &str = "backup";

/// What a call returned: something about its success, or its errno.
pub(crate) type Outcome = Result<String, Errno>;

/// The directory that holds the name, and the seat of the process that makes the call.
#[derive(Debug, Clone)]
pub(crate) struct Place {
    /// The FUSE root, or the directory around the plain mount.
    pub root: PathBuf,
    /// A directory on another file system, for what must come from or lead elsewhere; empty before each case.
    pub elsewhere: PathBuf,
    /// Which of the [`SEATS`] this process has.
    pub seat: usize,
}

impl Place {
    /// The name directory itself.
    pub(crate) fn name(&self) -> PathBuf {
        self.root.join(NAME)
    }

    /// `stem` with the seat's number: `file` is `file.3`.
    pub(crate) fn own(&self, stem: &str) -> String {
        format!("{stem}.{}", self.seat)
    }

    /// The path of this seat's entry in the name directory.
    pub(crate) fn child(&self, stem: &str) -> PathBuf {
        self.name().join(self.own(stem))
    }

    /// The path as one relative to the root.
    pub(crate) fn relative(&self, stem: &str) -> PathBuf {
        PathBuf::from(NAME).join(self.own(stem))
    }

    /// A regular file that holds `content N`, mode 644, with the attribute user.note.
    pub(crate) fn file(&self) -> PathBuf {
        self.child("file")
    }

    /// Another regular file.
    pub(crate) fn other(&self) -> PathBuf {
        self.child("other")
    }

    /// A directory that holds the file `inner` and the directory `deep`.
    pub(crate) fn dir(&self) -> PathBuf {
        self.child("dir")
    }

    /// A regular file in [`Place::dir`].
    pub(crate) fn inner(&self) -> PathBuf {
        self.dir().join("inner")
    }

    /// A name in [`Place::dir`] that does not exist.
    pub(crate) fn inner_absent(&self) -> PathBuf {
        self.dir().join("absent")
    }

    /// An empty directory.
    pub(crate) fn empty(&self) -> PathBuf {
        self.child("empty")
    }

    /// A symbolic link to [`Place::file`], relative.
    pub(crate) fn link(&self) -> PathBuf {
        self.child("link")
    }

    /// A symbolic link to a name that does not exist.
    pub(crate) fn dangling(&self) -> PathBuf {
        self.child("dangling")
    }

    /// A name that does not exist.
    pub(crate) fn absent(&self) -> PathBuf {
        self.child("absent")
    }

    /// A path of this seat elsewhere.
    pub(crate) fn away(&self, stem: &str) -> PathBuf {
        self.elsewhere.join(self.own(stem))
    }
}

/// Writes an outcome as the text that is compared and shown: `ok …` or the errno's name.
pub(crate) fn describe(outcome: &Outcome) -> String {
    match outcome {
        Ok(text) if text.is_empty() => "ok".into(),
        Ok(text) => format!("ok: {text}"),
        Err(errno) => format!("{:?}", nix::errno::Errno::from_raw(errno.raw_os_error())),
    }
}
