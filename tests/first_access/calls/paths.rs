//! Other ways to the name: directory descriptors, `..`, working directories, symbolic links from elsewhere.

use super::open::{contents, execute, open, read, slash, write};
use super::{Case, done, enters};
use crate::place::{Outcome, Place};
use rustix::fd::OwnedFd;
use rustix::fs::{AtFlags, Mode, OFlags};
use rustix::io::{Errno, Result};
use std::path::{Path, PathBuf};

pub(super) const CASES: &[Case] = &[
    enters("from a descriptor of the root: file", |p| read_at(&root(p)?, p.relative("file"))),
    enters("from a descriptor of the root: absent", |p| read_at(&root(p)?, p.relative("absent"))),
    enters("from a descriptor of the root: file in a subdirectory", |p| {
        read_at(&root(p)?, p.relative("dir").join("inner"))
    }),
    enters("from a descriptor of the root: the name", |p| {
        let name = rustix::fs::openat(root(p)?, "backup", DIRECTORY, Mode::empty())?;
        read_at(&name, PathBuf::from(p.own("file")))
    }),
    enters("from an O_PATH descriptor of the root: file", |p| {
        read_at(&open(&p.root, OFlags::PATH)?, p.relative("file"))
    }),
    enters("from a descriptor of the root: unlinkat file", |p| {
        done(rustix::fs::unlinkat(root(p)?, p.relative("file"), AtFlags::empty()))
    }),
    enters("from descriptors of the root: renameat file to absent", |p| {
        let root = root(p)?;
        done(rustix::fs::renameat(&root, p.relative("file"), &root, p.relative("absent")))
    }),
    enters("from the root as working directory: file", |p| {
        rustix::process::chdir(&p.root)?;
        read(p.relative("file"))
    }),
    enters("from the root as working directory: mkdir absent", |p| {
        rustix::process::chdir(&p.root)?;
        done(rustix::fs::mkdir(p.relative("absent"), Mode::from_raw_mode(0o755)))
    }),
    enters("from the root as root directory: file", |p| {
        rustix::process::chroot(&p.root)?;
        read(Path::new("/").join(p.relative("file")))
    }),
    enters("through ..: name/../name/file", |p| read(p.name().join("..").join(p.relative("file")))),
    enters("through ..: name/directory/../file", |p| read(p.dir().join("..").join(p.own("file")))),
    enters("through ..: name/directory/../../name/file", |p| {
        read(p.dir().join("../..").join(p.relative("file")))
    }),
    enters("through ..: name/absent/../file", |p| read(p.absent().join("..").join(p.own("file")))),
    enters("through ..: mkdir name/directory/../absent", |p| {
        done(rustix::fs::mkdir(p.dir().join("..").join(p.own("absent")), Mode::from_raw_mode(0o755)))
    }),
    enters("through .: name/./file", |p| read(p.name().join(".").join(p.own("file")))),
    enters("through //: name//file", |p| read(format!("{}//{}", p.name().display(), p.own("file")))),
    enters("a symbolic link from elsewhere: to a file", |p| read(pointing(p, p.file())?)),
    enters("a symbolic link from elsewhere: to absent", |p| read(pointing(p, p.absent())?)),
    enters("a symbolic link from elsewhere: O_CREAT to absent", |p| {
        write(pointing(p, p.absent())?, OFlags::WRONLY | OFlags::CREATE)
    }),
    enters("a symbolic link from elsewhere: to a directory, then a file", |p| {
        read(pointing(p, p.dir())?.join("inner"))
    }),
    enters("a symbolic link from elsewhere: to the name, then a file", |p| {
        read(pointing(p, p.name())?.join(p.own("file")))
    }),
    enters("a symbolic link from elsewhere: to the name, opendir", |p| {
        done(open(pointing(p, p.name())?, OFlags::RDONLY | OFlags::DIRECTORY))
    }),
    enters("a symbolic link from elsewhere: to the name, opendir with a slash", |p| {
        done(open(slash(&pointing(p, p.name())?), OFlags::RDONLY | OFlags::DIRECTORY))
    }),
    enters("a symbolic link from elsewhere: to the name, mkdir absent", |p| {
        let path = pointing(p, p.name())?.join(p.own("absent"));
        done(rustix::fs::mkdir(path, Mode::from_raw_mode(0o755)))
    }),
    enters("a symbolic link from elsewhere: to the name, chdir", |p| {
        rustix::process::chdir(pointing(p, p.name())?)?;
        read(p.own("file"))
    }),
    enters("a symbolic link from elsewhere: execve", |p| execute(pointing(p, p.name().join("script"))?)),
    enters("a symbolic link from elsewhere: relative", |p| {
        let link = p.away("relative");
        let root = p.root.file_name().ok_or(Errno::INVAL)?;
        rustix::fs::symlink(Path::new("..").join(root).join(p.relative("file")), &link)?;
        read(link)
    }),
    enters("an O_PATH descriptor of the name: openat file", |p| {
        read_at(&beneath(p)?, PathBuf::from(p.own("file")))
    }),
    enters("an O_PATH descriptor of the name: openat absent", |p| {
        read_at(&beneath(p)?, PathBuf::from(p.own("absent")))
    }),
    enters("an O_PATH descriptor of the name: mkdirat absent", |p| {
        done(rustix::fs::mkdirat(beneath(p)?, p.own("absent"), Mode::from_raw_mode(0o755)))
    }),
    enters("an O_PATH descriptor of the name: mkdirat directory", |p| {
        done(rustix::fs::mkdirat(beneath(p)?, p.own("dir"), Mode::from_raw_mode(0o755)))
    }),
    enters("an O_PATH descriptor of the name: openat .", |p| {
        done(rustix::fs::openat(beneath(p)?, ".", DIRECTORY, Mode::empty()))
    }),
    enters("an O_PATH descriptor of the name: fstatfs", |p| {
        Ok(format!("type {:x}", rustix::fs::fstatfs(&beneath(p)?)?.f_type))
    }),
    enters("an O_PATH descriptor of the name: fchdir", |p| {
        rustix::process::fchdir(beneath(p)?)?;
        read(p.own("file"))
    }),
    enters("an O_PATH descriptor of the name: openat ../name/file", |p| {
        read_at(&beneath(p)?, Path::new("..").join(p.relative("file")))
    }),
    enters("an O_PATH descriptor of the name: by /proc/self/fd", |p| {
        let name = beneath(p)?;
        let path = format!("/proc/self/fd/{}", std::os::fd::AsRawFd::as_raw_fd(&name));
        read(Path::new(&path).join(p.own("file")))
    }),
];

const DIRECTORY: OFlags = OFlags::RDONLY.union(OFlags::DIRECTORY).union(OFlags::CLOEXEC);

fn root(place: &Place) -> Result<OwnedFd> {
    open(&place.root, DIRECTORY)
}

/// The name, opened without being entered.
fn beneath(place: &Place) -> Result<OwnedFd> {
    open(place.name(), OFlags::PATH | OFlags::DIRECTORY)
}

fn read_at(directory: &OwnedFd, path: PathBuf) -> Outcome {
    contents(&rustix::fs::openat(directory, path, OFlags::RDONLY | OFlags::CLOEXEC, Mode::empty())?)
}

/// Makes a symbolic link elsewhere that points to `target`.
fn pointing(place: &Place, target: PathBuf) -> Result<PathBuf> {
    let link = place.away("pointing");
    rustix::fs::symlink(target, &link)?;
    Ok(link)
}
