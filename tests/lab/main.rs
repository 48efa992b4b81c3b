//! The lab: scenarios with real plugs and pulls, real udev and real LUKS, in a throw-away machine under QEMU.
//!
//! `cargo test --test lab` runs the groups that [`scenarios::DEFAULT_GROUPS`] names, `-- NAME…` those whose
//! `group::name` contains a NAME, `-- --list` lists all. README.md beside this file says how the machine works.

mod daemon;
mod demo;
mod disks;
mod diskseq;
mod forgery;
mod gadget;
mod hypervisor;
mod inside;
mod lab;
mod mounts;
mod originals;
mod outside;
mod program;
mod qmp;
mod report;
mod scenarios;
mod stand_in;
mod udevdb;
mod wait;

use std::process::ExitCode;

use scenarios::{DEFAULT_GROUPS, GROUPS, Group, Scenario};

/// What a step of a scenario comes to.
pub(crate) type Outcome<T = ()> = Result<T, Box<dyn std::error::Error + Send + Sync>>;

fn main() -> ExitCode {
    scenarios::facts::mount_helpers::stand_in();
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let words: Vec<&str> = arguments.iter().map(String::as_str).collect();
    let result = match words.as_slice() {
        ["--inside", group, names @ ..] => run_inside(group, names),
        ["--demo-inside"] => demo::run().map(|()| 0),
        ["--demo"] => outside::demo().map(|done| i32::from(!done)),
        ["--list"] => {
            list();
            Ok(0)
        }
        [option, ..] if option.starts_with('-') => {
            Err(format!("unknown option {option}; there are --list, --demo and names of scenarios").into())
        }
        names => run_outside(names),
    };
    match result {
        Ok(status) => ExitCode::from(u8::try_from(status).unwrap_or(1)),
        Err(error) => {
            println!("lab: {error}");
            ExitCode::FAILURE
        }
    }
}

fn list() {
    for group in GROUPS {
        for scenario in group.scenarios {
            println!("{}::{}", group.name, scenario.name);
        }
    }
}

fn run_inside(group: &str, names: &[&str]) -> Outcome<i32> {
    let group = GROUPS.iter().find(|other| other.name == group).ok_or("no such group")?;
    let chosen: Vec<&Scenario> =
        group.scenarios.iter().filter(|scenario| names.contains(&scenario.name)).collect();
    inside::run(&chosen)
}

fn run_outside(names: &[&str]) -> Outcome<i32> {
    if !rustix::process::geteuid().is_root() {
        return Err("the lab needs root, to read all of this machine's files into the test machine".into());
    }
    let is_named = |group: &Group, scenario: &Scenario, name: &str| {
        format!("{}::{}", group.name, scenario.name).contains(name)
    };
    let is_known = |name: &&str| {
        GROUPS.iter().any(|group| group.scenarios.iter().any(|scenario| is_named(group, scenario, name)))
    };
    if let Some(unknown) = names.iter().find(|name| !is_known(name)) {
        return Err(format!("no scenario is called {unknown:?}; --list shows all").into());
    }
    let mut chosen = Vec::new();
    for group in GROUPS {
        let is_chosen = |scenario: &&Scenario| {
            names.iter().any(|name| is_named(group, scenario, name))
                || names.is_empty() && DEFAULT_GROUPS.contains(&group.name)
        };
        chosen.push((group, group.scenarios.iter().filter(is_chosen).collect()));
    }
    let tally = outside::run(chosen)?;
    println!("{} passed, {} failed", tally.passed, tally.failed);
    Ok(i32::from(tally.failed > 0))
}
