//! A job of the daemon hangs in the kernel, where nothing can end it: everything else goes on, whoever waits is told,
//! and the daemon's end does not wait for ever.

use std::fs;
use std::thread;
use std::time::{Duration, Instant};

use rustix::io::Errno;
use rustix::process::Signal;

use super::{KEY, errno, head, is_mounted, key_line, list, name, status_of};
use crate::daemon::{self, Daemon};
use crate::disks::{Filesystem, Lock, Recipe};
use crate::lab::Lab;
use crate::program::Program;
use crate::wait::{self, PATIENCE};
use crate::{Outcome, mounts};

pub(super) fn disk_that_hangs_while_it_is_unmounted_delays_nothing_else(lab: &mut Lab) -> Outcome {
    let frozen = hanging_unmount(lab, "--wait=8s")?;
    drop(frozen);
    wait::until_true("the disk to be locked", PATIENCE, || mounts::mappings().is_empty())?;
    assert_eq!(list("backup")?, ["hello", "written"]);
    Ok(())
}

pub(super) fn sigterm_ends_the_daemon_although_an_unmount_hangs_and_the_next_run_takes_over(
    lab: &mut Lab,
) -> Outcome {
    let frozen = hanging_unmount(lab, "--wait=8s")?;
    let mut first = lab.daemon.take().ok_or("no daemon")?;
    // After a failure it goes before the process, which could not end otherwise.
    let frozen = frozen;
    let began = Instant::now();
    first.signal(Signal::TERM)?;
    let logged = |words: &str| daemon::log_text().contains(words);
    wait::until_true("the log to say what the end waits for", PATIENCE, || {
        logged("to end, waits for this: backup: unmounting")
    })?;
    wait::until_true("the daemon to give up", PATIENCE * 3, || logged("ends although backup: unmounting"))?;
    assert!(began.elapsed() >= Duration::from_secs(85), "{:?}", began.elapsed());
    wait::until_true("the root to be dead", PATIENCE, || {
        errno("other") == Some(Errno::NOTCONN.raw_os_error())
    })?;
    // Its stuck thread keeps the process, and nothing else.
    assert!(first.is_running());
    lab.daemon = Some(Daemon::start_again()?);
    assert_eq!(list("other")?, ["hello"]);
    drop(frozen);
    assert_eq!(first.ended()?, Some(1));
    wait::until_true("the next run to lock what was left", PATIENCE, || mounts::mappings().is_empty())?;
    assert_eq!(list("backup")?, ["hello", "written"]);
    Ok(())
}

const UNMOUNTING: &str = "unmounting QEMU_QEMU_HARDDISK_DISK-0:0 on /dev/sd";

/// Of two mounted disks one freezes and is then unmounted. Everything but the daemon's end is looked at.
fn hanging_unmount(lab: &mut Lab, patience: &'static str) -> Outcome<Frozen> {
    let backing = lab.disk(&Recipe::plain(Filesystem::Ext4).locked(Lock::Luks2, KEY))?;
    lab.plug(&backing, "DISK")?;
    let other = lab.disk(&Recipe::plain(Filesystem::Ext4))?;
    lab.plug(&other, "OTHER")?;
    let backup = format!("[mounts.backup]\ndisks = [\"DISK\"]\n{}\n", key_line()?);
    let defaults = "[defaults]\naccess-timeout = \"20s\"\nidle-timeout = \"0\"\n";
    lab.start(&format!("{}{defaults}{backup}[mounts.other]\ndisks = [\"OTHER\"]\n", head()))?;
    fs::write(name("backup").join("written"), "before it froze\n")?;
    assert_eq!(list("other")?, ["hello"]);
    let frozen = Frozen::new("mydisks-backup")?;
    let command =
        thread::spawn(move || Program::new(daemon::BINARY).args(["umount", "backup", patience]).finish());
    wait::until_true("the unmount to hang", PATIENCE, || !is_mounted("backup"))?;
    // Other names go on.
    Program::new(daemon::BINARY).args(["umount", "other"]).ok()?;
    assert_eq!(list("other")?, ["hello"]);
    // Callers of this one are told.
    let began = Instant::now();
    assert_eq!(errno("backup"), Some(Errno::TIMEDOUT.raw_os_error()));
    assert!(began.elapsed() < PATIENCE, "{:?}", began.elapsed());
    wait::until_true("the status to say what is waited for", PATIENCE, || {
        status_of("backup").is_ok_and(|status| {
            status["error"]
                .as_str()
                .is_some_and(|error| error.contains(UNMOUNTING) && error.contains("has not ended after"))
        })
    })?;
    // So is the command.
    let refused = command.join().map_err(|_| "the command's thread panicked")??;
    assert_eq!(refused.code, Some(1), "{refused:?}");
    assert!(refused.stderr.contains(&format!("waited in vain: backup: {UNMOUNTING}")), "{refused:?}");
    Ok(frozen)
}

/// A mapping that takes requests and answers none until it is thawed or dropped.
struct Frozen(&'static str);

impl Frozen {
    fn new(mapping: &'static str) -> Outcome<Frozen> {
        Program::new("dmsetup").args(["suspend", "--noflush", "--nolockfs", mapping]).ok()?;
        Ok(Frozen(mapping))
    }
}

impl Drop for Frozen {
    fn drop(&mut self) {
        let _ = Program::new("dmsetup").args(["resume", self.0]).finish();
    }
}
