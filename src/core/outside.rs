//! What others do to a slot's mount behind our back, as the mount table shows it: taken away, moved, brought back,
//! covered, made read-only. It is noticed and told, and never fought over.

use std::time::{Instant, SystemTime};

use super::closing::same;
use super::event::{Level, MountId, OnName, Unmount};
use super::shared::Shared;
use super::slot::{InUse, Slot, State};
use crate::disk::Opened;

/// A mount that is no longer on its name, while what is under it is not locked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Taken {
    pub(super) in_use: InUse,
    pub(super) since: SystemTime,
}

impl Slot {
    /// Something of ours is or was there, or something else is said to be.
    pub(super) fn expects_mounts(&self) -> bool {
        matches!(self.state, State::Mounted { .. }) || self.covered.is_some()
    }

    /// The mount table was read, beginning at `read`; `on` is what is mounted on this name.
    pub(super) fn seen(&mut self, read: Instant, on: &[&OnName], shared: &mut Shared) {
        match &self.state {
            State::Mounted { in_use, attached, .. } if read >= *attached => {
                let mount = in_use.detached.mount;
                match on.iter().find(|one| one.mount == mount) {
                    Some(ours) => self.seen_ours(ours, read, shared),
                    None => self.seen_without_ours(shared),
                }
                self.seen_others(on, Some(mount), shared);
            }
            State::Idle if self.gone.is_some_and(|gone| read <= gone) => {}
            State::Idle if self.is_back(on) => self.take_back(shared),
            State::Idle => self.seen_others(on, None, shared),
            // Something of ours is on its way to or from the name.
            _ => {}
        }
    }

    fn seen_ours(&mut self, ours: &OnName, read: Instant, shared: &mut Shared) {
        if self.waiting.retry_until(read, shared) {
            self.last_retry = Some(shared.now.monotonic);
        }
        let State::Mounted { in_use, .. } = &mut self.state else { return };
        let was = std::mem::replace(&mut in_use.detached.read_only, ours.read_only);
        let is_present = shared.inventory.is_present(in_use.place);
        match (was, ours.read_only) {
            (false, true) => shared.log(Level::Error, format!("{}: has become read-only", self.config.name)),
            (true, false) => {
                shared.log(Level::Info, format!("{}: can be written to again", self.config.name))
            }
            _ => {}
        }
        self.tell_damage(&ours.damage, shared);
        // It was covered when the disk was pulled.
        if ours.on_top && !is_present {
            self.unmount(Unmount::Lazy, shared);
        }
    }

    fn seen_without_ours(&mut self, shared: &mut Shared) {
        let State::Mounted { in_use, since, .. } = &self.state else { return };
        let (in_use, since) = ((**in_use).clone(), *since);
        self.taken_away(in_use, since, shared);
    }

    /// It is not on its name, and we have not unmounted it.
    pub(super) fn taken_away(&mut self, in_use: InUse, since: SystemTime, shared: &mut Shared) {
        let text = format!("{}: was unmounted, or moved away, by somebody else", self.config.name);
        shared.log(Level::Info, text);
        self.out_of_sight(in_use, since, shared);
    }

    /// It may live on where nobody sees it.
    pub(super) fn out_of_sight(&mut self, in_use: InUse, since: SystemTime, shared: &mut Shared) {
        self.taken = Some(Taken { in_use: in_use.clone(), since }.into());
        self.lock_what_lingers(in_use.place, in_use.detached.opened, 0, shared);
    }

    /// What is off its name, if it is that.
    pub(super) fn unseen(&self, opened: &Opened) -> Option<&InUse> {
        let in_use = self.taken.as_ref().map(|taken| &taken.in_use);
        in_use.filter(|in_use| same(&in_use.detached.opened, opened))
    }

    /// `ours` is the mount that belongs there.
    fn seen_others(&mut self, on: &[&OnName], ours: Option<MountId>, shared: &mut Shared) {
        let other = on.iter().find(|one| one.on_top && Some(one.mount) != ours);
        let covered = other.map(|one| format!("{} is mounted on it by somebody else", one.what));
        if covered != self.covered {
            let text = covered.as_deref().unwrap_or("nothing else is mounted on it any more");
            shared.log(Level::Warning, format!("{}: {text}", self.config.name));
            self.covered = covered;
        }
    }

    fn is_back(&self, on: &[&OnName]) -> bool {
        let Some(taken) = &self.taken else { return false };
        let detached = &taken.in_use.detached;
        // While it is not locked, the number of its mount is not used again.
        self.residues.iter().any(|residue| same(&residue.opened, &detached.opened))
            && on.iter().any(|one| one.mount == detached.mount)
    }

    fn take_back(&mut self, shared: &mut Shared) {
        let Some(taken) = self.taken.take() else { return };
        let Taken { in_use, since } = *taken;
        self.residues.retain(|residue| !same(&residue.opened, &in_use.detached.opened));
        shared.log(Level::Info, format!("{}: is mounted again, by somebody else", self.config.name));
        shared.inventory.claim(in_use.place, self.id);
        self.eject_at = None;
        self.mounted(in_use.into(), since, shared.now.monotonic, shared);
    }
}
