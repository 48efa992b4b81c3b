//! Wires the core to libvirt's edge. Without guests nothing of this is started.

use std::sync::Arc;

use super::Message;
use super::claim::claim;
use super::turns::Turns;
use crate::core::Event;
use crate::guests::{self, GuestAction, GuestEvent};

/// The way to libvirt.
pub(super) struct Guests {
    uri: String,
    events: Turns<Message>,
    edge: Option<guests::Guests>,
}

impl Guests {
    /// Does nothing until it is asked to.
    pub(super) fn new(uri: &str, events: &Turns<Message>) -> Self {
        Self { uri: uri.to_owned(), events: events.clone(), edge: None }
    }

    /// Connects, in the background, if that has not been begun.
    pub(super) fn start(&mut self) {
        if self.edge.is_some() {
            return;
        }
        let events = self.events.clone();
        let report = Arc::new(move |event| tell(&events, event));
        match guests::Guests::start(&self.uri, Arc::new(claim), report) {
            Ok(edge) => self.edge = Some(edge),
            Err(error) => {
                let why = format!("cannot start a thread for libvirt: {error}");
                tell(&self.events, GuestEvent::Disconnected(why));
            }
        }
    }

    /// Does something for a guest; connects first if that has not been begun.
    pub(super) fn act(&mut self, action: GuestAction) {
        self.start();
        match (&self.edge, action) {
            (Some(edge), action) => edge.act(action),
            (None, GuestAction::Connect | GuestAction::Look(_)) => {}
            // Every piece of work is reported done.
            (None, GuestAction::Attach { ticket, .. } | GuestAction::Detach { ticket, .. }) => {
                let result = Err("there is no thread for libvirt".to_owned());
                tell(&self.events, GuestEvent::Done { ticket, result });
            }
        }
    }
}

fn tell(events: &Turns<Message>, event: GuestEvent) {
    events.bring(Message::Event(Event::Guest(event)));
}
