//! The system call that a caller is in, as far as it decides how a LOOKUP must be answered: most walk once more after
//! ESTALE, some do not, and some walk to two places one after the other. What is read of a caller is compared only,
//! and may be wrong or changing: then the call fails with the errno that it would have had without.

use std::ffi::{OsStr, OsString};
use std::fs;
use std::path::Path;

use super::caller_memory;

/// What the kernel does when a LOOKUP answers ESTALE (fs/namei.c).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    /// It walks once more, wherever it met ESTALE.
    WalksAgain,
    /// mkdir, symlink, mknod; link and rename for their second path: not at the last component (`filename_create`,
    /// `do_renameat2`), but after MKDIR, LINK, RENAME… has answered it.
    Creates,
    /// bind of a Unix socket: not after MKNOD either (`unix_bind_bsd`).
    Binds,
    /// It cannot be seen: another pid namespace.
    Unknown,
}

/// A caller's system call. Its paths are read when they are asked for: that takes a process.
#[derive(Debug)]
pub(super) struct Call {
    pub(super) kind: Kind,
    thread: u32,
    arguments: Vec<u64>,
    /// The path of the walk that comes first, and is walked again on its own.
    old: Option<Old>,
    /// The argument at whose end something is made.
    new: Option<usize>,
}

impl Call {
    /// The call that this thread is in.
    pub(super) fn of(thread: u32) -> Self {
        let unknown = Self { kind: Kind::Unknown, thread, arguments: Vec::new(), old: None, new: None };
        let Ok(text) = fs::read_to_string(format!("/proc/{thread}/syscall")) else { return unknown };
        let Some(Registers { number, arguments }) = Registers::parse(&text) else { return unknown };
        match paths(number) {
            None => Self { kind: Kind::WalksAgain, ..unknown },
            Some((kind, old, new)) => Self { kind, thread, arguments, old, new },
        }
    }

    /// Whether a LOOKUP of this name belongs to a walk that is walked again on its own: of link's first path all, of
    /// rename's those of its directory.
    pub(super) fn walks_again_at(&self, name: &OsStr) -> bool {
        let on = |argument, whole| self.path(argument).is_some_and(|path| has(&path, name, whole));
        self.kind == Kind::WalksAgain
            || match self.old {
                Some(Old::Whole(argument)) => on(argument, true),
                Some(Old::Directory(argument)) => on(argument, false),
                None => false,
            }
    }

    /// Whether the call only passes through this name, to something below it.
    pub(super) fn passes(&self, name: &OsStr) -> bool {
        self.new.and_then(|argument| self.path(argument)).is_some_and(|path| has(&path, name, false))
    }

    fn path(&self, argument: usize) -> Option<OsString> {
        caller_memory::path(self.thread, *self.arguments.get(argument)?)
    }
}

/// The first of two paths.
#[derive(Clone, Copy, Debug)]
enum Old {
    /// Walked to its end before the second (`do_linkat`).
    Whole(usize),
    /// Walked to its directory (`do_renameat2`).
    Directory(usize),
}

/// Which arguments of a call are paths: a first one, and the one at whose end something is made.
fn paths(number: libc::c_long) -> Option<(Kind, Option<Old>, Option<usize>)> {
    let found = match number {
        libc::SYS_mkdirat | libc::SYS_mknodat => (Kind::Creates, None, Some(1)),
        libc::SYS_symlinkat => (Kind::Creates, None, Some(2)),
        libc::SYS_linkat => (Kind::Creates, Some(Old::Whole(1)), Some(3)),
        libc::SYS_renameat | libc::SYS_renameat2 => (Kind::Creates, Some(Old::Directory(1)), Some(3)),
        libc::SYS_bind => (Kind::Binds, None, None),
        #[cfg(target_arch = "x86_64")]
        number => return old_paths(number),
        #[cfg(not(target_arch = "x86_64"))]
        _ => return None,
    };
    Some(found)
}

/// The forms without directory descriptors, which newer architectures do not have.
#[cfg(target_arch = "x86_64")]
fn old_paths(number: libc::c_long) -> Option<(Kind, Option<Old>, Option<usize>)> {
    match number {
        libc::SYS_mkdir | libc::SYS_mknod => Some((Kind::Creates, None, Some(0))),
        libc::SYS_symlink => Some((Kind::Creates, None, Some(1))),
        libc::SYS_link => Some((Kind::Creates, Some(Old::Whole(0)), Some(1))),
        libc::SYS_rename => Some((Kind::Creates, Some(Old::Directory(0)), Some(1))),
        _ => None,
    }
}

/// Whether a path leads over this name, its end counted if `whole`.
fn has(path: &OsStr, name: &OsStr, whole: bool) -> bool {
    let path = Path::new(path);
    path.iter().rev().skip(usize::from(!whole)).any(|part| part == name)
}

/// What /proc/TID/syscall says (proc(5)).
struct Registers {
    number: libc::c_long,
    arguments: Vec<u64>,
}

impl Registers {
    /// `None` while the thread runs.
    fn parse(text: &str) -> Option<Self> {
        let mut words = text.split_ascii_whitespace();
        let number = words.next()?.parse().ok()?;
        let argument = |word: &str| u64::from_str_radix(word.strip_prefix("0x")?, 16).ok();
        Some(Self { number, arguments: words.take(6).map_while(argument).collect() })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_thread_that_cannot_be_seen_is_in_an_unknown_call() {
        assert_eq!(Call::of(0).kind, Kind::Unknown);
    }

    #[test]
    fn a_thread_that_waits_in_read_walks_again() {
        let (ours, theirs) = std::os::unix::net::UnixStream::pair().unwrap();
        let (tell, told) = std::sync::mpsc::channel();
        let thread = std::thread::spawn(move || {
            tell.send(rustix::thread::gettid().as_raw_nonzero().get() as u32).unwrap();
            std::io::Read::read(&mut &ours, &mut [0]).unwrap();
        });
        let reader = told.recv().unwrap();
        let deadline = std::time::Instant::now() + std::time::Duration::from_secs(20);
        while Call::of(reader).kind != Kind::WalksAgain {
            assert!(std::time::Instant::now() < deadline, "it never waits");
            std::thread::yield_now();
        }
        drop(theirs);
        thread.join().unwrap();
    }

    #[test]
    fn registers_are_read_as_proc_5_says() {
        let registers = Registers::parse("82 0x7ffd 0x1ff 0x0 0x0 0x0 0x0 0x7ffe 0x7fff\n").unwrap();
        assert_eq!((registers.number, registers.arguments.len()), (82, 6));
        assert_eq!(registers.arguments[1], 0x1ff);
        for other in ["running\n", "", "x"] {
            assert!(Registers::parse(other).is_none());
        }
    }

    #[test]
    fn names_of_the_way_leave_out_the_end() {
        let has = |name: &str, whole| has(OsStr::new("/mnt/backup/dir/file"), OsStr::new(name), whole);
        assert!(has("dir", false) && !has("file", false) && has("file", true) && !has("other", true));
    }
}
