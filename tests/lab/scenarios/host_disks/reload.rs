//! The configuration is changed while disks are in use; and time that is not as it should be: callers that are killed,
//! a clock that is set.

use std::fs::{self, File};
use std::time::{Duration, Instant};

use rustix::io::Errno;
use rustix::process::Signal;

use super::access::make_slow;
use super::{KEY, config, errno, head, is_mounted, key_line, list, name, status_of, wait_for_state};
use crate::daemon;
use crate::disks::{self, Filesystem, Lock, Recipe};
use crate::lab::Lab;
use crate::program::{Finished, Program};
use crate::wait::{self, PATIENCE};
use crate::{Outcome, mounts};

fn reload(config: &str) -> Outcome<Finished> {
    daemon::write_config(config)?;
    Program::new(daemon::BINARY).arg("reload").finish()
}

fn reloaded(config: &str) -> Outcome {
    let finished = reload(config)?;
    assert_eq!(finished.code, Some(0), "{finished:?}");
    Ok(())
}

fn locked_disk(lab: &mut Lab) -> Outcome {
    let backing = lab.disk(&Recipe::plain(Filesystem::Ext4).locked(Lock::Luks2, KEY))?;
    lab.plug(&backing, "DISK").map(drop)
}

/// That it was looked for in vain before hides it from nobody.
pub(super) fn added_name_is_there_at_once(lab: &mut Lab) -> Outcome {
    locked_disk(lab)?;
    let key = key_line()?;
    lab.start(&config("OTHER", ""))?;
    assert_eq!(errno("new"), Some(Errno::NOENT.raw_os_error()));
    assert!(fs::metadata(name("new")).is_err());
    let new = format!("{}\n[mounts.new]\ndisks = [\"DISK\"]\n{key}\n", config("OTHER", ""));
    reloaded(&new)?;
    assert_eq!(list("new")?, ["hello"]);
    assert_eq!(mounts::mappings(), ["mydisks-new"]);
    Ok(())
}

pub(super) fn removed_name_stays_until_it_is_idle_and_comes_back(lab: &mut Lab) -> Outcome {
    locked_disk(lab)?;
    let with = config("DISK", &format!("idle-timeout = \"1s\"\n{}", key_line()?));
    lab.start(&with)?;
    let busy = File::open(name("backup").join("hello"))?;
    reloaded(&head())?;
    assert_eq!(status_of("backup")?["leaving"], true);
    assert_eq!(std::io::read_to_string(&busy)?, "from the disk\n");
    wait::stays_true("it is used", Duration::from_secs(3), || is_mounted("backup"))?;
    drop(busy);
    // Not by its path: that would be use.
    wait::until_true("it to leave", PATIENCE, || status_of("backup").is_err())?;
    assert_eq!(mounts::mappings(), [] as [&str; 0]);
    wait::until_true("the kernel to forget it", PATIENCE, || fs::metadata(name("backup")).is_err())?;
    assert_eq!(errno("backup"), Some(Errno::NOENT.raw_os_error()));
    reloaded(&with)?;
    assert_eq!(list("backup")?, ["hello"]);
    Ok(())
}

pub(super) fn broken_config_changes_nothing_and_says_why(lab: &mut Lab) -> Outcome {
    locked_disk(lab)?;
    let good = config("DISK", &key_line()?);
    lab.start(&good)?.signal(Signal::HUP)?;
    wait::until_true("SIGHUP to be heeded", PATIENCE, || {
        daemon::log_text().contains("reloaded: the configuration is the same")
    })?;
    assert_eq!(list("backup")?, ["hello"]);
    let refused = reload(&format!("{good}idel-timeout = \"5m\"\n"))?;
    assert_eq!(refused.code, Some(1), "{refused:?}");
    let place = format!("{}:", daemon::CONFIG);
    let says = |text: &str| text.contains(&place) && text.contains("mounts.backup.idel-timeout");
    assert!(says(&refused.stderr), "{refused:?}");
    assert!(says(&daemon::log_text()) && says(&fs::read_to_string(name(".status/events"))?));
    assert!(is_mounted("backup"));
    assert_eq!(status_of("backup")?["leaving"], false);
    let other = reload("mountpoint = \"/mnt/other\"\n")?;
    assert!(other.code == Some(1) && other.stderr.contains("cannot change while"), "{other:?}");
    assert_eq!(list("backup")?, ["hello"]);
    Ok(())
}

/// Removed while it is unlocked it is mounted for those who wait; killed, the last caller leaves nothing.
pub(super) fn slow_unlock_survives_a_reload_and_ends_with_its_last_caller(lab: &mut Lab) -> Outcome {
    let image = lab.image(&Recipe::plain(Filesystem::Ext4).locked(Lock::Luks2, KEY))?;
    let slow = make_slow(&image)?;
    let backing = disks::publish(&image, &lab.share, "slow.disk")?;
    lab.plug(&backing, "DISK")?;
    let timeout = format!("idle-timeout = \"1s\"\naccess-timeout = \"{}s\"\n{}", 10 * slow, key_line()?);
    let with = config("DISK", &timeout);
    lab.start(&with)?;
    wait_for_state("backup", "ready")?;

    let mut caller = Program::new("ls").arg(name("backup")).command()?.spawn()?;
    wait_for_state("backup", "unlocking")?;
    let killed = Instant::now();
    caller.kill()?;
    caller.wait()?;
    assert!(killed.elapsed().as_secs() < slow / 2, "it went after {:?} of {slow} s", killed.elapsed());
    wait_for_state("backup", "ready")?;
    assert!(!is_mounted("backup") && mounts::mappings().is_empty());

    let caller = std::thread::spawn(|| list("backup"));
    wait_for_state("backup", "unlocking")?;
    reloaded(&head())?;
    assert_eq!(status_of("backup")?["leaving"], true);
    let listed = caller.join().map_err(|_| "the caller panicked")?;
    assert_eq!(listed?, ["hello"]);
    wait::until_true("it to leave", PATIENCE, || status_of("backup").is_err())?;
    assert!(mounts::mappings().is_empty());
    Ok(())
}

pub(super) fn clock_that_is_set_unmounts_nothing(lab: &mut Lab) -> Outcome {
    locked_disk(lab)?;
    let key = key_line()?;
    lab.start(&config("DISK", &format!("idle-timeout = \"1h\"\n{key}")))?;
    assert_eq!(list("backup")?, ["hello"]);
    let set = |when: &str| Program::new("date").args(["-s", when]).ok();
    set("+2 days")?;
    let stays = wait::stays_true("it is mounted", Duration::from_secs(3), || is_mounted("backup"));
    set("-2 days")?;
    stays?;
    reloaded(&config("DISK", &format!("idle-timeout = \"1s\"\n{key}")))?;
    set("-2 days")?;
    let locked = wait::until_true("disuse", PATIENCE, || mounts::mappings().is_empty());
    set("+2 days")?;
    locked
}
