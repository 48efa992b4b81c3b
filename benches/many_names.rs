//! Ten thousand names: how long until they are served, and how long they take to be listed and shown.

use std::process::Command;
use std::time::{Duration, Instant};

use crate::Outcome;
use crate::daemon::Daemon;
use crate::figures::{Samples, goal, line, milliseconds};

pub(crate) const NAMES: usize = 10_000;
const ROUNDS: usize = 11;
const START: Duration = Duration::from_millis(500);
const LIST: Duration = Duration::from_millis(20);

/// A configuration with so many names, each with a disk of its own.
pub(crate) fn config(names: usize) -> String {
    let name = |number| {
        format!("[mounts.backup-{number:05}]\ndisks = [\"WDC_WD20NMVW-11AV3S3_WD-WX91A8{number:05}\"]\n")
    };
    (0..names).map(name).collect()
}

pub(crate) fn run() -> Outcome {
    println!("{NAMES} names");
    let config = config(NAMES);
    let mut starts = Samples::default();
    for _ in 0..ROUNDS {
        starts.add(Daemon::start(&config)?.started_in);
    }
    line("`mydisks mount` until it returns", &starts);
    let daemon = Daemon::start(&config)?;
    let lists = time(|| list(&daemon, "-a"))?;
    line("`ls -a` of the root into a pipe, first and after", &lists);
    line("`ls -l` of the root into a pipe", time(|| list(&daemon, "-l"))?);
    line("reading status.json", time(|| daemon.status("status.json").map(drop))?);
    line("length of status.json", format_args!("{:>8} KiB", daemon.status("status.json")?.len() >> 10));
    let started = starts.median();
    goal("start in less than 500 ms", format_args!("{} ms", milliseconds(started)), started < START);
    let listed = lists.median();
    goal("`ls` in less than 20 ms", format_args!("{} ms", milliseconds(listed)), listed < LIST);
    Ok(())
}

fn time(mut what: impl FnMut() -> Outcome) -> Outcome<Samples> {
    let mut samples = Samples::default();
    for _ in 0..ROUNDS {
        let start = Instant::now();
        what()?;
        samples.add(start.elapsed());
    }
    Ok(samples)
}

fn list(daemon: &Daemon, option: &str) -> Outcome {
    let output = Command::new("/bin/ls").env("LC_ALL", "C").arg(option).arg(&daemon.mountpoint).output()?;
    let lines = output.stdout.iter().filter(|byte| **byte == b'\n').count();
    if !output.status.success() || lines < NAMES {
        return Err(format!("ls: {}, {lines} lines", output.status).into());
    }
    Ok(())
}
