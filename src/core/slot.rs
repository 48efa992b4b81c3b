//! One mount name and what stands behind it: the states of its disk, the callers that wait, and every
//! transition. A method is named for what happened; an event that does not fit the state changes nothing.

use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

use super::event::{
    Action, Answer, Detached, Hold, JobId, Level, LockResult, RequestId, SlotId, Unmount, UnmountResult,
};
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

/// First pause before a lock that failed is tried again; doubled each time up to [`LOCK_PAUSE_MOST`].
const LOCK_PAUSE: Duration = Duration::from_secs(1);
const LOCK_PAUSE_MOST: Duration = Duration::from_secs(60);

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
    Locking { job: JobId, place: Option<Place>, opened: Box<Opened>, attempts: u32 },
    /// Nothing is open, and a job detaches the disk from the system: nobody gets anything of it meanwhile.
    Ejecting { job: JobId, place: Place },
}

/// What is unmounted but could not be locked. It is tried again while the slot is idle; meanwhile the slot can be
/// used, with this disk or another.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Residue {
    pub(super) place: Option<Place>,
    pub(super) opened: Opened,
    pub(super) retry_at: Instant,
    pub(super) attempts: u32,
    /// Why not.
    pub(super) message: String,
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
    /// The mount that somebody else took away from the name: he may bring it back.
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
    fn start(&mut self, from: usize, shared: &mut Shared) {
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
                self.state = State::Locking { job, place, opened: detached.opened.into(), attempts: 0 };
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

    /// What a job that failed could not put away is locked later, whatever else comes of the failure.
    fn keep_what_is_left(
        &mut self,
        place: Option<Place>,
        mut error: DiskError,
        shared: &mut Shared,
    ) -> DiskError {
        if let Some(opened) = error.left.take() {
            let message =
                format!("{} is not mounted, but could not be locked: {}", self.config.name, error.message);
            shared.log(Level::Warning, message.clone());
            shared.refused(message.clone());
            self.residues.retain(|residue| !same(&residue.opened, &opened));
            let retry_at = shared.now.monotonic + LOCK_PAUSE;
            self.residues.push(Residue { place, opened: *opened, retry_at, attempts: 1, message });
        }
        error
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

    fn retry_all(&mut self, shared: &mut Shared) {
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
            self.pulled(shared);
        }
    }

    /// As soon as the grace of the last trigger allows.
    pub(super) fn want_unmounted(&mut self, shared: &mut Shared) {
        let now = shared.now.monotonic;
        let at = self.last_retry.map_or(now, |last| now.max(last + GRACE));
        match &mut self.state {
            State::Mounted { unmount_at, .. } => *unmount_at = Some(at),
            State::Idle => self.residues.iter_mut().for_each(|residue| residue.retry_at = now),
            State::Preparing { job, .. } => shared.act(Action::Cancel(*job)),
            _ => {}
        }
    }

    pub(super) fn unmount(&mut self, how: Unmount, shared: &mut Shared) {
        let State::Mounted { in_use, since, attached, .. } = &self.state else { return };
        let (in_use, since, attached) = (in_use.clone(), *since, *attached);
        let job = shared.next_job(self.id);
        // An image is no disk that is pulled.
        let can_lose =
            in_use.place.is_some() && shared.inventory.is_present(in_use.place) && !in_use.detached.read_only;
        let disk = can_lose.then(|| in_use.detached.opened.clone());
        shared.act(Action::Unmount { job, slot: self.id, mount: in_use.detached.mount, how, disk });
        self.state = State::Unmounting { job, in_use, since, attached, how };
    }

    /// An unmount has ended.
    pub(super) fn unmounted(&mut self, job: JobId, result: UnmountResult, shared: &mut Shared) {
        let State::Unmounting { job: ours, in_use, since, attached, how } = &self.state else { return };
        if *ours != job {
            return;
        }
        let (in_use, since, attached, how) = (in_use.clone(), *since, *attached, *how);
        let name = self.config.name.clone();
        self.tell_loss(&in_use, &result, shared);
        let refusal = match result {
            UnmountResult::Gone | UnmountResult::GoneWithDisk | UnmountResult::GoneUnsaved(_) => {
                self.gone = Some(shared.now.monotonic);
                let why = if how == Unmount::Expire { " after disuse" } else { "" };
                shared.log(Level::Info, format!("{name}: unmounted{why}"));
                let (place, opened) = (in_use.place, in_use.detached.opened);
                if how == Unmount::Lazy && shared.inventory.is_present(place) {
                    return self.lock_what_lingers(place, opened, 0, shared);
                }
                return self.lock(place, opened, 0, shared);
            }
            UnmountResult::NotThere => return self.taken_away(*in_use, since, shared),
            UnmountResult::Marked => None,
            UnmountResult::Busy(by) => Some(format!("{name} is busy: {by}")),
            UnmountResult::Covered(by) => {
                Some(format!("{name}: {by} is mounted over it: unmount that first"))
            }
            UnmountResult::Failed(why) => {
                shared.log(Level::Error, format!("{name}: {why}"));
                Some(why)
            }
        };
        let pulled = !shared.inventory.is_present(in_use.place);
        self.mounted(in_use, since, attached, shared);
        self.retry_all(shared);
        // What changed unsaid, such as an error of the file system, is seen at this opportunity.
        shared.act(Action::LookAtMounts);
        match refusal {
            _ if pulled && how != Unmount::Lazy => self.unmount(Unmount::Lazy, shared),
            Some(why) if how != Unmount::Expire => self.refused(why, shared),
            _ if !self.commands.is_empty() || shared.is_unmounting() => self.want_unmounted(shared),
            _ => {}
        }
    }

    fn lock(&mut self, place: Option<Place>, opened: Opened, attempts: u32, shared: &mut Shared) {
        if opened.mapping.is_none() && opened.loop_device.is_none() {
            return self.closed(shared);
        }
        self.lock_what_lingers(place, opened, attempts, shared);
    }

    /// [`Slot::lock`] of what may be mounted still, unseen or elsewhere: a disk without mapping is looked at too.
    pub(super) fn lock_what_lingers(
        &mut self,
        place: Option<Place>,
        opened: Opened,
        attempts: u32,
        shared: &mut Shared,
    ) {
        let job = shared.next_job(self.id);
        // From the second time on the kernel is asked to close it when the last user goes.
        let deferred = attempts > 0 || !shared.inventory.is_present(place) || self.is_wanted_lazily();
        shared.act(Action::Lock { job, opened: opened.clone(), deferred });
        self.state = State::Locking { job, place, opened: opened.into(), attempts };
    }

    /// A lock has ended.
    pub(super) fn locked(&mut self, job: JobId, result: LockResult, shared: &mut Shared) {
        let State::Locking { job: ours, place, opened, attempts } = &self.state else { return };
        if *ours != job {
            return;
        }
        let (place, opened, attempts) = (*place, (**opened).clone(), *attempts);
        let why = match result {
            LockResult::Locked => {
                // That it could not be locked has been told, for what has no mapping too.
                if opened.mapping.is_some() || attempts > 0 {
                    shared.log(Level::Info, format!("{}: locked", self.config.name));
                }
                self.residues.retain(|residue| !same(&residue.opened, &opened));
                self.taken.take_if(|taken| same(&taken.in_use.detached.opened, &opened));
                // Whoever met it in use meanwhile would not any more.
                self.failure.take_if(|failure| failure.kind == ErrorKind::Busy);
                return self.closed(shared);
            }
            LockResult::Held(why) | LockResult::Failed(why) => why,
        };
        let message = format!("{} is unmounted, but could not be locked: {why}", self.config.name);
        if attempts == 0 {
            shared.log(Level::Warning, message.clone());
        }
        self.lock_refused(&why, &message, shared);
        if self.taken.is_some() {
            // It may be back, which has been no news while this was under way.
            shared.act(Action::LookAtMounts);
        }
        let mut pause = LOCK_PAUSE.saturating_mul(1 << attempts.min(6)).min(LOCK_PAUSE_MOST);
        if !self.commands.is_empty() {
            pause = LOCK_PAUSE;
        }
        let retry_at = shared.now.monotonic + pause;
        let attempts = attempts + 1;
        // It was there already if it was reused meanwhile, and is one thing to be locked.
        self.residues.retain(|residue| !same(&residue.opened, &opened));
        self.residues.push(Residue { place, opened, retry_at, attempts, message });
        self.rest();
        self.go_on(shared);
    }

    /// Nothing is open any more, but perhaps a residue.
    fn closed(&mut self, shared: &mut Shared) {
        let last = self.place();
        self.release(shared);
        self.rest();
        // What is held of a disk that has been pulled is not what a person wants to unplug.
        if !self.residues.iter().any(|residue| shared.inventory.is_present(residue.place)) {
            self.locked_for_commands(shared);
            if shared.stopping {
                self.refuse_commands("unmounted and locked, but not ejected: the daemon is to end", shared);
            } else if !self.commands.is_empty() {
                return self.eject(last, shared);
            }
        }
        self.go_on(shared);
    }

    /// Whoever came while it was being closed gets the disk after all, unless everything is to end.
    pub(super) fn go_on(&mut self, shared: &mut Shared) {
        if shared.stopping {
            self.waiting.fail(libc::EBUSY, shared);
        } else if !self.waiting.is_empty() {
            self.start(0, shared);
        }
    }

    /// Nothing is in use any more: what is configured now holds. Whether that is new.
    pub(super) fn rest(&mut self) -> bool {
        self.state = State::Idle;
        self.disk_leaves = false;
        let next = self.next.take();
        let is_new = next.is_some();
        self.config = next.unwrap_or_else(|| Arc::clone(&self.config));
        is_new
    }

    /// The disk of this state is given up, unless a residue still holds it.
    pub(super) fn release(&mut self, shared: &mut Shared) {
        let place = self.place();
        if !self.residues.iter().any(|residue| residue.place == place) {
            shared.inventory.release(place, self.id);
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

/// Whether closing one closes the other.
pub(super) fn same(one: &Opened, other: &Opened) -> bool {
    let plain = |opened: &Opened| opened.mapping.is_none() && opened.loop_device.is_none();
    (plain(one) && plain(other) && one.device == other.device && one.disk_sequence == other.disk_sequence)
        || (one.mapping.is_some() && one.mapping == other.mapping)
        || (one.loop_device.is_some() && one.loop_device == other.loop_device)
}
