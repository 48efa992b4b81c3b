//! What the daemon does while nobody wants anything: nothing, counted in context switches of all its threads.

use std::fs;
use std::thread;
use std::time::Duration;

use crate::daemon::Daemon;
use crate::figures::{goal, line};
use crate::place::Place;
use crate::{Outcome, image, many_names};

const SPAN: Duration = Duration::from_secs(15);
/// What an access, or the start, leaves to be done is done by then.
const SETTLE: Duration = Duration::from_secs(2);

pub(crate) fn run() -> Outcome {
    println!("idle");
    let place = Place::new()?;
    let image = place.path().join("disk.image");
    image::make(&image)?;
    let disk = format!("[mounts.disk]\ndisks = [{{ image = {:?} }}]\n", image.display().to_string());
    let daemon = Daemon::start(&format!("{disk}{}", many_names::config(2)))?;
    daemon.status("summary")?;
    let (threads, count) = switches_in(&daemon)?;
    line("threads", format_args!("{threads:>8}"));
    let measured = format!("{count} context switches in {} s", SPAN.as_secs());
    goal("nothing mounted: no wake-ups", measured, count == 0);

    fs::read_dir(daemon.mountpoint.join("disk"))?;
    let (_, count) = switches_in(&daemon)?;
    let what = format!("context switches in {} s, one name mounted", SPAN.as_secs());
    line(&what, format_args!("{count:>8}"));
    rustix::mount::unmount(daemon.mountpoint.join("disk"), rustix::mount::UnmountFlags::empty())?;
    daemon.wait_until_closed("disk")
}

/// How many threads there are, and their context switches in a while.
fn switches_in(daemon: &Daemon) -> Outcome<(usize, u64)> {
    thread::sleep(SETTLE);
    let before = switches(daemon)?;
    thread::sleep(SPAN);
    let after = switches(daemon)?;
    Ok((after.0, after.1 - before.1))
}

/// How many threads there are, and their context switches until now, of both kinds (proc(5)).
fn switches(daemon: &Daemon) -> Outcome<(usize, u64)> {
    let mut total = (0, 0);
    for task in fs::read_dir(daemon.proc("task"))? {
        let status = fs::read_to_string(task?.path().join("status"))?;
        let counts = status.lines().filter(|line| line.contains("voluntary_ctxt_switches:"));
        let counts = counts.filter_map(|line| line.split_whitespace().nth(1)?.parse::<u64>().ok());
        total = (total.0 + 1, total.1 + counts.sum::<u64>());
    }
    Ok(total)
}
