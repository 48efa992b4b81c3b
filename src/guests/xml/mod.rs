//! libvirt's XML: what a domain's live XML says, and the XML of a device that is attached. Knows nothing of libvirt's
//! library.

mod device;
mod domain;

pub(super) use device::device;
pub(super) use domain::domain;
