//! libvirt's guests: what they have, attaching and detaching. Knows nothing of disks and core.
//!
//! `libvirt` is the C library, `xml` what it is told and tells; `supervisor` keeps the connection and looks at
//! domains, and each guest has a `worker`. An `attach` of disks is an `errand` of another process, and undoes in
//! `namespace` what libvirt forgets. A build without the feature `libvirt` has `absent` in their place.

#[cfg(not(feature = "libvirt"))]
mod absent;
#[cfg(feature = "libvirt")]
mod attach;
mod domain;
#[cfg(feature = "libvirt")]
mod edge;
#[cfg(feature = "libvirt")]
mod errand;
#[cfg(feature = "libvirt")]
mod libvirt;
#[cfg(feature = "libvirt")]
mod namespace;
#[cfg(feature = "libvirt")]
mod supervisor;
#[cfg(feature = "libvirt")]
#[cfg(test)]
mod tests;
#[cfg(feature = "libvirt")]
mod worker;
#[cfg(feature = "libvirt")]
mod xml;

#[cfg(not(feature = "libvirt"))]
pub use absent::Guests;
pub use domain::{
    ALIAS_PREFIX, Attach, Bus, Domain, GuestAction, GuestEvent, Live, LiveDevice, LiveKind, NewDevice, Ticket,
};
#[cfg(feature = "libvirt")]
pub use edge::Guests;
#[cfg(feature = "libvirt")]
pub use errand::{COMMAND as ATTACH_FOR_DAEMON, attach_for_daemon};

/// Told what happens to guests. May be called on any thread, and must not block.
pub type Report = dyn Fn(GuestEvent) + Send + Sync;

/// Proves that a device of the host is the one meant and free, and keeps it so for as long as what it gives lives; or
/// says in one sentence why not. May block.
pub type Claim = dyn Fn(&Attach) -> Result<Box<dyn Send>, String> + Send + Sync;
