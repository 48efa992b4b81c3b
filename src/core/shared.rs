//! What all slots share: the moment, the devices that are present, numbers for jobs, and the actions that
//! come of an event.

use std::collections::{HashMap, VecDeque};
use std::time::{Instant, SystemTime};

use super::event::{Action, Answer, JobId, Level, Now, RequestId, SlotId};
use super::inventory::Inventory;

/// How many lines `.status/events` shows.
const EVENTS: usize = 256;

/// How many interrupts are remembered that came before their request.
const EARLY: usize = 256;

/// A line of `.status/events`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Line {
    /// When.
    pub at: SystemTime,
    /// How much it matters.
    pub level: Level,
    /// One sentence.
    pub text: String,
}

/// A job that is under way.
#[derive(Clone, Copy, Debug)]
pub(super) struct Job {
    pub(super) slot: SlotId,
    pub(super) since: Instant,
}

#[derive(Debug)]
#[cfg_attr(test, derive(Clone))]
pub(super) struct Shared {
    pub(super) now: Now,
    pub(super) inventory: Inventory,
    /// The daemon is to end: nothing new is mounted.
    pub(super) stopping: bool,
    /// When it ends, what is mounted is left to a successor.
    pub(super) keeping: bool,
    /// Why the daemon cannot end.
    pub(super) refusals: Vec<String>,
    pub(super) events: VecDeque<Line>,
    /// Triggers since the start, for the metrics.
    pub(super) triggers: u64,
    pub(super) actions: Vec<Action>,
    pub(super) jobs: HashMap<JobId, Job>,
    pub(super) last_job: u64,
    pub(super) requests: HashMap<RequestId, SlotId>,
    /// Interrupts of requests that are not known (yet): the two come by different ways.
    pub(super) early: VecDeque<RequestId>,
}

impl Shared {
    pub(super) fn new(now: Now) -> Self {
        Self {
            now,
            inventory: Inventory::default(),
            stopping: false,
            keeping: false,
            refusals: Vec::new(),
            events: VecDeque::new(),
            triggers: 0,
            actions: Vec::new(),
            jobs: HashMap::new(),
            last_job: 0,
            requests: HashMap::new(),
            early: VecDeque::new(),
        }
    }

    /// Everything is being unmounted, to end.
    pub(super) fn is_unmounting(&self) -> bool {
        self.stopping && !self.keeping
    }

    pub(super) fn act(&mut self, action: Action) {
        self.actions.push(action);
    }

    pub(super) fn take_actions(&mut self) -> Vec<Action> {
        std::mem::take(&mut self.actions)
    }

    pub(super) fn answer(&mut self, request: RequestId, answer: Answer) {
        self.act(Action::Answer(request, answer));
    }

    pub(super) fn log(&mut self, level: Level, text: String) {
        if self.events.len() == EVENTS {
            self.events.pop_front();
        }
        self.events.push_back(Line { at: self.now.wall, level, text: text.clone() });
        self.act(Action::Log(level, text));
    }

    /// A reason why the daemon cannot end, if it is about to.
    pub(super) fn refused(&mut self, why: String) {
        if self.stopping {
            self.refusals.push(why);
        }
    }

    pub(super) fn next_job(&mut self, slot: SlotId) -> JobId {
        self.last_job += 1;
        let job = JobId(self.last_job);
        self.jobs.insert(job, Job { slot, since: self.now.monotonic });
        job
    }

    pub(super) fn slot_of_job(&self, job: JobId) -> Option<SlotId> {
        self.jobs.get(&job).map(|job| job.slot)
    }

    pub(super) fn job_ended(&mut self, job: JobId) -> Option<SlotId> {
        self.jobs.remove(&job).map(|job| job.slot)
    }

    /// A request waits from now on; whether an interrupt of it has come already.
    pub(super) fn waits(&mut self, request: RequestId, slot: SlotId) -> bool {
        self.requests.insert(request, slot);
        let early = self.early.iter().position(|&known| known == request);
        early.is_some_and(|at| self.early.remove(at).is_some())
    }

    pub(super) fn waits_no_longer(&mut self, request: RequestId) {
        self.requests.remove(&request);
    }

    pub(super) fn slot_of_request(&self, request: RequestId) -> Option<SlotId> {
        self.requests.get(&request).copied()
    }

    /// A signal reached the caller of this request.
    pub(super) fn interrupted(&mut self, request: RequestId) {
        if self.requests.contains_key(&request) {
            self.act(Action::LookAtCaller(request));
        } else {
            if self.early.len() == EARLY {
                self.early.pop_front();
            }
            self.early.push_back(request);
        }
    }
}
