//! What the kernel and udev tell of devices, each with the moment at which it was heard.

use std::path::PathBuf;
use std::thread;
use std::time::{Duration, Instant};

use crossbeam_channel::{Receiver, Sender, unbounded};
use rustix::event::{PollFd, PollFlags, poll};
use rustix::net::sockopt::set_socket_recv_buffer_size_force;
use udev::{MonitorBuilder, MonitorSocket};

use crate::Outcome;

/// An emulated machine is slow.
const PATIENCE: Duration = Duration::from_secs(60);

/// Who tells.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Teller {
    /// At once: what udev hears.
    Kernel,
    /// When it has done all that its rules say, programs that they run included.
    Udev,
}

/// Something that was told.
#[derive(Clone, Debug)]
pub(crate) struct Uevent {
    pub(crate) at: Instant,
    pub(crate) by: Teller,
    /// `bind`
    pub(crate) action: String,
    /// `usb_device`
    pub(crate) kind: String,
    /// Below /sys
    pub(crate) path: PathBuf,
}

/// Listens for as long as the program runs.
pub(crate) struct Uevents(Receiver<Uevent>);

impl Uevents {
    pub(crate) fn listen() -> Outcome<Self> {
        let sockets = [
            (Teller::Kernel, MonitorBuilder::new_kernel()?.listen()?),
            (Teller::Udev, MonitorBuilder::new()?.listen()?),
        ];
        for (_, socket) in &sockets {
            set_socket_recv_buffer_size_force(socket, 16 << 20)?;
        }
        let (sender, heard) = unbounded();
        thread::spawn(move || hear(&sockets, &sender));
        Ok(Self(heard))
    }

    /// Forgets what was heard until now.
    pub(crate) fn forget(&self) {
        self.0.try_iter().for_each(drop);
    }

    /// Waits for the next one that is of this kind.
    pub(crate) fn wait_for(&self, by: Teller, action: &str, kind: &str) -> Outcome<Uevent> {
        let end = Instant::now() + PATIENCE;
        loop {
            let uevent = self.0.recv_deadline(end).map_err(|_| format!("no {action} of a {kind}"))?;
            if (uevent.by, uevent.action.as_str(), uevent.kind.as_str()) == (by, action, kind) {
                return Ok(uevent);
            }
        }
    }

    /// The first of this kind among those heard until now.
    pub(crate) fn find(&self, by: Teller, action: &str, kind: &str) -> Option<Uevent> {
        let is_it =
            |uevent: &Uevent| (uevent.by, uevent.action.as_str(), uevent.kind.as_str()) == (by, action, kind);
        self.0.try_iter().find(is_it)
    }
}

fn hear(sockets: &[(Teller, MonitorSocket); 2], sender: &Sender<Uevent>) {
    loop {
        let mut fds = [&sockets[0], &sockets[1]].map(|(_, socket)| PollFd::new(socket, PollFlags::IN));
        if poll(&mut fds, None).is_err() {
            continue;
        }
        let at = Instant::now();
        for (by, socket) in sockets {
            for event in socket.iter() {
                let text = |text: Option<&std::ffi::OsStr>| {
                    text.map(|text| text.to_string_lossy().into_owned()).unwrap_or_default()
                };
                let (action, kind) = (text(event.action()), text(event.devtype()));
                let uevent = Uevent { at, by: *by, action, kind, path: event.syspath().to_owned() };
                if sender.send(uevent).is_err() {
                    return;
                }
            }
        }
    }
}
