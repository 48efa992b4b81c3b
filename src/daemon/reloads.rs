//! Reads the config again whenever that is asked for, on a thread of its own, one time after the other. Does not know
//! what is in it.

use std::io;
use std::sync::Arc;
use std::thread;

use crossbeam_channel::{Sender, unbounded};

use super::Message;
use super::turns::Turns;
use crate::config::Config;
use crate::core::{CommandId, Event};

/// The way to the thread that reads.
#[derive(Clone)]
pub(super) struct Reloads {
    asked: Sender<Option<CommandId>>,
}

impl Reloads {
    /// Starts the thread; it ends with the last of these.
    pub(super) fn start(
        read: impl Fn() -> Result<Config, String> + Send + 'static,
        turns: &Turns<Message>,
    ) -> io::Result<Self> {
        let (asked, asks) = unbounded();
        let turns = turns.clone();
        thread::Builder::new().name("config".into()).spawn(move || {
            for command in asks {
                let config = read().map(Arc::new);
                turns.bring(Message::Event(Event::Reload { command, config }));
            }
        })?;
        Ok(Self { asked })
    }

    /// Asks for it; `None` = a signal did.
    pub(super) fn ask(&self, command: Option<CommandId>) {
        // That thread ends with the last of these.
        let _ = self.asked.send(command);
    }
}
