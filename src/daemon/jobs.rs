//! The threads that do the core's actions on disks: each job has one, so that a disk that does not answer delays
//! nothing but itself. Decides nothing.

use std::collections::HashMap;
use std::os::fd::{AsFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use crossbeam_channel::{Receiver, Sender, bounded};
use rustix::fs::{CWD, Mode, OFlags, openat};
use rustix::mount::{MoveMountFlags, move_mount};

use super::Message;
use super::turns::Turns;
use super::workers::Workers;
use crate::core::{
    Detached, EjectResult, Event, JobId, LockResult, MountId, RequestId, SlotId, Unmount, UnmountResult,
};
use crate::device::DiskSeq;
use crate::disk::unmount::{self, Expire};
use crate::disk::{
    self, Cancel, Closing, DamageWatch, DiskError, EjectError, ErrorKind, Locked, Opened, Order, Prepared,
    Saved, holders,
};
use crate::fuse::{Names, Replies};

/// Closing a mapping waits for the kernel and udev; longer than this is a failure, and tried again.
const LOCK_DEADLINE: Duration = Duration::from_secs(30);

pub(super) struct Jobs {
    pub(super) events: Turns<Message>,
    pub(super) replies: Arc<Replies>,
    pub(super) names: Arc<Names>,
    pub(super) mountpoint: PathBuf,
    /// Device number of the FUSE root's file system: what a name directory must be on.
    pub(super) root_device: u64,
    pub(super) preparing: Mutex<HashMap<JobId, Preparing>>,
    pub(super) workers: Arc<Workers>,
    /// Of the file systems that are mounted; `None` if the kernel cannot tell.
    pub(super) damage: Option<Arc<DamageWatch>>,
}

/// The way to a thread that prepares, or that waits with a detached mount.
pub(super) struct Preparing {
    cancel: Cancel,
    next: Sender<Next>,
}

enum Next {
    Attach(Vec<RequestId>),
    Abandon,
}

impl Jobs {
    pub(super) fn prepare(self: &Arc<Self>, job: JobId, slot: SlotId, order: Order) {
        let cancel = match Cancel::new() {
            Ok(cancel) => cancel,
            Err(error) => return self.failed(job, &format!("out of file descriptors: {error}")),
        };
        let (next, commands) = bounded(1);
        self.preparing().insert(job, Preparing { cancel: cancel.clone(), next });
        let jobs = Arc::clone(self);
        let run = move || {
            jobs.run_prepare(job, slot, &order, &cancel, &commands);
            jobs.preparing().remove(&job);
        };
        if let Err(error) = self.workers.run(run) {
            self.preparing().remove(&job);
            self.failed(job, &format!("out of threads: {error}"));
        }
    }

    pub(super) fn cancel(&self, job: JobId) {
        if let Some(preparing) = self.preparing().get(&job) {
            preparing.cancel.cancel();
        }
    }

    pub(super) fn attach(&self, job: JobId, first: Vec<RequestId>) {
        self.tell(job, Next::Attach(first));
    }

    pub(super) fn abandon(&self, job: JobId) {
        self.tell(job, Next::Abandon);
    }

    /// `disk`: to be asked after that whether it has got everything.
    pub(super) fn unmount(
        self: &Arc<Self>,
        job: JobId,
        slot: SlotId,
        mount: MountId,
        how: Unmount,
        disk: Option<Opened>,
    ) {
        let path = self.path(slot);
        self.spawn(
            move || {
                let result = match (take_away(&path, mount, how), &disk) {
                    (UnmountResult::Gone, Some(disk)) => gone(disk),
                    (result, _) => result,
                };
                Event::Unmounted { job, result }
            },
            move |why| Event::Unmounted { job, result: UnmountResult::Failed(why) },
        );
    }

    /// `asks`: whether the disk has got everything.
    pub(super) fn lock(self: &Arc<Self>, job: JobId, opened: Opened, deferred: bool, asks: bool) {
        self.spawn(
            move || {
                let result = if asks { lock_and_ask(&opened, deferred) } else { lock(&opened, deferred) };
                Event::Locked { job, result }
            },
            move |why| Event::Locked { job, result: LockResult::Failed(why) },
        );
    }

    pub(super) fn eject(self: &Arc<Self>, job: JobId, disk: PathBuf, sequence: DiskSeq) {
        self.spawn(
            move || Event::Ejected { job, result: eject(&disk, sequence) },
            move |why| Event::Ejected { job, result: EjectResult::Failed(why) },
        );
    }

    fn spawn(
        &self,
        work: impl FnOnce() -> Event + Send + 'static,
        failed: impl Fn(String) -> Event + Copy + Send + 'static,
    ) {
        let events = self.events.clone();
        let run = move || {
            let event = unless_it_panics(work).unwrap_or_else(|| failed(BUG.to_owned()));
            events.bring(Message::Event(event));
        };
        if let Err(error) = self.workers.run(run) {
            self.send(failed(format!("out of threads: {error}")));
        }
    }

    fn run_prepare(
        &self,
        job: JobId,
        slot: SlotId,
        order: &Order,
        cancel: &Cancel,
        commands: &Receiver<Next>,
    ) {
        let prepare =
            || disk::prepare(order, cancel).and_then(|prepared| self.find_directory(slot, prepared));
        let (prepared, directory, detached) = match unless_it_panics(prepare).unwrap_or_else(|| Err(bug())) {
            Ok(ready) => ready,
            Err(error) => return self.send(Event::Prepared { job, result: Err(error) }),
        };
        let opened = prepared.opened.clone();
        self.send(Event::Prepared { job, result: Ok(detached) });
        match commands.recv() {
            Ok(Next::Attach(first)) => {
                let attach = || self.run_attach(slot, prepared, &directory, &first);
                let result = unless_it_panics(attach).unwrap_or_else(|| Err(bug()));
                self.send(Event::Attached { job, result });
            }
            Ok(Next::Abandon) | Err(_) => {
                drop(prepared);
                drop(directory);
                self.send(Event::Locked { job, result: lock(&opened, false) });
            }
        }
    }

    /// The name directory must be open before anybody is answered: opening it walks into our own root.
    fn find_directory(
        &self,
        slot: SlotId,
        prepared: Prepared,
    ) -> Result<(Prepared, OwnedFd, Detached), DiskError> {
        let path = self.path(slot);
        let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let found = openat(CWD, &path, flags, Mode::empty())
            .and_then(|directory| Ok((rustix::fs::fstat(&directory)?.st_dev, directory)));
        let message = match found {
            Ok((device, directory)) if device == self.root_device => {
                if let Some(damage) = &self.damage {
                    damage.add(prepared.mount.as_fd());
                }
                let detached = Detached {
                    mount: prepared.mount_id,
                    opened: prepared.opened.clone(),
                    filesystem: prepared.filesystem.clone(),
                    read_only: prepared.read_only,
                    errors: prepared.errors,
                    notes: prepared.notes.clone(),
                };
                return Ok((prepared, directory, detached));
            }
            Ok(_) => format!("something else is mounted on {}: unmount it", path.display()),
            Err(error) => format!("{} cannot be opened: {error}", path.display()),
        };
        let opened = prepared.opened.clone();
        drop(prepared);
        let error = DiskError::new(ErrorKind::Busy, message);
        Err(match lock(&opened, true) {
            LockResult::Held(why) | LockResult::Failed(why) => error.and_left(Some(opened), &why),
            _ => error,
        })
    }

    /// Those who hold the directory's lock are answered, or move_mount(2) would wait for ever for them.
    fn run_attach(
        &self,
        slot: SlotId,
        prepared: Prepared,
        directory: &OwnedFd,
        first: &[RequestId],
    ) -> Result<Instant, DiskError> {
        let root = Arc::new(prepared.root);
        self.replies.set_root(slot, Some(root));
        self.replies.retry_here(first);
        let flags = MoveMountFlags::MOVE_MOUNT_F_EMPTY_PATH | MoveMountFlags::MOVE_MOUNT_T_EMPTY_PATH;
        let moved = move_mount(prepared.mount.as_fd(), "", directory.as_fd(), "", flags);
        let attached = Instant::now();
        self.replies.set_root(slot, None);
        moved.map(|()| attached).map_err(|error| {
            let message = format!("cannot attach the mount to {}: {error}", self.path(slot).display());
            DiskError::new(ErrorKind::Other, message)
        })
    }

    fn tell(&self, job: JobId, next: Next) {
        if let Some(preparing) = self.preparing().get(&job) {
            // The thread waits for exactly one command.
            let _ = preparing.next.try_send(next);
        }
    }

    fn failed(&self, job: JobId, why: &str) {
        let message = format!("cannot begin to open the disk: {why}");
        self.send(Event::Prepared { job, result: Err(DiskError::new(ErrorKind::Exhausted, message)) });
    }

    fn send(&self, event: Event) {
        self.events.bring(Message::Event(event));
    }

    fn path(&self, slot: SlotId) -> PathBuf {
        self.mountpoint.join(&*self.names.name(slot).unwrap_or_default())
    }

    fn preparing(&self) -> std::sync::MutexGuard<'_, HashMap<JobId, Preparing>> {
        self.preparing.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// What is said of a job that panicked: its panic is on standard error.
const BUG: &str = "a defect of mydisks ended the work (it is in the log, please report it)";

fn bug() -> DiskError {
    DiskError::new(ErrorKind::Other, BUG)
}

/// `None` if it panics. A job that never ended would keep its slot, and whoever waits there, for ever.
fn unless_it_panics<T>(work: impl FnOnce() -> T) -> Option<T> {
    // What it worked on is gone with it.
    std::panic::catch_unwind(std::panic::AssertUnwindSafe(work)).ok()
}

fn take_away(path: &Path, mount: MountId, how: Unmount) -> UnmountResult {
    let failed = |error| UnmountResult::Failed(format!("cannot unmount {}: {error}", path.display()));
    if how == Unmount::Expire {
        return match unmount::expire(path, mount) {
            Expire::Unmounted => UnmountResult::Gone,
            Expire::NotMounted => UnmountResult::NotThere,
            Expire::Marked => UnmountResult::Marked,
            Expire::Busy => UnmountResult::Busy(String::new()),
            Expire::Covered(by) => UnmountResult::Covered(by),
            Expire::Error(error) => failed(error),
        };
    }
    match unmount::unmount(path, mount, how == Unmount::Lazy) {
        unmount::Unmount::Unmounted => UnmountResult::Gone,
        unmount::Unmount::NotMounted => UnmountResult::NotThere,
        unmount::Unmount::Busy => UnmountResult::Busy(holders::of_mount(mount)),
        unmount::Unmount::Covered(by) => UnmountResult::Covered(by),
        unmount::Unmount::Error(error) => failed(error),
    }
}

fn gone(disk: &Opened) -> UnmountResult {
    match disk::saved(disk) {
        Saved::Yes => UnmountResult::Gone,
        Saved::Pulled => UnmountResult::GoneWithDisk,
        Saved::Failed(error) => UnmountResult::GoneUnsaved(error.message),
    }
}

fn eject(disk: &Path, sequence: DiskSeq) -> EjectResult {
    match disk::eject(disk, sequence.0) {
        Ok(how) => EjectResult::Ejected(how.sentence(disk)),
        Err(EjectError::Busy(by)) => EjectResult::Busy(format!("{} is in use: {by}", disk.display())),
        Err(error) => EjectResult::Failed(error.to_string()),
    }
}

pub(super) fn lock(opened: &Opened, deferred: bool) -> LockResult {
    let cancel = match Cancel::new() {
        Ok(cancel) => cancel,
        Err(error) => return LockResult::Failed(format!("out of file descriptors: {error}")),
    };
    let closing = if deferred { Closing::WhenUnused } else { Closing::IfUnused };
    match disk::lock(opened, closing, Instant::now() + LOCK_DEADLINE, &cancel) {
        Ok(Locked::Closed) => LockResult::Locked,
        Ok(Locked::Held) => {
            LockResult::Held(format!("somebody still has it open: {}", holders::of_disk(opened)))
        }
        Ok(Locked::WhenUnused) => LockResult::Held(format!(
            "somebody still has it open; the kernel locks it when the last user has closed it: {}",
            holders::of_disk(opened)
        )),
        Err(error) => LockResult::Failed(error.message),
    }
}

fn lock_and_ask(opened: &Opened, deferred: bool) -> LockResult {
    // While the mapping is there, it knows what it could not write.
    let early = disk::saved_by_others(opened);
    match lock(opened, deferred) {
        LockResult::Locked => match early.unwrap_or_else(|| disk::saved(opened)) {
            Saved::Yes => LockResult::Locked,
            Saved::Pulled => LockResult::LockedWithDisk,
            Saved::Failed(error) => LockResult::LockedUnsaved(error.message),
        },
        not_locked => not_locked,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_job_that_panics_ends_all_the_same() {
        assert_eq!(unless_it_panics(|| 1), Some(1));
        assert_eq!(unless_it_panics(|| -> u32 { panic!("as it is meant to") }), None);
    }
}
