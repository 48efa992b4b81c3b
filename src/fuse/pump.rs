//! Messages between /dev/fuse and fuser. fuser reads and writes one end of a socket pair; what passes the other end is
//! seen here, for the sake of what fuser hides: FUSE_INTERRUPT (a caller got a signal) and FUSE_TMPFILE (fuser 0.18
//! does not know it). There is no thread in between, which would have to be woken for each message: after each request
//! fuser is given a FORGET of [`NOBODY`], at which its own thread fetches the next one, and whoever has given fuser a
//! reply passes it on. Knows nothing of what is asked and answered.

use std::os::fd::{AsFd, OwnedFd};
use std::sync::{Mutex, PoisonError};

use rustix::io::Errno;
use rustix::net::{AddressFamily, RecvFlags, SocketFlags, SocketType, recv, socketpair};

use super::EventSink;
use crate::core::{Event, RequestId};

/// Larger than every request (the largest is SETXATTR with 64 KiB) and every reply (a READ of 32 pages).
const MESSAGE: usize = 256 << 10;

/// `struct fuse_in_header` (linux/fuse.h): len, opcode, unique, nodeid, …; the body begins after 40 bytes.
const HEADER: usize = 40;
const OPCODE: std::ops::Range<usize> = 4..8;
const NODE: std::ops::Range<usize> = 16..24;
const FUSE_FORGET: u32 = 2;
const FUSE_CREATE: u32 = 35;
const FUSE_INTERRUPT: u32 = 36;
const FUSE_DESTROY: u32 = 38;
const FUSE_TMPFILE: u32 = 51;

/// No inode has this number, so the kernel never forgets it.
pub(super) const NOBODY: u64 = u64::MAX;

/// Both ways.
pub(super) struct Pump {
    device: OwnedFd,
    fuser: OwnedFd,
    events: EventSink,
    /// Taken out while a request is read.
    request: Mutex<Vec<u8>>,
    reply: Mutex<Vec<u8>>,
}

impl Pump {
    /// With fuser's end of the socket.
    ///
    /// # Errors
    /// Those of socketpair(2) and setsockopt(2).
    pub(super) fn new(device: OwnedFd, events: EventSink) -> rustix::io::Result<(Self, OwnedFd)> {
        let (ours, theirs) =
            socketpair(AddressFamily::UNIX, SocketType::SEQPACKET, SocketFlags::CLOEXEC, None)?;
        for socket in [&ours, &theirs] {
            rustix::net::sockopt::set_socket_send_buffer_size(socket, 2 * MESSAGE)?;
        }
        let buffer = || Mutex::new(vec![0; MESSAGE]);
        Ok((Self { device, fuser: ours, events, request: buffer(), reply: buffer() }, theirs))
    }

    /// Waits for the next request, for fuser. When the kernel has closed the connection, fuser is told to end.
    pub(super) fn pass_request(&self) {
        // What fuser has answered by itself.
        self.pass_replies();
        let mut buffer = std::mem::take(&mut *self.request.lock().unwrap_or_else(PoisonError::into_inner));
        let passed = self.read_request(&mut buffer).is_some_and(|length| {
            let sent = send_whole(&self.fuser, &buffer[..length]);
            if let Err(error) = sent {
                tracing::error!("the FUSE session takes no requests: {error}");
            }
            sent.is_ok()
        });
        if !passed {
            // The kernel sends no DESTROY for this type (fs/fuse/inode.c, fuse_conn_destroy), and fuser ends well on
            // one only. If fuser has gone before, it needs no end.
            let _ = send_whole(&self.fuser, &message(FUSE_DESTROY, 0));
        }
        *self.request.lock().unwrap_or_else(PoisonError::into_inner) = buffer;
    }

    /// Lets fuser's thread come back for another request when it has dealt with the last.
    pub(super) fn call_back(&self) {
        if let Err(error) = send_whole(&self.fuser, &message(FUSE_FORGET, NOBODY)) {
            tracing::error!("the FUSE session takes no requests: {error}");
        }
    }

    /// Gives the kernel what fuser was given to reply: what this thread has given it is with the kernel afterwards.
    pub(super) fn pass_replies(&self) {
        // Nothing blocks while it is locked.
        let mut buffer = self.reply.lock().unwrap_or_else(PoisonError::into_inner);
        loop {
            let length = match recv(&self.fuser, &mut buffer[..], RecvFlags::DONTWAIT) {
                Ok((0, _)) | Err(Errno::AGAIN) => return,
                Ok((length, _)) => length,
                Err(Errno::INTR) => continue,
                Err(error) => return tracing::error!("the FUSE session gives no replies: {error}"),
            };
            match send_whole(&self.device, &buffer[..length]) {
                // ENOENT: the caller has gone; ENODEV: the connection has.
                Ok(()) | Err(Errno::NOENT | Errno::NODEV) => {}
                Err(error) => tracing::error!("the kernel takes no reply: {error}"),
            }
        }
    }

    /// Tells the kernel what it has not asked for. Blocks, and locks nothing of ours meanwhile.
    pub(super) fn notify(&self, message: &[u8]) -> Result<(), Errno> {
        send_whole(&self.device, message)
    }

    /// The length of the next request for fuser; `None` when there is none any more.
    fn read_request(&self, buffer: &mut [u8]) -> Option<usize> {
        loop {
            let length = match rustix::io::read(&self.device, &mut *buffer) {
                Ok(length) => length,
                // ENOENT: the request was interrupted before it was read (fuse_dev_do_read).
                Err(Errno::INTR | Errno::AGAIN | Errno::NOENT) => continue,
                Err(Errno::NODEV) => return None,
                Err(error) => {
                    tracing::error!("/dev/fuse cannot be read: {error}");
                    return None;
                }
            };
            let message = &mut buffer[..length];
            match opcode(message) {
                Some(FUSE_INTERRUPT) => {
                    if let Some(request) = interrupted(message) {
                        (self.events)(Event::Interrupted(request));
                    }
                    continue;
                }
                // The same body (fuse_create_open): both mean that somebody makes a file in the directory.
                Some(FUSE_TMPFILE) => message[OPCODE].copy_from_slice(&FUSE_CREATE.to_ne_bytes()),
                _ => {}
            }
            return Some(length);
        }
    }
}

/// Both ends keep messages whole: one write, one message.
fn send_whole(to: &OwnedFd, message: &[u8]) -> Result<(), Errno> {
    loop {
        match rustix::io::write(to.as_fd(), message) {
            Ok(_) => return Ok(()),
            Err(Errno::INTR) => {}
            Err(error) => return Err(error),
        }
    }
}

/// A request of ours to fuser, with room for the body of a FORGET.
fn message(opcode: u32, node: u64) -> [u8; HEADER + 8] {
    let mut message = [0; HEADER + 8];
    message[..4].copy_from_slice(&((HEADER + 8) as u32).to_ne_bytes());
    message[OPCODE].copy_from_slice(&opcode.to_ne_bytes());
    message[NODE].copy_from_slice(&node.to_ne_bytes());
    message
}

fn opcode(message: &[u8]) -> Option<u32> {
    Some(u32::from_ne_bytes(message.get(OPCODE)?.try_into().ok()?))
}

/// The request that an INTERRUPT is about: its body is that request's `unique`.
fn interrupted(message: &[u8]) -> Option<RequestId> {
    Some(RequestId(u64::from_ne_bytes(message.get(HEADER..HEADER + 8)?.try_into().ok()?)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn messages_are_read_as_linux_fuse_h_lays_them_out() {
        let mut message = vec![0; HEADER + 8];
        message[OPCODE].copy_from_slice(&FUSE_INTERRUPT.to_ne_bytes());
        message[HEADER..].copy_from_slice(&77_u64.to_ne_bytes());
        assert_eq!(opcode(&message), Some(FUSE_INTERRUPT));
        assert_eq!(interrupted(&message), Some(RequestId(77)));
        assert_eq!(opcode(&message[..5]), None);
        assert_eq!(interrupted(&message[..HEADER]), None);
    }
}
