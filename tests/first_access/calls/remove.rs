//! Calls that rename, remove or shorten.

use super::look::run;
use super::{Case, done, either, enters, stays_out};
use crate::place::Outcome;
use rustix::fs::{CWD, RenameFlags};
use std::path::PathBuf;

pub(super) const CASES: &[Case] = &[
    enters("rename: file to absent", |p| rename(p.file(), p.absent())),
    enters("rename: file to file", |p| rename(p.file(), p.other())),
    enters("rename: absent to absent", |p| rename(p.absent(), p.child("absent-too"))),
    enters("rename: file to directory", |p| rename(p.file(), p.dir())),
    enters("rename: directory to file", |p| rename(p.dir(), p.file())),
    enters("rename: directory to empty directory", |p| rename(p.dir(), p.empty())),
    enters("rename: empty directory to filled directory", |p| rename(p.empty(), p.dir())),
    enters("rename: directory into itself", |p| rename(p.dir(), p.inner_absent())),
    enters("rename: file into a subdirectory", |p| rename(p.file(), p.inner_absent())),
    enters("rename: file out of a subdirectory", |p| rename(p.inner(), p.absent())),
    enters("rename: within a subdirectory", |p| rename(p.inner(), p.inner_absent())),
    either("rename: file to elsewhere", |p| rename(p.file(), p.away("target"))),
    either("rename: file from elsewhere", |p| {
        std::fs::write(p.away("source"), "x").map_err(|_| rustix::io::Errno::IO)?;
        rename(p.away("source"), p.absent())
    }),
    enters("rename: file to the root", |p| rename(p.file(), p.root.join(p.own("x")))),
    stays_out("rename: the name", |p| rename(p.name(), p.root.join(p.own("x")))),
    enters("rename RENAME_NOREPLACE: file to absent", |p| {
        rename_with(p.file(), p.absent(), RenameFlags::NOREPLACE)
    }),
    enters("rename RENAME_NOREPLACE: file to file", |p| {
        rename_with(p.file(), p.other(), RenameFlags::NOREPLACE)
    }),
    enters("rename RENAME_NOREPLACE: absent to file", |p| {
        rename_with(p.absent(), p.file(), RenameFlags::NOREPLACE)
    }),
    enters("rename RENAME_NOREPLACE: file to itself", |p| {
        rename_with(p.file(), p.file(), RenameFlags::NOREPLACE)
    }),
    enters("rename RENAME_EXCHANGE: file and file", |p| {
        rename_with(p.file(), p.other(), RenameFlags::EXCHANGE)
    }),
    enters("rename RENAME_EXCHANGE: file and directory", |p| {
        rename_with(p.file(), p.dir(), RenameFlags::EXCHANGE)
    }),
    enters("rename RENAME_EXCHANGE: file and absent", |p| {
        rename_with(p.file(), p.absent(), RenameFlags::EXCHANGE)
    }),
    enters("rename RENAME_EXCHANGE: absent and file", |p| {
        rename_with(p.absent(), p.file(), RenameFlags::EXCHANGE)
    }),
    enters("rename RENAME_WHITEOUT: file to absent", |p| {
        rename_with(p.file(), p.absent(), RenameFlags::WHITEOUT)
    }),
    enters("mv: file to absent", |p| run(&["mv", &p.file().to_string_lossy()], &p.absent())),
    enters("mv: file to elsewhere", |p| run(&["mv", &p.file().to_string_lossy()], &p.away("target"))),
    enters("unlink: file", |p| done(rustix::fs::unlink(p.file()))),
    enters("unlink: absent", |p| done(rustix::fs::unlink(p.absent()))),
    enters("unlink: directory", |p| done(rustix::fs::unlink(p.dir()))),
    enters("unlink: symbolic link", |p| done(rustix::fs::unlink(p.link()))),
    enters("unlink: file in a subdirectory", |p| done(rustix::fs::unlink(p.inner()))),
    stays_out("unlink: the name", |p| done(rustix::fs::unlink(p.name()))),
    enters("rm -r: directory", |p| run(&["rm", "-r"], &p.dir())),
    enters("rmdir: empty directory", |p| done(rustix::fs::rmdir(p.empty()))),
    enters("rmdir: filled directory", |p| done(rustix::fs::rmdir(p.dir()))),
    enters("rmdir: file", |p| done(rustix::fs::rmdir(p.file()))),
    enters("rmdir: absent", |p| done(rustix::fs::rmdir(p.absent()))),
    enters("rmdir: directory in a subdirectory", |p| done(rustix::fs::rmdir(p.dir().join("deep")))),
    stays_out("rmdir: the name", |p| done(rustix::fs::rmdir(p.name()))),
    enters("truncate: file", |p| truncate(p.file(), 3)),
    enters("truncate: file, longer", |p| truncate(p.file(), 5000)),
    enters("truncate: absent", |p| truncate(p.absent(), 3)),
    enters("truncate: directory", |p| truncate(p.dir(), 3)),
    enters("truncate: file in a subdirectory", |p| truncate(p.inner(), 0)),
    stays_out("truncate: the name", |p| truncate(p.name(), 3)),
];

fn rename(from: PathBuf, to: PathBuf) -> Outcome {
    done(rustix::fs::rename(from, to))
}

fn rename_with(from: PathBuf, to: PathBuf, flags: RenameFlags) -> Outcome {
    done(rustix::fs::renameat_with(CWD, from, CWD, to, flags))
}

fn truncate(path: PathBuf, length: i64) -> Outcome {
    nix::unistd::truncate(&path, length)
        .map(|()| String::new())
        .map_err(|errno| rustix::io::Errno::from_raw_os_error(errno as i32))
}
