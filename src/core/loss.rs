//! What may be lost with a disk that is pulled or fails while a slot has it open: it is told in the log, in the status
//! until the name is used again, and to whoever wanted the disk unmounted.

use super::event::{Action, Level, LockResult, Unmount, UnmountResult};
use super::shared::Shared;
use super::slot::{InUse, Slot, State};
use crate::device::DiskSeq;
use crate::disk::{Damage, Opened};

/// What was done with a disk that is out of sight and not locked.
const HELD: &str = "still in use";

/// How a sentence ends that tells of a loss.
const LOST: &str = ": what was written last may be lost";

impl Slot {
    /// A disk that this slot has something of has been pulled.
    pub(super) fn pulled(&mut self, disk: DiskSeq, shared: &mut Shared) {
        if self.place().is_none_or(|place| place.disk != disk) {
            // It could not be locked: that is tried again, whatever the slot has meanwhile.
            return self.pulled_unseen(disk, shared);
        }
        match &self.state {
            State::Preparing { job, .. } => {
                shared.act(Action::Cancel(*job));
                self.tell_pulled_unused(shared);
            }
            State::Mounted { in_use, .. } => {
                let text = pulled_text(in_use, "mounted");
                self.tell(text, shared);
                self.unmount(Unmount::Lazy, shared);
            }
            State::Unmounting { in_use, .. } => {
                let text = pulled_text(in_use, "being unmounted");
                self.tell(text, shared);
            }
            // The results of the jobs under way find that it is not there.
            _ => {}
        }
    }

    /// A disk that could not be locked yet has been pulled.
    fn pulled_unseen(&mut self, disk: DiskSeq, shared: &mut Shared) {
        let Some(taken) = &self.taken else { return };
        if taken.in_use.place.is_some_and(|place| place.disk == disk) {
            let text = pulled_text(&taken.in_use, HELD);
            match self.state {
                State::Idle => self.tell(text, shared),
                // It has another disk by now, of which nothing is lost.
                _ => shared.log(Level::Error, format!("{}: {text}", self.config.name)),
            }
        }
    }

    /// A disk that was there when its lock began was asked whether it has got what was written to it out of sight.
    pub(super) fn tell_loss_unseen(&mut self, opened: &Opened, result: &LockResult, shared: &mut Shared) {
        let Some(in_use) = self.unseen(opened) else { return };
        let text = match result {
            LockResult::LockedUnsaved(why) => failed_text(in_use, why),
            LockResult::LockedWithDisk => pulled_text(in_use, "being unmounted"),
            LockResult::Held(_) | LockResult::Failed(_) if !shared.inventory.is_present(in_use.place) => {
                pulled_text(in_use, HELD)
            }
            _ => return,
        };
        self.tell(text, shared);
    }

    /// Nobody has written anything.
    pub(super) fn tell_pulled_unused(&self, shared: &mut Shared) {
        let name = &self.config.name;
        shared.log(Level::Warning, format!("{name}: its disk was pulled while it was being opened"));
    }

    fn tell(&mut self, text: String, shared: &mut Shared) {
        shared.log(Level::Error, format!("{}: {text}", self.config.name));
        self.loss = Some(text);
    }

    /// The kernel unmounts a disk that it can no longer write to as if all was well.
    pub(super) fn tell_loss(&mut self, in_use: &InUse, result: &UnmountResult, shared: &mut Shared) {
        if !shared.inventory.is_present(in_use.place) {
            // It was told when the news of the pull came.
            return;
        }
        match result {
            UnmountResult::GoneWithDisk => self.tell(pulled_text(in_use, "being unmounted"), shared),
            UnmountResult::GoneUnsaved(why) => self.tell(failed_text(in_use, why), shared),
            _ => {}
        }
    }

    /// What its file system has found in itself is known: the first of it is logged. Once its journal is aborted, ext4
    /// counts each refused write as another error.
    pub(super) fn tell_damage(&mut self, damage: &Damage, shared: &mut Shared) {
        let State::Mounted { in_use, .. } = &mut self.state else { return };
        if damage.count > in_use.detached.errors {
            in_use.detached.errors = damage.count;
            let device = in_use.detached.opened.device.display();
            let consequence = "it may refuse to be written to, and what was written last may be lost";
            let text = format!("the file system on {device} is damaged ({damage}): {consequence}");
            match &mut self.loss {
                Some(told) => *told = text,
                None => self.tell(text, shared),
            }
        }
    }

    /// Whoever wants a disk in safety is not told that all is well when it is not.
    pub(super) fn unless_lost(&self, reply: Result<String, String>) -> Result<String, String> {
        match (&self.loss, reply) {
            (Some(loss), Ok(text)) => Err(format!("{text}, but {loss}")),
            (Some(loss), Err(why)) => Err(format!("{why}; {loss}")),
            (None, reply) => reply,
        }
    }

    /// For whoever asked for more than this name.
    pub(super) fn loss_in_words(&self) -> Option<String> {
        self.loss.as_ref().map(|loss| format!("{}: {loss}", self.config.name))
    }
}

fn failed_text(in_use: &InUse, why: &str) -> String {
    let device = in_use.detached.opened.device.display();
    format!("{device} has failed while being unmounted ({why}){LOST}")
}

/// What happened to a disk, and what may be lost.
fn pulled_text(in_use: &InUse, doing: &str) -> String {
    let device = in_use.detached.opened.device.display();
    let lost = if in_use.detached.read_only { "" } else { LOST };
    format!("{device} was pulled while {doing}{lost}")
}
