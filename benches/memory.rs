//! Resident memory of the daemon: as it starts, after it has mounted and expired a disk, and with many names.

use std::fs;
use std::thread;
use std::time::Duration;

use crate::daemon::Daemon;
use crate::figures::{goal, line};
use crate::place::Place;
use crate::{Outcome, image, loop_device, many_names};

/// KiB
const GOAL: u64 = 8 << 10;

pub(crate) fn run() -> Outcome {
    println!("resident memory");
    let place = Place::new()?;
    let image = place.path().join("disk.image");
    image::make(&image)?;
    let disk = format!(
        "[mounts.disk]\ndisks = [{{ image = {:?} }}]\nidle-timeout = \"1s\"\n",
        image.display().to_string()
    );
    let few = Daemon::start(&format!("{disk}{}", many_names::config(2)))?;
    let mut most = show("3 names, started", &few)?;
    for _ in 0..3 {
        fs::read_dir(few.mountpoint.join("disk"))?;
        most = most.max(show("3 names, one mounted", &few)?);
        thread::sleep(Duration::from_secs(2));
        loop_device::wait_until_free(&image)?;
        few.wait_until_closed("disk")?;
    }
    most = most.max(show("3 names, mounted and expired three times", &few)?);
    drop(few);
    goal("3 names: less than 8 MiB", format_args!("{most} KiB"), most < GOAL);

    let many = Daemon::start(&format!("{disk}{}", many_names::config(many_names::NAMES - 1)))?;
    let mut most = show("10000 names, started", &many)?;
    fs::read_dir(many.mountpoint.join("disk"))?;
    fs::read_dir(&many.mountpoint)?.for_each(drop);
    most = most.max(show("10000 names, listed, one mounted", &many)?);
    many.wait_until_closed("disk")?;
    most = most.max(show("10000 names, status.json read, the disk expired", &many)?);
    goal("10000 names: less than 8 MiB", format_args!("{most} KiB"), most < GOAL);
    Ok(())
}

/// Prints VmRSS and what it is made of; VmRSS in KiB.
fn show(what: &str, daemon: &Daemon) -> Outcome<u64> {
    let status = fs::read_to_string(daemon.proc("status"))?;
    let value = |key: &str| -> Outcome<u64> {
        let line = status.lines().find_map(|line| line.strip_prefix(key)).ok_or(key)?;
        Ok(line.split_whitespace().next().ok_or(key)?.parse()?)
    };
    let [all, anonymous, file] = ["VmRSS:", "RssAnon:", "RssFile:"].map(value);
    let all = all?;
    line(what, format_args!("{all:>8} KiB  (own {}, of files {})", anonymous?, file?));
    Ok(all)
}
