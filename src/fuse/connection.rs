//! The connection to the kernel: fuser's session, behind the pump.

use std::io;
use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::thread;

use fuser::{Config, Errno, FopenFlags, Session, SessionACL};

use super::EventSink;
use super::filesystem::{OpenFiles, Root};
use super::names::{Names, StatusFile};
use super::notices::RootChanged;
use super::pump::Pump;
use super::replies::Replies;
use crate::core::RequestId;

/// A file system that is being served.
pub struct Serving {
    pump: Arc<Pump>,
    files: Arc<OpenFiles>,
    replies: Arc<Replies>,
}

impl Serving {
    /// The names in the root have changed; nothing is mounted on those that are hidden.
    pub fn names_changed(&self) -> RootChanged {
        RootChanged::new(Arc::clone(&self.pump))
    }

    /// Answers the OPEN of a status file; `render` is asked for the text of that file.
    pub fn show(&self, request: RequestId, render: impl FnOnce(StatusFile) -> Vec<u8>) {
        if let Some((reply, file)) = self.replies.take_status(request) {
            // Nothing of it is cached: each open reads its own snapshot, whatever size stat has shown.
            match self.files.open(render(file)) {
                Some(handle) => reply.opened(handle, FopenFlags::FOPEN_DIRECT_IO),
                None => reply.error(Errno::ENFILE),
            }
            self.replies.pass();
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
    let (pump, theirs) = Pump::new(device, Arc::clone(events))?;
    let pump = Arc::new(pump);
    replies.pass_through(Arc::clone(&pump));
    let files = Arc::new(OpenFiles::default());
    let root = Root {
        names,
        replies: Arc::clone(&replies),
        files: Arc::clone(&files),
        events: Arc::clone(events),
        pump: Arc::clone(&pump),
    };
    // INIT, which the kernel has asked since the mount was made.
    pump.pass_request();
    let session = Session::from_fd(root, theirs, SessionACL::All, Config::default());
    pump.pass_replies();
    let session = session?;
    pump.call_back();
    thread::Builder::new().name("fuse".into()).spawn(move || {
        if let Err(error) = session.run() {
            tracing::error!("the FUSE session ended: {error}");
        }
        closed();
    })?;
    Ok(Serving { pump, files, replies })
}
