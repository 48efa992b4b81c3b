//! fuser's `Filesystem`: turns requests into events for the core, and answers at once whatever needs no
//! decision. Nothing in here blocks, but for the next request.

use std::collections::HashMap;
use std::ffi::OsStr;
use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use fuser::{
    AccessFlags, BsdFileFlags, Errno, FileAttr, FileHandle, FileType, Filesystem, FopenFlags, Generation,
    INodeNo, InitFlags, KernelConfig, LockOwner, OpenAccMode, OpenFlags, RenameFlags, ReplyAttr, ReplyCreate,
    ReplyData, ReplyDirectory, ReplyEmpty, ReplyEntry, ReplyOpen, ReplyStatfs, ReplyXattr, Request,
    TimeOrNow,
};

use super::names::{Names, Node, StatusFile};
use super::pump::{NOBODY, Pump};
use super::replies::{Child, Pending, Replies};
use super::{EventSink, callers};
use crate::core::{Event, Hold, RequestId, SlotId};

/// How long the kernel may keep entries and attributes: as good as for ever, because a LOOKUP that is not
/// needed is a chance to lose a mount.
pub(super) const TTL: Duration = Duration::from_secs(7 * 86400);

/// Bytes of all status files that are open at once: some thousand of a usual size.
const MOST_OPEN: usize = 32 << 20;

/// The texts of open status files, by handle.
#[derive(Debug, Default)]
pub(super) struct OpenFiles {
    texts: Mutex<HashMap<u64, Arc<[u8]>>>,
    last: AtomicU64,
}

impl OpenFiles {
    /// `None` if too much is open: everybody may open a status file, and as often as he likes.
    pub(super) fn open(&self, text: Vec<u8>) -> Option<FileHandle> {
        let mut texts = self.texts();
        let open: usize = texts.values().map(|text| text.len()).sum();
        if open.saturating_add(text.len()) > MOST_OPEN {
            return None;
        }
        let handle = self.last.fetch_add(1, Ordering::Relaxed) + 1;
        texts.insert(handle, text.into());
        Some(FileHandle(handle))
    }

    fn text(&self, handle: FileHandle) -> Option<Arc<[u8]>> {
        self.texts().get(&handle.0).cloned()
    }

    fn close(&self, handle: FileHandle) {
        self.texts().remove(&handle.0);
    }

    fn texts(&self) -> std::sync::MutexGuard<'_, HashMap<u64, Arc<[u8]>>> {
        self.texts.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

pub(super) struct Root {
    pub(super) names: Arc<Names>,
    pub(super) replies: Arc<Replies>,
    pub(super) files: Arc<OpenFiles>,
    pub(super) events: EventSink,
    pub(super) pump: Arc<Pump>,
}

impl Root {
    fn node(&self, number: INodeNo) -> Option<Node> {
        self.names.node(number.0)
    }

    /// Somebody is in the name directory: he waits until the disk is there.
    fn trigger(&self, request: &Request, slot: SlotId, hold: Hold, pending: Pending) {
        let id = RequestId(request.unique().0);
        self.replies.owe(id, request.pid(), pending);
        // One of our own threads came here because the disk has gone again: it must not wait for itself.
        if callers::is_ours(request.pid()) {
            return self.replies.answer(id, crate::core::Answer::Fail(libc::ENXIO));
        }
        self.send(Event::Trigger { request: id, slot, hold });
    }

    fn send(&self, event: Event) {
        (self.events)(event);
    }

    fn attributes(&self, node: Node) -> FileAttr {
        attributes(node, self.names.len())
    }

    /// A request that would change the directory `node`.
    fn change(&self, request: &Request, node: INodeNo, pending: Pending) {
        match self.node(node) {
            Some(Node::Name(slot)) => self.trigger(request, slot, Hold::Directory, pending),
            Some(_) => refuse(pending, Errno::EROFS),
            // Of a shadow too: the call is walked again, and comes to the disk.
            None => refuse(pending, Errno::ESTALE),
        }
    }

    fn change_entry(&self, request: &Request, parent: INodeNo, reply: ReplyEntry) {
        self.change(request, parent, Pending::Entry(reply));
    }

    fn change_empty(&self, request: &Request, parent: INodeNo, reply: ReplyEmpty) {
        self.change(request, parent, Pending::Empty(reply));
    }
}

/// Answers with an error at once.
fn refuse(pending: Pending, errno: Errno) {
    match pending {
        Pending::Entry(reply) => reply.error(errno),
        Pending::Empty(reply) => reply.error(errno),
        Pending::Create(reply) => reply.error(errno),
        Pending::Attr(reply) => reply.error(errno),
        // Dropped, they answer EIO; no change comes with these.
        Pending::Walk(..)
        | Pending::Child(_)
        | Pending::Open(_)
        | Pending::Statfs(_)
        | Pending::Status(..) => {}
    }
}

pub(super) fn attributes_of(ino: INodeNo, kind: FileType, perm: u16, nlink: u32) -> FileAttr {
    FileAttr {
        ino,
        size: 0,
        blocks: 0,
        atime: UNIX_EPOCH,
        mtime: UNIX_EPOCH,
        ctime: UNIX_EPOCH,
        crtime: UNIX_EPOCH,
        kind,
        perm,
        nlink,
        uid: 0,
        gid: 0,
        rdev: 0,
        flags: 0,
        blksize: 4096,
    }
}

pub(super) fn attributes(node: Node, names: usize) -> FileAttr {
    let number = INodeNo(node.number());
    let directories = match node {
        Node::Root => u32::try_from(names).unwrap_or(u32::MAX - 3) + 1,
        _ => 0,
    };
    if node.is_file() {
        attributes_of(number, FileType::RegularFile, 0o444, 1)
    } else {
        attributes_of(number, FileType::Directory, 0o755, 2 + directories)
    }
}

impl Filesystem for Root {
    fn init(&mut self, _request: &Request, config: &mut KernelConfig) -> std::io::Result<()> {
        // Nothing is ever written; small messages fit the pump's socket.
        config
            .set_max_write(4096)
            .map_err(|least| std::io::Error::other(format!("max_write at least {least}")))?;
        // Without it one LOOKUP that waits stops all others in its directory (fs/fuse/dir.c, fuse_lock_inode).
        config.add_capabilities(InitFlags::FUSE_PARALLEL_DIROPS).map_err(|_| {
            std::io::Error::other("this kernel's FUSE has no parallel directory operations (Linux 4.7)")
        })?;
        Ok(())
    }

    fn lookup(&self, request: &Request, parent: INodeNo, name: &OsStr, reply: ReplyEntry) {
        let id = RequestId(request.unique().0);
        match self.node(parent) {
            Some(Node::Name(slot)) => {
                let child =
                    Child { reply, slot, path: name.into(), thread: request.pid(), user: request.uid() };
                self.trigger(request, slot, Hold::Directory, Pending::Child(child));
            }
            Some(directory) => match self.names.child(directory, name) {
                Some(Node::Name(slot)) if !callers::is_ours(request.pid()) => {
                    self.replies.owe(id, request.pid(), Pending::Walk(reply, slot));
                    self.send(Event::Walk { request: id, slot });
                }
                Some(node) => reply.entry(&TTL, &self.attributes(node), Generation(0)),
                None => reply.error(Errno::ENOENT),
            },
            None => self.lookup_in_shadow(request, parent, name, reply),
        }
    }

    fn forget(&self, _request: &Request, node: INodeNo, _lookups: u64) {
        if node.0 == NOBODY {
            self.pump.pass_request();
            return self.pump.call_back();
        }
        self.replies.shadows().forget(node);
    }

    fn getattr(&self, _request: &Request, node: INodeNo, _handle: Option<FileHandle>, reply: ReplyAttr) {
        match self.node(node) {
            Some(node) => reply.attr(&TTL, &self.attributes(node)),
            None => match self.replies.shadows().get(node) {
                Some(shadow) => reply.attr(&Duration::ZERO, &shadow.attributes),
                None => reply.error(Errno::ESTALE),
            },
        }
    }

    fn setattr(
        &self,
        request: &Request,
        node: INodeNo,
        _mode: Option<u32>,
        _uid: Option<u32>,
        _gid: Option<u32>,
        _size: Option<u64>,
        _atime: Option<TimeOrNow>,
        _mtime: Option<TimeOrNow>,
        _ctime: Option<SystemTime>,
        _handle: Option<FileHandle>,
        _crtime: Option<SystemTime>,
        _chgtime: Option<SystemTime>,
        _bkuptime: Option<SystemTime>,
        _flags: Option<BsdFileFlags>,
        reply: ReplyAttr,
    ) {
        self.change(request, node, Pending::Attr(reply));
    }

    // Only shadows are symbolic links: the walk leads on, so it is walked again.
    fn readlink(&self, _request: &Request, _node: INodeNo, reply: ReplyData) {
        reply.error(Errno::ESTALE);
    }

    fn mknod(
        &self,
        request: &Request,
        parent: INodeNo,
        _: &OsStr,
        _: u32,
        _: u32,
        _: u32,
        reply: ReplyEntry,
    ) {
        self.change_entry(request, parent, reply);
    }

    fn mkdir(&self, request: &Request, parent: INodeNo, _: &OsStr, _: u32, _: u32, reply: ReplyEntry) {
        self.change_entry(request, parent, reply);
    }

    fn symlink(&self, request: &Request, parent: INodeNo, _: &OsStr, _: &Path, reply: ReplyEntry) {
        self.change_entry(request, parent, reply);
    }

    fn link(&self, request: &Request, _: INodeNo, parent: INodeNo, _: &OsStr, reply: ReplyEntry) {
        self.change_entry(request, parent, reply);
    }

    fn unlink(&self, request: &Request, parent: INodeNo, _: &OsStr, reply: ReplyEmpty) {
        self.change_empty(request, parent, reply);
    }

    fn rmdir(&self, request: &Request, parent: INodeNo, _: &OsStr, reply: ReplyEmpty) {
        self.change_empty(request, parent, reply);
    }

    fn rename(
        &self,
        request: &Request,
        parent: INodeNo,
        _name: &OsStr,
        new_parent: INodeNo,
        _new_name: &OsStr,
        _flags: RenameFlags,
        reply: ReplyEmpty,
    ) {
        let from_name = matches!(self.node(parent), Some(Node::Name(_)));
        self.change_empty(request, if from_name { parent } else { new_parent }, reply);
    }

    fn setxattr(
        &self,
        request: &Request,
        node: INodeNo,
        _: &OsStr,
        _: &[u8],
        _: i32,
        _: u32,
        reply: ReplyEmpty,
    ) {
        self.change_empty(request, node, reply);
    }

    fn removexattr(&self, request: &Request, node: INodeNo, _: &OsStr, reply: ReplyEmpty) {
        self.change_empty(request, node, reply);
    }

    // `ls -l` of the root asks for these: like stat, no entry.
    fn getxattr(&self, _request: &Request, _node: INodeNo, _name: &OsStr, _size: u32, reply: ReplyXattr) {
        reply.error(Errno::ENODATA);
    }

    fn listxattr(&self, _request: &Request, _node: INodeNo, size: u32, reply: ReplyXattr) {
        if size == 0 { reply.size(0) } else { reply.data(&[]) }
    }

    fn create(
        &self,
        request: &Request,
        parent: INodeNo,
        _: &OsStr,
        _: u32,
        _: u32,
        _: i32,
        reply: ReplyCreate,
    ) {
        self.change(request, parent, Pending::Create(reply));
    }

    fn access(&self, request: &Request, node: INodeNo, mask: AccessFlags, reply: ReplyEmpty) {
        match self.node(node) {
            Some(Node::Name(slot)) => self.trigger(request, slot, Hold::Nothing, Pending::Empty(reply)),
            Some(_) if mask.contains(AccessFlags::W_OK) => reply.error(Errno::EROFS),
            Some(node) if mask.contains(AccessFlags::X_OK) && node.is_file() => reply.error(Errno::EACCES),
            Some(_) => reply.ok(),
            None => reply.error(Errno::ESTALE),
        }
    }

    fn statfs(&self, request: &Request, node: INodeNo, reply: ReplyStatfs) {
        match self.node(node) {
            Some(Node::Name(slot)) => self.trigger(request, slot, Hold::Nothing, Pending::Statfs(reply)),
            _ => reply.statfs(0, 0, 0, 0, 0, 512, 255, 0),
        }
    }

    fn opendir(&self, request: &Request, node: INodeNo, _flags: OpenFlags, reply: ReplyOpen) {
        match self.node(node) {
            Some(Node::Name(slot)) => self.trigger(request, slot, Hold::Nothing, Pending::Open(reply)),
            Some(_) => reply.opened(FileHandle(0), FopenFlags::empty()),
            None => reply.error(Errno::ESTALE),
        }
    }

    fn readdir(&self, _: &Request, node: INodeNo, _: FileHandle, offset: u64, mut reply: ReplyDirectory) {
        let Some(directory) = self.node(node) else { return reply.error(Errno::ESTALE) };
        let mut place = usize::try_from(offset).unwrap_or(usize::MAX);
        while let Some(entry) = self.names.entry(directory, place) {
            let kind = if entry.node.is_file() { FileType::RegularFile } else { FileType::Directory };
            if reply.add(INodeNo(entry.node.number()), entry.next as u64, kind, &*entry.name) {
                break;
            }
            place = entry.next;
        }
        reply.ok();
    }

    fn open(&self, request: &Request, node: INodeNo, flags: OpenFlags, reply: ReplyOpen) {
        let id = RequestId(request.unique().0);
        match self.node(node) {
            Some(Node::Status(_)) if flags.acc_mode() != OpenAccMode::O_RDONLY => reply.error(Errno::EROFS),
            Some(Node::Status(file)) => self.open_status(id, request.pid(), file, reply),
            _ => reply.error(Errno::ESTALE),
        }
    }

    fn read(
        &self,
        _request: &Request,
        _node: INodeNo,
        handle: FileHandle,
        offset: u64,
        size: u32,
        _flags: OpenFlags,
        _owner: Option<LockOwner>,
        reply: ReplyData,
    ) {
        let Some(text) = self.files.text(handle) else { return reply.error(Errno::EBADF) };
        let start = usize::try_from(offset).unwrap_or(usize::MAX).min(text.len());
        let end = start.saturating_add(size as usize).min(text.len());
        reply.data(&text[start..end]);
    }

    fn release(
        &self,
        _request: &Request,
        _node: INodeNo,
        handle: FileHandle,
        _flags: OpenFlags,
        _owner: Option<LockOwner>,
        _flush: bool,
        reply: ReplyEmpty,
    ) {
        self.files.close(handle);
        reply.ok();
    }
}

impl Root {
    /// The disk of a shadow is there, or as good as: nobody has to wait for it.
    fn lookup_in_shadow(&self, request: &Request, parent: INodeNo, name: &OsStr, reply: ReplyEntry) {
        let Some(shadow) = self.replies.shadows().get(parent) else { return reply.error(Errno::ESTALE) };
        let (id, thread) = (RequestId(request.unique().0), request.pid());
        let path = shadow.path.join(name);
        let child = Child { reply, slot: shadow.slot, path, thread, user: request.uid() };
        self.replies.owe(id, thread, Pending::Child(child));
        self.replies.answer(id, crate::core::Answer::Retry);
    }

    fn open_status(&self, id: RequestId, thread: u32, file: StatusFile, reply: ReplyOpen) {
        self.replies.owe(id, thread, Pending::Status(reply, file));
        self.send(Event::Status(id));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_open_is_bounded_and_closing_makes_room() {
        let files = OpenFiles::default();
        let text = || vec![b'x'; MOST_OPEN / 4 + 1];
        let open: Vec<_> = (0..3).map(|_| files.open(text()).unwrap()).collect();
        assert_eq!(files.open(text()), None);
        assert!(files.open(b"small".to_vec()).is_some());
        files.close(open[0]);
        assert!(files.open(text()).is_some());
    }
}
