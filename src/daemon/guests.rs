//! Wires the core to libvirt's edge, and the edge to what the host knows of its devices. Without guests nothing of this
//! is started.

use std::sync::Arc;

use super::Message;
use super::turns::Turns;
use crate::core::Event;
use crate::device::usb_id_at;
use crate::disk;
use crate::guests::{self, GuestAction, GuestEvent, NewDevice};

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

/// A device of the host is the one that udev has told of, and its disks are free and stay so.
fn claim(device: &NewDevice) -> Result<Box<dyn Send>, String> {
    let disks = match device {
        NewDevice::Disk { node, diskseq, .. } => &[(node.clone(), *diskseq)][..],
        NewDevice::Usb { bus, address, id, disks, .. } => {
            match usb_id_at(*bus, *address) {
                Some(found) if found == *id => {}
                Some(other) => {
                    return Err(format!("device {address} on USB bus {bus} is {other} by now, and was {id}"));
                }
                None => return Err(format!("{id} is no longer device {address} on USB bus {bus}")),
            }
            disks
        }
    };
    let claims = disks.iter().map(|(node, sequence)| disk::claim(node, *sequence));
    match claims.collect::<Result<Vec<_>, _>>() {
        Ok(claims) => Ok(Box::new(claims)),
        Err(error) => Err(error.message),
    }
}
