//! The connection to the kernel: a pump between /dev/fuse and fuser. It sees what fuser hides: FUSE_INTERRUPT
//! (a caller got a signal) and FUSE_TMPFILE (fuser 0.18 does not know it).

use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::sync::Arc;
use std::thread;

use fuser::{Config, FopenFlags, Session, SessionACL};
use rustix::io::Errno;
use rustix::net::{AddressFamily, SocketFlags, SocketType, socketpair};

use super::EventSink;
use super::filesystem::{OpenFiles, Root};
use super::names::{Names, StatusFile};
use super::replies::Replies;
use crate::core::{Event, RequestId};

/// Larger than every request (the largest is SETXATTR with 64 KiB) and every reply (a READ of 32 pages).
const MESSAGE: usize = 256 << 10;

/// `struct fuse_in_header` (linux/fuse.h): len, opcode, unique, …; the body begins after 40 bytes.
const HEADER: usize = 40;
const OPCODE: std::ops::Range<usize> = 4..8;
const FUSE_CREATE: u32 = 35;
const FUSE_INTERRUPT: u32 = 36;
const FUSE_DESTROY: u32 = 38;
const FUSE_TMPFILE: u32 = 51;

/// A file system that is being served.
pub struct Serving {
    files: Arc<OpenFiles>,
    replies: Arc<Replies>,
}

impl Serving {
    /// Answers the OPEN of a status file; `render` is asked for the text of that file.
    pub fn show(&self, request: RequestId, render: impl FnOnce(StatusFile) -> Vec<u8>) {
        if let Some((reply, file)) = self.replies.take_status(request) {
            // Nothing of it is cached: each open reads its own snapshot, whatever size stat has shown.
            reply.opened(self.files.open(render(file)), FopenFlags::FOPEN_DIRECT_IO);
        }
    }
}

/// Serves the root on `device`, an open /dev/fuse whose mount exists. Returns when the kernel's INIT is answered,
/// so that accesses are served from then on. `closed` is called once, when the kernel has
/// closed the connection because the root was unmounted.
///
/// # Errors
/// When the kernel's INIT does not come or fits not, or threads cannot be had.
pub fn serve(
    device: OwnedFd,
    names: Arc<Names>,
    replies: Arc<Replies>,
    events: &EventSink,
    closed: impl FnOnce() + Send + 'static,
) -> io::Result<Serving> {
    let (ours, theirs) = socketpair(AddressFamily::UNIX, SocketType::SEQPACKET, SocketFlags::CLOEXEC, None)?;
    for socket in [&ours, &theirs] {
        rustix::net::sockopt::set_socket_send_buffer_size(socket, 2 * MESSAGE)?;
    }
    let (device, ours) = (Arc::new(device), Arc::new(ours));
    {
        let (device, ours, events) = (Arc::clone(&device), Arc::clone(&ours), Arc::clone(events));
        thread::Builder::new().name("fuse-requests".into()).spawn(move || {
            requests(&device, &ours, &events);
            closed();
        })?;
    }
    thread::Builder::new().name("fuse-replies".into()).spawn(move || pump_replies(&device, &ours))?;
    let files = Arc::new(OpenFiles::default());
    let root =
        Root { names, replies: Arc::clone(&replies), files: Arc::clone(&files), events: Arc::clone(events) };
    let session = Session::from_fd(root, theirs, SessionACL::All, Config::default())?;
    thread::Builder::new().name("fuse".into()).spawn(move || {
        if let Err(error) = session.run() {
            tracing::error!("the FUSE session ended: {error}");
        }
    })?;
    Ok(Serving { files, replies })
}

/// From the kernel to fuser, until the kernel closes the connection.
fn requests(device: &OwnedFd, fuser: &OwnedFd, events: &EventSink) {
    let mut buffer = vec![0; MESSAGE];
    loop {
        let length = match rustix::io::read(device.as_fd(), &mut buffer) {
            Ok(length) => length,
            // ENOENT: the request was interrupted before it was read (fuse_dev_do_read).
            Err(Errno::INTR | Errno::AGAIN | Errno::NOENT) => continue,
            Err(Errno::NODEV) => break,
            Err(error) => {
                tracing::error!("/dev/fuse cannot be read: {error}");
                break;
            }
        };
        let message = &mut buffer[..length];
        match opcode(message) {
            Some(FUSE_INTERRUPT) => {
                if let Some(request) = interrupted(message) {
                    events(Event::Interrupted(request));
                }
                continue;
            }
            // The same body (fuse_create_open): both mean that somebody makes a file in the directory.
            Some(FUSE_TMPFILE) => message[OPCODE].copy_from_slice(&FUSE_CREATE.to_ne_bytes()),
            _ => {}
        }
        if let Err(error) = send_whole(fuser, message) {
            tracing::error!("the FUSE session takes no requests: {error}");
            break;
        }
    }
    // The kernel sends no DESTROY for this type (fs/fuse/inode.c, fuse_conn_destroy), and fuser ends well on one only.
    let mut destroy = [0; HEADER];
    destroy[..4].copy_from_slice(&(HEADER as u32).to_ne_bytes());
    destroy[OPCODE].copy_from_slice(&FUSE_DESTROY.to_ne_bytes());
    // If fuser has gone before, it needs no end.
    let _ = send_whole(fuser, &destroy);
}

/// From fuser to the kernel, until the connection ends.
fn pump_replies(device: &OwnedFd, fuser: &OwnedFd) {
    let mut buffer = vec![0; MESSAGE];
    loop {
        let length = match rustix::io::read(fuser.as_fd(), &mut buffer) {
            Ok(0) => return,
            Ok(length) => length,
            Err(Errno::INTR) => continue,
            Err(error) => return tracing::error!("the FUSE session gives no replies: {error}"),
        };
        match send_whole(device, &buffer[..length]) {
            // ENOENT: the caller has gone; ENODEV: the connection has.
            Ok(()) | Err(Errno::NOENT | Errno::NODEV) => {}
            Err(error) => tracing::error!("the kernel takes no reply: {error}"),
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
