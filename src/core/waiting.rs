//! The callers that wait at one slot. Each is answered exactly once: with what comes of the disk, when it dies,
//! or at its deadline.

use std::time::{Duration, Instant};

use super::event::{Action, Answer, Hold, RequestId, SlotId};
use super::shared::Shared;

/// How often a caller that got a signal is looked at again: the kernel reports only the first signal of a
/// request, and the fatal one may be the second (fs/fuse/dev.c, request_wait_answer).
const LOOK_AGAIN: Duration = Duration::from_millis(250);

/// Callers in and before one name directory.
#[derive(Debug)]
#[cfg_attr(test, derive(Clone))]
pub(super) struct Waiting {
    pub(super) slot: SlotId,
    pub(super) callers: Vec<Caller>,
}

#[derive(Debug)]
#[cfg_attr(test, derive(Clone))]
pub(super) struct Caller {
    pub(super) request: RequestId,
    pub(super) wants: Wants,
    pub(super) arrived: Instant,
    pub(super) deadline: Instant,
    /// It got a signal that was not fatal: look again then.
    pub(super) look_at: Option<Instant>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Wants {
    /// Into the directory.
    Enter(Hold),
    /// To the directory: its walk ends on the disk once that is attached.
    Walk,
}

impl Waiting {
    pub(super) fn new(slot: SlotId) -> Self {
        Self { slot, callers: Vec::new() }
    }

    /// A caller enters, and waits at most `timeout`.
    pub(super) fn enter(
        &mut self,
        request: RequestId,
        hold: Hold,
        now: Instant,
        timeout: Duration,
        shared: &mut Shared,
    ) {
        self.add(request, Wants::Enter(hold), now, timeout, shared);
    }

    /// A caller walks to the name, and waits at most `timeout`.
    pub(super) fn walk(&mut self, request: RequestId, now: Instant, timeout: Duration, shared: &mut Shared) {
        self.add(request, Wants::Walk, now, timeout, shared);
    }

    fn add(
        &mut self,
        request: RequestId,
        wants: Wants,
        now: Instant,
        timeout: Duration,
        shared: &mut Shared,
    ) {
        let caller = Caller { request, wants, arrived: now, deadline: now + timeout, look_at: None };
        self.callers.push(caller);
        if shared.waits(request, self.slot) {
            shared.act(Action::LookAtCaller(request));
        }
    }

    /// Nobody waits to enter.
    pub(super) fn is_empty(&self) -> bool {
        !self.callers.iter().any(|caller| matches!(caller.wants, Wants::Enter(_)))
    }

    /// Those that hold the directory's lock wait no longer; the caller of this answers them.
    pub(super) fn take_holders(&mut self, shared: &mut Shared) -> Vec<RequestId> {
        let taken = self.take(|caller| caller.wants == Wants::Enter(Hold::Directory), shared);
        taken.into_iter().map(|caller| caller.request).collect()
    }

    /// All that wait to enter walk again. Whether there were any.
    pub(super) fn retry(&mut self, shared: &mut Shared) -> bool {
        self.answer_where(|caller| matches!(caller.wants, Wants::Enter(_)), Answer::Retry, shared)
    }

    /// Those that came until `moment` walk again. Whether there were any.
    pub(super) fn retry_until(&mut self, moment: Instant, shared: &mut Shared) -> bool {
        let early = |caller: &Caller| matches!(caller.wants, Wants::Enter(_)) && caller.arrived <= moment;
        self.answer_where(early, Answer::Retry, shared)
    }

    /// All that wait to enter fail.
    pub(super) fn fail(&mut self, errno: i32, shared: &mut Shared) {
        self.answer_where(|caller| matches!(caller.wants, Wants::Enter(_)), Answer::Fail(errno), shared);
    }

    /// All that wait before the name go on.
    pub(super) fn let_walk(&mut self, shared: &mut Shared) {
        self.answer_where(|caller| caller.wants == Wants::Walk, Answer::Entry, shared);
    }

    /// A caller that dies gets its answer now; another one is looked at again later.
    pub(super) fn caller(&mut self, request: RequestId, dying: bool, shared: &mut Shared) {
        if dying {
            // A walk is never answered with an error: the kernel would detach what is mounted there
            // (fuse_dentry_revalidate, d_invalidate).
            self.answer_where(|c| c.request == request && c.wants == Wants::Walk, Answer::Entry, shared);
            self.answer_where(|c| c.request == request, Answer::Fail(libc::EINTR), shared);
        } else if let Some(caller) = self.callers.iter_mut().find(|caller| caller.request == request) {
            caller.look_at = Some(shared.now.monotonic + LOOK_AGAIN);
        }
    }

    /// Answers those whose deadline has come, looks at those that got a signal.
    pub(super) fn tick(&mut self, shared: &mut Shared) {
        let now = shared.now.monotonic;
        self.answer_where(|c| c.deadline <= now && c.wants == Wants::Walk, Answer::Entry, shared);
        self.answer_where(|c| c.deadline <= now, Answer::Fail(libc::ETIMEDOUT), shared);
        for caller in self.callers.iter_mut().filter(|caller| caller.look_at.is_some_and(|at| at <= now)) {
            caller.look_at = None;
            shared.act(Action::LookAtCaller(caller.request));
        }
    }

    /// When [`Waiting::tick`] has something to do.
    pub(super) fn next_tick(&self) -> Option<Instant> {
        self.callers.iter().flat_map(|caller| [Some(caller.deadline), caller.look_at]).flatten().min()
    }

    fn answer_where(&mut self, which: impl Fn(&Caller) -> bool, answer: Answer, shared: &mut Shared) -> bool {
        let taken = self.take(which, shared);
        for caller in &taken {
            shared.answer(caller.request, answer);
        }
        !taken.is_empty()
    }

    fn take(&mut self, which: impl Fn(&Caller) -> bool, shared: &mut Shared) -> Vec<Caller> {
        let (taken, left) = std::mem::take(&mut self.callers).into_iter().partition(|caller| which(caller));
        self.callers = left;
        for caller in &taken {
            shared.waits_no_longer(caller.request);
        }
        taken
    }
}
