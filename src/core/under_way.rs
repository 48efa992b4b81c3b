//! What a job does to a slot's disk, in words, for those who wait for it.

use std::time::{Duration, Instant};

use super::shared::Shared;
use super::slot::{Slot, State};

/// What takes longer is told.
pub(super) const SLOW: Duration = Duration::from_secs(5);

/// A job that has not ended.
pub(super) struct UnderWay {
    since: Instant,
    what: String,
}

impl UnderWay {
    /// As the end of a sentence.
    pub(super) fn sentence(&self, now: Instant) -> String {
        format!("{} has not ended after {} s", self.what, self.age(now).as_secs())
    }

    /// It takes so long that people wonder.
    pub(super) fn is_slow(&self, now: Instant) -> bool {
        self.age(now) >= SLOW
    }

    fn age(&self, now: Instant) -> Duration {
        now.saturating_duration_since(self.since)
    }
}

impl Slot {
    /// The job of this slot.
    pub(super) fn under_way(&self, shared: &Shared) -> Option<UnderWay> {
        let (job, doing, device) = match &self.state {
            State::Idle | State::Mounted { .. } => return None,
            State::Preparing { job, .. } => (job, "opening", None),
            State::Attaching { job, in_use } => (job, "attaching", Some(&in_use.detached.opened.device)),
            State::Unmounting { job, in_use, .. } => {
                (job, "unmounting", Some(&in_use.detached.opened.device))
            }
            State::Locking { job, opened, .. } => (job, "locking", Some(&opened.device)),
            State::Ejecting { job, .. } => (job, "ejecting", None),
        };
        let known = self.place().filter(|place| shared.inventory.is_present(Some(*place)));
        let disk = match (known, device) {
            (Some(place), _) => shared.inventory.describe(place),
            (None, Some(device)) => device.display().to_string(),
            (None, None) => "its disk".to_owned(),
        };
        let since = shared.jobs.get(job)?.since;
        Some(UnderWay { since, what: format!("{doing} {disk}") })
    }
}
