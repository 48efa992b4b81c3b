//! Calls that make something: directories, nodes, links, sockets.

use super::look::run;
use super::{Case, done, either, enters};
use crate::place::Outcome;
use rustix::fs::{AtFlags, CWD, FileType, Mode};
use rustix::net::{AddressFamily, SocketAddrUnix, SocketType};
use std::path::PathBuf;

pub(super) const CASES: &[Case] = &[
    enters("mkdir: absent", |p| mkdir(p.absent())),
    enters("mkdir: directory", |p| mkdir(p.dir())),
    enters("mkdir: file", |p| mkdir(p.file())),
    enters("mkdir: symbolic link", |p| mkdir(p.link())),
    enters("mkdir: dangling symbolic link", |p| mkdir(p.dangling())),
    enters("mkdir: absent with a trailing slash", |p| mkdir(p.absent().join(""))),
    enters("mkdir: absent in a subdirectory", |p| mkdir(p.inner_absent())),
    enters("mkdir: file in a subdirectory", |p| mkdir(p.inner())),
    enters("mkdir: below a symbolic link to a file", |p| mkdir(p.link().join("x"))),
    enters("mkdir: below an absent directory", |p| mkdir(p.absent().join("x"))),
    either("mkdir: the name", |p| mkdir(p.name())),
    enters("mkdirat from the root: absent", |p| {
        let root = super::open::open(&p.root, rustix::fs::OFlags::PATH)?;
        done(rustix::fs::mkdirat(root, p.relative("absent"), Mode::from_raw_mode(0o755)))
    }),
    enters("mkdir -p: absent/a/b", |p| run(&["mkdir", "-p"], &p.absent().join("a/b"))),
    enters("mkdir -p: directory", |p| run(&["mkdir", "-p"], &p.dir())),
    enters("mkdir -p: directory/absent/a", |p| run(&["mkdir", "-p"], &p.inner_absent().join("a"))),
    enters("mknod character device: absent", |p| mknod(p.absent(), FileType::CharacterDevice)),
    enters("mknod regular file: absent", |p| mknod(p.absent(), FileType::RegularFile)),
    enters("mknod: file", |p| mknod(p.file(), FileType::CharacterDevice)),
    enters("mknod: absent in a subdirectory", |p| mknod(p.inner_absent(), FileType::CharacterDevice)),
    enters("mkfifo: absent", |p| mknod(p.absent(), FileType::Fifo)),
    enters("mkfifo: file", |p| mknod(p.file(), FileType::Fifo)),
    enters("mkfifo: directory", |p| mknod(p.dir(), FileType::Fifo)),
    enters("symlink: absent", |p| symlink(p.absent())),
    enters("symlink: file", |p| symlink(p.file())),
    enters("symlink: directory", |p| symlink(p.dir())),
    enters("symlink: symbolic link", |p| symlink(p.link())),
    enters("symlink: absent in a subdirectory", |p| symlink(p.inner_absent())),
    enters("link: file to absent", |p| link(p.file(), p.absent())),
    enters("link: file to file", |p| link(p.file(), p.other())),
    enters("link: absent to absent", |p| link(p.absent(), p.child("absent-too"))),
    enters("link: directory", |p| link(p.dir(), p.absent())),
    enters("link: into a subdirectory", |p| link(p.file(), p.inner_absent())),
    enters("link: out of a subdirectory", |p| link(p.inner(), p.absent())),
    enters("link: symbolic link, followed", |p| {
        done(rustix::fs::linkat(CWD, p.link(), CWD, p.absent(), AtFlags::SYMLINK_FOLLOW))
    }),
    enters("link: from elsewhere", |p| {
        std::fs::write(p.away("source"), "x").map_err(|_| rustix::io::Errno::IO)?;
        link(p.away("source"), p.absent())
    }),
    enters("link: to elsewhere", |p| link(p.file(), p.away("target"))),
    enters("bind a socket: absent", |p| bind(p.absent())),
    enters("bind a socket: file", |p| bind(p.file())),
    enters("bind a socket: absent in a subdirectory", |p| bind(p.inner_absent())),
    enters("connect a socket: absent", |p| connect(p.absent())),
    enters("connect a socket: file", |p| connect(p.file())),
    enters("cp: to absent", |p| {
        std::fs::write(p.away("source"), "copied").map_err(|_| rustix::io::Errno::IO)?;
        let source = p.away("source");
        run(&["cp", &source.to_string_lossy()], &p.absent())
    }),
    enters("ln -s: to absent", |p| run(&["ln", "-s", "target"], &p.absent())),
    enters("ln -s: to directory", |p| run(&["ln", "-s", "target"], &p.dir())),
    enters("touch: absent", |p| run(&["touch"], &p.absent())),
    enters("touch: file", |p| run(&["touch"], &p.file())),
    enters("touch: the name", |p| run(&["touch"], &p.name())),
];

fn mkdir(path: PathBuf) -> Outcome {
    done(rustix::fs::mkdir(path, Mode::from_raw_mode(0o750)))
}

fn mknod(path: PathBuf, kind: FileType) -> Outcome {
    let device = if kind == FileType::CharacterDevice { rustix::fs::makedev(1, 3) } else { 0 };
    done(rustix::fs::mknodat(CWD, path, kind, Mode::from_raw_mode(0o640), device))
}

fn symlink(path: PathBuf) -> Outcome {
    done(rustix::fs::symlink("the target", path))
}

fn link(from: PathBuf, to: PathBuf) -> Outcome {
    done(rustix::fs::link(from, to))
}

fn socket() -> rustix::io::Result<rustix::fd::OwnedFd> {
    rustix::net::socket(AddressFamily::UNIX, SocketType::STREAM, None)
}

/// bind(2).
pub(super) fn bind(path: PathBuf) -> Outcome {
    done(rustix::net::bind(&socket()?, &SocketAddrUnix::new(path)?))
}

fn connect(path: PathBuf) -> Outcome {
    done(rustix::net::connect(&socket()?, &SocketAddrUnix::new(path)?))
}
