//! Where systemd is process 1: the line of fstab as a mount unit, the service, and the mount units that systemd makes
//! of the disks' own mounts, of which it believes that they are its to unmount.

use std::fs::{self, File};
use std::path::Path;
use std::time::Duration;

use super::{KEY, config, is_mounted, key_line, list, name, wait_for_state};
use crate::daemon::{self, MOUNTPOINT};
use crate::disks::{Filesystem, Lock, Recipe};
use crate::lab::Lab;
use crate::program::Program;
use crate::qmp::Plugged;
use crate::wait::{self, PATIENCE};
use crate::{Outcome, mounts};

const UNITS: &str = "/run/systemd/system";
const MOUNT_UNIT: &str = "mnt-mydisks.mount";
const SERVICE: &str = "mydisks.service";

pub(super) fn line_of_fstab_is_a_mount_unit_that_starts_and_stops(lab: &mut Lab) -> Outcome {
    locked_disk(lab)?;
    daemon::write_config(&config("DISK", &key_line()?))?;
    daemon::install_fstab("nofail")?;
    systemctl(&["daemon-reload"])?;
    for _ in 0..2 {
        systemctl(&["start", MOUNT_UNIT])?;
        wait_for_state("backup", "ready")?;
        assert_eq!(list("backup")?, ["hello"]);
        systemctl(&["stop", MOUNT_UNIT])?;
        assert_eq!(mounts::at(Path::new(MOUNTPOINT))?, []);
        wait::until_true("the disk to be locked", PATIENCE, || mounts::mappings().is_empty())?;
        wait::until_true("the daemon to end", PATIENCE, || daemon::processes().is_empty())?;
        assert_eq!(state_of(MOUNT_UNIT)?, "inactive");
    }
    Ok(())
}

pub(super) fn line_of_fstab_is_unmounted_by_hand_without_a_word_to_systemd(lab: &mut Lab) -> Outcome {
    locked_disk(lab)?;
    daemon::write_config(&config("DISK", &key_line()?))?;
    daemon::install_fstab("nofail")?;
    systemctl(&["daemon-reload"])?;
    systemctl(&["start", MOUNT_UNIT])?;
    wait_for_state("backup", "ready")?;
    assert_eq!(list("backup")?, ["hello"]);
    Program::new("umount").arg(MOUNTPOINT).ok()?;
    assert_eq!(mounts::mappings(), [] as [&str; 0], "locked when umount returns");
    wait::until_true("systemd to see that", PATIENCE, || {
        state_of(MOUNT_UNIT).is_ok_and(|is| is == "inactive")
    })?;
    systemctl(&["start", MOUNT_UNIT])?;
    wait_for_state("backup", "ready")?;
    assert_eq!(list("backup")?, ["hello"]);
    systemctl(&["stop", MOUNT_UNIT])?;
    wait::until_true("the daemon to end", PATIENCE, || daemon::processes().is_empty())
}

pub(super) fn killed_service_is_started_again_and_takes_over_what_is_mounted(lab: &mut Lab) -> Outcome {
    locked_disk(lab)?;
    start_service(&config("DISK", &format!("idle-timeout = \"2s\"\n{}", key_line()?)))?;
    wait_for_state("backup", "ready")?;
    let busy = File::open(name("backup").join("hello"))?;
    let killed = daemon::processes();
    systemctl(&["kill", "--kill-who=main", "--signal=KILL", SERVICE])?;
    wait::until_true("another daemon", PATIENCE, || {
        let running = daemon::processes();
        !running.is_empty() && running.iter().all(|pid| !killed.contains(pid))
    })?;
    wait::until_true("it to serve", PATIENCE, || list("backup").is_ok_and(|names| names == ["hello"]))?;
    assert_eq!(std::io::read_to_string(&busy)?, "from the disk\n");
    systemctl(&["reload", SERVICE])?;
    drop(busy);
    wait::until_true("the disk to be locked after disuse", PATIENCE, || mounts::mappings().is_empty())?;
    assert_eq!(list("backup")?, ["hello"]);
    systemctl(&["stop", SERVICE])?;
    assert_eq!(mounts::at(Path::new(MOUNTPOINT))?, []);
    assert_eq!(mounts::mappings(), [] as [&str; 0], "locked when systemctl returns");
    Ok(())
}

pub(super) fn unit_of_a_disk_that_was_pulled_does_not_unmount_the_next(lab: &mut Lab) -> Outcome {
    let (backing, disk) = locked_disk(lab)?;
    start_service(&config("DISK", &key_line()?))?;
    wait_for_state("backup", "ready")?;
    let root = Program::new("findmnt").args(["--noheadings", "--output=PROPAGATION", "/"]).ok()?;
    assert_eq!(root.trim(), "shared", "as systemd makes it");
    assert_eq!(list("backup")?, ["hello"]);
    lab.pull(&disk)?;
    wait_for_state("backup", "absent")?;
    wait::until_true("the mapping to go", PATIENCE, || mounts::mappings().is_empty())?;
    lab.plug(&backing, "DISK")?;
    wait_for_state("backup", "ready")?;
    assert_eq!(list("backup")?, ["hello"]);
    wait::stays_true("it to be mounted", Duration::from_secs(5), || is_mounted("backup"))?;
    systemctl(&["daemon-reload"])?;
    wait::stays_true("it to be mounted", Duration::from_secs(3), || is_mounted("backup"))?;
    systemctl(&["stop", SERVICE])?;
    assert_eq!(mounts::mappings(), [] as [&str; 0], "locked when systemctl returns");
    Ok(())
}

pub(super) fn disk_that_systemd_unmounts_is_locked(lab: &mut Lab) -> Outcome {
    locked_disk(lab)?;
    start_service(&config("DISK", &key_line()?))?;
    wait_for_state("backup", "ready")?;
    assert_eq!(list("backup")?, ["hello"]);
    // As at the end of the system, before the root's own unit.
    let unit = "mnt-mydisks-backup.mount";
    wait::until_true("systemd to see the mount", PATIENCE, || state_of(unit).is_ok_and(|is| is == "active"))?;
    systemctl(&["stop", unit])?;
    wait::until_true("the mapping to go", PATIENCE, || mounts::mappings().is_empty())?;
    assert_eq!(list("backup")?, ["hello"], "and the next access has it again");
    systemctl(&["stop", SERVICE])
}

fn locked_disk(lab: &mut Lab) -> Outcome<(std::path::PathBuf, Plugged)> {
    let backing = lab.disk(&Recipe::plain(Filesystem::Ext4).locked(Lock::Luks2, KEY))?;
    let disk = lab.plug(&backing, "DISK")?;
    Ok((backing, disk))
}

/// The unit as `make install` writes it, for the program under test.
fn start_service(config: &str) -> Outcome {
    daemon::write_config(config)?;
    daemon::make_mountpoint()?;
    let unit = include_str!("../../../../config/mydisks.service");
    let unit = unit.replace("@BINDIR@/mydisks", daemon::BINARY);
    fs::write(Path::new(UNITS).join(SERVICE), unit)?;
    systemctl(&["daemon-reload"])?;
    systemctl(&["start", SERVICE])
}

fn systemctl(words: &[&str]) -> Outcome {
    Program::new("systemctl").args(words).ok().map(drop)
}

fn state_of(unit: &str) -> Outcome<String> {
    let said = Program::new("systemctl").args(["show", "--property=ActiveState", "--value", unit]).ok()?;
    Ok(said.trim().to_owned())
}
