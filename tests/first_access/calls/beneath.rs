//! openat2(2) with its RESOLVE_ flags: they forbid what a trigger must not need.

use super::open::{contents, open, same_disk};
use super::{Case, either, enters};
use crate::place::{Outcome, Place};
use rustix::fs::{Mode, OFlags, ResolveFlags, openat2};
use std::path::{Path, PathBuf};

pub(super) const CASES: &[Case] = &[
    enters("openat2 RESOLVE_BENEATH: file", |p| from_root(p, p.relative("file"), ResolveFlags::BENEATH)),
    enters("openat2 RESOLVE_BENEATH: absent", |p| from_root(p, p.relative("absent"), ResolveFlags::BENEATH)),
    enters("openat2 RESOLVE_BENEATH: file in a subdirectory", |p| {
        from_root(p, p.relative("dir").join("inner"), ResolveFlags::BENEATH)
    }),
    enters("openat2 RESOLVE_BENEATH: symbolic link", |p| {
        from_root(p, p.relative("link"), ResolveFlags::BENEATH)
    }),
    enters("openat2 RESOLVE_BENEATH: through .. before the name", |p| {
        from_root(p, Path::new("backup/..").join(p.relative("file")), ResolveFlags::BENEATH)
    }),
    enters("openat2 RESOLVE_BENEATH: through .. below the name", |p| {
        from_root(p, p.relative("dir").join("..").join(p.own("file")), ResolveFlags::BENEATH)
    }),
    enters("openat2 RESOLVE_BENEATH: out of the root", |p| {
        from_root(p, p.relative("dir").join("../../../x"), ResolveFlags::BENEATH)
    }),
    enters("openat2 RESOLVE_BENEATH O_CREAT: absent", |p| {
        let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::CLOEXEC;
        let mode = Mode::from_raw_mode(0o600);
        openat2(root(p)?, p.relative("absent"), flags, mode, ResolveFlags::BENEATH).map(|_| String::new())
    }),
    enters("openat2 RESOLVE_NO_XDEV: file, from the root", |p| {
        from_root(p, p.relative("file"), ResolveFlags::NO_XDEV)
    }),
    enters("openat2 RESOLVE_NO_XDEV: absent, from the root", |p| {
        from_root(p, p.relative("absent"), ResolveFlags::NO_XDEV)
    }),
    enters("openat2 RESOLVE_NO_XDEV: the name, from the root", |p| {
        from_root(p, PathBuf::from("backup"), ResolveFlags::NO_XDEV)
    }),
    either("openat2 RESOLVE_NO_XDEV: file, from /", |p| {
        let path = p.file();
        let from_slash = path.strip_prefix("/").unwrap_or(&path);
        read(openat2(open("/", OFlags::PATH)?, from_slash, READ, Mode::empty(), ResolveFlags::NO_XDEV))
    }),
    enters("openat2 RESOLVE_NO_XDEV O_PATH: the name, from the root", |p| {
        let flags = OFlags::PATH | OFlags::CLOEXEC;
        same_disk(p, &openat2(root(p)?, "backup", flags, Mode::empty(), ResolveFlags::NO_XDEV)?)
    }),
    enters("openat2 RESOLVE_IN_ROOT: file", |p| {
        from_root(p, Path::new("/").join(p.relative("file")), ResolveFlags::IN_ROOT)
    }),
    enters("openat2 RESOLVE_IN_ROOT: through .. below the name", |p| {
        from_root(p, p.relative("dir").join("..").join(p.own("file")), ResolveFlags::IN_ROOT)
    }),
    enters("openat2 RESOLVE_NO_SYMLINKS: file", |p| {
        from_root(p, p.relative("file"), ResolveFlags::NO_SYMLINKS)
    }),
    enters("openat2 RESOLVE_NO_SYMLINKS: symbolic link", |p| {
        from_root(p, p.relative("link"), ResolveFlags::NO_SYMLINKS)
    }),
    enters("openat2 RESOLVE_NO_MAGICLINKS: file", |p| {
        from_root(p, p.relative("file"), ResolveFlags::NO_MAGICLINKS)
    }),
    either("openat2 RESOLVE_CACHED: file", |p| from_root(p, p.relative("file"), ResolveFlags::CACHED)),
];

const READ: OFlags = OFlags::RDONLY.union(OFlags::CLOEXEC);

fn root(place: &Place) -> rustix::io::Result<rustix::fd::OwnedFd> {
    open(&place.root, OFlags::RDONLY | OFlags::DIRECTORY)
}

fn from_root(place: &Place, path: PathBuf, how: ResolveFlags) -> Outcome {
    read(openat2(root(place)?, path, READ, Mode::empty(), how))
}

fn read(opened: rustix::io::Result<rustix::fd::OwnedFd>) -> Outcome {
    let file = opened?;
    let directory = rustix::fs::fstat(&file)?.st_mode & 0o170000 == 0o040000;
    if directory { Ok("a directory".into()) } else { contents(&file) }
}
