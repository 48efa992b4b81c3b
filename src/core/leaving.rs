//! What people want of a slot: that it is unmounted, now, lazily or once it is idle, and that its disk is ejected. A
//! command is replied to once, when that is done or cannot be.

use std::time::Duration;

use super::event::{Action, CommandId, EjectResult, JobId, Level, Wish};
use super::inventory::{Place, taken};
use super::shared::Shared;
use super::slot::{Slot, State};
use crate::device::DiskSeq;
use crate::disk::ErrorKind;

/// Nothing tells when a disk becomes idle: it is tried this often while a command waits for it.
const WAIT_PAUSE: Duration = Duration::from_secs(1);

/// A command that is under way.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Command {
    pub(super) id: CommandId,
    pub(super) wish: Wish,
    pub(super) waits: bool,
    /// What it waits for, as it was told last.
    pub(super) told: Option<String>,
}

impl Command {
    pub(super) fn new(id: CommandId, wish: Wish, waits: bool) -> Self {
        Self { id, wish, waits, told: None }
    }
}

impl Slot {
    /// A person wants it unmounted, or its disk ejected.
    pub(super) fn wanted(&mut self, command: Command, shared: &mut Shared) {
        let name = &self.config.name;
        let refusal = match &self.state {
            State::Idle if self.residues.is_empty() && command.wish == Wish::Ejected => {
                self.commands.push(command);
                return self.eject(None, shared);
            }
            State::Idle if self.residues.is_empty() => "is not mounted",
            State::Ejecting { .. } => "is being ejected",
            State::Preparing { .. } | State::Attaching { .. } if !command.waits => {
                "is being mounted for a caller that waits"
            }
            State::Preparing { .. } | State::Attaching { .. } => {
                let why = format!("{name} is being mounted for a caller that waits");
                shared.act(Action::Tell(command.id, why));
                return self.commands.push(command);
            }
            _ => {
                self.commands.push(command);
                return self.want_unmounted(shared);
            }
        };
        shared.act(Action::Reply(command.id, Err(format!("{name} {refusal}"))));
    }

    fn take_commands(&mut self, which: impl Fn(&Command) -> bool) -> Vec<Command> {
        let (taken, left) = std::mem::take(&mut self.commands).into_iter().partition(which);
        self.commands = left;
        taken
    }

    pub(super) fn has_command(&self, id: CommandId) -> bool {
        self.commands.iter().any(|command| command.id == id)
    }

    /// The command waits no longer: without another one, what has not begun is not done.
    pub(super) fn gave_up(&mut self, id: CommandId, shared: &mut Shared) {
        for command in self.take_commands(|command| command.id == id) {
            let name = &self.config.name;
            let why = match self.under_way(shared) {
                Some(job) => format!("{name}: {}", job.sentence(shared.now.monotonic)),
                None => command.told.unwrap_or_else(|| format!("{name} is busy")),
            };
            shared.act(Action::Reply(id, Err(format!("waited in vain: {why}"))));
        }
        if self.commands.is_empty() {
            self.eject_at = None;
            match &mut self.state {
                State::Mounted { unmount_at, .. } if !shared.is_unmounting() => *unmount_at = None,
                _ => {}
            }
        }
    }

    /// Commands that cannot be carried out any more.
    pub(super) fn refuse_commands(&mut self, why: &str, shared: &mut Shared) {
        for command in self.commands.drain(..) {
            shared.act(Action::Reply(command.id, Err(format!("{}: {why}", self.config.name))));
        }
        self.eject_at = None;
    }

    /// Somebody wants it out of sight even while it is in use.
    pub(super) fn is_wanted_lazily(&self) -> bool {
        self.commands.iter().any(|command| command.wish == Wish::LockedLater)
    }

    /// It could not be unmounted or ejected: whoever waits is told and waits on.
    pub(super) fn refused(&mut self, why: String, shared: &mut Shared) {
        for command in self.take_commands(|command| !command.waits) {
            shared.act(Action::Reply(command.id, self.unless_lost(Err(why.clone()))));
        }
        self.tell_who_waits(&why, shared);
        if let State::Mounted { unmount_at, .. } = &mut self.state {
            *unmount_at = (!self.commands.is_empty()).then(|| shared.now.monotonic + WAIT_PAUSE);
        }
        shared.refused(why);
    }

    fn tell_who_waits(&mut self, why: &str, shared: &mut Shared) {
        for command in &mut self.commands {
            if command.told.as_deref() != Some(why) {
                command.told = Some(why.to_owned());
                shared.act(Action::Tell(command.id, why.to_owned()));
            }
        }
    }

    /// It is unmounted and could not be locked.
    pub(super) fn lock_refused(&mut self, why: &str, message: &str, shared: &mut Shared) {
        let name = self.config.name.clone();
        for command in self.take_commands(|command| !command.waits) {
            let reply = match command.wish {
                Wish::LockedLater => Ok(format!(
                    "{name} is out of sight, and it will be locked when its last user has ended: {why}"
                )),
                _ => Err(message.to_owned()),
            };
            shared.act(Action::Reply(command.id, self.unless_lost(reply)));
        }
        self.tell_who_waits(message, shared);
        shared.refused(message.to_owned());
    }

    /// It is unmounted and locked: the commands that are left want it ejected.
    pub(super) fn locked_for_commands(&mut self, shared: &mut Shared) {
        let reply = self.unless_lost(Ok(format!("{} is unmounted and locked", self.config.name)));
        for command in self.take_commands(|command| command.wish != Wish::Ejected) {
            shared.act(Action::Reply(command.id, reply.clone()));
        }
    }

    /// The disk that it has, or would be given.
    pub(super) fn disk(&self, shared: &Shared) -> Option<DiskSeq> {
        let present = |place: &Place| shared.inventory.is_present(Some(*place));
        let held = self.place().filter(present).map(|place| place.disk);
        held.or_else(|| Some(shared.inventory.attached(&self.config).ok()?.seq))
    }

    /// Nothing is open: ejects the disk that was, or the one that an access would take.
    pub(super) fn eject(&mut self, last: Option<Place>, shared: &mut Shared) {
        self.eject_at = None;
        if self.residues.iter().any(|residue| shared.inventory.is_present(residue.place)) {
            // When that is locked, this comes again.
            return;
        }
        let name = &self.config.name;
        if last.is_some_and(|place| !shared.inventory.is_present(Some(place))) {
            return self.ejected_for_commands(Ok(format!("{name}: its disk is unplugged already")), shared);
        }
        let known = last.and_then(|place| shared.inventory.disk(place.disk)).map(Ok);
        let disk = match known.unwrap_or_else(|| shared.inventory.attached(&self.config)) {
            Ok(disk) => disk,
            Err(error)
                if error.kind == ErrorKind::Absent && self.config.disks.iter().any(|d| d.image.is_some()) =>
            {
                let text = format!("{name} is unmounted and locked; an image cannot be unplugged");
                return self.ejected_for_commands(Ok(text), shared);
            }
            Err(error) => {
                return self.ejected_for_commands(Err(format!("{name}: {}", error.message)), shared);
            }
        };
        let place = Place { disk: disk.seq, partition: None };
        if shared.inventory.is_taken(place, self.id) {
            let why = format!("{name} is not ejected: {}", taken(disk).message);
            return self.not_ejected(why, shared);
        }
        let (node, sequence) = (disk.node.devnode.clone(), disk.seq);
        shared.inventory.claim(Some(place), self.id);
        let job = shared.next_job(self.id);
        shared.act(Action::Eject { job, disk: node, sequence });
        self.state = State::Ejecting { job, place };
    }

    /// The disk is detached, or could not be.
    pub(super) fn ejected(&mut self, job: JobId, result: EjectResult, shared: &mut Shared) {
        let State::Ejecting { job: ours, place } = self.state else { return };
        if ours != job {
            return;
        }
        let what = shared.inventory.describe(place);
        self.release(shared);
        self.rest();
        let name = &self.config.name;
        match result {
            EjectResult::Ejected(how) => {
                shared.log(Level::Info, format!("{name}: ejected {what}"));
                self.ejected_for_commands(Ok(format!("{name}: {how}")), shared);
            }
            EjectResult::Busy(by) => self.not_ejected(format!("{name} is not ejected: {by}"), shared),
            EjectResult::Failed(why) => {
                let why = format!("{name} is unmounted and locked, but could not be ejected: {why}");
                shared.log(Level::Error, why.clone());
                self.ejected_for_commands(Err(why), shared);
            }
        }
    }

    fn ejected_for_commands(&mut self, reply: Result<String, String>, shared: &mut Shared) {
        let reply = self.unless_lost(reply);
        for command in self.commands.drain(..) {
            shared.act(Action::Reply(command.id, reply.clone()));
        }
        self.go_on(shared);
    }

    fn not_ejected(&mut self, why: String, shared: &mut Shared) {
        self.refused(why, shared);
        self.eject_at = (!self.commands.is_empty()).then(|| shared.now.monotonic + WAIT_PAUSE);
        self.go_on(shared);
    }
}
