//! The end of the daemon: everything is unmounted and locked first, or it is refused while something is busy, or what is
//! mounted is left to a successor. It does not wait for ever for a job that does not come back from the kernel.

use std::time::{Duration, Instant};

use super::Core;
use super::event::{Action, CommandId, Level, SlotId};
use super::slot::Slot;
use super::under_way::SLOW;

/// A job that takes longer has had its time: systemd gives a service as much by default (`DefaultTimeoutStopSec=`).
const PATIENCE: Duration = Duration::from_secs(90);

/// That the daemon is to end.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Stop {
    /// To be replied to.
    pub(super) command: Option<CommandId>,
    /// A signal asked for it: it is not refused for a job that hangs.
    pub(super) is_ordered: bool,
    began: Instant,
    /// What it waits for.
    is_told: bool,
    /// What was open when it began: whoever asked for the end is told what may be lost of it.
    open: Vec<SlotId>,
}

impl Core {
    /// Unmounts and locks everything, for a command or because of a signal.
    pub(super) fn begin_stop(&mut self, command: Option<CommandId>) {
        if let Some(stop) = &mut self.stop {
            match command {
                Some(command) => {
                    let why = "is being unmounted already".to_owned();
                    self.shared.act(Action::Reply(command, Err(why)));
                }
                None => stop.is_ordered = true,
            }
            return;
        }
        self.stop_begins(command);
        self.shared.refusals.clear();
        for number in 0..self.slots.len() {
            self.with(SlotId(number), Slot::want_unmounted);
        }
    }

    /// Ends as soon as no job is under way, and leaves what is mounted.
    pub(super) fn begin_leaving(&mut self) {
        if let Some(stop) = &mut self.stop {
            stop.is_ordered = true;
            return;
        }
        self.stop_begins(None);
        self.shared.keeping = true;
        for number in 0..self.slots.len() {
            self.with(SlotId(number), |slot, shared| {
                slot.refuse_commands("the daemon ends", shared);
                slot.keep(shared);
            });
        }
    }

    fn stop_begins(&mut self, command: Option<CommandId>) {
        let began = self.shared.now.monotonic;
        let open = self.slots.iter().filter(|slot| !slot.is_closed()).map(|slot| slot.id).collect();
        self.stop = Some(Stop { command, is_ordered: command.is_none(), began, is_told: false, open });
        self.end_reloads();
        self.shared.stopping = true;
    }

    /// Ends, or refuses to, once every slot is settled, or when it has waited long enough.
    pub(super) fn go_on_stopping(&mut self) {
        let Some(stop) = self.stop.clone().filter(|_| !self.ending) else { return };
        if self.shared.keeping {
            if self.slots.iter().all(Slot::is_at_rest) {
                self.ending = true;
                self.guests.end(&mut self.shared);
                self.shared.log(Level::Info, "ends, and leaves what is mounted to the next run".to_owned());
                return self.shared.act(Action::Leave);
            }
            return self.look_after_jobs(stop);
        }
        let now = self.shared.now.monotonic;
        if !self.slots.iter().all(|slot| slot.is_settled(now)) {
            return self.look_after_jobs(stop);
        }
        let open: Vec<_> = self.slots.iter().filter(|slot| !slot.is_closed()).collect();
        if open.is_empty() {
            self.ending = true;
            self.guests.end(&mut self.shared);
            for number in 0..self.slots.len() {
                self.with(SlotId(number), |slot, shared| slot.refuse_commands("the daemon ends", shared));
            }
            let loss = self.loss_of(&stop);
            return self.shared.act(Action::End { command: stop.command, loss });
        }
        if self.root_gone {
            return;
        }
        let mut reasons = self.shared.refusals.clone();
        if reasons.is_empty() {
            reasons = open.iter().map(|slot| format!("{} is still open", slot.config.name)).collect();
        }
        self.refuse_stop(&reasons.join("; "));
    }

    pub(super) fn refuse_stop(&mut self, why: &str) {
        let Some(stop) = self.stop.take() else { return };
        self.shared.stopping = false;
        self.ending = false;
        let why = self.with_loss(why.to_owned(), &stop);
        self.shared.log(Level::Error, format!("not ended: {why}"));
        if let Some(command) = stop.command {
            self.shared.act(Action::Reply(command, Err(why)));
        }
    }

    /// What may be lost of what was unmounted to end.
    fn loss_of(&self, stop: &Stop) -> Option<String> {
        let open = self.slots.iter().filter(|slot| stop.open.contains(&slot.id));
        let losses: Vec<_> = open.filter_map(Slot::loss_in_words).collect();
        (!losses.is_empty()).then(|| losses.join("; "))
    }

    fn with_loss(&self, text: String, stop: &Stop) -> String {
        match self.loss_of(stop) {
            Some(loss) => format!("{text}; {loss}"),
            None => text,
        }
    }

    /// When [`Core::look_after_jobs`] has something to do.
    pub(super) fn next_of_stop(&self) -> Option<Instant> {
        let stop = self.stop.as_ref().filter(|_| !self.shared.jobs.is_empty())?;
        let tell = (!stop.is_told).then_some(stop.began + SLOW);
        let give_up = self.shared.jobs.values().map(|job| job.since.max(stop.began) + PATIENCE).min();
        tell.into_iter().chain(give_up).min()
    }

    /// Says what the end waits for, and gives up if a job hangs.
    fn look_after_jobs(&mut self, stop: Stop) {
        let now = self.shared.now.monotonic;
        let hangs = self.shared.jobs.values().any(|job| job.since.max(stop.began) + PATIENCE <= now);
        if !hangs && (stop.is_told || now < stop.began + SLOW) {
            return;
        }
        let what = self.jobs_in_words();
        if !hangs {
            self.shared.log(Level::Warning, format!("to end, waits for this: {what}"));
            self.shared.act(Action::StillEnding(PATIENCE));
            stop.command.iter().for_each(|&command| self.shared.act(Action::Tell(command, what.clone())));
            self.stop = Some(Stop { is_told: true, ..stop });
        } else if stop.is_ordered {
            self.end_although(&what, &stop);
        } else {
            self.refuse_stop(&what);
        }
    }

    /// What is open stays as it is, and nobody is left without an answer.
    fn end_although(&mut self, what: &str, stop: &Stop) {
        self.ending = true;
        self.guests.end(&mut self.shared);
        for number in 0..self.slots.len() {
            self.with(SlotId(number), |slot, shared| {
                slot.waiting.let_walk(shared);
                slot.waiting.fail(libc::EBUSY, shared);
                slot.refuse_commands("the daemon ends", shared);
            });
        }
        let why = format!("ends although {what}: what is open stays so, and the next run takes it over");
        let why = self.with_loss(why, stop);
        self.shared.log(Level::Error, why.clone());
        stop.command.iter().for_each(|&command| self.shared.act(Action::Reply(command, Err(why.clone()))));
        self.shared.act(Action::GiveUp);
    }

    fn jobs_in_words(&self) -> String {
        let now = self.shared.now.monotonic;
        let jobs = self.slots.iter().filter_map(|slot| {
            Some(format!("{}: {}", slot.config.name, slot.under_way(&self.shared)?.sentence(now)))
        });
        jobs.collect::<Vec<_>>().join("; ")
    }
}
