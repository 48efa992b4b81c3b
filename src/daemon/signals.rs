//! Signals as events: SIGTERM and SIGINT ask the daemon to end.

use std::io;
use std::thread;

use crossbeam_channel::Sender;
use nix::sys::signal::{SigSet, Signal};

use super::Message;
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
pub(super) fn watch(sender: &Sender<Message>) -> io::Result<()> {
    let sender = sender.clone();
    thread::Builder::new().name("signals".into()).spawn(move || {
        while watched().wait().is_ok() {
            if sender.send(Message::Event(Event::Stop(None))).is_err() {
                return;
            }
        }
    })?;
    Ok(())
}
