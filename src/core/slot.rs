//! One mount name and what stands behind it: the states of its disk, the callers that wait, and what happens until
//! it is mounted. A method is named for what happened; an event that does not fit the state changes nothing.

use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

use super::closing::{Residue, same};
use super::event::{Action, Answer, Detached, Hold, JobId, Level, RequestId, SlotId, Unmount};
use super::inventory::{Choice, Place};
use super::leaving::Command;
use super::outside::Taken;
use super::shared::Shared;
use super::waiting::Waiting;
use crate::config::Mount;
use crate::device::DiskSeq;
use crate::disk::{self, DiskError, ErrorKind, Opened};

/// The kernel retries an access that met ESTALE once: nothing is unmounted sooner than this after a trigger.
pub(super) const GRACE: Duration = Duration::from_secs(1);

/// What is open for a slot. States hold it in a box: most slots have none.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct InUse {
    /// What it has of which disk; `None` for an image.
    pub(super) place: Option<Place>,
    /// The mount and what is under it.
    pub(super) detached: Detached,
    /// Which of the disks of [`Slot::config`]; `None` = an earlier run knew.
    pub(super) spec: Option<usize>,
}

impl InUse {
    /// Something that was written may not be on the disk, which can be asked. An image is no disk that is pulled.
    pub(super) fn can_lose(&self, shared: &Shared) -> bool {
        self.place.is_some() && shared.inventory.is_present(self.place) && !self.detached.read_only
    }
}

/// Whether the config has the name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Membership {
    Configured,
    /// Not any more, but something of it is open.
    Leaving,
    /// Not any more, and it is not in the root.
    Gone,
}

/// The states of a slot. ARCHITECTURE.md draws them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum State {
    /// Nothing is open, but perhaps a [`Residue`].
    Idle,
    /// A job opens, unlocks and mounts the disk, detached.
    Preparing {
        job: JobId,
        place: Option<Place>,
        /// Which of the configured disks, to go on with the next if it is not there.
        spec: usize,
        /// Everybody who waited has died, so the job was told to stop.
        is_deserted: bool,
    },
    /// Its mount is being attached to the name directory: walks to the name wait.
    Attaching { job: JobId, in_use: Box<InUse> },
    /// It is mounted.
    Mounted {
        in_use: Box<InUse>,
        since: SystemTime,
        /// move_mount(2) had returned then.
        attached: Instant,
        /// To be expired then; `None` = never.
        expire_at: Option<Instant>,
        /// A person or the end of the daemon wants it unmounted then.
        unmount_at: Option<Instant>,
    },
    /// A job tries to unmount it.
    Unmounting { job: JobId, in_use: Box<InUse>, since: SystemTime, attached: Instant, how: Unmount },
    /// Unmounted; a job closes the mapping and sees the loop device go.
    Locking {
        job: JobId,
        place: Option<Place>,
        opened: Box<Opened>,
        attempts: u32,
        /// The job also finds whether the disk has got everything; it was there when it began.
        asks: bool,
    },
    /// Nothing is open, and a job detaches the disk from the system: nobody gets anything of it meanwhile.
    Ejecting { job: JobId, place: Place },
}

/// A mount name with its state.
#[derive(Debug)]
#[cfg_attr(test, derive(Clone))]
pub(super) struct Slot {
    pub(super) id: SlotId,
    /// What holds for what is open.
    pub(super) config: Arc<Mount>,
    /// What holds as soon as nothing of the old one is open; its time-outs at once.
    pub(super) next: Option<Arc<Mount>>,
    pub(super) membership: Membership,
    /// The disk that is in use is not one of those that are configured now.
    pub(super) disk_leaves: bool,
    pub(super) state: State,
    pub(super) waiting: Waiting,
    pub(super) residues: Vec<Residue>,
    /// Commands that end when it is locked, or cannot be.
    pub(super) commands: Vec<Command>,
    /// While idle: a disk that is to be ejected is tried again then.
    pub(super) eject_at: Option<Instant>,
    /// Why the last access failed, until the devices change.
    pub(super) failure: Option<DiskError>,
    /// Our last mount was known to be gone then: a mount table that is older may show it.
    pub(super) gone: Option<Instant>,
    /// What somebody else has mounted over it.
    pub(super) covered: Option<String>,
    /// The mount that is off the name, lazily or by somebody else: it may live on, and he may bring it back.
    pub(super) taken: Option<Box<Taken>>,
    /// What may be lost of a disk, and how, until the name is used again.
    pub(super) loss: Option<String>,
    /// The last trigger that was answered with [`Answer::Retry`].
    pub(super) last_retry: Option<Instant>,
}

impl Slot {
    pub(super) fn new(id: SlotId, config: Arc<Mount>) -> Self {
        Self {
            id,
            config,
            next: None,
            membership: Membership::Configured,
            disk_leaves: false,
            state: State::Idle,
            waiting: Waiting::new(id),
            residues: Vec::new(),
            commands: Vec::new(),
            eject_at: None,
            failure: None,
            gone: None,
            covered: None,
            taken: None,
            loss: None,
            last_retry: None,
        }
    }

    /// Somebody enters the name directory.
    pub(super) fn trigger(&mut self, request: RequestId, hold: Hold, shared: &mut Shared) {
        if shared.stopping {
            return shared.answer(request, Answer::Fail(libc::EBUSY));
        }
        // The attach waits for the lock that this caller holds.
        if hold == Hold::Directory && matches!(self.state, State::Attaching { .. }) {
            self.last_retry = Some(shared.now.monotonic);
            return shared.answer(request, Answer::Retry);
        }
        self.waiting.enter(request, hold, shared.now.monotonic, self.newest().access_timeout, shared);
        match self.state {
            State::Idle => self.start(0, shared),
            // Perhaps it has just been unmounted from outside; perhaps the caller cannot see it.
            State::Mounted { .. } => shared.act(Action::LookAtMounts),
            _ => {}
        }
    }

    /// Somebody walks to the name.
    pub(super) fn walk(&mut self, request: RequestId, shared: &mut Shared) {
        if matches!(self.state, State::Attaching { .. }) {
            self.waiting.walk(request, shared.now.monotonic, self.newest().access_timeout, shared);
        } else if self.membership == Membership::Gone {
            shared.answer(request, Answer::Fail(libc::ENOENT));
        } else {
            shared.answer(request, Answer::Entry);
        }
    }

    /// The caller of a waiting request got a signal, and dies of it or does not.
    pub(super) fn caller(&mut self, request: RequestId, dying: bool, shared: &mut Shared) {
        self.waiting.caller(request, dying, shared);
        if !self.waiting.is_empty() {
            return;
        }
        match &mut self.state {
            State::Preparing { job, is_deserted, .. } if dying && !*is_deserted => {
                *is_deserted = true;
                shared.act(Action::Cancel(*job));
            }
            _ => {}
        }
    }

    /// The disk, or that there is none, is decided from the configured disk number `from` on.
    pub(super) fn start(&mut self, from: usize, shared: &mut Shared) {
        self.release(shared);
        // Of another list the number says nothing.
        let from = if self.rest() { 0 } else { from };
        if self.membership != Membership::Configured {
            self.waiting.fail(libc::ENOENT, shared);
            return self.closed(shared);
        }
        let deadline = shared.now.monotonic + self.config.access_timeout;
        match shared.inventory.choose(self.id, &self.config, from, deadline) {
            Choice::Use { spec, place, order } => {
                shared.inventory.claim(place, self.id);
                let job = shared.next_job(self.id);
                self.state = State::Preparing { job, place, spec, is_deserted: false };
                shared.act(Action::Prepare { job, slot: self.id, order: *order });
            }
            Choice::Refused(error) => self.give_up(error, shared),
        }
    }

    /// A detached mount is ready, or cannot be.
    pub(super) fn prepared(&mut self, job: JobId, result: Result<Detached, DiskError>, shared: &mut Shared) {
        let State::Preparing { job: ours, place, spec, is_deserted } = self.state else { return };
        if ours != job {
            return;
        }
        let result = result.map_err(|error| self.keep_what_is_left(place, error, shared));
        match result {
            Ok(detached)
                if shared.stopping
                    || !shared.inventory.is_present(place)
                    || (is_deserted && self.waiting.is_empty()) =>
            {
                shared.act(Action::Abandon(job));
                if shared.stopping {
                    self.waiting.fail(libc::EBUSY, shared);
                }
                let opened = detached.opened.into();
                self.state = State::Locking { job, place, opened, attempts: 0, asks: false };
            }
            Ok(detached) => {
                if let Some(image) = self.config.disks.get(spec).and_then(|spec| spec.image.as_ref()) {
                    let content = disk::hint(&detached.opened, &detached.filesystem);
                    shared.inventory.image_holds(image, content);
                }
                for note in &detached.notes {
                    shared.log(Level::Warning, format!("{}: {note}", self.config.name));
                }
                let in_use = InUse { place, detached, spec: Some(spec) };
                self.state = State::Attaching { job, in_use: in_use.into() };
                let first = self.waiting.take_holders(shared);
                if !first.is_empty() {
                    self.last_retry = Some(shared.now.monotonic);
                }
                shared.act(Action::Attach { job, first });
            }
            // Not a failure; and whoever has come since then is not told what became of it.
            Err(error) if is_deserted && !shared.stopping => {
                let name = &self.config.name;
                shared.log(Level::Info, format!("{name}: given up, nobody waits for it: {}", error.message));
                self.closed(shared);
            }
            // Pulled meanwhile, and perhaps plugged in again: whatever the job says, it says of a disk that is gone.
            Err(_) if !shared.stopping && !shared.inventory.is_present(place) => self.start(0, shared),
            Err(error) if error.kind == ErrorKind::Absent && !shared.stopping => self.start(spec + 1, shared),
            Err(error) => self.give_up(error, shared),
        }
    }

    /// No disk can be had: everybody who waits is told.
    fn give_up(&mut self, error: DiskError, shared: &mut Shared) {
        self.waiting.fail(error.kind.errno().raw_os_error(), shared);
        // Said once, not at every access that finds the same.
        if self.failure.as_ref() != Some(&error) {
            let level = if error.kind == ErrorKind::Absent { Level::Info } else { Level::Warning };
            shared.log(level, format!("{}: {}", self.config.name, error.message));
        }
        self.failure = Some(error);
        self.closed(shared);
    }

    /// The mount is attached, or cannot be.
    pub(super) fn attached(&mut self, job: JobId, result: Result<Instant, DiskError>, shared: &mut Shared) {
        let State::Attaching { job: ours, in_use } = &self.state else { return };
        if *ours != job {
            return;
        }
        let in_use = in_use.clone();
        self.waiting.let_walk(shared);
        match result {
            Ok(attached) => {
                self.failure = None;
                self.loss = None;
                self.residues.retain(|residue| !same(&residue.opened, &in_use.detached.opened));
                let pulled = !shared.inventory.is_present(in_use.place);
                let what = match in_use.place {
                    Some(place) => shared.inventory.describe(place),
                    None => in_use.detached.opened.device.display().to_string(),
                };
                let read_only = if in_use.detached.read_only { ", read-only" } else { "" };
                let filesystem = in_use.detached.filesystem.clone();
                self.mounted(in_use, shared.now.wall, attached, shared);
                if !pulled {
                    // Before the log: nobody waits for that.
                    self.retry_all(shared);
                }
                let name = &self.config.name;
                shared.log(Level::Info, format!("{name}: mounted {what} ({filesystem}{read_only})"));
                if pulled {
                    // Whoever still waits gets the next disk when this one is gone.
                    self.tell_pulled_unused(shared);
                    self.unmount(Unmount::Lazy, shared);
                } else if shared.is_unmounting() || !self.commands.is_empty() {
                    self.want_unmounted(shared);
                }
            }
            Err(error) => {
                shared.log(Level::Error, format!("{}: {}", self.config.name, error.message));
                self.waiting.fail(error.kind.errno().raw_os_error(), shared);
                self.failure = Some(error);
                self.lock(in_use.place, in_use.detached.opened, 0, shared);
            }
        }
    }

    pub(super) fn mounted(
        &mut self,
        in_use: Box<InUse>,
        since: SystemTime,
        attached: Instant,
        shared: &mut Shared,
    ) {
        // Once the kernel has marked the mount, the next look after the time-out takes it: one to two time-outs.
        let expire_at = self.idle_timeout().map(|idle| shared.now.monotonic + idle.max(GRACE));
        self.state = State::Mounted { in_use, since, attached, expire_at, unmount_at: None };
    }

    pub(super) fn retry_all(&mut self, shared: &mut Shared) {
        if self.waiting.retry(shared) {
            self.last_retry = Some(shared.now.monotonic);
        }
    }

    /// What an earlier run left mounted or unlocked is ours again.
    pub(super) fn left(&mut self, is_mounted: bool, detached: Detached, shared: &mut Shared) {
        if self.state != State::Idle {
            return;
        }
        let of_image = detached.opened.loop_device.is_some() || !is_mounted;
        let (sequence, node) = (DiskSeq(detached.opened.disk_sequence), &detached.opened.device);
        let place = (!of_image).then(|| shared.inventory.place(sequence, node));
        shared.inventory.claim(place, self.id);
        let name = &self.config.name;
        if !is_mounted {
            shared.log(Level::Info, format!("{name}: locking what an earlier run left open"));
            return self.lock(place, detached.opened, 0, shared);
        }
        shared.log(Level::Info, format!("{name}: taken over, mounted by an earlier run"));
        let in_use = InUse { place, detached, spec: None };
        self.mounted(in_use.into(), shared.now.wall, shared.now.monotonic, shared);
        if !shared.inventory.is_present(place) {
            self.pulled(sequence, shared);
        }
    }

    /// Whatever is due at this moment.
    pub(super) fn tick(&mut self, shared: &mut Shared) {
        let now = shared.now.monotonic;
        self.waiting.tick(shared);
        match &mut self.state {
            State::Mounted { expire_at, unmount_at, .. } => {
                // A trigger that was answered meanwhile puts both off.
                let grace = self.last_retry.map_or(now, |last| last + GRACE);
                for at in [&mut *expire_at, &mut *unmount_at].into_iter().flatten().filter(|at| **at < grace)
                {
                    *at = grace;
                }
                if unmount_at.is_some_and(|at| at <= now) {
                    let lazily = self.is_wanted_lazily();
                    self.unmount(if lazily { Unmount::Lazy } else { Unmount::Now }, shared);
                } else if expire_at.is_some_and(|at| at <= now) {
                    self.unmount(Unmount::Expire, shared);
                }
            }
            State::Idle => {
                if let Some(due) = self.residues.iter().position(|residue| residue.retry_at <= now) {
                    let Residue { place, opened, attempts, .. } = self.residues.remove(due);
                    self.lock_what_lingers(place, opened, attempts, shared);
                } else if self.eject_at.is_some_and(|at| at <= now) {
                    self.eject(None, shared);
                }
            }
            _ => {}
        }
    }

    /// When [`Slot::tick`] has something to do.
    pub(super) fn next_tick(&self) -> Option<Instant> {
        let own = match &self.state {
            State::Mounted { expire_at, unmount_at, .. } => {
                [*expire_at, *unmount_at].into_iter().flatten().min()
            }
            State::Idle => self.residues.iter().map(|residue| residue.retry_at).chain(self.eject_at).min(),
            _ => None,
        };
        [own, self.waiting.next_tick()].into_iter().flatten().min()
    }

    /// What it has of which disk.
    pub(super) fn place(&self) -> Option<Place> {
        match &self.state {
            State::Idle => None,
            State::Ejecting { place, .. } => Some(*place),
            State::Preparing { place, .. } | State::Locking { place, .. } => *place,
            State::Attaching { in_use, .. }
            | State::Mounted { in_use, .. }
            | State::Unmounting { in_use, .. } => in_use.place,
        }
    }

    /// Nothing is under way, so that the daemon may end or is refused to.
    pub(super) fn is_settled(&self, now: Instant) -> bool {
        match &self.state {
            State::Idle => self.residues.iter().all(|residue| residue.retry_at > now),
            State::Mounted { unmount_at, .. } => unmount_at.is_none(),
            _ => false,
        }
    }

    /// No job is under way: what is open can be left to a successor.
    pub(super) fn is_at_rest(&self) -> bool {
        matches!(self.state, State::Idle | State::Mounted { .. })
    }

    /// What is mounted stays so; what is being opened does not go on.
    pub(super) fn keep(&mut self, shared: &mut Shared) {
        match &mut self.state {
            State::Mounted { unmount_at, expire_at, .. } => {
                (*unmount_at, *expire_at) = (None, None);
                self.waiting.fail(libc::EBUSY, shared);
            }
            State::Preparing { job, .. } => shared.act(Action::Cancel(*job)),
            _ => {}
        }
    }

    /// Nothing at all is open.
    pub(super) fn is_closed(&self) -> bool {
        self.state == State::Idle && self.residues.is_empty()
    }
}
