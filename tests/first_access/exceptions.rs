//! What cannot be made right: the table of known exceptions, each with the result that it returns at once.
//!
//! This is the source of the man page's section of the same name. An entry that has become right is an error too.

use crate::subject::Afterwards;

/// A call that, as the very first access, returns something else than on a plain mount.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Exception {
    /// The case's name.
    pub case: &'static str,
    /// The results that it may have instead.
    pub instead: &'static [&'static str],
    /// What becomes of the disk.
    pub afterwards: Afterwards,
    /// Kernels older than this have the exception; `None`: all have.
    pub before: Option<(u32, u32)>,
    /// Whether the result of the plain mount can come out as well: a race, or an answer that happens to agree.
    pub by_chance: bool,
    /// Why, for the man page.
    pub why: &'static str,
}

const OUTSIDE: &str = "the call does not enter the directory, it lands on the empty one below, as stat does";
const HELD: &str = "the walk starts below the later mount, and cannot come to it";
const NAMESPACE: &str = "mounts do not propagate into a private mount namespace";
const SOCKET: &str = "the kernel does not repeat the walk of bind(2); the second attempt succeeds";
const DOTS: &str = "the kernel refuses .. while a mount appears; openat2(2) tells callers to try again";

const TMPFILE: &str = "FUSE has no O_TMPFILE before Linux 6.1; open(2) tells callers to do without";
const ROOT: &str = "the root is read-only; a mounted name is busy";

/// Nothing is mounted.
const fn outside(case: &'static str, instead: &'static [&'static str]) -> Exception {
    Exception {
        case,
        instead,
        afterwards: Afterwards::Untouched,
        before: None,
        by_chance: false,
        why: OUTSIDE,
    }
}

/// The disk is mounted, too late for this call.
const fn late(case: &'static str, instead: &'static [&'static str], why: &'static str) -> Exception {
    Exception { case, instead, afterwards: Afterwards::Mounted, before: None, by_chance: false, why }
}

const fn by_chance(exception: Exception) -> Exception {
    Exception { by_chance: true, ..exception }
}

const fn before(major: u32, minor: u32, exception: Exception) -> Exception {
    Exception { before: Some((major, minor)), ..exception }
}

/// It may come before the walk has reached the name, for a mount anywhere on the machine.
const fn refused_dots(case: &'static str) -> Exception {
    Exception { afterwards: Afterwards::Either, ..by_chance(late(case, AGAIN, DOTS)) }
}

const BELOW: &[&str] = &["ok: the empty directory below"];
const SAME: &[&str] = &["ok: on the file system of the root"];
const STALE: &[&str] = &["ESTALE"];
const AGAIN: &[&str] = &["EAGAIN"];
const NO_ATTRIBUTE: &[&str] = &["ENODATA", "EOPNOTSUPP"];
const READ_ONLY: &[&str] = &["EROFS", "EPERM"];

/// The table.
pub(crate) const EXCEPTIONS: &[Exception] = &[
    outside("stat: the name", BELOW),
    outside("stat: the name with a trailing slash", BELOW),
    outside("stat: the name's .", BELOW),
    outside("lstat: the name", BELOW),
    outside("open O_PATH: the name", SAME),
    outside("openat2 RESOLVE_NO_XDEV O_PATH: the name, from the root", SAME),
    late("inotify_add_watch: the name", &["ok: sees nothing"], OUTSIDE),
    outside("name_to_handle_at: the name", &["ok: type 0x81, 12 bytes"]),
    outside("getxattr: the name", NO_ATTRIBUTE),
    outside("listxattr: the name", &["ok", "EOPNOTSUPP"]),
    late("bind mount: the name", STALE, OUTSIDE),
    late("open_tree OPEN_TREE_CLONE: the name", STALE, OUTSIDE),
    Exception { why: ROOT, ..outside("rename: the name", READ_ONLY) },
    Exception { why: ROOT, ..outside("rmdir: the name", READ_ONLY) },
    late("an O_PATH descriptor of the name: openat file", STALE, HELD),
    by_chance(late("an O_PATH descriptor of the name: openat absent", STALE, HELD)),
    late("an O_PATH descriptor of the name: openat .", STALE, HELD),
    late("an O_PATH descriptor of the name: mkdirat absent", STALE, HELD),
    late("an O_PATH descriptor of the name: fstatfs", STALE, HELD),
    late("an O_PATH descriptor of the name: fchdir", STALE, HELD),
    late("an O_PATH descriptor of the name: by /proc/self/fd", STALE, HELD),
    late("bind a socket: absent", STALE, SOCKET),
    late("private mount namespace: open for reading: file", STALE, NAMESPACE),
    by_chance(late("private mount namespace: open for reading: absent", STALE, NAMESPACE)),
    late("private mount namespace: open O_CREAT: absent", STALE, NAMESPACE),
    late("private mount namespace: mkdir: absent", STALE, NAMESPACE),
    late("private mount namespace: opendir: the name", STALE, NAMESPACE),
    late("private mount namespace: chdir: the name", STALE, NAMESPACE),
    late("private mount namespace: statfs: the name", STALE, NAMESPACE),
    refused_dots("openat2 RESOLVE_BENEATH: through .. before the name"),
    refused_dots("openat2 RESOLVE_BENEATH: through .. below the name"),
    refused_dots("openat2 RESOLVE_BENEATH: out of the root"),
    refused_dots("openat2 RESOLVE_IN_ROOT: through .. below the name"),
    before(6, 1, Exception { why: TMPFILE, ..outside("open O_TMPFILE: the name", &["EOPNOTSUPP"]) }),
    before(6, 1, Exception { why: TMPFILE, ..outside("as nobody: O_TMPFILE: the name", &["EOPNOTSUPP"]) }),
];

/// The exception of a case on the running kernel.
pub(crate) fn of(case: &str) -> Option<&'static Exception> {
    EXCEPTIONS
        .iter()
        .find(|exception| exception.case == case && exception.before.is_none_or(|version| kernel() < version))
}

/// The running kernel's major and minor number.
pub(crate) fn kernel() -> (u32, u32) {
    let release = rustix::system::uname().release().to_string_lossy().into_owned();
    let mut numbers = release.split(['.', '-']).map(|part| part.parse().unwrap_or(0));
    (numbers.next().unwrap_or(0), numbers.next().unwrap_or(0))
}
