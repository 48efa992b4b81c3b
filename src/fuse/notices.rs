//! What the kernel is told without being asked: that the root has changed, so that it forgets what it remembers of it.
//! Not by fuser's `Notifier`, whose messages would wait among the replies: the kernel takes the root's lock for such a
//! message (fs/fuse/dir.c, fuse_reverse_inval_entry), a LOOKUP that waits has it, and its answer would be behind it.

use std::sync::Arc;

use rustix::io::Errno;

use super::names::Node;
use super::pump::Pump;

/// `enum fuse_notify_code` (linux/fuse.h).
const INVAL_INODE: i32 = 2;
const INVAL_ENTRY: i32 = 3;

/// Look it up again, but detach nothing (since Linux 6.2; before, whatever is mounted on it is detached).
const EXPIRE_ONLY: u32 = 1;

/// The root has other names.
#[must_use = "the kernel learns of it by `tell`"]
pub struct RootChanged {
    pump: Arc<Pump>,
}

impl RootChanged {
    pub(super) fn new(pump: Arc<Pump>) -> Self {
        Self { pump }
    }

    /// The kernel forgets the root's attributes, and these names when it returns. Blocks while LOOKUPs in the root are
    /// not answered: for a thread that answers none.
    pub fn tell<'a>(&self, hidden: impl IntoIterator<Item = &'a str>) {
        self.send(&inode(Node::Root.number()));
        for name in hidden {
            self.send(&entry(Node::Root.number(), name));
        }
    }

    fn send(&self, message: &[u8]) {
        match self.pump.notify(message) {
            // ENOENT: it remembers nothing of it. ENODEV: the root is unmounted.
            Ok(()) | Err(Errno::NOENT | Errno::NODEV) => {}
            Err(error) => tracing::warn!("the kernel is not told that the root has changed: {error}"),
        }
    }
}

/// `struct fuse_out_header`: len, error (the code), unique (0).
fn message(code: i32, body: &[&[u8]]) -> Vec<u8> {
    let length = 16 + body.iter().map(|part| part.len()).sum::<usize>();
    // A name has at most 255 bytes.
    let mut message = (length as u32).to_ne_bytes().to_vec();
    message.extend_from_slice(&code.to_ne_bytes());
    message.extend_from_slice(&0_u64.to_ne_bytes());
    body.iter().for_each(|part| message.extend_from_slice(part));
    message
}

/// `struct fuse_notify_inval_inode_out`: ino, off, len. A negative offset means the attributes only.
fn inode(number: u64) -> Vec<u8> {
    message(INVAL_INODE, &[&number.to_ne_bytes(), &(-1_i64).to_ne_bytes(), &0_i64.to_ne_bytes()])
}

/// `struct fuse_notify_inval_entry_out`: parent, namelen, flags; then the name with a NUL.
fn entry(parent: u64, name: &str) -> Vec<u8> {
    let length = name.len() as u32;
    let head = [&parent.to_ne_bytes()[..], &length.to_ne_bytes(), &EXPIRE_ONLY.to_ne_bytes()];
    message(INVAL_ENTRY, &[head[0], head[1], head[2], name.as_bytes(), &[0]])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn messages_are_laid_out_as_linux_fuse_h_says() {
        let message = entry(1, "backup");
        assert_eq!(message.len(), 16 + 16 + 7);
        assert_eq!(message[..4], 39_u32.to_ne_bytes());
        assert_eq!(message[4..8], 3_i32.to_ne_bytes());
        assert_eq!(message[8..16], [0; 8]);
        assert_eq!(message[16..24], 1_u64.to_ne_bytes());
        assert_eq!(message[24..28], 6_u32.to_ne_bytes());
        assert_eq!(message[28..32], 1_u32.to_ne_bytes());
        assert_eq!(&message[32..], b"backup\0");
        let message = inode(1);
        assert_eq!(message.len(), 16 + 24);
        assert_eq!(message[24..32], (-1_i64).to_ne_bytes());
    }
}
