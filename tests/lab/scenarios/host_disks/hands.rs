//! What other people do to the disks by hand while the daemon serves them: it notices, tells, and leaves their work
//! alone.

use std::fs::{self, File};
use std::io::Write;
use std::path::Path;
use std::time::Duration;

use rustix::io::Errno;

use super::{KEY, config, errno, is_mounted, key_line, list, name, status_of, wait_for_state};
use crate::daemon::{self, MOUNTPOINT};
use crate::disks::{Filesystem, Lock, Recipe};
use crate::lab::Lab;
use crate::program::{Finished, Program};
use crate::wait::{self, PATIENCE};
use crate::{Outcome, mounts};

const ELSEWHERE: &str = "/run/lab-elsewhere";

pub(super) fn disk_that_is_unmounted_by_hand_is_locked(lab: &mut Lab) -> Outcome {
    mounted(lab, "")?;
    Program::new("umount").arg(name("backup")).ok()?;
    wait_for_log("by somebody else")?;
    wait::until_true("it to be locked", PATIENCE, || mounts::mappings().is_empty())?;
    wait_for_state("backup", "ready")?;
    assert_eq!(list("backup")?, ["hello"]);
    // And the mapping too: there is nothing left to do, and nothing to complain about.
    Program::new("umount").arg(name("backup")).ok()?;
    let closed = Program::new("cryptsetup").args(["close", "mydisks-backup"]).finish()?;
    assert!(closed.code == Some(0) || mounts::mappings().is_empty(), "{closed:?}");
    wait_for_state("backup", "ready")?;
    assert_eq!(list("backup")?, ["hello"]);
    let refused = Program::new("cryptsetup").args(["close", "mydisks-backup"]).finish()?;
    assert_ne!(refused.code, Some(0), "the kernel lets nobody close what is mounted");
    assert_eq!(list("backup")?, ["hello"]);
    Ok(())
}

pub(super) fn disk_that_is_unmounted_lazily_by_hand_is_locked_when_its_last_user_ends(
    lab: &mut Lab,
) -> Outcome {
    mounted(lab, "")?;
    let busy = File::open(name("backup").join("hello"))?;
    Program::new("umount").arg("-l").arg(name("backup")).ok()?;
    wait_for_state("backup", "failed")?;
    let error = error()?;
    assert!(error.contains(&format!("pid {} (root, ", std::process::id())), "{error}");
    drop(busy);
    wait::until_true("it to be locked", PATIENCE, || mounts::mappings().is_empty())?;
    wait_for_state("backup", "ready")
}

pub(super) fn disk_that_is_mounted_a_second_time_elsewhere_stays_there_and_is_locked_after_that(
    lab: &mut Lab,
) -> Outcome {
    mounted(lab, "idle-timeout = \"1s\"")?;
    fs::create_dir_all(ELSEWHERE)?;
    Program::new("mount").args(["/dev/mapper/mydisks-backup", ELSEWHERE]).ok()?;
    wait_for_state("backup", "failed")?;
    let error = error()?;
    assert!(error.contains(&format!("mounted on {ELSEWHERE}")), "{error}");
    assert_eq!(errno("backup"), Some(Errno::BUSY.raw_os_error()));
    wait::stays_true("the other mount stays", Duration::from_secs(3), || {
        Path::new(ELSEWHERE).join("hello").exists()
    })?;
    Program::new("umount").arg(ELSEWHERE).ok()?;
    wait::until_true("it to be locked", PATIENCE, || mounts::mappings().is_empty())?;
    wait_for_state("backup", "ready")?;
    assert_eq!(list("backup")?, ["hello"]);
    Ok(())
}

pub(super) fn disk_that_is_moved_away_is_left_there_and_is_ours_again_when_it_is_moved_back(
    lab: &mut Lab,
) -> Outcome {
    mounted(lab, "idle-timeout = \"2s\"")?;
    Program::new("mount").args(["--make-private", MOUNTPOINT]).ok()?;
    fs::create_dir_all(ELSEWHERE)?;
    let moved = |from: &Path, to: &Path| Program::new("mount").arg("--move").arg(from).arg(to).ok();
    moved(&name("backup"), Path::new(ELSEWHERE))?;
    wait_for_state("backup", "failed")?;
    let error = error()?;
    assert!(error.contains(&format!("mounted on {ELSEWHERE}")), "{error}");
    wait::stays_true("it stays where it was moved to", Duration::from_secs(3), || {
        Path::new(ELSEWHERE).join("hello").exists()
    })?;
    moved(Path::new(ELSEWHERE), &name("backup"))?;
    wait_for_log("is mounted again, by somebody else")?;
    wait_for_state("backup", "ready")?;
    assert!(!is_mounted("backup") && mounts::mappings().is_empty(), "it expires as ever");
    assert_eq!(list("backup")?, ["hello"]);
    moved(&name("backup"), Path::new(ELSEWHERE))?;
    wait_for_state("backup", "failed")?;
    Program::new("umount").arg(ELSEWHERE).ok()?;
    wait::until_true("it to be locked", PATIENCE, || mounts::mappings().is_empty())?;
    wait_for_state("backup", "ready")
}

pub(super) fn what_is_mounted_over_a_name_is_told_and_left_alone(lab: &mut Lab) -> Outcome {
    mounted(lab, "idle-timeout = \"1s\"")?;
    Program::new("mount").args(["-t", "tmpfs", "cover"]).arg(name("backup")).ok()?;
    let is_told = || error().is_ok_and(|error| error.contains("tmpfs (cover) is mounted on it"));
    wait::until_true("the status to tell it", PATIENCE, is_told)?;
    let refused = umount()?;
    assert!(
        refused.code == Some(1) && refused.stderr.contains("tmpfs (cover) is mounted over it"),
        "{refused:?}"
    );
    wait::stays_true("both stay", Duration::from_secs(3), || {
        mounts::at(&name("backup")).is_ok_and(|mounts| mounts.len() == 2)
    })?;
    assert_eq!(status_of("backup")?["state"], "mounted");
    Program::new("umount").arg(name("backup")).ok()?;
    wait_for_state("backup", "ready")?;
    assert!(mounts::mappings().is_empty());
    assert!(status_of("backup")?["error"].is_null());

    Program::new("mount").args(["-t", "tmpfs", "cover"]).arg(name("backup")).ok()?;
    wait::until_true("the status to tell it", PATIENCE, is_told)?;
    Program::new("umount").arg(name("backup")).ok()?;
    wait::until_true("the status to forget it", PATIENCE, || {
        status_of("backup").is_ok_and(|status| status["error"].is_null())
    })?;
    assert_eq!(list("backup")?, ["hello"]);
    Ok(())
}

pub(super) fn disk_that_is_pulled_while_it_is_covered_is_unmounted_when_it_is_not(lab: &mut Lab) -> Outcome {
    let backing = lab.disk(&Recipe::plain(Filesystem::Ext4).locked(Lock::Luks2, KEY))?;
    let disk = lab.plug(&backing, "DISK")?;
    lab.start(&config("DISK", &key_line()?))?;
    list("backup")?;
    Program::new("mount").args(["-t", "tmpfs", "cover"]).arg(name("backup")).ok()?;
    lab.pull(&disk)?;
    Program::new("umount").arg(name("backup")).ok()?;
    wait::until_true("it to be unmounted and locked", PATIENCE, || {
        !is_mounted("backup") && mounts::mappings().is_empty()
    })?;
    wait_for_state("backup", "absent")
}

/// A remount is an event of the mount table; an error is none, and found by the next attempt to expire it.
pub(super) fn disk_that_becomes_read_only_is_shown_so(lab: &mut Lab) -> Outcome {
    mounted(lab, "")?;
    assert_eq!(status_of("backup")?["read_only"], false);
    Program::new("mount").args(["-o", "remount,ro"]).arg(name("backup")).ok()?;
    wait_for_read_only(true)?;
    wait_for_log("has become read-only")?;
    Program::new("mount").args(["-o", "remount,rw"]).arg(name("backup")).ok()?;
    wait_for_read_only(false)
}

pub(super) fn errors_that_the_file_system_finds_are_told_at_once_and_to_whoever_unmounts_it(
    lab: &mut Lab,
) -> Outcome {
    mounted(lab, "options = \"errors=remount-ro\"")?;
    let mut trigger = File::options().write(true).open("/sys/fs/ext4/dm-0/trigger_fs_error")?;
    trigger.write_all(b"by hand")?;
    drop(trigger);
    wait_for_log("is damaged (")?;
    let written = File::create(name("backup").join("new")).err().and_then(|error| error.raw_os_error());
    assert_eq!(written, Some(libc::EROFS), "it refuses to be written to");
    let error = status_of("backup")?["error"].to_string();
    assert!(error.contains("is damaged"), "{error}");
    let told = Program::new(daemon::BINARY).args(["umount", "backup"]).finish()?;
    assert_eq!(told.code, Some(1), "{told:?}");
    assert!(
        told.stderr.contains("is unmounted and locked, but ") && told.stderr.contains("is damaged"),
        "{told:?}"
    );
    assert!(mounts::mappings().is_empty() && !is_mounted("backup"));
    Ok(())
}

pub(super) fn root_that_is_taken_away_lazily_by_hand_leaves_nothing_unlocked(lab: &mut Lab) -> Outcome {
    mounted(lab, "")?;
    let busy = File::open(name("backup").join("hello"))?;
    Program::new("umount").args(["-i", "-l", MOUNTPOINT]).ok()?;
    let daemon = lab.daemon.as_mut().ok_or("no daemon")?;
    wait::stays_true("the daemon lives while the disk is in use", Duration::from_secs(2), || {
        daemon.is_running() && mounts::mappings() == ["mydisks-backup"]
    })?;
    drop(busy);
    assert_eq!(daemon.ended()?, Some(0));
    assert!(mounts::mappings().is_empty());
    Ok(())
}

/// An encrypted disk that is mounted, with what else the table of its name shall hold.
fn mounted(lab: &mut Lab, more: &str) -> Outcome {
    let backing = lab.disk(&Recipe::plain(Filesystem::Ext4).locked(Lock::Luks2, KEY))?;
    lab.plug(&backing, "DISK")?;
    lab.start(&config("DISK", &format!("{}\n{more}", key_line()?)))?;
    assert_eq!(list("backup")?, ["hello"]);
    Ok(())
}

fn umount() -> Outcome<Finished> {
    Program::new(daemon::BINARY).args(["umount", "backup"]).finish()
}

fn error() -> Outcome<String> {
    Ok(status_of("backup")?["error"].as_str().unwrap_or_default().to_owned())
}

fn wait_for_log(text: &str) -> Outcome {
    wait::until_true(&format!("the log to say: {text}"), PATIENCE, || daemon::log_text().contains(text))
}

fn wait_for_read_only(read_only: bool) -> Outcome {
    wait::until_true(&format!("it to be read-only: {read_only}"), PATIENCE, || {
        status_of("backup").is_ok_and(|status| status["read_only"] == read_only)
    })
}
