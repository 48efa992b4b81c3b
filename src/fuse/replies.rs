//! Requests that wait for the core's answer. An answer takes its request out of the table, so that each gets
//! one; what kind of reply it is, and what makes a caller walk again, is known here only.

use std::collections::HashMap;
use std::os::fd::{AsFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::time::Duration;

use fuser::{Errno, Generation, ReplyAttr, ReplyCreate, ReplyEmpty, ReplyEntry, ReplyOpen, ReplyStatfs};
use rustix::fs::{CWD, FileType, Mode, OFlags, ResolveFlags, Stat, fstat, openat, openat2};

use super::calls::{Call, Kind};
use super::filesystem::{TTL, attributes};
use super::names::{Node, StatusFile};
use super::pump::Pump;
use super::questions::Questions;
use super::shadows::Shadows;
use crate::core::{Answer, RequestId, SlotId};

/// A reply that is still owed.
#[derive(Debug)]
pub(super) enum Pending {
    /// LOOKUP(root, name)
    Walk(ReplyEntry, SlotId),
    /// LOOKUP in a name directory or a shadow.
    Child(Child),
    /// MKDIR, MKNOD, SYMLINK, LINK
    Entry(ReplyEntry),
    /// ACCESS, UNLINK, RMDIR, RENAME, SETXATTR, REMOVEXATTR
    Empty(ReplyEmpty),
    /// OPENDIR
    Open(ReplyOpen),
    /// CREATE, TMPFILE
    Create(ReplyCreate),
    /// SETATTR
    Attr(ReplyAttr),
    /// STATFS
    Statfs(ReplyStatfs),
    /// OPEN of a status file
    Status(ReplyOpen, StatusFile),
}

/// A LOOKUP of something on a disk.
#[derive(Debug)]
pub(super) struct Child {
    pub(super) reply: ReplyEntry,
    pub(super) slot: SlotId,
    /// From the root of the disk: one name, or more below a shadow.
    pub(super) path: PathBuf,
    pub(super) thread: u32,
    /// Who asks.
    pub(super) user: u32,
}

struct Owed {
    pending: Pending,
    thread: u32,
}

/// All replies that are owed.
pub struct Replies {
    owed: Mutex<HashMap<RequestId, Owed>>,
    /// The roots of detached mounts that are being attached: the truth about the names in them.
    roots: Mutex<HashMap<SlotId, Arc<OwnedFd>>>,
    shadows: Shadows,
    questions: Questions,
    /// Set before there is anything to reply to.
    pump: OnceLock<Arc<Pump>>,
    mountpoint: PathBuf,
    names: Arc<super::Names>,
}

impl Replies {
    /// No reply owed yet.
    pub fn new(mountpoint: PathBuf, names: Arc<super::Names>) -> Self {
        Self {
            owed: Mutex::default(),
            roots: Mutex::default(),
            shadows: Shadows::default(),
            questions: Questions::default(),
            pump: OnceLock::new(),
            mountpoint,
            names,
        }
    }

    /// The way that replies take.
    pub(super) fn pass_through(&self, pump: Arc<Pump>) {
        // There is one connection.
        let _ = self.pump.set(pump);
    }

    /// What fuser was given to reply goes to the kernel.
    pub(super) fn pass(&self) {
        if let Some(pump) = self.pump.get() {
            pump.pass_replies();
        }
    }

    pub(super) fn shadows(&self) -> &Shadows {
        &self.shadows
    }

    pub(super) fn owe(&self, request: RequestId, thread: u32, pending: Pending) {
        self.owed().insert(request, Owed { pending, thread });
    }

    /// The thread that waits, while it does.
    pub fn thread(&self, request: RequestId) -> Option<u32> {
        self.owed().get(&request).map(|owed| owed.thread)
    }

    /// While the mount of a slot is being attached, this is its root.
    pub fn set_root(&self, slot: SlotId, root: Option<Arc<OwnedFd>>) {
        let mut roots = self.roots.lock().unwrap_or_else(PoisonError::into_inner);
        match root {
            Some(root) => roots.insert(slot, root),
            None => roots.remove(&slot),
        };
    }

    /// Gives an answer; a request that is not owed one is left alone. Does not block: what must look at the disk
    /// first does so on a thread of its own, and fails if there is none.
    pub fn answer(self: &Arc<Self>, request: RequestId, answer: Answer) {
        let Some(owed) = self.take(request) else { return };
        if !matches!((&owed, answer), (Pending::Child(_), Answer::Retry)) {
            return self.give(owed, answer);
        }
        let replies = Arc::clone(self);
        if let Err(owed) = self.questions.look_into(owed, move |owed| replies.give(owed, answer)) {
            self.give(owed, Answer::Fail(libc::EAGAIN));
        }
    }

    /// As [`Replies::answer`] with [`Answer::Retry`], on this thread: all have their answer when it returns.
    pub fn retry_here(&self, requests: &[RequestId]) {
        for &request in requests {
            if let Some(owed) = self.take(request) {
                self.give(owed, Answer::Retry);
            }
        }
    }

    /// Takes the reply to the OPEN of a status file.
    pub(super) fn take_status(&self, request: RequestId) -> Option<(ReplyOpen, StatusFile)> {
        match self.take(request)? {
            Pending::Status(reply, file) => Some((reply, file)),
            other => {
                self.give(other, Answer::Fail(libc::EIO));
                None
            }
        }
    }

    fn take(&self, request: RequestId) -> Option<Pending> {
        self.owed().remove(&request).map(|owed| owed.pending)
    }

    fn owed(&self) -> std::sync::MutexGuard<'_, HashMap<RequestId, Owed>> {
        self.owed.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn give(&self, pending: Pending, answer: Answer) {
        let error = match answer {
            Answer::Retry => Errno::ESTALE,
            Answer::Fail(errno) => Errno::from_i32(errno),
            Answer::Entry => Errno::EIO,
        };
        match (pending, answer) {
            // Of a hidden name only, on which nothing is mounted.
            (Pending::Walk(reply, _), Answer::Fail(libc::ENOENT)) => reply.error(error),
            (Pending::Walk(reply, slot), _) => {
                // Never an error: it would detach what is mounted there.
                reply.entry(&TTL, &attributes(Node::Name(slot), self.names.len()), Generation(0));
            }
            (Pending::Child(child), Answer::Retry) => self.retry_child(child),
            (Pending::Child(Child { reply, .. }) | Pending::Entry(reply), _) => reply.error(error),
            (Pending::Empty(reply), _) => reply.error(error),
            (Pending::Open(reply) | Pending::Status(reply, _), _) => reply.error(error),
            (Pending::Create(reply), _) => reply.error(error),
            (Pending::Attr(reply), _) => reply.error(error),
            (Pending::Statfs(reply), _) => reply.error(error),
        }
        self.pass();
    }

    /// A LOOKUP that is answered so that its system call comes out right. Most walk again after ESTALE. Those that
    /// do not, at their last component, are told the truth of the disk: what is absent there is absent here, and
    /// what exists gets a shadow. The MKDIR, RENAME… that follows is answered with ESTALE, and does walk again.
    fn retry_child(&self, child: Child) {
        let Child { reply, slot, path, thread, user } = child;
        let name = path.file_name().unwrap_or_default();
        let call = Call::of(thread);
        if call.walks_again_at(name) {
            return reply.error(Errno::ESTALE);
        }
        match (self.look(slot, &path, user), call.kind) {
            (Truth::Absent, _) => reply.error(Errno::ENOENT),
            // bind does not walk again at all: it comes out right only if the walk to its directory does.
            (Truth::There(stat), Kind::Binds) if is_directory(&stat) => reply.error(Errno::ESTALE),
            (Truth::There(stat), Kind::Creates | Kind::Binds) => {
                reply.entry(&Duration::ZERO, &self.shadows.cast(slot, &path, &stat), Generation(0));
            }
            // The disk will say it himself, when he walks again after the MKDIR….
            (Truth::Secret, Kind::Creates) if !call.passes(name) => reply.error(Errno::ENOENT),
            _ => reply.error(Errno::ESTALE),
        }
    }

    /// Looks at an entry of the disk, for a user who must be allowed to see it.
    fn look(&self, slot: SlotId, path: &Path, user: u32) -> Truth {
        let directory = path.parent().unwrap_or(Path::new(""));
        // Who may search a directory for other reasons than that all may, a list of access rights or a group, is not
        // known here: the kernel decides when he walks again.
        let is_open = |stat: &Stat| user == 0 || stat.st_mode & 0o111 == 0o111;
        match self.stat_on_disk(slot, directory) {
            Some(Ok(stat)) if is_open(&stat) => {}
            Some(Ok(_)) => return Truth::Secret,
            _ => return Truth::Unknown,
        }
        match self.stat_on_disk(slot, path) {
            Some(Ok(stat)) => Truth::There(stat),
            Some(Err(rustix::io::Errno::NOENT)) => Truth::Absent,
            _ => Truth::Unknown,
        }
    }

    /// `None`: the disk is not there to be asked.
    fn stat_on_disk(&self, slot: SlotId, path: &Path) -> Option<rustix::io::Result<Stat>> {
        let path = if path.as_os_str().is_empty() { Path::new(".") } else { path };
        // Nothing on the disk leads out of it.
        let within = ResolveFlags::BENEATH | ResolveFlags::NO_SYMLINKS | ResolveFlags::NO_XDEV;
        let flags = OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let found = self
            .disk_root(slot)?
            .and_then(|root| openat2(root.as_fd(), path, flags, Mode::empty(), within))
            .and_then(|entry| fstat(entry.as_fd()));
        // Attached, and gone again: the LOOKUP was our own, in the name directory (see `Root::trigger`).
        if matches!(found, Err(rustix::io::Errno::NXIO)) { None } else { Some(found) }
    }

    /// The root of the disk: that of the detached mount, or what is attached to the name directory.
    fn disk_root(&self, slot: SlotId) -> Option<rustix::io::Result<Arc<OwnedFd>>> {
        let root = self.roots.lock().unwrap_or_else(PoisonError::into_inner).get(&slot).cloned();
        if root.is_some() {
            return root.map(Ok);
        }
        let path = self.mountpoint.join(&*self.names.name(slot)?);
        let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
        Some(openat(CWD, &path, flags, Mode::empty()).map(Arc::new))
    }
}

/// What the disk says of a name.
enum Truth {
    There(Stat),
    Absent,
    /// Not for everybody to know.
    Secret,
    /// It cannot be asked.
    Unknown,
}

fn is_directory(stat: &Stat) -> bool {
    FileType::from_raw_mode(stat.st_mode).is_dir()
}
