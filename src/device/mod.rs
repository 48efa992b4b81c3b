//! What is plugged in: identities of disks and USB devices, and how a configured identity matches a present
//! device. Knows nothing of mounts and guests.
//!
//! The edge is [`udev`]: it reads, and asks `block` and `usb` (pure) what the records mean and `inventory`
//! (pure) what has changed; `handled` reads one device, for a program that udev runs. Everything else here is data and
//! comparisons.

mod block;
mod claim;
mod disk_ids;
mod event;
mod handled;
mod identity;
mod index;
mod inventory;
mod matching;
mod present;
mod printable;
mod record;
mod spec;
mod sysfs;
pub mod udev;
mod usb;

#[cfg(test)]
mod arbitrary;

pub use claim::{disk_claims, usb_claims};
pub use event::{DeviceEvent, MonitorError};
pub use handled::Handled;
pub use identity::{
    DiskId, FsLabel, FsUuid, GuestName, IdentityError, LuksUuid, MountName, PartUuid, PortPath, UsbId,
    UsbSerial, Wwn,
};
pub use index::DiskIndex;
pub use matching::Found;
pub use present::{BlockNode, Content, Disk, DiskSeq, Partition, UsbDevice};
pub use printable::printable;
pub use spec::{DiskSpec, UsbRule};
pub use sysfs::usb_id_at;
