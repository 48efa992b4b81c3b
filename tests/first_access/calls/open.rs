//! open(2) with every flag that changes what it means, execve(2) and mmap(2), which begin with an open.

use super::{Case, either, enters};
use crate::place::{Outcome, Place};
use crate::raw;
use rustix::fd::{AsFd, OwnedFd};
use rustix::fs::{AtFlags, Mode, OFlags};
use rustix::io::{Errno, Result};
use std::path::{Path, PathBuf};
use std::process::Command;

pub(super) const CASES: &[Case] = &[
    enters("open for reading: file", |p| read(p.file())),
    enters("open for reading: absent", |p| read(p.absent())),
    enters("open for reading: file in a subdirectory", |p| read(p.inner())),
    enters("open for reading: absent in a subdirectory", |p| read(p.inner_absent())),
    enters("open for reading: below an absent directory", |p| read(p.absent().join("x"))),
    enters("open for reading: below a file", |p| read(p.file().join("x"))),
    enters("open for reading: symbolic link", |p| read(p.link())),
    enters("open for reading: dangling symbolic link", |p| read(p.dangling())),
    enters("open for reading: file with a trailing slash", |p| read(slash(&p.file()))),
    enters("open for reading: name of 256 characters", |p| read(p.name().join("x".repeat(256)))),
    enters("open O_NOFOLLOW: symbolic link", |p| kind(open(p.link(), OFlags::RDONLY | OFlags::NOFOLLOW))),
    enters("open for writing: file", |p| write(p.file(), OFlags::WRONLY)),
    enters("open for writing: absent", |p| write(p.absent(), OFlags::WRONLY)),
    enters("open for writing: file in a subdirectory", |p| write(p.inner(), OFlags::WRONLY)),
    enters("open for writing: directory", |p| write(p.dir(), OFlags::WRONLY)),
    enters("open for reading and writing: file", |p| write(p.file(), OFlags::RDWR)),
    enters("open O_APPEND: file", |p| write(p.file(), OFlags::WRONLY | OFlags::APPEND)),
    enters("open O_APPEND|O_CREAT: absent", |p| write(p.absent(), CREATE.union(OFlags::APPEND))),
    enters("open O_CREAT: absent", |p| write(p.absent(), CREATE)),
    enters("open O_CREAT: file", |p| write(p.file(), CREATE)),
    enters("open O_CREAT: directory", |p| write(p.dir(), CREATE)),
    enters("open O_CREAT: absent in a subdirectory", |p| write(p.inner_absent(), CREATE)),
    enters("open O_CREAT: below an absent directory", |p| write(p.absent().join("x"), CREATE)),
    enters("open O_CREAT: dangling symbolic link", |p| write(p.dangling(), CREATE)),
    enters("open O_CREAT: absent, for reading only", |p| {
        kind(open(p.absent(), OFlags::RDONLY | OFlags::CREATE))
    }),
    enters("open O_CREAT: file, for reading only", |p| kind(open(p.file(), OFlags::RDONLY | OFlags::CREATE))),
    either("open O_CREAT: absent with a trailing slash", |p| write(slash(&p.absent()), CREATE)),
    enters("open O_EXCL: absent", |p| write(p.absent(), EXCLUSIVE)),
    enters("open O_EXCL: file", |p| write(p.file(), EXCLUSIVE)),
    enters("open O_EXCL: directory", |p| write(p.dir(), EXCLUSIVE)),
    enters("open O_EXCL: dangling symbolic link", |p| write(p.dangling(), EXCLUSIVE)),
    enters("open O_EXCL: absent in a subdirectory", |p| write(p.inner_absent(), EXCLUSIVE)),
    enters("open O_EXCL: file in a subdirectory", |p| write(p.inner(), EXCLUSIVE)),
    enters("open O_TRUNC: file", |p| write(p.file(), OFlags::WRONLY | OFlags::TRUNC)),
    enters("open O_TRUNC: absent", |p| write(p.absent(), OFlags::WRONLY | OFlags::TRUNC)),
    enters("open O_TRUNC|O_CREAT: file", |p| write(p.file(), CREATE.union(OFlags::TRUNC))),
    enters("open O_TRUNC|O_CREAT: absent", |p| write(p.absent(), CREATE.union(OFlags::TRUNC))),
    enters("open O_DIRECTORY: directory", |p| kind(open(p.dir(), OFlags::DIRECTORY))),
    enters("open O_DIRECTORY: file", |p| kind(open(p.file(), OFlags::DIRECTORY))),
    enters("open O_DIRECTORY: absent", |p| kind(open(p.absent(), OFlags::DIRECTORY))),
    enters("open O_PATH: file", |p| kind(open(p.file(), OFlags::PATH))),
    enters("open O_PATH: directory", |p| kind(open(p.dir(), OFlags::PATH | OFlags::DIRECTORY))),
    enters("open O_PATH: absent", |p| kind(open(p.absent(), OFlags::PATH))),
    enters("open O_PATH|O_NOFOLLOW: symbolic link", |p| {
        kind(open(p.link(), OFlags::PATH | OFlags::NOFOLLOW))
    }),
    enters("open O_TMPFILE: the name", |p| temporary(p, p.name())),
    enters("open O_TMPFILE: subdirectory", |p| temporary(p, p.dir())),
    enters("open O_TMPFILE: file", |p| temporary(p, p.file())),
    enters("open O_TMPFILE: absent", |p| temporary(p, p.absent())),
    enters("open O_RDONLY: the name", |p| kind(open(p.name(), OFlags::RDONLY))),
    enters("open O_DIRECTORY: the name", |p| kind(open(p.name(), OFlags::DIRECTORY))),
    either("open for writing: the name", |p| kind(open(p.name(), OFlags::WRONLY))),
    either("open O_CREAT: the name", |p| kind(open(p.name(), CREATE))),
    either("open O_EXCL: the name", |p| kind(open(p.name(), EXCLUSIVE))),
    either("open O_CREAT|O_DIRECTORY: the name", |p| kind(open(p.name(), CREATE.union(OFlags::DIRECTORY)))),
    enters("open O_PATH: the name", |p| same_disk(p, &open(p.name(), OFlags::PATH)?)),
    enters("execve: program", |p| execute(p.name().join("program"))),
    enters("execve: script", |p| execute(p.name().join("script"))),
    enters("execve: file without permission", |p| execute(p.file())),
    enters("execve: absent", |p| execute(p.absent())),
    enters("mmap for reading: file", |p| {
        let file = open(p.file(), OFlags::RDONLY)?;
        Ok(String::from_utf8_lossy(&raw::read_through_mapping(file.as_fd(), 7)?).into_owned())
    }),
    enters("mmap for writing: file", |p| {
        raw::write_through_mapping(open(p.file(), OFlags::RDWR)?.as_fd(), b"MAPPED").map(|()| String::new())
    }),
];

const CREATE: OFlags = OFlags::WRONLY.union(OFlags::CREATE);
const EXCLUSIVE: OFlags = CREATE.union(OFlags::EXCL);

pub(super) fn open(path: impl AsRef<Path>, flags: OFlags) -> Result<OwnedFd> {
    rustix::fs::open(path.as_ref(), flags | OFlags::CLOEXEC, Mode::from_raw_mode(0o666))
}

pub(super) fn read(path: impl AsRef<Path>) -> Outcome {
    contents(&open(path, OFlags::RDONLY)?)
}

pub(super) fn contents(file: &OwnedFd) -> Outcome {
    let mut text = [0u8; 64];
    let length = rustix::io::read(file, &mut text)?;
    Ok(String::from_utf8_lossy(&text[..length]).into_owned())
}

pub(super) fn write(path: impl AsRef<Path>, flags: OFlags) -> Outcome {
    let file = open(path, flags)?;
    let length = rustix::io::write(&file, b"WRITTEN")?;
    Ok(format!("{length} bytes"))
}

pub(super) fn slash(path: &Path) -> PathBuf {
    path.join("")
}

/// What an open file is, without touching its file system again.
fn kind(opened: Result<OwnedFd>) -> Outcome {
    let mode = rustix::fs::fstat(&opened?)?.st_mode;
    Ok(format!("mode {mode:o}"))
}

/// Whether an open file is on the same file system as the root around the name.
pub(super) fn same_disk(place: &Place, file: &OwnedFd) -> Outcome {
    let root = rustix::fs::stat(&place.root)?.st_dev;
    let here = rustix::fs::fstat(file)?.st_dev;
    Ok(if root == here { "on the file system of the root" } else { "on the disk" }.into())
}

/// Makes a nameless file, writes it, and gives it a name.
fn temporary(place: &Place, directory: PathBuf) -> Outcome {
    let file = open(directory, OFlags::WRONLY | OFlags::TMPFILE)?;
    rustix::io::write(&file, b"nameless")?;
    let by_number = format!("/proc/self/fd/{}", std::os::fd::AsRawFd::as_raw_fd(&file));
    let (here, named) = (rustix::fs::CWD, place.child("named"));
    rustix::fs::linkat(here, by_number, here, named, AtFlags::SYMLINK_FOLLOW)?;
    Ok("written and linked".into())
}

pub(super) fn execute(program: PathBuf) -> Outcome {
    match Command::new(program).status() {
        Ok(status) => Ok(status.to_string()),
        Err(error) => Err(Errno::from_io_error(&error).unwrap_or(Errno::IO)),
    }
}
