//! The calls: each is made as the very first access to an unmounted name, and once on a plain mount.
//!
//! By theme, one table each. A call gets a [`Place`] and returns what it saw; it knows nothing of which side it runs on.

mod attributes;
mod beneath;
mod create;
mod look;
mod mounts;
mod open;
mod paths;
mod remove;
mod users;

use crate::image::Disk;
use crate::place::{Outcome, Place};

/// Whether a call is an entry into the name directory.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Entry {
    /// It is: the disk must be mounted when it returns.
    Enters,
    /// It is not: nothing may be attached or mounted.
    StaysOut,
    /// Its result tells nothing of the disk, and either is right.
    Either,
}

/// One call, or a short sequence of which only the last touches the name.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Case {
    /// What is called, on what.
    pub name: &'static str,
    /// Makes the call.
    pub call: fn(&Place) -> Outcome,
    /// Whether it must mount the disk.
    pub entry: Entry,
    /// The disk it starts from.
    pub disk: Disk,
}

const fn enters(name: &'static str, call: fn(&Place) -> Outcome) -> Case {
    Case { name, call, entry: Entry::Enters, disk: Disk::Open }
}

const fn stays_out(name: &'static str, call: fn(&Place) -> Outcome) -> Case {
    Case { name, call, entry: Entry::StaysOut, disk: Disk::Open }
}

const fn either(name: &'static str, call: fn(&Place) -> Outcome) -> Case {
    Case { name, call, entry: Entry::Either, disk: Disk::Open }
}

const fn on_closed_disk(case: Case) -> Case {
    Case { disk: Disk::Closed, ..case }
}

/// All cases.
pub(crate) fn all() -> Vec<Case> {
    [
        open::CASES,
        beneath::CASES,
        look::CASES,
        create::CASES,
        remove::CASES,
        attributes::CASES,
        mounts::CASES,
        paths::CASES,
        users::CASES,
    ]
    .concat()
}

/// Success without anything to tell.
fn done<T>(result: rustix::io::Result<T>) -> Outcome {
    result.map(|_| String::new())
}
