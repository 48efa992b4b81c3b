//! One attach, from the claim on what is attached to libvirt's answer. Knows nothing of what is decided and why.

use super::libvirt::{Connection, Domain, Error};
use super::worker::{no_such, sentence};
use super::{Attach, Claim, Live, NewDevice, namespace, xml};
use crate::device::{GuestName, printable};

/// Attaches, and holds what is attached until libvirt has answered, however long that takes. `is_wanted` is asked right
/// before libvirt is. A warning is for the log.
///
/// # Errors
/// One sentence.
pub(super) fn attach(
    connection: &Connection,
    order: &Attach,
    claim: &Claim,
    is_wanted: impl FnOnce() -> bool,
    warn: impl FnMut(String),
) -> Result<(), String> {
    let device = &order.device;
    let guest: GuestName = order.guest.parse().map_err(|error| format!("not a guest's name: it {error}"))?;
    let xml = xml::device(device).map_err(|error| error.to_string())?;
    let _held = claim(order)?;
    let failed =
        |error: &Error| format!("libvirt does not attach {} to {guest}: {}", what(device), sentence(error));
    match connection.domain(guest.as_str()) {
        Ok(Some(domain)) => {
            make_way(&domain, &order.uri, &guest, device, warn);
            if !is_wanted() {
                return Err("nobody wants it any more".to_owned());
            }
            domain.attach(&xml).map_err(|error| failed(&error))
        }
        Ok(None) => Err(no_such(&guest)),
        Err(error) => Err(failed(&error)),
    }
}

/// Not to succeed at this need not matter: libvirt has the last word.
fn make_way(
    domain: &Domain<'_>,
    uri: &str,
    guest: &GuestName,
    device: &NewDevice,
    mut warn: impl FnMut(String),
) {
    let NewDevice::Disk { node, .. } = device else { return };
    let made_way = match namespace::copy(uri, guest, node) {
        // What the guest has is asked for only if it matters: libvirt writes out all of it.
        Ok(Some(copy)) => live(domain).map_or(Ok(()), |live| copy.forget(&live)),
        Ok(None) => Ok(()),
        Err(error) => Err(error),
    };
    if let Err(error) = made_way {
        warn(format!("cannot look for {} in the private /dev of {guest}: {error}", node.display()));
    }
}

fn live(domain: &Domain<'_>) -> Option<Live> {
    xml::domain(&domain.xml().ok()?).ok()?.live
}

fn what(device: &NewDevice) -> String {
    match device {
        NewDevice::Disk { node, target, .. } => {
            format!("{} as {target}", printable(&node.to_string_lossy()))
        }
        NewDevice::Usb { bus, address, id, .. } => format!("USB device {id} (bus {bus}, device {address})"),
    }
}
