//! The daemon: threads and channels that wire the edges to the core, nothing else. The edges report to the core as
//! events; it takes them one at a time, on the thread of whoever brings one.

mod claim;
mod guests;
mod jobs;
mod log;
mod machine;
mod memory;
mod mounts;
mod reloads;
mod signals;
mod starting;
mod takeover;
mod timer;
mod turns;
mod workers;

use std::path::PathBuf;
use std::sync::{Arc, Mutex, OnceLock};
use std::thread;
use std::time::{Instant, SystemTime};

use crossbeam_channel::{Sender, bounded, unbounded};
use thiserror::Error;

use crate::config::Config;
use crate::control::{self, Replier, Request};
use crate::core::{CommandId, Core, Event, Now, RequestId, Snapshot, Wish};
use crate::device::udev::Monitor;
use crate::device::{DeviceEvent, MonitorError};
use crate::disk::DamageWatch;
use crate::fuse::{self, DetachedRoot, Names, Replies, RootAttributes, Serving};
use guests::Guests;
use jobs::Jobs;
use machine::{Machine, Root, Shell};
use reloads::Reloads;
use timer::Timer;
use turns::Turns;

#[cfg(feature = "libvirt")]
pub use claim::attach_for_daemon;
pub use log::{LogTarget, Logging, start_logging};

/// Why the daemon cannot start. Nothing is left behind when it cannot.
#[derive(Debug, Error)]
pub enum StartError {
    /// The FUSE root cannot be made or served.
    #[error("cannot serve {path}: {error}")]
    Fuse {
        /// The mount point.
        path: PathBuf,
        /// What the kernel said.
        error: std::io::Error,
    },
    /// It is served already.
    #[error("{0} is mounted already")]
    Mounted(PathBuf),
    /// Devices cannot be seen.
    #[error(transparent)]
    Devices(#[from] MonitorError),
    /// Something that the daemon needs beside FUSE is not to be had.
    #[error("cannot {what}: {error}")]
    Needs {
        /// What was tried.
        what: &'static str,
        /// What the system said.
        error: std::io::Error,
    },
}

/// What the machine gets.
pub(crate) enum Message {
    /// For the core.
    Event(Event),
    /// The kernel has closed the FUSE connection: the root is unmounted.
    Closed,
}

/// A daemon that serves its root.
pub struct Daemon {
    turns: Turns<Message>,
    timer: Arc<Timer>,
    root_device: u64,
    /// Unless its root is just unmounted.
    left: Arc<OnceLock<End>>,
    /// Keep what they stand for alive.
    _monitor: Monitor,
    _control: control::Server,
}

/// How a daemon ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum End {
    /// Its root is unmounted.
    Unmounted,
    /// The same, by a signal, and something may be lost of a disk: nobody but the log has been told.
    UnmountedWithLoss,
    /// Its root is dead, and what was mounted below it stays.
    Left,
    /// The same, because a job does not come back from the kernel: its thread keeps the process from being gone.
    GaveUp,
}

impl Daemon {
    /// Mounts the root, takes over what an earlier run left, and knows every device that is present: accesses are
    /// served when it returns. `read_again` reads the config that a reload takes, or tells what is wrong with it.
    ///
    /// # Errors
    /// See [`StartError`].
    pub fn start(
        config: Config,
        attributes: RootAttributes,
        read_again: impl Fn() -> Result<Config, String> + Send + 'static,
    ) -> Result<Self, StartError> {
        let mountpoint = config.mountpoint.clone();
        let fuse = |error| StartError::Fuse { path: mountpoint.clone(), error };
        let needs = |what| move |error| StartError::Needs { what, error };
        signals::block();
        let _starting = starting::wait().map_err(needs("wait for another mydisks that is starting"))?;

        let left = takeover::collect(&mountpoint).map_err(needs("read the mount table"))?;
        if left.is_served() {
            return Err(StartError::Mounted(mountpoint));
        }
        let turns = Turns::new();
        let timer = Arc::new(Timer::new().map_err(needs("have a timer"))?);
        let names = Arc::new(Names::new(config.mounts.iter().map(|mount| mount.name.to_string())));
        let replies = Arc::new(Replies::new(mountpoint.clone(), Arc::clone(&names)));
        let (detached, device) = DetachedRoot::new(attributes).map_err(fuse)?;
        let (mount, root_device) = detached.numbers().map_err(fuse)?;
        let root = Root { mountpoint: mountpoint.clone(), mount };
        let serving = serve(device, &names, &replies, &turns).map_err(fuse)?;
        let (enumerated, all_reported) = bounded(1);
        let monitor = monitor(&turns, enumerated)?;
        let damage = DamageWatch::new().map(Arc::new).inspect_err(|error| {
            tracing::debug!("errors of file systems are seen only when something else is looked at: {error}");
        });
        let damage = damage.ok();
        let jobs = Arc::new(Jobs {
            events: turns.clone(),
            replies,
            names: Arc::clone(&names),
            mountpoint: mountpoint.clone(),
            root_device,
            preparing: Mutex::default(),
            workers: Arc::default(),
            damage: damage.clone(),
        });
        let left_root = Arc::new(OnceLock::new());
        let shell = Shell {
            mounts: mounts::Watcher::start(&mountpoint, &names, &turns, damage.clone())
                .map_err(needs("watch the mount table"))?,
            callers: watch_callers(&turns).map_err(needs("start a thread"))?,
            replier: Replier::default(),
            guests: Guests::new(&config.libvirt, &turns),
            serving,
            jobs,
            root,
            ending: None,
            left: Arc::clone(&left_root),
        };
        let reloads = Reloads::start(read_again, &turns).map_err(needs("start a thread"))?;
        let control =
            listen(root_device, &shell.replier, &turns, &reloads).map_err(needs("listen in /run/mydisks"))?;
        signals::watch(&turns, &reloads).map_err(needs("watch for signals"))?;

        let has_guests = !config.guests.is_empty();
        let core = Core::new(Arc::new(config), now());
        let mut machine = Machine { core, shell, timer: Arc::clone(&timer), alarm: None };
        // An error: devices are no longer reported, which has been an event.
        let _ = all_reported.recv();
        turns.take_waiting().into_iter().for_each(|message| machine.take(message));
        left.take_away_roots();
        detached.attach(&mountpoint).map_err(|error| StartError::Fuse { path: mountpoint.clone(), error })?;
        for event in left.attach(&names, &mountpoint, damage.as_deref()) {
            machine.handle(event);
        }
        // Last: what is mounted is known before anything is given away.
        if has_guests {
            machine.shell.guests.start();
        }
        memory::release();
        // Whoever has come meanwhile finds what was left.
        turns.begin(move |message| machine.take(message));
        Ok(Self { turns, timer, root_device, left: left_root, _monitor: monitor, _control: control })
    }

    /// Serves until the root is unmounted, or until it is to be left to a successor.
    pub fn run(self) -> End {
        while self.timer.wait() {
            self.turns.bring(Message::Event(Event::Tick));
        }
        let end = self.left.get().copied().unwrap_or(End::Unmounted);
        if end == End::GaveUp {
            // /dev/fuse stays open for as long as the thread is stuck: nobody is to wait for that.
            if let Err(error) = fuse::abort(self.root_device) {
                tracing::error!("the root is not served, and still looks so: {error}");
            }
        }
        end
    }
}

/// What is plugged in at this moment, as a daemon with this config would show it.
///
/// # Errors
/// Devices cannot be seen.
pub fn look_once(config: Config) -> Result<Snapshot, MonitorError> {
    let (sender, events) = unbounded();
    let _monitor = Monitor::start(move |event| {
        let _ = sender.send(event);
    })?;
    let mut core = Core::new(Arc::new(config), now());
    for event in events {
        match event {
            DeviceEvent::EnumerationDone => break,
            DeviceEvent::MonitorFailed(error) => return Err(error),
            DeviceEvent::DiskPresent(disk) => core.handle(now(), Event::DiskPresent(Box::new(disk))),
            DeviceEvent::DiskGone(seq) => core.handle(now(), Event::DiskGone(seq)),
            DeviceEvent::UsbPresent(device) => core.handle(now(), Event::UsbPresent(device)),
            DeviceEvent::UsbGone { bus, address, .. } => core.handle(now(), Event::UsbGone { bus, address }),
        };
    }
    Ok(core.snapshot())
}

fn now() -> Now {
    Now { monotonic: Instant::now(), wall: SystemTime::now() }
}

fn sink(turns: &Turns<Message>) -> fuse::EventSink {
    let turns = turns.clone();
    Arc::new(move |event| turns.bring(Message::Event(event)))
}

fn serve(
    device: std::os::fd::OwnedFd,
    names: &Arc<Names>,
    replies: &Arc<Replies>,
    turns: &Turns<Message>,
) -> std::io::Result<Serving> {
    let closed = turns.clone();
    fuse::serve(device, Arc::clone(names), Arc::clone(replies), &sink(turns), move || {
        closed.bring(Message::Closed);
    })
}

/// `enumerated` gets one message when all devices that are there have been reported.
fn monitor(turns: &Turns<Message>, enumerated: Sender<()>) -> Result<Monitor, MonitorError> {
    let turns = turns.clone();
    Monitor::start(move |event| {
        let event = match event {
            DeviceEvent::DiskPresent(disk) => Event::DiskPresent(Box::new(disk)),
            DeviceEvent::DiskGone(seq) => Event::DiskGone(seq),
            DeviceEvent::UsbPresent(device) => Event::UsbPresent(device),
            DeviceEvent::UsbGone { bus, address, .. } => Event::UsbGone { bus, address },
            DeviceEvent::EnumerationDone => {
                // It comes once; the start waits for it, or has failed.
                let _ = enumerated.try_send(());
                return;
            }
            DeviceEvent::MonitorFailed(error) => Event::Blind(error.to_string()),
        };
        turns.bring(Message::Event(event));
    })
}

/// A thread that looks into /proc for the core.
fn watch_callers(turns: &Turns<Message>) -> std::io::Result<Sender<(RequestId, u32)>> {
    let (look, looks) = unbounded::<(RequestId, u32)>();
    let turns = turns.clone();
    thread::Builder::new().name("callers".into()).spawn(move || {
        for (request, thread) in looks {
            turns.bring(Message::Event(Event::Caller { request, dying: fuse::is_dying(thread) }));
        }
    })?;
    Ok(look)
}

fn listen(
    root_device: u64,
    replier: &Replier,
    turns: &Turns<Message>,
    reloads: &Reloads,
) -> std::io::Result<control::Server> {
    let device = (rustix::fs::major(root_device), rustix::fs::minor(root_device));
    let (turns, reloads) = (turns.clone(), reloads.clone());
    control::Server::start(device, replier.clone(), move |number, request| {
        let command = CommandId(number);
        let event = match request {
            Some(Request::Umount { name, lazy, wait }) => {
                let wish = if lazy { Wish::LockedLater } else { Wish::Locked };
                Event::Umount { command, name, wish, waits: wait }
            }
            Some(Request::Eject { name, wait }) => {
                Event::Umount { command, name, wish: Wish::Ejected, waits: wait }
            }
            Some(Request::Attach { device, guest }) => Event::GuestAttach { command, device, guest },
            Some(Request::Detach { device }) => Event::GuestDetach { command, device },
            Some(Request::Reload) => return reloads.ask(Some(command)),
            Some(Request::Stop) => Event::Stop(Some(command)),
            None => Event::GaveUp(command),
        };
        turns.bring(Message::Event(event));
    })
}
