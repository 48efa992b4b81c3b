//! The system call that a caller is in, as far as it decides how a LOOKUP must be answered: most walk once more after
//! ESTALE, some do not, and some walk to two places one after the other. What is read of a caller is compared only,
//! and may be wrong or changing: then the call fails with the errno that it would have had without.

use std::collections::HashSet;
use std::ffi::{OsStr, OsString};
use std::fs::{self, File};
use std::os::unix::ffi::OsStringExt;
use std::os::unix::fs::FileExt;
use std::path::Path;

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

/// A caller's system call.
#[derive(Debug)]
pub(super) struct Call {
    pub(super) kind: Kind,
    /// Names of the walk that comes first, and is walked again on its own: of link's first path all, of rename's
    /// those of its directory.
    first: HashSet<OsString>,
    /// Names of the directories on the way to the last component.
    through: HashSet<OsString>,
}

impl Call {
    /// The call that this thread is in.
    pub(super) fn of(thread: u32) -> Self {
        let unknown = Self { kind: Kind::Unknown, first: HashSet::new(), through: HashSet::new() };
        let Ok(text) = fs::read_to_string(format!("/proc/{thread}/syscall")) else { return unknown };
        let Some(registers) = Registers::parse(&text) else { return unknown };
        let Some((kind, old, new)) = paths(registers.number) else {
            return Self { kind: Kind::WalksAgain, ..unknown };
        };
        let memory = File::open(format!("/proc/{thread}/mem")).ok();
        let path = |argument: usize| string(memory.as_ref()?, *registers.arguments.get(argument)?);
        let (first, whole) = match old {
            Some(Old::Whole(argument)) => (path(argument), true),
            Some(Old::Directory(argument)) => (path(argument), false),
            None => (None, true),
        };
        let new = new.and_then(path);
        Self {
            kind,
            first: first.map(|path| names(Path::new(&path), whole)).unwrap_or_default(),
            through: new.map(|path| names(Path::new(&path), false)).unwrap_or_default(),
        }
    }

    /// Whether a LOOKUP of this name belongs to a walk that is walked again on its own.
    pub(super) fn walks_again_at(&self, name: &OsStr) -> bool {
        self.kind == Kind::WalksAgain || self.first.contains(name)
    }

    /// Whether the call only passes through this name, to something below it.
    pub(super) fn passes(&self, name: &OsStr) -> bool {
        self.through.contains(name)
    }
}

/// The first of two paths.
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

fn names(path: &Path, whole: bool) -> HashSet<OsString> {
    let mut names: Vec<_> = path.iter().map(OsStr::to_owned).collect();
    if !whole {
        names.pop();
    }
    names.into_iter().collect()
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

/// The C string at an address of another process, at most as long as a path can be.
fn string(memory: &File, address: u64) -> Option<OsString> {
    const PAGE: u64 = 4096;
    let mut text = Vec::new();
    while text.len() < libc::PATH_MAX as usize {
        // To the end of the page: what comes after it may not be mapped.
        let at = address.checked_add(text.len() as u64)?;
        let mut piece = vec![0; (PAGE - at % PAGE) as usize];
        memory.read_exact_at(&mut piece, at).ok()?;
        let end = piece.iter().position(|&byte| byte == 0);
        text.extend_from_slice(&piece[..end.unwrap_or(piece.len())]);
        if end.is_some() {
            return Some(OsString::from_vec(text));
        }
    }
    None
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
    fn strings_are_read_across_pages_and_not_beyond_what_is_mapped() {
        let memory = File::open("/proc/self/mem").unwrap();
        let mut long = vec![b'x'; 3000];
        long.push(0);
        let text = string(&memory, long.as_ptr() as u64).unwrap();
        assert_eq!(text.into_vec(), &long[..3000]);
        assert_eq!(string(&memory, 0), None);
        assert_eq!(string(&memory, u64::MAX), None);
    }

    #[test]
    fn names_of_the_way_leave_out_the_end() {
        let names = names(Path::new("/mnt/backup/dir/file"), false);
        assert!(names.contains(OsStr::new("dir")) && !names.contains(OsStr::new("file")));
    }
}
