//! What must hold of each action of the core, and after each event.

use std::collections::BTreeMap;

use super::jobs::{Job, disk_of};
use super::world::{Request, Wants, World};
use crate::core::*;

impl World {
    pub(super) fn check(&mut self, action: &Action) {
        assert!(!self.ended || matches!(action, Action::Log(..)), "after the end: {action:?}");
        match action {
            Action::Answer(request, answer) => self.check_answer(*request, *answer),
            Action::Prepare { job, slot, order } => {
                let name = self.shown.get(slot).expect("nothing is opened for a hidden name");
                assert!(self.configured().contains(name), "opened for a name that is leaving");
                self.add_job(*job, *slot, Job::Prepare(Box::new(order.clone())))
            }
            Action::Cancel(job) => {
                self.cancelled.insert(*job);
            }
            Action::Attach { job, first } => {
                let slot = self.jobs[job].0;
                for request in first {
                    self.check_answer(*request, Answer::Retry);
                }
                self.no_lock_holder_waits(slot);
            }
            Action::Abandon(job) => {
                let job = self.jobs.get_mut(job).expect("only what was prepared is abandoned");
                let Job::Attach(mapping) = &job.1 else { panic!("abandoned: {job:?}") };
                job.1 = Job::Lock(Some(mapping.clone()));
            }
            Action::Unmount { job, slot, mount, how, disk } => {
                let grace = self.last_retry.get(slot).is_none_or(|&last| self.elapsed >= last + slot::GRACE);
                assert!(grace || *how == Unmount::Lazy, "unmounted within a second of a trigger");
                let of = self.open.values().find(|open| open.mount == *mount).and_then(|open| open.disk);
                // A mapping that is mounted a second time is known here by that mount only.
                let is_there = of.is_none_or(|seq| self.disks.contains_key(&seq));
                assert!(disk.is_none() || is_there, "only a disk that is there is asked after it");
                self.add_job(*job, *slot, Job::Unmount(*mount, *how));
            }
            Action::Lock { job, opened, .. } => {
                let slot = self.core.shared.slot_of_job(*job).expect("a job has a slot");
                let is_mounted = self.mounted.contains_key(&slot) && !self.back.contains(&slot);
                assert!(!is_mounted, "locked while mounted");
                self.add_job(*job, slot, Job::Lock(opened.mapping.clone()));
            }
            Action::Eject { job, sequence, .. } => {
                let slot = self.core.shared.slot_of_job(*job).expect("a job has a slot");
                self.add_job(*job, slot, Job::Eject(*sequence));
            }
            Action::Names { shown, hidden } => {
                assert!(
                    shown.is_empty() || self.forgetting == 0,
                    "a name could come back before it is forgotten"
                );
                self.forgetting += 1;
                for (slot, name) in shown {
                    assert!(self.shown.insert(*slot, name.to_string()).is_none(), "shown twice");
                }
                for slot in hidden {
                    assert!(self.shown.remove(slot).is_some(), "hidden twice");
                    assert!(
                        !self.mounted.contains_key(slot),
                        "the kernel would detach what is mounted there"
                    );
                    assert!(self.jobs.values().all(|(of, _)| of != slot), "a job of a hidden name");
                    assert!(self.open.values().all(|open| open.slot != *slot), "left open");
                    assert!(self.waiting.values().all(|request| request.slot != *slot), "left waiting");
                }
            }
            Action::LookAtMounts => self.asked = true,
            Action::Tell(command, what) => {
                assert!(self.commands.contains(command), "told after the reply: {action:?}");
                let before = self.told.insert(*command, what.clone());
                assert_ne!(before.as_ref(), Some(what), "told twice");
            }
            Action::LookAtCaller(request) => {
                self.looked_at.insert(*request);
            }
            Action::Reply(command, result) => {
                assert!(self.commands.remove(command), "replied twice: {action:?}");
                self.told_by.remove(command);
                self.replies.insert(*command, result.clone());
            }
            Action::End { command, loss } => {
                assert!(self.open.is_empty() && self.mounted.is_empty() && self.jobs.is_empty());
                if let Some(command) = command {
                    assert!(self.commands.contains(command), "its reply is the end, or why there is none");
                }
                self.ended = true;
                self.loss.clone_from(loss);
            }
            Action::GiveUp => {
                assert!(!self.jobs.is_empty(), "there is nothing to give up for");
                assert!(self.waiting.is_empty(), "left without an answer: {:?}", self.waiting);
                self.ended = true;
            }
            Action::Leave => {
                assert!(self.jobs.is_empty() && self.commands.is_empty());
                assert!(self.waiting.is_empty(), "left without an answer: {:?}", self.waiting);
                self.ended = true;
            }
            Action::Guest(action) => self.hypervisor.take(action, &self.disks, &self.open),
            Action::Show(..) | Action::Log(..) | Action::StillEnding(_) => {}
        }
    }

    fn add_job(&mut self, job: JobId, slot: SlotId, work: Job) {
        assert!(self.jobs.values().all(|(other, _)| *other != slot), "two jobs at once for one slot");
        assert!(self.jobs.insert(job, (slot, work)).is_none());
    }

    fn check_answer(&mut self, request: RequestId, answer: Answer) {
        let Request { slot, wants, deadline } =
            self.waiting.remove(&request).expect("answered twice, or never asked");
        assert!(self.elapsed <= deadline, "answered after the deadline: {request:?}");
        match (wants, answer) {
            (Wants::Walk, Answer::Entry) => {}
            (Wants::Walk, Answer::Fail(libc::ENOENT)) if !self.shown.contains_key(&slot) => {}
            (Wants::Enter(_), Answer::Fail(errno)) => self.errors.push(errno),
            (Wants::Enter(_), Answer::Retry) => {
                self.last_retry.insert(slot, self.elapsed);
            }
            other => panic!("a wrong answer: {other:?}"),
        }
    }

    fn no_lock_holder_waits(&self, slot: SlotId) {
        let waits =
            |request: &Request| request.slot == slot && request.wants == Wants::Enter(Hold::Directory);
        assert!(!self.waiting.values().any(waits), "move_mount would wait for ever");
    }

    /// Of a disk that is being ejected nothing is open, nor about to be.
    fn nothing_is_ejected_in_use(&self) {
        let ejecting = self.jobs.values().filter_map(|(_, job)| match job {
            Job::Eject(seq) => Some(*seq),
            _ => None,
        });
        for seq in ejecting {
            assert!(self.open.values().all(|open| open.disk != Some(seq)), "ejected while it is open");
            let opening = |job: &Job| matches!(job, Job::Prepare(order) if disk_of(order) == Some(seq));
            assert!(!self.jobs.values().any(|(_, job)| opening(job)), "opened while it is ejected");
        }
    }

    /// What must hold after every event.
    pub(super) fn check_rest(&self) {
        self.nothing_is_ejected_in_use();
        self.hypervisor.check(&self.open);
        let mut owners = BTreeMap::new();
        for open in self.open.values() {
            if let Some(disk) = open.disk {
                let other = owners.insert((disk, open.partition), open.slot);
                assert!(other.is_none_or(|slot| slot == open.slot), "one disk open for two names");
            }
        }
        for slot in (0..self.core.slots.len()).map(SlotId) {
            let attaching = matches!(self.core.slots[slot.0].state, slot::State::Attaching { .. });
            if attaching {
                self.no_lock_holder_waits(slot);
            }
            // What is open is mounted, or a job or a timer will see to it.
            let is_open = self.open.values().any(|open| open.slot == slot);
            if is_open && !self.mounted.contains_key(&slot) {
                let job = self.jobs.values().any(|(of, _)| *of == slot);
                let timer = self.core.slots[slot.0].next_tick().is_some();
                let unseen = matches!(self.core.slots[slot.0].state, slot::State::Mounted { .. });
                assert!(job || timer || unseen, "{slot:?} stays open and nobody will lock it");
            }
        }
    }
}
