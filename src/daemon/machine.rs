//! The core, and the edges that do its actions.

use std::path::PathBuf;
use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant};

use crossbeam_channel::Sender;

use super::guests::Guests;
use super::jobs::Jobs;
use super::timer::Timer;
use super::{End, Message, memory, mounts, now};
use crate::control::{Replier, Reply};
use crate::core::{Action, CommandId, Core, Event, Level, RequestId, SlotId};
use crate::device::MountName;
use crate::disk::holders;
use crate::disk::unmount::{Unmount, unmount};
use crate::fuse::{Serving, StatusFile};
use crate::status;

/// How much longer a service manager is to wait than we do.
const MARGIN: Duration = Duration::from_secs(10);

/// The core, and what does its actions. Nothing in here blocks: it runs on the threads of the edges.
pub(super) struct Machine {
    pub(super) core: Core,
    pub(super) shell: Shell,
    pub(super) timer: Arc<Timer>,
    /// What the timer is set to.
    pub(super) alarm: Option<Instant>,
}

/// Does the core's actions.
pub(super) struct Shell {
    pub(super) jobs: Arc<Jobs>,
    pub(super) guests: Guests,
    pub(super) serving: Serving,
    pub(super) replier: Replier,
    pub(super) mounts: mounts::Watcher,
    pub(super) callers: Sender<(RequestId, u32)>,
    pub(super) root: Root,
    pub(super) ending: Option<Ending>,
    pub(super) left: Arc<OnceLock<End>>,
}

/// The root is being unmounted, to end.
pub(super) struct Ending {
    /// To be replied to.
    command: Option<CommandId>,
    /// What may be lost of a disk.
    loss: Option<String>,
}

/// The FUSE root's mount.
#[derive(Clone)]
pub(super) struct Root {
    pub(super) mountpoint: PathBuf,
    pub(super) mount: u64,
}

impl Machine {
    pub(super) fn take(&mut self, message: Message) {
        match message {
            Message::Event(event) => {
                self.handle(event);
                // What is due is not put off by a stream of events.
                if self.core.next_wakeup().is_some_and(|at| at <= Instant::now()) {
                    self.handle(Event::Tick);
                }
            }
            Message::Closed => match self.shell.ending.take() {
                Some(ending) => {
                    self.shell.ended(ending);
                    return self.timer.end();
                }
                None => self.handle(Event::RootGone),
            },
        }
        if self.shell.left.get().is_some() {
            return self.timer.end();
        }
        let alarm = self.core.next_wakeup();
        if alarm != self.alarm {
            self.timer.set(alarm);
            self.alarm = alarm;
        }
    }

    pub(super) fn handle(&mut self, event: Event) {
        if matches!(event, Event::RootBusy(_)) {
            self.shell.ending = None;
        }
        let reloads = matches!(event, Event::Reload { .. } | Event::Forgotten);
        for action in self.core.handle(now(), event) {
            self.shell.act(action);
        }
        if reloads {
            // Without a thread the memory is given back the next time.
            let _ = self.shell.jobs.workers.run(memory::release);
        }
    }
}

impl Shell {
    fn act(&mut self, action: Action) {
        match action {
            Action::Answer(request, answer) => self.jobs.replies.answer(request, answer),
            Action::Prepare { job, slot, order } => self.jobs.prepare(job, slot, order),
            Action::Cancel(job) => self.jobs.cancel(job),
            Action::Attach { job, first } => self.jobs.attach(job, first),
            Action::Abandon(job) => self.jobs.abandon(job),
            Action::Unmount { job, slot, mount, how, disk } => {
                self.jobs.unmount(job, slot, mount, how, disk);
            }
            Action::Lock { job, opened, deferred, asks } => self.jobs.lock(job, opened, deferred, asks),
            Action::Eject { job, disk, sequence } => self.jobs.eject(job, disk, sequence),
            Action::Guest(action) => self.guests.act(action),
            Action::Names { shown, hidden } => self.change_names(&shown, &hidden),
            Action::LookAtMounts => self.mounts.look(),
            Action::LookAtCaller(request) => {
                if let Some(thread) = self.jobs.replies.thread(request) {
                    // That thread lives as long as this one.
                    let _ = self.callers.send((request, thread));
                }
            }
            Action::Tell(command, what) => self.reply(Some(command), &Reply::Waiting(what)),
            Action::Reply(command, result) => {
                let reply = result.map_or_else(Reply::Failed, Reply::Done);
                self.reply(Some(command), &reply);
            }
            Action::Show(request, snapshot) => self.serving.show(request, |file| {
                let text = match file {
                    StatusFile::Summary => status::summary(&snapshot),
                    StatusFile::Json => status::json(&snapshot),
                    StatusFile::Metrics => status::metrics(&snapshot),
                    StatusFile::Events => status::events(&snapshot),
                };
                text.into_bytes()
            }),
            Action::Log(Level::Info, text) => tracing::info!("{text}"),
            Action::Log(Level::Warning, text) => tracing::warn!("{text}"),
            Action::Log(Level::Error, text) => tracing::error!("{text}"),
            Action::Leave => self.leave(End::Left),
            Action::GiveUp => self.leave(End::GaveUp),
            Action::StillEnding(time) => self.still_ending(time),
            Action::End { command, loss } => {
                self.ending = Some(Ending { command, loss });
                self.unmount_root();
            }
        }
    }

    /// A service manager, if there is one, waits longer before it kills us.
    fn still_ending(&self, time: Duration) {
        let micros = u32::try_from((time + MARGIN).as_micros()).unwrap_or(u32::MAX);
        let tell = move || {
            // It is told again at no other time; if it does not hear this, it does what it has been told to do then.
            let _ = sd_notify::notify(&[sd_notify::NotifyState::ExtendTimeoutUsec(micros)]);
        };
        // As little as without a thread.
        let _ = self.jobs.workers.run(tell);
    }

    /// The root is unmounted.
    fn ended(&self, Ending { command, loss }: Ending) {
        let done = format!("{} is unmounted", self.root.mountpoint.display());
        if command.is_none() && loss.is_some() {
            self.leave(End::UnmountedWithLoss);
        }
        let reply = match loss {
            None => Reply::Done(done),
            Some(loss) => Reply::Failed(format!("{done}, but {loss}")),
        };
        self.reply(command, &reply);
    }

    fn leave(&self, end: End) {
        // The core ends once.
        let _ = self.left.set(end);
    }

    /// What is hidden is so before the kernel is told to forget it: it is not looked up again.
    fn change_names(&self, shown: &[(SlotId, MountName)], hidden: &[SlotId]) {
        let names = &self.jobs.names;
        names.show(shown.iter().map(|(slot, name)| (*slot, name.as_str())));
        names.hide(hidden);
        let (changed, events) = (self.serving.names_changed(), self.jobs.events.clone());
        let hidden: Vec<_> = hidden.iter().filter_map(|&slot| names.name(slot)).collect();
        let tell = move || {
            changed.tell(hidden.iter().map(|name| &**name));
            events.bring(Message::Event(Event::Forgotten));
        };
        if let Err(error) = self.jobs.workers.run(tell) {
            tracing::error!("out of threads, so the kernel is not told of the names that have gone: {error}");
            self.jobs.events.bring(Message::Event(Event::Forgotten));
        }
    }

    /// On a thread of its own: it walks into the file systems above our root.
    fn unmount_root(&self) {
        let (root, events) = (self.root.clone(), self.jobs.events.clone());
        let unmount = move || {
            let path = root.mountpoint.display();
            let message = match unmount(&root.mountpoint, root.mount, false) {
                // The kernel closes the connection, and that ends the loop.
                Unmount::Unmounted => return,
                Unmount::NotMounted => Message::Closed,
                Unmount::Busy => {
                    let by = holders::of_mount(root.mount);
                    Message::Event(Event::RootBusy(format!("{path} is in use: {by}")))
                }
                Unmount::Covered(by) => Message::Event(Event::RootBusy(format!(
                    "{by} is mounted over {path}: unmount that first"
                ))),
                Unmount::Error(error) => {
                    Message::Event(Event::RootBusy(format!("cannot unmount {path}: {error}")))
                }
            };
            events.bring(message);
        };
        if let Err(error) = self.jobs.workers.run(unmount) {
            self.jobs.events.bring(Message::Event(Event::RootBusy(format!("out of threads: {error}"))));
        }
    }

    fn reply(&self, command: Option<CommandId>, reply: &Reply) {
        if let Some(command) = command {
            self.replier.reply(command.0, reply);
        }
    }
}
