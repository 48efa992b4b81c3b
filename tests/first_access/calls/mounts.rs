//! Mounts made out of the name, on top of what is in it, and accesses from other mount namespaces.

use super::look::volume;
use super::open::{open, read, write};
use super::{Case, done, enters};
use crate::place::{Outcome, Place};
use rustix::fs::{CWD, Mode, OFlags};
use rustix::mount::{MountPropagationFlags, OpenTreeFlags, UnmountFlags};
use rustix::thread::UnshareFlags;
use std::path::{Path, PathBuf};

pub(super) const CASES: &[Case] = &[
    enters("bind mount: directory", |p| bind_mount(p, p.dir(), "inner")),
    enters("bind mount: directory in a subdirectory", |p| bind_mount(p, p.dir().join("deep"), "leaf")),
    enters("bind mount: absent", |p| bind_mount(p, p.absent(), "x")),
    enters("bind mount: the name", |p| bind_mount(p, p.name(), "script")),
    enters("open_tree OPEN_TREE_CLONE: directory", |p| tree(p.dir(), "inner")),
    enters("open_tree OPEN_TREE_CLONE: absent", |p| tree(p.absent(), "x")),
    enters("open_tree OPEN_TREE_CLONE: the name", |p| tree(p.name(), "script")),
    enters("mount a tmpfs: on a directory", |p| {
        let none: Option<&std::ffi::CStr> = None;
        rustix::mount::mount("none", p.dir(), "tmpfs", rustix::mount::MountFlags::empty(), none)?;
        let inside = volume(p.dir());
        rustix::mount::unmount(p.dir(), UnmountFlags::empty())?;
        inside.map(|text| text.split(',').next().unwrap_or_default().to_owned())
    }),
    enters("umount: directory that is no mount", |p| {
        done(rustix::mount::unmount(p.dir(), UnmountFlags::empty()))
    }),
    enters("umount: absent", |p| done(rustix::mount::unmount(p.absent(), UnmountFlags::empty()))),
    enters("slave mount namespace: open for reading: file", |p| {
        in_namespace(MountPropagationFlags::DOWNSTREAM)?;
        read(p.file())
    }),
    enters("slave mount namespace: mkdir: absent", |p| {
        in_namespace(MountPropagationFlags::DOWNSTREAM)?;
        mkdir(p.absent())
    }),
    enters("slave mount namespace: chdir: the name", |p| {
        in_namespace(MountPropagationFlags::DOWNSTREAM)?;
        rustix::process::chdir(p.name())?;
        read(p.own("file"))
    }),
    enters("private mount namespace: open for reading: file", |p| {
        in_namespace(MountPropagationFlags::PRIVATE)?;
        read(p.file())
    }),
    enters("private mount namespace: open for reading: absent", |p| {
        in_namespace(MountPropagationFlags::PRIVATE)?;
        read(p.absent())
    }),
    enters("private mount namespace: open O_CREAT: absent", |p| {
        in_namespace(MountPropagationFlags::PRIVATE)?;
        write(p.absent(), OFlags::WRONLY | OFlags::CREATE)
    }),
    enters("private mount namespace: mkdir: absent", |p| {
        in_namespace(MountPropagationFlags::PRIVATE)?;
        mkdir(p.absent())
    }),
    enters("private mount namespace: mkdir: directory", |p| {
        in_namespace(MountPropagationFlags::PRIVATE)?;
        mkdir(p.dir())
    }),
    enters("private mount namespace: opendir: the name", |p| {
        in_namespace(MountPropagationFlags::PRIVATE)?;
        done(open(p.name(), OFlags::RDONLY | OFlags::DIRECTORY))
    }),
    enters("private mount namespace: chdir: the name", |p| {
        in_namespace(MountPropagationFlags::PRIVATE)?;
        done(rustix::process::chdir(p.name()))
    }),
    enters("private mount namespace: statfs: the name", |p| {
        in_namespace(MountPropagationFlags::PRIVATE)?;
        volume(p.name())
    }),
];

fn mkdir(path: PathBuf) -> Outcome {
    done(rustix::fs::mkdir(path, Mode::from_raw_mode(0o755)))
}

/// Binds `from` elsewhere, tells whether `probe` is found there, and takes the mount away.
fn bind_mount(place: &Place, from: PathBuf, probe: &str) -> Outcome {
    let at = place.away("bound");
    rustix::fs::mkdir(&at, Mode::from_raw_mode(0o755))?;
    rustix::mount::mount_bind(from, &at)?;
    // Or the unmounting below would reach the mount that this one is a peer of.
    rustix::mount::mount_change(&at, MountPropagationFlags::PRIVATE)?;
    let seen = found(CWD, &at.join(probe));
    rustix::mount::unmount(&at, UnmountFlags::DETACH)?;
    seen
}

/// Clones `from` as a detached mount and tells whether `probe` is found in it.
fn tree(from: PathBuf, probe: &str) -> Outcome {
    let flags = OpenTreeFlags::OPEN_TREE_CLONE | OpenTreeFlags::OPEN_TREE_CLOEXEC;
    let tree = rustix::mount::open_tree(CWD, from, flags)?;
    found(&tree, Path::new(probe))
}

fn found(directory: impl rustix::fd::AsFd, probe: &Path) -> Outcome {
    rustix::fs::accessat(directory, probe, rustix::fs::Access::EXISTS, rustix::fs::AtFlags::empty())?;
    Ok("found what is in it".into())
}

/// Moves this process into a mount namespace of its own, which gets later mounts or does not.
fn in_namespace(propagation: MountPropagationFlags) -> rustix::io::Result<()> {
    crate::raw::unshare(UnshareFlags::NEWNS)?;
    rustix::mount::mount_change("/", propagation | MountPropagationFlags::REC)
}
