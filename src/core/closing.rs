//! How a slot is closed: its mount is unmounted, its disk locked, and what cannot be locked is tried again.

use std::sync::Arc;
use std::time::{Duration, Instant};

use super::event::{Action, JobId, Level, LockResult, Unmount, UnmountResult};
use super::inventory::Place;
use super::shared::Shared;
use super::slot::{GRACE, Slot, State};
use crate::disk::{DiskError, ErrorKind, Opened};

/// First pause before a lock that failed is tried again; doubled each time up to [`LOCK_PAUSE_MOST`].
const LOCK_PAUSE: Duration = Duration::from_secs(1);
const LOCK_PAUSE_MOST: Duration = Duration::from_secs(60);

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

impl Slot {
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
        let disk = in_use.can_lose(shared).then(|| in_use.detached.opened.clone());
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
                if how == Unmount::Lazy && shared.inventory.is_present(in_use.place) {
                    return self.out_of_sight(*in_use, since, shared);
                }
                return self.lock(in_use.place, in_use.detached.opened, 0, shared);
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

    pub(super) fn lock(&mut self, place: Option<Place>, opened: Opened, attempts: u32, shared: &mut Shared) {
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
        let asks = self.unseen(&opened).is_some_and(|in_use| in_use.can_lose(shared));
        shared.act(Action::Lock { job, opened: opened.clone(), deferred, asks });
        self.state = State::Locking { job, place, opened: opened.into(), attempts, asks };
    }

    /// A lock has ended.
    pub(super) fn locked(&mut self, job: JobId, result: LockResult, shared: &mut Shared) {
        let State::Locking { job: ours, place, opened, attempts, asks } = &self.state else { return };
        if *ours != job {
            return;
        }
        let (place, opened, attempts, asks) = (*place, (**opened).clone(), *attempts, *asks);
        if asks {
            self.tell_loss_unseen(&opened, &result, shared);
        }
        let why = match result {
            LockResult::Locked | LockResult::LockedWithDisk | LockResult::LockedUnsaved(_) => {
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
        self.try_again(Residue { place, opened, retry_at, attempts: attempts + 1, message });
        self.rest();
        self.go_on(shared);
    }

    /// Nothing is open any more, but perhaps a residue.
    pub(super) fn closed(&mut self, shared: &mut Shared) {
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

    /// What a job that failed could not put away is locked later, whatever else comes of the failure.
    pub(super) fn keep_what_is_left(
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
            let retry_at = shared.now.monotonic + LOCK_PAUSE;
            self.try_again(Residue { place, opened: *opened, retry_at, attempts: 1, message });
        }
        error
    }

    fn try_again(&mut self, residue: Residue) {
        // It was there already if it was reused meanwhile, and is one thing to be locked.
        self.residues.retain(|other| !same(&other.opened, &residue.opened));
        self.residues.push(residue);
    }
}

/// Whether closing one closes the other.
pub(super) fn same(one: &Opened, other: &Opened) -> bool {
    let plain = |opened: &Opened| opened.mapping.is_none() && opened.loop_device.is_none();
    (plain(one) && plain(other) && one.device == other.device && one.disk_sequence == other.disk_sequence)
        || (one.mapping.is_some() && one.mapping == other.mapping)
        || (one.loop_device.is_some() && one.loop_device == other.loop_device)
}
