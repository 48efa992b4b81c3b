//! The work on one guest, in order: attach and detach. It may hang in libvirt for as long as the guest's QEMU or the
//! connection does not answer; nobody waits for it. Knows nothing of what is decided and why.

use crossbeam_channel::{Receiver, Sender};

use super::errand::Errands;
use super::libvirt::{Connection, Error};
use super::supervisor::Note;
use super::{Attach, Claim, NewDevice, Ticket, attach};
use crate::device::{GuestName, printable};

/// A piece of work.
pub(super) enum Work {
    Attach { ticket: Ticket, device: NewDevice },
    Detach { ticket: Ticket, alias: String },
}

impl Work {
    pub(super) fn ticket(&self) -> Ticket {
        match self {
            Self::Attach { ticket, .. } | Self::Detach { ticket, .. } => *ticket,
        }
    }
}

/// Works until nobody can ask any more.
///
/// Its connection is its own: libvirt's daemon stops reading from a client that waits for five answers
/// (`max_client_requests` in libvirtd.conf), and five frozen guests would so stop the looks at all others.
pub(super) fn run(uri: &str, guest: &GuestName, work: &Receiver<Work>, claim: &Claim, notes: &Sender<Note>) {
    let (mut connection, mut errands) = (None, Errands::default());
    for work in work {
        let ticket = work.ticket();
        let result = match work {
            Work::Attach { device, .. } => {
                let order = Attach { uri: uri.to_owned(), guest: guest.to_string(), device };
                if order.device.has_disks() {
                    errands.attach(&order)
                } else {
                    attach_here(&mut connection, &order, claim)
                }
            }
            Work::Detach { alias, .. } => detach(&mut connection, uri, guest, &alias),
        };
        if notes.send(Note::Ended { ticket, result }).is_err() {
            return;
        }
    }
}

/// What has no disks is held by nobody meanwhile.
fn attach_here(connection: &mut Option<Connection>, order: &Attach, claim: &Claim) -> Result<(), String> {
    let connection = connected(connection, &order.uri).map_err(|error| sentence(&error))?;
    attach::attach(connection, order, claim, || true, |warning| tracing::warn!("{warning}"))
}

fn detach(
    connection: &mut Option<Connection>,
    uri: &str,
    guest: &GuestName,
    alias: &str,
) -> Result<(), String> {
    let failed = |error: &Error| format!("libvirt does not detach {alias} from {guest}: {}", sentence(error));
    let connection = connected(connection, uri).map_err(|error| sentence(&error))?;
    match connection.domain(guest.as_str()) {
        Ok(Some(domain)) => domain.detach(alias).map_err(|error| failed(&error)),
        Ok(None) => Err(no_such(guest)),
        Err(error) => Err(failed(&error)),
    }
}

fn connected<'a>(connection: &'a mut Option<Connection>, uri: &str) -> Result<&'a Connection, Error> {
    let living = connection.take().filter(Connection::is_alive);
    let living = match living {
        Some(living) => living,
        None => Connection::open(uri)?,
    };
    Ok(connection.insert(living))
}

pub(super) fn no_such(guest: &GuestName) -> String {
    format!("libvirt has no guest {guest}")
}

/// libvirt's words, on one line: QEMU's part of them may be anything.
pub(super) fn sentence(error: &Error) -> String {
    printable(error.to_string().trim())
}
