//! The table of all scenarios. Each is a plain function whose name states what must hold.

use std::time::Duration;

use crate::Outcome;
use crate::lab::Lab;

pub(crate) mod facts;
mod guests;
mod host_disks;
pub(crate) mod mix;
mod suites;

/// Something that must hold on a real machine.
pub(crate) struct Scenario {
    pub(crate) name: &'static str,
    pub(crate) run: fn(&mut Lab) -> Outcome,
    /// A hang, not slowness, takes longer than that.
    pub(crate) limit: Duration,
}

/// Scenarios that share a machine, one after another.
pub(crate) struct Group {
    pub(crate) name: &'static str,
    pub(crate) scenarios: &'static [Scenario],
    pub(crate) init: Init,
}

impl Group {
    const fn bare(name: &'static str, scenarios: &'static [Scenario]) -> Group {
        Group { name, scenarios, init: Init::Bare }
    }

    const fn under_systemd(name: &'static str, scenarios: &'static [Scenario]) -> Group {
        Group { name, scenarios, init: Init::Systemd }
    }
}

/// Process 1 of a group's machine.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Init {
    /// lab-init, beside the launcher: udev and nothing else.
    Bare,
    /// systemd.
    Systemd,
}

/// All there are.
/// They are begun in this order, the long ones first.
pub(crate) const GROUPS: &[Group] = &[
    Group::bare("host_disks", host_disks::SCENARIOS),
    Group::bare("guests", guests::SCENARIOS),
    Group::bare("guests_long", guests::SLOW),
    Group::bare("guests_facts", guests::FACTS),
    Group::bare("suites", SUITES),
    Group::bare("suites_long", SUITES_LONG),
    Group::bare("pulls", host_disks::PULLS),
    Group::bare("pulls_long", host_disks::PULLS_LONG),
    Group::bare("leaving", host_disks::LEAVING),
    Group::bare("hands", host_disks::HANDS),
    Group::bare("faults", host_disks::FAULTS),
    Group::bare("faults_of_calls", FAULT_SUITES),
    Group::under_systemd("systemd", host_disks::SYSTEMD),
    Group::under_systemd("systemd_long", host_disks::SYSTEMD_LONG),
    Group::bare("facts", facts::SCENARIOS),
    Group::bare("mix", mix::SCENARIOS),
];

/// They take minutes under emulation.
const SUITES: &[Scenario] = scenarios![within 1200 s:
    suites::first_accesses_at_once_come_out_as_on_a_plain_mount,
    suites::disks_are_unlocked_and_locked_as_the_kernel_says,
];

/// The same, and not in the time of `make test`.
const SUITES_LONG: &[Scenario] = scenarios![within 1200 s:
    suites::every_first_access_comes_out_as_on_a_plain_mount,
];

/// The same.
const FAULT_SUITES: &[Scenario] = scenarios![within 1200 s:
    suites::whichever_system_call_on_an_encrypted_disk_fails_it_is_answered_and_nothing_leaks,
];

/// Those that run when none is named: what fits the time of `make test`. `make lab SCENARIO=pulls_long` runs one of the others.
pub(crate) const DEFAULT_GROUPS: &[&str] = &["facts", "host_disks", "pulls", "guests", "mix", "suites"];

/// Registers functions of the modules beside it under their own names. A scenario ends within 300 s, or as long as is
/// said first.
macro_rules! scenarios {
    (within $seconds:literal s: $($module:ident::$function:ident),+ $(,)?) => {
        &[$($crate::scenarios::Scenario {
            name: stringify!($function),
            run: $module::$function,
            limit: std::time::Duration::from_secs($seconds),
        }),+]
    };
    ($($scenario:tt)+) => {
        $crate::scenarios::scenarios![within 300 s: $($scenario)+]
    };
}
pub(crate) use scenarios;
