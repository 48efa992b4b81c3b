//! The disk's content: an ext4 file system with one file, by which an access proves that it reached it.

use std::fs::{self, File};
use std::path::Path;
use std::process::Command;

use crate::Outcome;

/// The file that is on it.
pub(crate) const MARK: &str = "reached";

const SIZE: u64 = 64 << 20;

/// Makes it in a new file.
pub(crate) fn make(path: &Path) -> Outcome {
    File::create(path)?.set_len(SIZE)?;
    let content = tempfile::tempdir()?;
    fs::write(content.path().join(MARK), "")?;
    let status = Command::new("/sbin/mkfs.ext4")
        .args(["-q", "-F", "-E", "lazy_itable_init=0,lazy_journal_init=0", "-d"])
        .args([content.path(), path])
        .status()?;
    if status.success() { Ok(()) } else { Err(format!("mkfs.ext4: {status}").into()) }
}
