//! Disks that are sent away by a person: unmounted lazily, waited for, ejected.

use std::fs::{self, File};
use std::io::{BufRead, BufReader};
use std::process::Stdio;
use std::time::Duration;

use super::{KEY, config, errno, head, is_mounted, key_line, list, name, status_of, wait_for_state};
use crate::daemon::{self, Daemon, MOUNTPOINT};
use crate::disks::{Filesystem, Lock, Recipe};
use crate::lab::Lab;
use crate::program::{Finished, Program};
use crate::qmp::Plugged;
use crate::wait::{self, PATIENCE};
use crate::{Outcome, mounts};

use rustix::io::Errno;
use rustix::process::{Pid, Signal, kill_process};

pub(super) fn ejected_disk_is_locked_and_detached_and_comes_back_when_plugged_in_again(
    lab: &mut Lab,
) -> Outcome {
    let backing = lab.disk(&Recipe::plain(Filesystem::Ext4).locked(Lock::Luks2, KEY))?;
    let disk = lab.plug(&backing, "DISK")?;
    lab.start(&config("DISK", &key_line()?))?;
    fs::write(name("backup").join("saved"), "before the eject\n")?;
    let usb = usb_device(&disk)?;
    let said = ejected()?;
    assert!(said.contains("safe to unplug") && said.contains("port switched off"), "{said}");
    assert!(!is_mounted("backup") && mounts::mappings().is_empty(), "locked");
    assert!(mounts::sticks().is_empty(), "gone from the kernel when the command returns");
    assert!(!usb.exists(), "and so is the USB device");
    assert!(
        kernel_log()?.contains("Synchronizing SCSI cache"),
        "the kernel has written the disk's cache out"
    );
    wait_for_state("backup", "absent")?;
    assert_eq!(errno("backup"), Some(Errno::NOMEDIUM.raw_os_error()));
    assert!(!daemon::log_text().contains("lost"), "{}", daemon::log_text());
    lab.pull(&disk)?;
    lab.plug(&backing, "DISK")?;
    wait_for_state("backup", "ready")?;
    assert_eq!(list("backup")?, ["hello", "saved"]);
    Ok(())
}

pub(super) fn ejected_disk_gives_way_to_the_next_of_the_list(lab: &mut Lab) -> Outcome {
    let first = lab.disk(&Recipe::plain(Filesystem::Ext4).file("first", ""))?;
    let second = lab.disk(&Recipe::plain(Filesystem::Ext4).file("second", ""))?;
    lab.plug(&first, "FIRST")?;
    lab.plug(&second, "SECOND")?;
    lab.start(&format!("{}\n[mounts.backup]\ndisks = [\"FIRST\", \"SECOND\"]\n", head()))?;
    assert_eq!(list("backup")?, ["first", "hello"]);
    ejected()?;
    assert_eq!(list("backup")?, ["hello", "second"]);
    umount(&[])?;
    ejected()?;
    assert!(mounts::sticks().is_empty(), "not mounted, and ejected all the same");
    let refused = run(&["eject", "backup"])?;
    assert!(
        refused.code == Some(1) && refused.stderr.contains("none of its disks is attached"),
        "{refused:?}"
    );
    Ok(())
}

pub(super) fn eject_is_refused_while_anybody_uses_anything_of_the_disk(lab: &mut Lab) -> Outcome {
    let contents = [Recipe::plain(Filesystem::Ext4), Recipe::plain(Filesystem::Ext4)];
    let backing = lab.partitioned_disk(&contents)?;
    let disk = lab.plug(&backing, "PARTS")?;
    let one = |name: &str, number: u32| {
        format!("[mounts.{name}]\ndisks = [{{ id = \"PARTS\", partition = {number} }}]\n")
    };
    lab.start(&format!("{}\n{}{}", head(), one("backup", 1), one("other", 2)))?;
    list("backup")?;
    list("other")?;
    let refused = run(&["eject", "backup"])?;
    assert!(refused.code == Some(1) && refused.stderr.contains("in use by other too"), "{refused:?}");
    assert!(is_mounted("backup") && is_mounted("other"), "nothing was changed");
    run(&["umount", "other"])?;

    let elsewhere = "/run/lab-elsewhere";
    fs::create_dir_all(elsewhere)?;
    Program::new("mount").arg(format!("{}2", disk.devnode.display())).arg(elsewhere).ok()?;
    let refused = run(&["eject", "backup"])?;
    let told = refused.stderr.contains(&format!("mounted on {elsewhere}"));
    assert!(refused.code == Some(1) && told, "{refused:?}");
    Program::new("umount").arg(elsewhere).ok()?;

    let reader = File::open(&disk.devnode)?;
    let refused = run(&["eject", "backup"])?;
    let us = format!("pid {} (root, ", std::process::id());
    let told = refused.stderr.contains(&us) && refused.stderr.contains("open device /dev/");
    assert!(refused.code == Some(1) && told, "{refused:?}");
    drop(reader);
    ejected()?;
    assert!(mounts::sticks().is_empty());
    Ok(())
}

pub(super) fn lazily_unmounted_disk_is_locked_when_its_last_user_ends(lab: &mut Lab) -> Outcome {
    started(lab)?;
    let busy = File::open(name("backup").join("hello"))?;
    let said = umount(&["--lazy"])?;
    let us = format!("pid {} (root, ", std::process::id());
    assert!(said.contains("out of sight") && said.contains("its last user") && said.contains(&us), "{said}");
    assert!(!is_mounted("backup"));
    assert_eq!(mounts::mappings(), ["mydisks-backup"], "not locked, as it was said");
    assert_eq!(status_of("backup")?["state"], "failed", "nor does the status say so");
    assert_eq!(errno("backup"), Some(Errno::BUSY.raw_os_error()));
    assert_eq!(std::io::read_to_string(&busy)?, "from the disk\n", "who uses it goes on");
    drop(busy);
    wait::until_true("the mapping to go with its last user", PATIENCE, || mounts::mappings().is_empty())?;
    wait_for_state("backup", "ready")?;
    assert_eq!(list("backup")?, ["hello"]);
    Ok(())
}

pub(super) fn lazily_unmounted_plain_disk_is_shown_as_in_use_until_its_last_user_ends(
    lab: &mut Lab,
) -> Outcome {
    let backing = lab.disk(&Recipe::plain(Filesystem::Ext4))?;
    lab.plug(&backing, "DISK")?;
    lab.start(&config("DISK", ""))?;
    let busy = File::open(name("backup").join("hello"))?;
    let said = umount(&["--lazy"])?;
    assert!(said.contains("out of sight"), "{said}");
    assert_eq!(status_of("backup")?["state"], "failed");
    assert_eq!(errno("backup"), Some(Errno::BUSY.raw_os_error()));
    drop(busy);
    wait_for_state("backup", "ready")?;
    assert_eq!(list("backup")?, ["hello"]);
    Ok(())
}

pub(super) fn umount_that_waits_says_for_whom_and_is_done_when_he_has_gone(lab: &mut Lab) -> Outcome {
    started(lab)?;
    let busy = File::open(name("backup").join("hello"))?;
    let mut waiting = Waiting::start(&["umount", "--wait", "backup"])?;
    let line = waiting.line()?;
    let us = format!("pid {} (root, ", std::process::id());
    assert!(line.contains("waiting: backup is busy: ") && line.contains(&us), "{line}");
    assert_eq!(list("backup")?, ["hello"], "it stays usable");
    drop(busy);
    assert_eq!(waiting.ended()?, Some(0));
    assert!(!is_mounted("backup") && mounts::mappings().is_empty());
    Ok(())
}

pub(super) fn who_gives_up_waiting_leaves_the_disk_mounted(lab: &mut Lab) -> Outcome {
    started(lab)?;
    let busy = File::open(name("backup").join("hello"))?;
    let refused = run(&["umount", "--wait=2s", "backup"])?;
    assert!(
        refused.code == Some(1) && refused.stderr.contains("waited in vain: backup is busy"),
        "{refused:?}"
    );
    let mut waiting = Waiting::start(&["eject", "--wait", "backup"])?;
    waiting.line()?;
    kill_process(Pid::from_child(&waiting.child), Signal::INT)?;
    waiting.ended()?;
    drop(busy);
    wait::stays_true("the disk stays mounted", Duration::from_secs(3), || is_mounted("backup"))
}

pub(super) fn sigterm_keeps_what_is_mounted_if_the_config_says_so(lab: &mut Lab) -> Outcome {
    let backing = lab.disk(&Recipe::plain(Filesystem::Ext4).locked(Lock::Luks2, KEY))?;
    lab.plug(&backing, "DISK")?;
    let key = key_line()?;
    let daemon = lab.start(&format!("on-exit = \"keep\"\n{}", config("DISK", &key)))?;
    let busy = File::open(name("backup").join("hello"))?;
    assert_eq!(daemon.terminate()?, Some(0), "not refused although it is in use");
    assert!(is_mounted("backup"));
    assert_eq!(mounts::mappings(), ["mydisks-backup"]);
    assert_eq!(std::io::read_to_string(&busy)?, "from the disk\n");
    lab.daemon = Some(Daemon::start_again()?);
    assert_eq!(list("backup")?, ["hello"]);
    drop(busy);
    daemon::install_fstab("nofail")?;
    Program::new("umount").arg(MOUNTPOINT).ok()?;
    assert!(mounts::mappings().is_empty(), "umount(8) of the root always locks");
    lab.daemon.as_mut().ok_or("no daemon")?.ended().map(drop)
}

fn started(lab: &mut Lab) -> Outcome {
    let backing = lab.disk(&Recipe::plain(Filesystem::Ext4).locked(Lock::Luks2, KEY))?;
    lab.plug(&backing, "DISK")?;
    lab.start(&config("DISK", &key_line()?))?;
    Ok(())
}

fn run(arguments: &[&str]) -> Outcome<Finished> {
    Program::new(daemon::BINARY).args(arguments).finish()
}

fn ejected() -> Outcome<String> {
    Program::new(daemon::BINARY).args(["eject", "backup"]).ok()
}

fn umount(options: &[&str]) -> Outcome<String> {
    Program::new(daemon::BINARY).arg("umount").args(options).arg("backup").ok()
}

fn kernel_log() -> Outcome<String> {
    Program::new("dmesg").ok()
}

/// The directory in sysfs of the USB device that a disk is in.
fn usb_device(disk: &Plugged) -> Outcome<std::path::PathBuf> {
    let place = fs::canonicalize(format!("/sys/block/{}", disk.name))?;
    let found = place.ancestors().find(|path| path.join("devnum").exists());
    Ok(found.ok_or("not on USB")?.to_owned())
}

/// A command that waits.
struct Waiting {
    child: std::process::Child,
    said: BufReader<std::process::ChildStderr>,
}

impl Waiting {
    fn start(arguments: &[&str]) -> Outcome<Waiting> {
        let mut command = Program::new(daemon::BINARY).args(arguments).command()?;
        let mut child = command.stdout(Stdio::null()).stderr(Stdio::piped()).spawn()?;
        let said = BufReader::new(child.stderr.take().ok_or("no standard error")?);
        Ok(Waiting { child, said })
    }

    /// The next line that it says.
    fn line(&mut self) -> Outcome<String> {
        let mut line = String::new();
        self.said.read_line(&mut line)?;
        Ok(line)
    }

    fn ended(&mut self) -> Outcome<Option<i32>> {
        let status = wait::until("the command to end", PATIENCE, || self.child.try_wait().ok().flatten())?;
        Ok(status.code())
    }
}

impl Drop for Waiting {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
