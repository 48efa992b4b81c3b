//! What is known of libvirt's domains and what can be asked of one: plain data, between the edge and whoever decides.

use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use crate::device::{GuestName, UsbId};

/// Numbers a piece of work that was asked for; its [`GuestEvent::Done`] carries it back.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Ticket(pub u64);

/// A domain at one moment.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Domain {
    /// As libvirt has it: need not be a name that the configuration could hold.
    pub name: String,
    /// What it has, if it runs (or is paused); `None` = shut off.
    pub live: Option<Live>,
}

/// The live XML of a running domain, as far as it matters here.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Live {
    /// libvirt's number of this run: another one after each start, the same after a reboot of the guest.
    pub run: u32,
    /// All its disks and USB host devices, ours or not.
    pub devices: Vec<LiveDevice>,
    /// It has a controller that takes SCSI disks (`virtio-scsi`).
    pub has_scsi: bool,
}

/// A disk or USB host device in live XML.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LiveDevice {
    /// `<alias name='…'/>`; ours begin with [`ALIAS_PREFIX`].
    pub alias: Option<String>,
    /// What it is.
    pub kind: LiveKind,
}

/// What a device in live XML is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum LiveKind {
    /// `<disk>`
    Disk {
        /// `<target dev='vdb'/>`
        target: String,
        /// `<source dev='…'/>` or `<source file='…'/>` with symbolic links resolved (by-id to `/dev/sdb`), so that
        /// it compares with a device node; as it is written where that fails. `None` for an empty drive or one on
        /// the network.
        source: Option<PathBuf>,
    },
    /// `<hostdev mode='subsystem' type='usb'>`
    Usb {
        /// `<source><address bus= device=/>`; `None` if it is given by vendor and product alone.
        at: Option<(u16, u16)>,
        /// `<vendor id=/>` and `<product id=/>`, if they are given.
        id: Option<UsbId>,
    },
}

/// Every alias of ours begins so. libvirt keeps user aliases apart by `ua-`.
pub const ALIAS_PREFIX: &str = "ua-mydisks-";

/// The bus of a disk.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub enum Bus {
    /// `vd*`
    Virtio,
    /// `sd*` where the guest has a virtio-scsi controller.
    Scsi,
    /// `sd*` elsewhere.
    Usb,
}

/// A device to attach, to whom, and by whom.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Attach {
    /// Of libvirt.
    pub uri: String,
    /// A [`GuestName`].
    pub guest: String,
    /// What.
    pub device: NewDevice,
}

/// A device to attach, live.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum NewDevice {
    /// A whole disk, as a block device.
    Disk {
        /// `/dev/sdb`: checked right before the attach.
        node: PathBuf,
        /// `DISKSEQ` that it must still have.
        diskseq: u64,
        /// `vdb`
        target: String,
        /// On which bus.
        bus: Bus,
        /// What the guest sees as its serial; made sane by whoever writes the XML.
        serial: Option<String>,
        /// The guest may only read.
        read_only: bool,
        /// Begins with [`ALIAS_PREFIX`].
        alias: String,
    },
    /// A USB device.
    Usb {
        /// Bus number.
        bus: u16,
        /// Device number on it.
        address: u16,
        /// Vendor and product that it must still have: checked right before the attach.
        id: UsbId,
        /// The disks on it, each with its `DISKSEQ`: checked right before the attach, as a [`NewDevice::Disk`].
        disks: Vec<(PathBuf, u64)>,
        /// Begins with [`ALIAS_PREFIX`].
        alias: String,
    },
}

impl NewDevice {
    /// Something that the host could use as well.
    #[cfg(feature = "libvirt")]
    pub(super) fn has_disks(&self) -> bool {
        match self {
            Self::Disk { .. } => true,
            Self::Usb { disks, .. } => !disks.is_empty(),
        }
    }
}

/// What the edge reports.
///
/// Of one guest in the order in which it was true: what is reported after a [`GuestEvent::Done`] was read after that
/// work had ended. Changes of any domain are reported unasked, of those too that the configuration does not name.
/// Every piece of work is reported done once, also when the connection was lost meanwhile.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum GuestEvent {
    /// The connection is up, for the first time or again: these are all domains that there are.
    Connected(Vec<Domain>),
    /// There is no connection, and why. It is tried again without being asked.
    Disconnected(String),
    /// This domain was looked at. `None`: there is none of that name.
    Seen {
        /// Its name.
        name: String,
        /// How it is now.
        domain: Option<Domain>,
    },
    /// A piece of work has ended. Success of a detach means that it was asked for, not that it is done.
    Done {
        /// Which.
        ticket: Ticket,
        /// One sentence if it failed.
        result: Result<(), String>,
    },
}

/// What the edge is asked to do. Work for one guest is done in order, and delays no other guest.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum GuestAction {
    /// Connect, unless that has been begun: a guest is wanted for the first time.
    Connect,
    /// Look at this domain and report [`GuestEvent::Seen`]; a look that is waiting already counts for both.
    Look(String),
    /// Attach, live only; the persistent configuration is never changed.
    Attach {
        /// Report as.
        ticket: Ticket,
        /// To this guest.
        guest: GuestName,
        /// What.
        device: NewDevice,
    },
    /// Ask for the removal of the device with this alias; returns at once, done or not.
    Detach {
        /// Report as.
        ticket: Ticket,
        /// From this guest.
        guest: GuestName,
        /// Of ours.
        alias: String,
    },
}
