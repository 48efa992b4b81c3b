//! The work on one guest, in order: attach and detach. It may hang in libvirt for as long as the guest's QEMU or the
//! connection does not answer; nobody waits for it. Knows nothing of what is decided and why.

use crossbeam_channel::{Receiver, Sender};

use super::libvirt::{Connection, Domain, Error};
use super::supervisor::Note;
use super::{Claim, Live, NewDevice, Ticket, namespace, xml};
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
    let mut connection = None;
    for work in work {
        let ticket = work.ticket();
        let result = match work {
            Work::Attach { device, .. } => attach(&mut connection, uri, guest, &device, claim),
            Work::Detach { alias, .. } => detach(&mut connection, uri, guest, &alias),
        };
        if notes.send(Note::Ended { ticket, result }).is_err() {
            return;
        }
    }
}

fn attach(
    connection: &mut Option<Connection>,
    uri: &str,
    guest: &GuestName,
    device: &NewDevice,
    claim: &Claim,
) -> Result<(), String> {
    let xml = xml::device(device).map_err(|error| error.to_string())?;
    // Connected first, so that the host's device is held for no longer than it must.
    let connection = connected(connection, uri).map_err(|error| sentence(&error))?;
    let _held = claim(device)?;
    let failed =
        |error: &Error| format!("libvirt does not attach {} to {guest}: {}", what(device), sentence(error));
    match connection.domain(guest.as_str()) {
        Ok(Some(domain)) => {
            make_way(&domain, uri, guest, device);
            domain.attach(&xml).map_err(|error| failed(&error))
        }
        Ok(None) => Err(no_such(guest)),
        Err(error) => Err(failed(&error)),
    }
}

/// Not to succeed at this need not matter: libvirt has the last word.
fn make_way(domain: &Domain<'_>, uri: &str, guest: &GuestName, device: &NewDevice) {
    let NewDevice::Disk { node, .. } = device else { return };
    let made_way = match namespace::copy(uri, guest, node) {
        // What the guest has is asked for only if it matters: libvirt writes out all of it.
        Ok(Some(copy)) => live(domain).map_or(Ok(()), |live| copy.forget(&live)),
        Ok(None) => Ok(()),
        Err(error) => Err(error),
    };
    if let Err(error) = made_way {
        tracing::warn!("cannot look for {} in the private /dev of {guest}: {error}", node.display());
    }
}

fn live(domain: &Domain<'_>) -> Option<Live> {
    xml::domain(&domain.xml().ok()?).ok()?.live
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

fn what(device: &NewDevice) -> String {
    match device {
        NewDevice::Disk { node, target, .. } => {
            format!("{} as {target}", printable(&node.to_string_lossy()))
        }
        NewDevice::Usb { bus, address, id, .. } => format!("USB device {id} (bus {bus}, device {address})"),
    }
}

fn no_such(guest: &GuestName) -> String {
    format!("libvirt has no guest {guest}")
}

/// libvirt's words, on one line: QEMU's part of them may be anything.
pub(super) fn sentence(error: &Error) -> String {
    printable(error.to_string().trim())
}
