//! What somebody does with a name: looks at the disk behind it, writes a number on it, keeps a file of it open. Everything goes
//! through one open directory, so that it is one disk. Knows nothing of which disk that may be.

use std::fs::{self, File};
use std::io::{self, Write};
use std::path::PathBuf;

use rustix::fd::{AsRawFd, OwnedFd};
use rustix::fs::{Mode, OFlags, open};

use super::super::host_disks;

/// Numbers are in files of their own, `number-7`.
const NUMBER: &str = "number-";

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Intent {
    Read,
    /// Adds this number and synchronises it.
    Write(u64),
    /// Keeps the file `hello` open.
    Hold,
}

/// What was found.
#[derive(Debug, Default)]
pub(super) struct Sight {
    /// Names of the files without numbers.
    pub(super) files: Vec<String>,
    pub(super) numbers: Vec<u64>,
    /// The highest of these, and what its file says.
    pub(super) newest: Option<(u64, String)>,
    pub(super) held: Option<File>,
}

/// Enters `name` and does it.
pub(super) fn visit(name: &str, intent: Intent) -> io::Result<Sight> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let directory = open(host_disks::name(name), flags, Mode::empty())?;
    let mut sight = look(&directory)?;
    match intent {
        Intent::Read => {}
        Intent::Write(number) => {
            let mut file = File::create(path(&directory, &format!("{NUMBER}{number}")))?;
            file.write_all(number.to_string().as_bytes())?;
            file.sync_all()?;
        }
        Intent::Hold => sight.held = Some(File::open(path(&directory, "hello"))?),
    }
    Ok(sight)
}

fn look(directory: &OwnedFd) -> io::Result<Sight> {
    let mut sight = Sight::default();
    for entry in fs::read_dir(path(directory, "."))? {
        let file = entry?.file_name().to_string_lossy().into_owned();
        match file.strip_prefix(NUMBER).and_then(|number| number.parse().ok()) {
            Some(number) => sight.numbers.push(number),
            None => sight.files.push(file),
        }
    }
    if let Some(&newest) = sight.numbers.iter().max() {
        let text = fs::read(path(directory, &format!("{NUMBER}{newest}")))?;
        sight.newest = Some((newest, String::from_utf8_lossy(&text).into_owned()));
    }
    Ok(sight)
}

/// A file of the directory, without a walk through the name.
fn path(directory: &OwnedFd, file: &str) -> PathBuf {
    format!("/proc/self/fd/{}/{file}", directory.as_raw_fd()).into()
}
