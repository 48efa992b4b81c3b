//! Wires whoever attaches a device to a guest, the daemon or its process for that, to what the host knows of its devices.

use crate::device::usb_id_at;
use crate::disk;
#[cfg(feature = "libvirt")]
use crate::guests;
use crate::guests::{Attach, NewDevice};

/// What the process does that attaches a device for the daemon.
///
/// # Errors
/// One sentence.
#[cfg(feature = "libvirt")]
pub fn attach_for_daemon() -> Result<(), String> {
    guests::attach_for_daemon(&claim).map_err(|error| format!("this is for the daemon to run: {error}"))
}

/// A device of the host is the one that udev has told of, and its disks are free and stay so.
pub(super) fn claim(order: &Attach) -> Result<Box<dyn Send>, String> {
    let disks = match &order.device {
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
    let claims = disks.iter().map(|(node, sequence)| disk::claim(node, *sequence, &order.guest));
    match claims.collect::<Result<Vec<_>, _>>() {
        Ok(claims) => Ok(Box::new(claims)),
        Err(error) => Err(error.message),
    }
}
