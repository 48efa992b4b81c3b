//! What the rule in config/61-mydisks.rules runs at each event of a disk or partition. udev waits for it, and a line
//! on standard output becomes a property: so it looks at nothing but the configuration and /sys, and is silent about
//! everything that is wrong, which is for `mydisks check` to say.

use std::path::Path;

use super::inspect;
use crate::config::{self, Config};
use crate::device::Handled;

/// The command of the rule; not for people.
pub(super) const COMMAND: &str = "properties-for-udev";

/// What udisks(8) looks at: hide the device from people and programs that mount what is plugged in, and do not start
/// anything with it by itself.
const PROPERTIES: &str = "UDISKS_IGNORE=1\nUDISKS_AUTO=0\n";

/// Prints the properties of the device in the environment if the configuration has it for a mount or a guest.
pub(super) fn properties(file: &Path) -> Result<(), String> {
    let is_ours = || Some(is_claimed(&config::load(file).ok()?, &Handled::of(std::env::vars_os())?));
    if is_ours() == Some(true) { inspect::print(PROPERTIES.as_bytes()) } else { Ok(()) }
}

fn is_claimed(config: &Config, device: &Handled) -> bool {
    let mut of_mounts = config.mounts.iter().flat_map(|mount| &mount.disks);
    // A guest gets whole disks.
    let mut of_guests = config.guests.iter().flat_map(|guest| &guest.disks);
    let mut usb = config.guests.iter().flat_map(|guest| &guest.usb);
    of_mounts.any(|spec| device.is_meant(spec))
        || of_guests.any(|disk| device.is_on_disk(&disk.disk))
        || usb.any(|rule| device.is_on_usb(rule))
}
