//! Waiting for a condition with a deadline; nothing in the lab sleeps and hopes.

use std::thread;
use std::time::{Duration, Instant};

use crate::Outcome;

/// Emulated machines on a busy host are slow: a plug that takes 0.1 s on hardware may take seconds here.
pub(crate) const PATIENCE: Duration = Duration::from_secs(60);

/// Looks every 20 ms until `look` finds something, for at most `limit`.
pub(crate) fn until<T>(what: &str, limit: Duration, mut look: impl FnMut() -> Option<T>) -> Outcome<T> {
    let start = Instant::now();
    loop {
        if let Some(found) = look() {
            return Ok(found);
        }
        if start.elapsed() > limit {
            return Err(format!("waited {:.1} s in vain for: {what}", limit.as_secs_f32()).into());
        }
        thread::sleep(Duration::from_millis(20));
    }
}

/// [`until`] for a condition without a value.
pub(crate) fn until_true(what: &str, limit: Duration, mut look: impl FnMut() -> bool) -> Outcome {
    until(what, limit, || look().then_some(()))
}

/// Checks every 20 ms that `holds` stays true for the whole of `span`.
pub(crate) fn stays_true(what: &str, span: Duration, mut holds: impl FnMut() -> bool) -> Outcome {
    let start = Instant::now();
    while start.elapsed() < span {
        if !holds() {
            return Err(format!("ended after {:.1} s: {what}", start.elapsed().as_secs_f32()).into());
        }
        thread::sleep(Duration::from_millis(20));
    }
    Ok(())
}
