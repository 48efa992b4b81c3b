//! libvirt's C library behind safe types: loaded when first used, connections, events. Knows nothing of XML.
//!
//! It is loaded with dlopen(3) and not linked: with all that it needs it takes 11 MiB of memory and is no part of a
//! program that has no guests. The signatures are those of `virt-sys`, checked by the compiler.
#![allow(unsafe_code)]

mod connection;
mod events;
mod library;
#[cfg(test)]
mod tests;

pub(super) use connection::{Connection, Domain, Error};
pub(super) use events::{Notice, Watched};

#[cfg(test)]
pub(super) use tests::Power;
