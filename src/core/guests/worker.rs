//! What is going on with one guest: the piece of work that is under way, what was tried and when it may be tried
//! again. Knows nothing of other guests and of what is wanted.

use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, Instant};

use super::plug::Alias;
use crate::guests::{Live, LiveDevice, LiveKind, Ticket};

/// A guest that has not answered by then is said not to answer. Nothing more is sent to it until it does.
pub(super) const DEADLINE: Duration = Duration::from_secs(30);

/// The first pause after an attempt, doubled so many times up to the longest.
const PAUSE: Duration = Duration::from_secs(2);
pub(super) const PAUSES: u32 = 5;
const PAUSE_MOST: Duration = Duration::from_secs(60);

/// Whoever let go of a device after that time is not thought to do so again and again.
pub(super) const SETTLED: Duration = Duration::from_secs(60);

#[derive(Debug, Default)]
#[cfg_attr(test, derive(Clone))]
pub(super) struct Worker {
    /// At most one piece of work.
    pub(super) busy: Option<Busy>,
    /// Attempts to attach, the failed ones and the last successful one.
    pub(super) attaching: BTreeMap<Alias, Attempts>,
    /// Attempts to detach what is still there.
    pub(super) detaching: BTreeMap<Alias, Attempts>,
    /// What the guest has of ours, as it is told of when it is no longer plugged in.
    pub(super) given: BTreeMap<Alias, Given>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Work {
    Attach(Alias),
    Detach(Alias),
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Busy {
    pub(super) work: Work,
    /// `None`: it has ended, and what came of it is being looked at.
    pub(super) ticket: Option<Ticket>,
    pub(super) since: Instant,
    /// It has been said that there is no answer.
    pub(super) told: bool,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Attempts {
    pub(super) times: u32,
    /// Of detaching: since it was first asked for. Of attaching: since the last attempt.
    pub(super) since: Instant,
    pub(super) not_before: Instant,
    pub(super) error: Option<String>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Given {
    /// As the config names it.
    pub(super) id: String,
    pub(super) kind: &'static str,
    pub(super) target: Option<String>,
}

impl Attempts {
    fn first(now: Instant) -> Self {
        Self { times: 0, since: now, not_before: now, error: None }
    }

    fn failed(&mut self, now: Instant, error: Option<String>) {
        let pause = PAUSE.saturating_mul(1 << self.times.min(PAUSES)).min(PAUSE_MOST);
        self.times += 1;
        self.not_before = now + pause;
        self.error = error;
    }
}

impl Busy {
    pub(super) fn alias(&self) -> Alias {
        match self.work {
            Work::Attach(alias) | Work::Detach(alias) => alias,
        }
    }

    pub(super) fn is_overdue(&self, now: Instant) -> bool {
        now >= self.since + DEADLINE
    }
}

impl Worker {
    pub(super) fn begin(&mut self, work: Work, ticket: Ticket, now: Instant) {
        let attempts = match work {
            Work::Attach(alias) => {
                let attempts = self.attaching.entry(alias).or_insert_with(|| Attempts::first(now));
                attempts.since = now;
                attempts
            }
            Work::Detach(alias) => self.detaching.entry(alias).or_insert_with(|| Attempts::first(now)),
        };
        // Until it is known what came of it.
        attempts.not_before = now;
        self.busy = Some(Busy { work, ticket: Some(ticket), since: now, told: false });
    }

    /// The work has ended, one way or the other. Whether it is other than the last time.
    pub(super) fn ended(&mut self, now: Instant, result: Result<(), String>) -> bool {
        let Some(busy) = &mut self.busy else { return false };
        busy.ticket = None;
        busy.since = now;
        busy.told = false;
        let attempts = match busy.work {
            Work::Attach(alias) => self.attaching.get_mut(&alias),
            Work::Detach(alias) => self.detaching.get_mut(&alias),
        };
        let Some(attempts) = attempts else { return false };
        let before = attempts.error.clone();
        attempts.failed(now, result.err());
        attempts.error.is_some() && attempts.error != before
    }

    /// What came of the work has been seen: `live` is how the guest is now.
    pub(super) fn looked_at(&mut self, live: Option<&Live>) {
        let Some(Busy { work: Work::Attach(alias), ticket: None, .. }) = self.busy else {
            self.busy = None;
            return;
        };
        self.busy = None;
        let name = alias.to_string();
        // A USB device that libvirt did not find may be there by name.
        let is_it = |device: &LiveDevice| {
            device.alias.as_ref() == Some(&name) && !matches!(device.kind, LiveKind::Usb { at: None, .. })
        };
        let has_it = live.is_some_and(|live| live.devices.iter().any(is_it));
        if let Some(attempts) = self.attaching.get_mut(&alias) {
            if has_it {
                attempts.error = None;
            } else if live.is_some() && attempts.error.is_none() {
                attempts.error =
                    Some("it was attached, says libvirt, but the guest does not have it".to_owned());
            }
        }
    }

    /// A device of ours is gone from the guest. Whether that was asked for.
    pub(super) fn lost(&mut self, alias: Alias, now: Instant) -> bool {
        self.given.remove(&alias);
        if self.detaching.remove(&alias).is_some() {
            // What was there by name only has failed, and its pause is still to come.
            if self.attaching.get(&alias).is_some_and(|attempts| attempts.error.is_none()) {
                self.attaching.remove(&alias);
            }
            return true;
        }
        let attempts = self.attaching.entry(alias).or_insert_with(|| Attempts::first(now));
        if now.saturating_duration_since(attempts.since) >= SETTLED {
            attempts.times = 0;
        }
        attempts.failed(now, Some("the guest lost it without being asked".to_owned()));
        false
    }

    /// Another run of the guest, or none: it has nothing that it had.
    pub(super) fn restarted(&mut self) {
        self.attaching.clear();
        self.detaching.clear();
        self.given.clear();
    }

    /// Something about the guest has changed: what failed may work now, but for what is just gone.
    pub(super) fn try_again(&mut self, gone: &BTreeSet<Alias>, now: Instant) {
        for (alias, attempts) in &mut self.attaching {
            if attempts.error.is_some() && !gone.contains(alias) {
                attempts.not_before = attempts.not_before.min(now);
            }
        }
    }
}

/// The devices of ours in live XML, with the target of a disk.
pub(super) fn ours(live: &Live) -> impl Iterator<Item = (Alias, Option<&str>)> {
    live.devices.iter().filter_map(|device| {
        let alias = Alias::parse(device.alias.as_deref()?)?;
        match (&device.kind, alias.id) {
            (LiveKind::Disk { target, .. }, None) => Some((alias, Some(target.as_str()))),
            (LiveKind::Usb { .. }, Some(_)) => Some((alias, None)),
            _ => None,
        }
    })
}
