//! What the edge to udev tells the rest of the house; plain data.

use rustix::io::Errno;
use thiserror::Error;

use super::{Disk, DiskSeq, PortPath, UsbDevice};

/// A change in what is plugged in.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum DeviceEvent {
    /// This disk is present, or something about it (a partition, its content, an id) is other than last reported.
    DiskPresent(Disk),
    /// This plug of a disk is over: pulled, or its medium taken out or changed.
    DiskGone(DiskSeq),
    /// This USB device is present, or something about it is other than last reported.
    UsbPresent(UsbDevice),
    /// This plug of a USB device is over.
    UsbGone {
        /// Where it was.
        port: PortPath,
        /// Its bus number.
        bus: u16,
        /// Its device number on the bus.
        address: u16,
    },
    /// Everything that is present has been reported: at the start, and again whenever udev's events were lost and
    /// all was read anew.
    EnumerationDone,
    /// The last event: nothing will be reported any more.
    MonitorFailed(MonitorError),
}

/// Why devices are not, or no longer, reported.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum MonitorError {
    /// The socket on which udev tells its events.
    #[error("cannot listen to udev's events: {0}")]
    Listen(Errno),
    /// The walk through /sys/class/block and /sys/bus/usb.
    #[error("cannot enumerate devices in /sys: {0}")]
    Enumerate(Errno),
    /// Waiting or reading failed again and again.
    #[error("udev's events can no longer be received: {0}")]
    Receive(Errno),
    /// No thread or no eventfd for it.
    #[error("cannot start the thread that watches devices: {0}")]
    Start(Errno),
}
