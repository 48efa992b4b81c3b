//! mydisks: the way a virtualization host handles what is plugged into it.
//!
//! External disks that belong to the host are directories under one FUSE mount: whoever enters one finds the
//! disk unlocked and mounted; after disuse it is unmounted and locked again. Everything else that is configured
//! goes to a libvirt guest. ARCHITECTURE.md names the rooms of this house and what each knows nothing of.

pub mod cli;
pub mod config;
pub mod control;
pub mod core;
pub mod daemon;
pub mod device;
pub mod disk;
pub mod fuse;
pub mod guests;
pub mod status;
