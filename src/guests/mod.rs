//! libvirt's guests: what they have, attaching and detaching. Knows nothing of disks and core.

mod domain;

pub use domain::{
    ALIAS_PREFIX, Bus, Domain, GuestAction, GuestEvent, Live, LiveDevice, LiveKind, NewDevice, Ticket,
};
