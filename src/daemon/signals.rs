//! Signals: SIGTERM and SIGINT ask the daemon to end, SIGHUP to read its config again.

use std::io;
use std::thread;

use nix::sys::signal::{SigSet, Signal};

use super::Message;
use super::reloads::Reloads;
use super::turns::Turns;
use crate::core::Event;

fn watched() -> SigSet {
    [Signal::SIGTERM, Signal::SIGINT, Signal::SIGHUP].into_iter().collect()
}

/// Keeps the signals from every thread that is started from here on.
pub(super) fn block() {
    // Fails for invalid arguments only (sigprocmask(2)).
    let _ = watched().thread_block();
}

/// Waits for them on a thread.
pub(super) fn watch(turns: &Turns<Message>, reloads: &Reloads) -> io::Result<()> {
    let (turns, reloads) = (turns.clone(), reloads.clone());
    thread::Builder::new().name("signals".into()).spawn(move || {
        while let Ok(signal) = watched().wait() {
            if signal == Signal::SIGHUP {
                reloads.ask(None);
            } else {
                turns.bring(Message::Event(Event::Stop(None)));
            }
        }
    })?;
    Ok(())
}
