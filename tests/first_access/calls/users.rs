//! Calls by somebody who is not root: the disk's permissions decide, not those of the directory below.

use super::attributes::chmod;
use super::look::volume;
use super::open::{open, read, write};
use super::{Case, done, enters, on_closed_disk};
use crate::place::{Outcome, Place};
use rustix::fs::{Access, Gid, Mode, OFlags, Uid, XattrFlags};
use rustix::thread::{set_thread_groups, set_thread_res_gid, set_thread_res_uid};

pub(super) const CASES: &[Case] = &[
    enters("as nobody: open for reading: file", |p| as_nobody(p, |p| read(p.file()))),
    enters("as nobody: open for writing: file", |p| as_nobody(p, |p| write(p.file(), OFlags::WRONLY))),
    enters("as nobody: open O_CREAT: absent", |p| {
        as_nobody(p, |p| write(p.absent(), OFlags::WRONLY | OFlags::CREATE))
    }),
    enters("as nobody: mkdir: absent", |p| as_nobody(p, |p| mkdir(p, "absent"))),
    enters("as nobody: mkdir: directory", |p| as_nobody(p, |p| mkdir(p, "dir"))),
    enters("as nobody: unlink: file", |p| as_nobody(p, |p| done(rustix::fs::unlink(p.file())))),
    enters("as nobody: rename: file to absent", |p| {
        as_nobody(p, |p| done(rustix::fs::rename(p.file(), p.absent())))
    }),
    enters("as nobody: access: the name, to write", |p| {
        as_nobody(p, |p| done(rustix::fs::access(p.name(), Access::WRITE_OK)))
    }),
    enters("as nobody: chdir: the name", |p| as_nobody(p, |p| done(rustix::process::chdir(p.name())))),
    enters("as nobody: chmod: the name", |p| as_nobody(p, |p| chmod(p.name(), 0o777))),
    enters("as nobody: setxattr: the name", |p| {
        as_nobody(p, |p| done(rustix::fs::setxattr(p.name(), "user.absent", b"x", XattrFlags::empty())))
    }),
    enters("as nobody: O_TMPFILE: the name", |p| {
        as_nobody(p, |p| done(open(p.name(), OFlags::WRONLY | OFlags::TMPFILE)))
    }),
    enters("as nobody: statfs: the name", |p| as_nobody(p, |p| volume(p.name()))),
    on_closed_disk(enters("as nobody, disk closed: open for reading: file", |p| {
        as_nobody(p, |p| read(p.file()))
    })),
    on_closed_disk(enters("as nobody, disk closed: open for reading: absent", |p| {
        as_nobody(p, |p| read(p.absent()))
    })),
    on_closed_disk(enters("as nobody, disk closed: mkdir: absent", |p| as_nobody(p, |p| mkdir(p, "absent")))),
    on_closed_disk(enters("as nobody, disk closed: mkdir: directory", |p| as_nobody(p, |p| mkdir(p, "dir")))),
    on_closed_disk(enters("as nobody, disk closed: symlink: file", |p| {
        as_nobody(p, |p| done(rustix::fs::symlink("target", p.file())))
    })),
    on_closed_disk(enters("as nobody, disk closed: chdir: the name", |p| {
        as_nobody(p, |p| done(rustix::process::chdir(p.name())))
    })),
    on_closed_disk(enters("as nobody, disk closed: opendir: the name", |p| {
        as_nobody(p, |p| done(open(p.name(), OFlags::RDONLY | OFlags::DIRECTORY)))
    })),
    on_closed_disk(enters("as nobody, disk closed: stat: file", |p| {
        as_nobody(p, |p| done(rustix::fs::stat(p.file())))
    })),
];

fn mkdir(place: &Place, stem: &str) -> Outcome {
    done(rustix::fs::mkdir(place.child(stem), Mode::from_raw_mode(0o755)))
}

/// Makes this process nobody's, then makes the call.
fn as_nobody(place: &Place, call: fn(&Place) -> Outcome) -> Outcome {
    let (uid, gid) = (Uid::from_raw(65534), Gid::from_raw(65534));
    set_thread_groups(&[])?;
    set_thread_res_gid(gid, gid, gid)?;
    set_thread_res_uid(uid, uid, uid)?;
    call(place)
}
