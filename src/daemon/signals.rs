//! Signals as events: SIGTERM and SIGINT ask the daemon to end.

use std::io;
use std::thread;

use nix::sys::signal::{SigSet, Signal};

use super::Message;
use super::turns::Turns;
use crate::core::Event;

fn watched() -> SigSet {
    [Signal::SIGTERM, Signal::SIGINT].into_iter().collect()
}

/// Keeps the signals from every thread that is started from here on. A terminal that goes away is no reason to end.
pub(super) fn block() {
    let mut signals = watched();
    signals.add(Signal::SIGHUP);
    // Fails for invalid arguments only (sigprocmask(2)).
    let _ = signals.thread_block();
}

/// Waits for them on a thread.
pub(super) fn watch(turns: &Turns<Message>) -> io::Result<()> {
    let turns = turns.clone();
    thread::Builder::new().name("signals".into()).spawn(move || {
        while watched().wait().is_ok() {
            turns.bring(Message::Event(Event::Stop(None)));
        }
    })?;
    Ok(())
}
