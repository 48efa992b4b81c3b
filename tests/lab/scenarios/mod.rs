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
    Group { name: "host_disks", scenarios: host_disks::SCENARIOS, init: Init::Bare },
    Group { name: "guests", scenarios: guests::SCENARIOS, init: Init::Bare },
    Group { name: "guests_long", scenarios: guests::SLOW, init: Init::Bare },
    Group { name: "guests_facts", scenarios: guests::FACTS, init: Init::Bare },
    Group { name: "suites", scenarios: SUITES, init: Init::Bare },
    Group { name: "pulls", scenarios: host_disks::PULLS, init: Init::Bare },
    Group { name: "pulls_long", scenarios: host_disks::PULLS_LONG, init: Init::Bare },
    Group { name: "leaving", scenarios: host_disks::LEAVING, init: Init::Bare },
    Group { name: "hands", scenarios: host_disks::HANDS, init: Init::Bare },
    Group { name: "faults", scenarios: host_disks::FAULTS, init: Init::Bare },
    Group { name: "faults_of_calls", scenarios: FAULT_SUITES, init: Init::Bare },
    Group { name: "systemd", scenarios: host_disks::SYSTEMD, init: Init::Systemd },
    Group { name: "systemd_long", scenarios: host_disks::SYSTEMD_LONG, init: Init::Systemd },
    Group { name: "facts", scenarios: facts::SCENARIOS, init: Init::Bare },
    Group { name: "mix", scenarios: mix::SCENARIOS, init: Init::Bare },
];

/// They take minutes under emulation.
const SUITES: &[Scenario] = &[
    Scenario {
        name: "every_first_access_comes_out_as_on_a_plain_mount",
        run: suites::every_first_access_comes_out_as_on_a_plain_mount,
        limit: Duration::from_secs(1200),
    },
    Scenario {
        name: "disks_are_unlocked_and_locked_as_the_kernel_says",
        run: suites::disks_are_unlocked_and_locked_as_the_kernel_says,
        limit: Duration::from_secs(600),
    },
];

/// The same, and not in the time of `make test`.
const FAULT_SUITES: &[Scenario] = &[Scenario {
    name: "whichever_system_call_on_an_encrypted_disk_fails_it_is_answered_and_nothing_leaks",
    run: suites::whichever_system_call_on_an_encrypted_disk_fails_it_is_answered_and_nothing_leaks,
    limit: Duration::from_secs(1200),
}];

/// Those that run when none is named: what fits the time of `make test`. `make lab SCENARIO=pulls_long` runs one of the others.
pub(crate) const DEFAULT_GROUPS: &[&str] = &["facts", "host_disks", "pulls", "guests", "mix", "suites"];

/// Registers functions of the modules beside it under their own names.
macro_rules! scenarios {
    ($($module:ident::$function:ident),+ $(,)?) => {
        &[$($crate::scenarios::Scenario {
            name: stringify!($function),
            run: $module::$function,
            limit: std::time::Duration::from_secs(300),
        }),+]
    };
}
pub(crate) use scenarios;
