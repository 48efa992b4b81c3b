//! The benchmarks: what the goals of speed and thrift come to, measured on the program as it is installed.
//!
//! `cargo bench` runs all, `cargo bench -- NAME…` those of these names. A goal that is missed is said and is no
//! failure; what cannot be measured is one. README.md beside this file has the figures and how they are made.

mod additions;
mod automount;
mod contender;
mod crowd;
mod daemon;
mod figures;
mod first_access;
#[allow(dead_code, reason = "of the lab; only a part of it is needed here")]
#[path = "../tests/lab/gadget.rs"]
mod gadget;
mod guests;
#[allow(dead_code, reason = "of the lab; only a part of it is needed here")]
#[path = "../tests/lab/hypervisor.rs"]
mod hypervisor;
mod idle;
mod image;
mod loop_device;
mod machine;
mod many_names;
mod memory;
mod messages;
mod old_way;
mod place;
#[allow(dead_code, reason = "of the lab; only a part of it is needed here")]
#[path = "../tests/lab/program.rs"]
mod program;
mod uevents;
#[allow(dead_code, reason = "of the lab; only a part of it is needed here")]
#[path = "../tests/lab/wait.rs"]
mod wait;

use std::os::unix::process::CommandExt;
use std::process::{Command, ExitCode};

/// What a step of a benchmark comes to.
pub(crate) type Outcome<T = ()> = Result<T, Box<dyn std::error::Error>>;

/// A benchmark: its name, and what runs it and prints the figures.
type Benchmark = (&'static str, fn() -> Outcome);

/// On this machine's own kernel.
const HERE: [Benchmark; 5] = [
    ("first-access", first_access::of_images),
    ("many-names", many_names::run),
    ("idle", idle::run),
    ("memory", memory::run),
    ("messages", messages::run),
];
/// In the machine of the lab, which has disks, udev and libvirt: a machine for each.
const INSIDE: [Benchmark; 4] = [
    ("first-access", first_access::of_disks),
    ("idle", idle::run),
    ("guests", guests::run),
    ("crowd", crowd::run),
];

fn main() -> ExitCode {
    // cargo adds `--bench`.
    let arguments: Vec<String> = std::env::args().skip(1).filter(|word| word != "--bench").collect();
    let words: Vec<&str> = arguments.iter().map(String::as_str).collect();
    let done = match words.as_slice() {
        ["--here", names @ ..] => run(&HERE, names),
        ["--inside", names @ ..] => run(&INSIDE, names),
        names => check(names).and_then(|()| apart(names)).and_then(|here| {
            let chosen = INSIDE.iter().map(|(name, _)| *name);
            let chosen = chosen.filter(|name| names.is_empty() || names.contains(name));
            chosen.map(machine::run).try_fold(here, |all, measured| Ok(all & measured?))
        }),
    };
    match done {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("bench: {error}");
            ExitCode::FAILURE
        }
    }
}

fn check(names: &[&str]) -> Outcome {
    if !rustix::process::geteuid().is_root() {
        return Err("mounting needs root".into());
    }
    let mut known: Vec<&str> = HERE.iter().chain(&INSIDE).map(|(name, _)| *name).collect();
    known.sort_unstable();
    known.dedup();
    match names.iter().find(|name| !known.contains(name)) {
        Some(unknown) => {
            let known = known.join(", ");
            Err(format!("no benchmark is called {unknown:?}; there are {known}").into())
        }
        None => Ok(()),
    }
}

/// Runs this program again in a mount namespace of its own: what is mounted elsewhere on this machine meanwhile wakes
/// nobody, and nothing of ours is seen there.
fn apart(names: &[&str]) -> Outcome<bool> {
    let mut command = Command::new("/usr/bin/unshare");
    command.args(["--mount", "--propagation", "private", "--"]).arg(std::env::current_exe()?);
    Ok(command.arg0("unshare").arg("--here").args(names).status()?.success())
}

/// Whether all that were named could be measured.
fn run(benchmarks: &[Benchmark], names: &[&str]) -> Outcome<bool> {
    println!("{}", figures::surroundings()?);
    let mut all = true;
    for (name, benchmark) in benchmarks.iter().filter(|(name, _)| names.is_empty() || names.contains(name)) {
        if let Err(error) = benchmark() {
            println!("{name}: not measured: {error}");
            all = false;
        }
    }
    Ok(all)
}
