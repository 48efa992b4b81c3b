//! The daemon's end, the disk's surprise removal, and what a successor finds.

use std::fs::{self, File};
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::time::Duration;

use rustix::process::Signal;

use super::{KEY, config, is_mounted, key_line, list, name, wait_for_state};
use crate::daemon::{self, Daemon, MOUNTPOINT};
use crate::disks::{self, Filesystem, Lock, Recipe};
use crate::lab::Lab;
use crate::program::Program;
use crate::wait::{self, PATIENCE};
use crate::{Outcome, mounts};

pub(super) fn umount_is_refused_while_busy_and_locks_when_idle(lab: &mut Lab) -> Outcome {
    locked_disk(lab)?;
    daemon::write_config(&config("DISK", &key_line()?))?;
    daemon::install_fstab("nofail")?;
    let mounted = daemon::mount_by_fstab()?;
    assert_eq!(mounted.code, Some(0), "{mounted:?}");
    wait_for_state("backup", "ready")?;
    let busy = File::open(name("backup").join("hello"))?;
    let refused = Program::new("umount").arg(MOUNTPOINT).finish()?;
    assert_ne!(refused.code, Some(0));
    assert!(
        refused.stderr.contains("backup is busy: ") && names_us(&refused.stderr, "open file"),
        "{refused:?}"
    );
    assert!(daemon::is_mounted() && is_mounted("backup"), "nothing is half done");
    drop(busy);
    assert_eq!(fs::read_to_string(name("backup").join("hello"))?, "from the disk\n", "it still serves");
    Program::new("umount").arg(MOUNTPOINT).ok()?;
    assert_eq!(mounts::at(Path::new(MOUNTPOINT))?, []);
    assert_eq!(mounts::mappings(), [] as [&str; 0], "locked when umount returns");
    wait::until_true("the daemon to end", PATIENCE, || daemon::processes().is_empty())
}

pub(super) fn sigterm_unmounts_and_locks(lab: &mut Lab) -> Outcome {
    locked_disk(lab)?;
    let key = key_line()?;
    let daemon = lab.start(&config("DISK", &key))?;
    assert_eq!(list("backup")?, ["hello"]);
    assert_eq!(daemon.terminate()?, Some(0));
    assert_eq!(mounts::at(Path::new(MOUNTPOINT))?, []);
    assert_eq!(mounts::mappings(), [] as [&str; 0]);
    Ok(())
}

pub(super) fn sigterm_while_busy_is_refused_clearly(lab: &mut Lab) -> Outcome {
    locked_disk(lab)?;
    let key = key_line()?;
    let daemon = lab.start(&config("DISK", &key))?;
    let busy = File::open(name("backup").join("hello"))?;
    daemon.signal(Signal::TERM)?;
    wait::until_true("the log to say what is busy", PATIENCE, || {
        daemon::log_text()
            .lines()
            .any(|line| line.contains("backup is busy: ") && names_us(line, "open file"))
    })?;
    wait::stays_true("the daemon serves on", Duration::from_secs(2), || daemon.is_running())?;
    drop(busy);
    assert_eq!(daemon.terminate()?, Some(0));
    Ok(())
}

pub(super) fn umount_names_who_has_the_mapping_open(lab: &mut Lab) -> Outcome {
    locked_disk(lab)?;
    let key = key_line()?;
    let daemon = lab.start(&config("DISK", &key))?;
    assert_eq!(list("backup")?, ["hello"]);
    let mapping = File::open("/dev/mapper/mydisks-backup")?;
    let refused = Program::new(daemon::BINARY).args(["umount", "backup"]).finish()?;
    assert_eq!(refused.code, Some(1), "{refused:?}");
    assert!(
        refused.stderr.contains("could not be locked") && names_us(&refused.stderr, "open device /dev/dm-")
    );
    assert!(!is_mounted("backup"));
    drop(mapping);
    wait::until_true("the mapping to go", PATIENCE, || mounts::mappings().is_empty())?;
    assert_eq!(daemon.terminate()?, Some(0));
    Ok(())
}

pub(super) fn umount_names_who_is_in_the_root(lab: &mut Lab) -> Outcome {
    locked_disk(lab)?;
    daemon::write_config(&config("DISK", &key_line()?))?;
    daemon::install_fstab("nofail")?;
    let mounted = daemon::mount_by_fstab()?;
    assert_eq!(mounted.code, Some(0), "{mounted:?}");
    let status = File::open(name(".status/summary"))?;
    let refused = Program::new("umount").arg(MOUNTPOINT).finish()?;
    assert_ne!(refused.code, Some(0));
    let what = format!("open file {MOUNTPOINT}/.status/summary");
    assert!(names_us(&refused.stderr, &what), "{refused:?}");
    drop(status);
    Program::new("umount").arg(MOUNTPOINT).ok()?;
    wait::until_true("the daemon to end", PATIENCE, || daemon::processes().is_empty())
}

/// Whether a refusal names this very process, by number and user, and what it holds.
fn names_us(text: &str, what: &str) -> bool {
    let pid = format!("pid {} (root, ", std::process::id());
    text.split(&pid).nth(1).is_some_and(|us| us.split(';').next().is_some_and(|us| us.contains(what)))
}

pub(super) fn mount_and_mapping_of_a_killed_daemon_are_taken_over(lab: &mut Lab) -> Outcome {
    locked_disk(lab)?;
    let key = key_line()?;
    let daemon = lab.start(&config("DISK", &format!("idle-timeout = \"2s\"\n{key}")))?;
    let busy = File::open(name("backup").join("hello"))?;
    daemon.signal(Signal::KILL)?;
    daemon.ended()?;
    assert_eq!(mounts::mappings(), ["mydisks-backup"], "a disk's data does not depend on the daemon's life");
    assert_eq!(std::io::read_to_string(&busy)?, "from the disk\n");
    lab.daemon = Some(Daemon::start_again()?);
    assert_eq!(list("backup")?, ["hello"]);
    assert_eq!(mounts::mappings(), ["mydisks-backup"], "no second mapping");
    drop(busy);
    wait::until_true("the disk to be locked after disuse", PATIENCE, || mounts::mappings().is_empty())
}

pub(super) fn second_daemon_leaves_what_the_first_has_open_alone(lab: &mut Lab) -> Outcome {
    locked_disk(lab)?;
    let key = key_line()?;
    lab.start(&config("DISK", &key))?;
    let busy = File::open(name("backup").join("hello"))?;
    let (root, file) = ("/mnt/neighbour", "/etc/mydisks/neighbour.toml");
    fs::create_dir_all(root)?;
    // One of its names is the same, the disk is not.
    fs::write(file, format!("mountpoint = {root:?}\n[mounts.backup]\ndisks = [\"OTHER\"]\n"))?;
    fs::set_permissions(file, fs::Permissions::from_mode(0o600))?;
    Program::new(daemon::BINARY).args(["mount", "-c", file]).ok()?;
    let status = Program::new(daemon::BINARY).args(["status", root]).ok()?;
    let told = Program::new("dmsetup").args(["info", "mydisks-backup"]).ok()?;
    Program::new("umount").arg(root).ok()?;
    assert!(status.contains("absent"), "{status}");
    assert!(!told.contains("DEFERRED"), "{told}");
    assert_eq!(list("backup")?, ["hello"]);
    drop(busy);
    fs::remove_dir(root)?;
    Ok(())
}

pub(super) fn mapping_without_mount_is_taken_over(lab: &mut Lab) -> Outcome {
    let backing = lab.disk(&Recipe::plain(Filesystem::Ext4).locked(Lock::Luks2, KEY))?;
    let disk = lab.plug(&backing, "DISK")?;
    disks::unlock(&disk.devnode, KEY, "mydisks-backup")?;
    let key = key_line()?;
    lab.start(&config("DISK", &format!("idle-timeout = \"1s\"\n{key}")))?;
    assert_eq!(list("backup")?, ["hello"]);
    wait::until_true("it to be locked after disuse", PATIENCE, || mounts::mappings().is_empty())
}

pub(super) fn pulled_disk_leaves_no_mapping(lab: &mut Lab) -> Outcome {
    let backing = lab.disk(&Recipe::plain(Filesystem::Ext4).locked(Lock::Luks2, KEY))?;
    let disk = lab.plug(&backing, "DISK")?;
    let key = key_line()?;
    lab.start(&config("DISK", &key))?;
    assert_eq!(list("backup")?, ["hello"]);
    lab.pull(&disk)?;
    wait_for_state("backup", "absent")?;
    wait::until_true("the mapping to go", PATIENCE, || mounts::mappings().is_empty())?;
    assert!(!is_mounted("backup"));
    Ok(())
}

fn locked_disk(lab: &mut Lab) -> Outcome {
    let backing = lab.disk(&Recipe::plain(Filesystem::Ext4).locked(Lock::Luks2, KEY))?;
    lab.plug(&backing, "DISK").map(drop)
}
