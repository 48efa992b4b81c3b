//! Calls on what a file has beside its content: mode, owner, times, extended attributes.

use super::{Case, done, enters, stays_out};
use crate::place::Outcome;
use rustix::fs::{AtFlags, CWD, Gid, Mode, Timespec, Timestamps, UTIME_NOW, UTIME_OMIT, Uid, XattrFlags};
use std::path::PathBuf;

pub(super) const CASES: &[Case] = &[
    enters("chmod: file", |p| chmod(p.file(), 0o600)),
    enters("chmod: symbolic link", |p| chmod(p.link(), 0o600)),
    enters("chmod: absent", |p| chmod(p.absent(), 0o600)),
    enters("chmod: file in a subdirectory", |p| chmod(p.inner(), 0o4711)),
    enters("chmod: the name", |p| chmod(p.name(), 0o1770)),
    enters("chown: file", |p| chown(p.file(), AtFlags::empty())),
    enters("chown: absent", |p| chown(p.absent(), AtFlags::empty())),
    enters("lchown: symbolic link", |p| chown(p.link(), AtFlags::SYMLINK_NOFOLLOW)),
    enters("chown: file in a subdirectory", |p| chown(p.inner(), AtFlags::empty())),
    enters("chown: the name", |p| chown(p.name(), AtFlags::empty())),
    enters("utimensat: file", |p| times(p.file(), AtFlags::empty())),
    enters("utimensat: absent", |p| times(p.absent(), AtFlags::empty())),
    enters("utimensat AT_SYMLINK_NOFOLLOW: symbolic link", |p| times(p.link(), AtFlags::SYMLINK_NOFOLLOW)),
    enters("utimensat: file in a subdirectory", |p| times(p.inner(), AtFlags::empty())),
    enters("utimensat: the name", |p| times(p.name(), AtFlags::empty())),
    enters("utimensat UTIME_NOW: the name", |p| {
        let now = Timespec { tv_sec: 0, tv_nsec: UTIME_NOW as _ };
        done(rustix::fs::utimensat(
            CWD,
            p.name(),
            &Timestamps { last_access: now, last_modification: now },
            AtFlags::empty(),
        ))
    }),
    stays_out("utimensat UTIME_OMIT: the name", |p| {
        let omit = Timespec { tv_sec: 0, tv_nsec: UTIME_OMIT as _ };
        done(rustix::fs::utimensat(
            CWD,
            p.name(),
            &Timestamps { last_access: omit, last_modification: omit },
            AtFlags::empty(),
        ))
    }),
    enters("getxattr: file", |p| getxattr(p.file(), "user.note")),
    enters("getxattr: attribute that is not there", |p| getxattr(p.file(), "user.absent")),
    enters("getxattr: absent", |p| getxattr(p.absent(), "user.note")),
    stays_out("getxattr: the name", |p| getxattr(p.name(), "user.note")),
    stays_out("getxattr system.posix_acl_access: the name", |p| {
        getxattr(p.name(), "system.posix_acl_access")
    }),
    stays_out("getxattr security.capability: the name", |p| getxattr(p.name(), "security.capability")),
    enters("lgetxattr: symbolic link", |p| {
        let mut value = [0u8; 256];
        done(rustix::fs::lgetxattr(p.link(), "user.note", &mut value[..]))
    }),
    enters("setxattr: file", |p| setxattr(p.file(), XattrFlags::empty())),
    enters("setxattr XATTR_CREATE: attribute that is there", |p| {
        done(rustix::fs::setxattr(p.file(), "user.note", b"new", XattrFlags::CREATE))
    }),
    enters("setxattr XATTR_REPLACE: attribute that is not there", |p| {
        setxattr(p.file(), XattrFlags::REPLACE)
    }),
    enters("setxattr: absent", |p| setxattr(p.absent(), XattrFlags::empty())),
    enters("setxattr: file in a subdirectory", |p| setxattr(p.inner(), XattrFlags::empty())),
    enters("setxattr: the name", |p| {
        let attribute = format!("user.seat{}", p.seat);
        done(rustix::fs::setxattr(p.name(), attribute, b"set", XattrFlags::empty()))
    }),
    enters("setxattr system.posix_acl_access: the name", |p| {
        done(rustix::fs::setxattr(p.name(), "system.posix_acl_access", MINIMAL_ACL, XattrFlags::empty()))
    }),
    enters("setxattr system.posix_acl_default: directory", |p| {
        done(rustix::fs::setxattr(p.dir(), "system.posix_acl_default", MINIMAL_ACL, XattrFlags::empty()))
    }),
    enters("listxattr: file", |p| listxattr(p.file())),
    enters("listxattr: absent", |p| listxattr(p.absent())),
    stays_out("listxattr: the name", |p| listxattr(p.name())),
    enters("removexattr: file", |p| done(rustix::fs::removexattr(p.file(), "user.note"))),
    enters("removexattr: attribute that is not there", |p| {
        done(rustix::fs::removexattr(p.file(), "user.absent"))
    }),
    enters("removexattr: absent", |p| done(rustix::fs::removexattr(p.absent(), "user.note"))),
    enters("removexattr: the name", |p| {
        done(rustix::fs::removexattr(p.name(), format!("user.absent{}", p.seat)))
    }),
];

/// An access list that says no more than mode 755 does: version 2, then tag, permission, id of three entries (acl(5)).
const MINIMAL_ACL: &[u8] = &[
    2, 0, 0, 0, //
    1, 0, 7, 0, 255, 255, 255, 255, //
    4, 0, 5, 0, 255, 255, 255, 255, //
    32, 0, 5, 0, 255, 255, 255, 255,
];

pub(super) fn chmod(path: PathBuf, mode: u32) -> Outcome {
    done(rustix::fs::chmod(path, Mode::from_raw_mode(mode)))
}

fn chown(path: PathBuf, flags: AtFlags) -> Outcome {
    done(rustix::fs::chownat(CWD, path, Some(Uid::from_raw(1234)), Some(Gid::from_raw(4321)), flags))
}

fn times(path: PathBuf, flags: AtFlags) -> Outcome {
    let second = |tv_sec| Timespec { tv_sec, tv_nsec: 0 };
    let times = Timestamps { last_access: second(1_234_567), last_modification: second(7_654_321) };
    done(rustix::fs::utimensat(CWD, path, &times, flags))
}

fn getxattr(path: PathBuf, name: &str) -> Outcome {
    let mut value = [0u8; 256];
    let length = rustix::fs::getxattr(path, name, &mut value[..])?;
    Ok(String::from_utf8_lossy(&value[..length]).into_owned())
}

fn setxattr(path: PathBuf, flags: XattrFlags) -> Outcome {
    done(rustix::fs::setxattr(path, "user.absent", b"set", flags))
}

fn listxattr(path: PathBuf) -> Outcome {
    let mut names = [0u8; 1024];
    let length = rustix::fs::listxattr(path, &mut names[..])?;
    Ok(String::from_utf8_lossy(&names[..length]).replace('\0', " "))
}
