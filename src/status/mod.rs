//! The status texts, all made of one [`Snapshot`]: a table for people, JSON, Prometheus metrics, the events.

mod json;
mod metrics;
mod table;

use crate::core::{Level, Line, MountState, Snapshot};

pub use json::json;
pub use metrics::metrics;
pub use table::{devices, summary};

/// The last events, a line each, newest last.
pub fn events(snapshot: &Snapshot) -> String {
    snapshot.events.iter().map(event).collect()
}

/// RFC 3339 in UTC, to the second.
fn rfc3339(at: std::time::SystemTime) -> String {
    humantime::format_rfc3339_seconds(at).to_string()
}

fn event(line: &Line) -> String {
    format!("{} {} {}\n", rfc3339(line.at), level(line.level), line.text.replace('\n', " "))
}

fn level(level: Level) -> &'static str {
    match level {
        Level::Info => "info",
        Level::Warning => "warning",
        Level::Error => "error",
    }
}

fn mount_state(state: MountState) -> &'static str {
    match state {
        MountState::Absent => "absent",
        MountState::Ready => "ready",
        MountState::Unlocking => "unlocking",
        MountState::Mounted => "mounted",
        MountState::Failed => "failed",
    }
}

#[cfg(test)]
mod tests;
