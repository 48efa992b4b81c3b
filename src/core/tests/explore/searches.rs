//! What is searched.

use std::time::Duration;

use super::budget::Budget;
use crate::core::Wish;

/// What a search tries. In all of them one mapping at a time is open over a pulled disk when another disk is plugged
/// in, and one mapping is refused to be locked at most once in a row: both could go on for ever.
#[derive(Clone, Copy, Debug)]
pub(super) struct Limits {
    pub(super) what: &'static str,
    /// The first is that of the start, the others come by reload.
    pub(super) configs: &'static [&'static str],
    /// Which can be plugged in, two at a time; they are at the start.
    pub(super) disks: &'static [&'static str],
    /// Both may claim to be the same.
    pub(super) twins: bool,
    /// Requests that wait at the same time, of all names. They are interchangeable.
    pub(super) callers: usize,
    /// Callers get signals.
    pub(super) signals: bool,
    /// Others move mounts away, and mount over them.
    pub(super) outside: bool,
    /// They run at the start, and may be stopped.
    pub(super) guests: &'static [&'static str],
    /// Which disks a person gives to any of them, and takes away.
    pub(super) by_hand: &'static [&'static str],
    /// So much time passes at once, unless something is due sooner.
    pub(super) longest_pass: Duration,
    /// What people want of a name, and whether they wait for it.
    pub(super) wishes: &'static [(Wish, bool)],
    /// Commands at the same time.
    pub(super) commands: usize,
    /// The daemon is to end, or its root is taken away.
    pub(super) stop: bool,
    /// How often what need not happen happens.
    pub(super) budget: Budget,
}

const ONE_NAME: &str = r#"
[defaults]
idle-timeout = "1s"
access-timeout = "2s"
[mounts.a]
disks = ["near", "far"]
"#;

/// Both names can have the disk `far`.
const TWO_NAMES: &str = r#"
[defaults]
idle-timeout = "1s"
access-timeout = "2s"
[mounts.a]
disks = ["near", "far"]
[mounts.b]
disks = [{ uuid = "fa" }]
"#;

const KEPT: &str = r#"
on-exit = "keep"
[defaults]
idle-timeout = "1s"
access-timeout = "2s"
[mounts.a]
disks = ["near", "far"]
"#;

/// A name goes, another one comes, and has its disk.
const ANOTHER_NAME: &str = r#"
[defaults]
idle-timeout = "1s"
access-timeout = "2s"
[mounts.b]
disks = ["near"]
"#;

/// The name stays and has another disk.
const ANOTHER_DISK: &str = r#"
[defaults]
idle-timeout = "1s"
access-timeout = "2s"
[mounts.a]
disks = ["far"]
"#;

/// The name can have both disks, the guest is to have one of them.
const NAME_AND_GUEST: &str = r#"
[defaults]
idle-timeout = "1s"
access-timeout = "2s"
[mounts.a]
disks = ["near", "far"]
[guests.g]
disks = [{ uuid = "fa" }]
"#;

const ALL_WISHES: &[(Wish, bool)] = &[
    (Wish::Locked, false),
    (Wish::Locked, true),
    (Wish::LockedLater, false),
    (Wish::LockedLater, true),
    (Wish::Ejected, false),
    (Wish::Ejected, true),
];

/// Waits for the disk, or has it taken away from its users.
const EJECTED_OR_LAZY: &[(Wish, bool)] = &[(Wish::Ejected, true), (Wish::LockedLater, false)];

const NOTHING: Budget = Budget { callers: 0, devices: 0, failures: 0, others: 0, guests: 0, commands: 0 };

const PLAIN: Limits = Limits {
    what: "",
    configs: &[ONE_NAME],
    disks: &["near", "far"],
    twins: false,
    callers: 1,
    signals: false,
    outside: false,
    guests: &[],
    by_hand: &[],
    longest_pass: Duration::from_secs(1),
    wishes: &[],
    commands: 0,
    stop: false,
    budget: NOTHING,
};

pub(super) const SEARCHES: [Limits; 14] = [
    Limits {
        what: "two names, two disks, three callers",
        configs: &[TWO_NAMES],
        callers: 3,
        budget: Budget { callers: 3, devices: 1, failures: 1, ..NOTHING },
        ..PLAIN
    },
    Limits {
        what: "one name, two disks, three callers",
        callers: 3,
        budget: Budget { callers: 3, devices: 1, failures: 1, others: 1, ..NOTHING },
        ..PLAIN
    },
    Limits {
        what: "two names, two disks, one caller at a time",
        configs: &[TWO_NAMES],
        budget: Budget { callers: 2, devices: 2, failures: 1, ..NOTHING },
        ..PLAIN
    },
    Limits {
        what: "one name, two disks that may be alike, one caller at a time",
        twins: true,
        budget: Budget { callers: 2, devices: 3, failures: 1, ..NOTHING },
        ..PLAIN
    },
    Limits {
        what: "one name, one disk, two callers that get signals",
        disks: &["near"],
        callers: 2,
        signals: true,
        budget: Budget { callers: 2, ..NOTHING },
        ..PLAIN
    },
    Limits {
        what: "one name, one disk, one caller at a time, the hands of others",
        disks: &["near"],
        outside: true,
        budget: Budget { callers: 2, devices: 1, failures: 1, others: 2, ..NOTHING },
        ..PLAIN
    },
    Limits {
        what: "one name, two disks, one caller at a time, two commands",
        wishes: ALL_WISHES,
        commands: 2,
        budget: Budget { callers: 1, failures: 1, commands: 2, ..NOTHING },
        ..PLAIN
    },
    Limits {
        what: "one name, one disk, one caller at a time, a command and the end",
        disks: &["near"],
        wishes: ALL_WISHES,
        commands: 2,
        stop: true,
        budget: Budget { callers: 1, failures: 1, others: 1, commands: 2, ..NOTHING },
        ..PLAIN
    },
    Limits {
        what: "one name, one disk, one caller at a time, a command or the end that keeps mounts",
        configs: &[KEPT],
        disks: &["near"],
        wishes: &[(Wish::Locked, true), (Wish::Ejected, false)],
        commands: 1,
        stop: true,
        budget: Budget { callers: 1, devices: 1, failures: 1, commands: 2, ..NOTHING },
        ..PLAIN
    },
    Limits {
        what: "two names of three configs, two disks, one caller at a time, two reloads",
        configs: &[ONE_NAME, ANOTHER_NAME, ANOTHER_DISK],
        commands: 2,
        budget: Budget { callers: 1, devices: 1, failures: 1, commands: 2, ..NOTHING },
        ..PLAIN
    },
    Limits {
        what: "one disk that is ejected as soon as it is idle or unmounted lazily, a reload and the end meanwhile",
        configs: &[ONE_NAME, ANOTHER_DISK],
        disks: &["near"],
        wishes: EJECTED_OR_LAZY,
        commands: 3,
        stop: true,
        budget: Budget { callers: 1, failures: 1, commands: 3, ..NOTHING },
        ..PLAIN
    },
    Limits {
        what: "one name, one guest, one disk that a person gives to the guest and takes away",
        configs: &[NAME_AND_GUEST],
        disks: &["near"],
        guests: &["g"],
        by_hand: &["near"],
        commands: 2,
        longest_pass: Duration::from_secs(30),
        budget: Budget { callers: 1, devices: 1, failures: 1, guests: 1, commands: 2, ..NOTHING },
        ..PLAIN
    },
    Limits {
        what: "one name, one guest, one disk that a reload gives to the guest",
        configs: &[ONE_NAME, NAME_AND_GUEST],
        disks: &["far"],
        guests: &["g"],
        commands: 2,
        longest_pass: Duration::from_secs(30),
        budget: Budget { callers: 1, devices: 1, failures: 1, guests: 1, commands: 2, ..NOTHING },
        ..PLAIN
    },
    Limits {
        what: "two guests, one disk that a person gives to one and to the other",
        configs: &[NAME_AND_GUEST],
        disks: &["near"],
        guests: &["g", "h"],
        by_hand: &["near"],
        commands: 1,
        longest_pass: Duration::from_secs(30),
        budget: Budget { devices: 1, failures: 1, commands: 2, ..NOTHING },
        ..PLAIN
    },
];
