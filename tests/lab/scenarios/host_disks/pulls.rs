//! Disks that are pulled without a word, in every situation, and what the next access finds: the same disk plugged in
//! again, or another of the list.

use std::fs::{self, File};
use std::io::{self, Read, Seek, Write};
use std::path::PathBuf;
use std::sync::mpsc::{self, Receiver};
use std::thread;
use std::time::Duration;

use rustix::fs::{Advice, fadvise};
use rustix::io::Errno;

use super::access::make_slow;
use super::midway::unlocking;
use super::{KEY, config, errno, head, is_mounted, key_line, list, name, status_of, wait_for_state};
use crate::daemon;
use crate::disks::{self, Filesystem, Lock, Recipe};
use crate::lab::Lab;
use crate::program::Program;
use crate::qmp::Plugged;
use crate::wait::{self, PATIENCE};
use crate::{Outcome, mounts};

const LOST: &str = "was pulled while mounted: what was written last may be lost";

pub(super) fn pulled_while_idle_it_is_absent_until_it_is_back(lab: &mut Lab) -> Outcome {
    let backing = plain(lab, "first")?;
    let disk = lab.plug(&backing, "FIRST")?;
    lab.start(&config("FIRST", ""))?;
    assert_eq!(status_of("backup")?["state"], "ready");
    lab.pull(&disk)?;
    wait_for_state("backup", "absent")?;
    assert_eq!(errno("backup"), Some(Errno::NOMEDIUM.raw_os_error()));
    assert!(!daemon::log_text().contains("lost"), "nothing was mounted: {}", daemon::log_text());
    lab.plug(&backing, "FIRST")?;
    wait_for_state("backup", "ready")?;
    assert_eq!(list("backup")?, ["first", "hello"]);
    Ok(())
}

pub(super) fn pulled_while_it_is_unlocked_its_caller_learns_that_at_once(lab: &mut Lab) -> Outcome {
    let image = lab.image(&Recipe::plain(Filesystem::Ext4).locked(Lock::Luks2, KEY))?;
    let slow = make_slow(&image)?;
    let backing = disks::publish(&image, &lab.share, "slow.disk")?;
    let disk = lab.plug(&backing, "FIRST")?;
    lab.start(&both(&format!("access-timeout = \"{}s\"", 20 * slow))?)?;
    let answer = in_thread(|| list("backup"));
    wait::until("cryptsetup to work on the key", PATIENCE, unlocking)?;
    lab.pull(&disk)?;
    let error = answer.recv_timeout(PATIENCE)?.err().and_then(|error| error.raw_os_error());
    assert_eq!(error, Some(Errno::NOMEDIUM.raw_os_error()));
    wait_for_state("backup", "absent")?;
    assert!(unlocking().is_none(), "nothing goes on at a disk that is gone");
    nothing_is_left()
}

pub(super) fn pulled_while_mounted_it_is_said_what_may_be_lost(lab: &mut Lab) -> Outcome {
    let backing = locked(lab, "first")?;
    let disk = lab.plug(&backing, "FIRST")?;
    lab.start(&config("FIRST", &key_line()?))?;
    assert_eq!(list("backup")?, ["first", "hello"]);
    lab.pull(&disk)?;
    nothing_is_left()?;
    wait_for_state("backup", "absent")?;
    assert!(daemon::log_text().contains(LOST), "{}", daemon::log_text());
    let status = status_of("backup")?;
    assert!(status["error"].as_str().is_some_and(|error| error.contains(LOST)), "{status}");
    assert!(fs::read_to_string(name(".status/events"))?.contains(LOST));
    lab.plug(&backing, "FIRST")?;
    wait_for_state("backup", "ready")?;
    let status = status_of("backup")?;
    assert!(status["error"].as_str().is_some_and(|error| error.contains(LOST)), "until it is used: {status}");
    assert_eq!(list("backup")?, ["first", "hello"]);
    assert!(status_of("backup")?["error"].is_null());
    Ok(())
}

pub(super) fn pulled_while_read_the_reader_gets_an_error_and_the_name_is_free(lab: &mut Lab) -> Outcome {
    let backing = plain(lab, "first")?;
    let disk = lab.plug(&backing, "FIRST")?;
    lab.start(&config("FIRST", ""))?;
    let mut file =
        File::options().create_new(true).read(true).write(true).open(name("backup").join("large"))?;
    file.write_all(&[0x55; 1 << 20])?;
    file.sync_all()?;
    let (started, reads) = mpsc::channel();
    let reader = in_thread(move || -> io::Result<()> {
        loop {
            let outcome = read_from_disk(&mut file);
            let _ = started.send(());
            outcome?;
        }
    });
    reads.recv_timeout(PATIENCE)?;
    lab.pull(&disk)?;
    let error = reader.recv_timeout(PATIENCE)?.err().ok_or("no error")?;
    assert!(is_of_a_pulled_disk(&error), "{error}");
    nothing_is_left()?;
    lab.plug(&backing, "FIRST")?;
    wait_for_state("backup", "ready")?;
    assert_eq!(list("backup")?, ["first", "hello", "large"]);
    Ok(())
}

pub(super) fn pulled_while_written_the_writer_gets_an_error_and_the_name_is_free(lab: &mut Lab) -> Outcome {
    let backing = locked(lab, "first")?;
    let disk = lab.plug(&backing, "FIRST")?;
    lab.start(&config("FIRST", &key_line()?))?;
    let mut file = File::create(name("backup").join("written"))?;
    let (started, writes) = mpsc::channel();
    let writer = in_thread(move || {
        loop {
            file.rewind()?;
            file.write_all(&[0x55; 64 << 10])?;
            file.sync_data()?;
            let _ = started.send(());
        }
        #[expect(unreachable_code, reason = "says what the closure's result is")]
        Ok::<(), io::Error>(())
    });
    writes.recv_timeout(PATIENCE)?;
    lab.pull(&disk)?;
    let error = writer.recv_timeout(PATIENCE)?.err().ok_or("no error")?;
    let is_aborted = error.raw_os_error() == Some(Errno::ROFS.raw_os_error());
    assert!(is_of_a_pulled_disk(&error) || is_aborted, "{error}");
    nothing_is_left()?;
    assert!(daemon::log_text().contains(LOST), "{}", daemon::log_text());
    lab.plug(&backing, "FIRST")?;
    wait_for_state("backup", "ready")?;
    assert_eq!(list("backup")?, ["first", "hello", "written"], "what was synchronised is there");
    Ok(())
}

pub(super) fn pulled_while_used_out_of_sight_it_is_said_what_may_be_lost(lab: &mut Lab) -> Outcome {
    let backing = locked(lab, "first")?;
    let disk = lab.plug(&backing, "FIRST")?;
    lab.start(&config("FIRST", &key_line()?))?;
    let mut file = File::create(name("backup").join("written"))?;
    Program::new(daemon::BINARY).args(["umount", "--lazy", "backup"]).ok()?;
    file.write_all(b"unseen")?;
    lab.pull(&disk)?;
    let lost = "was pulled while still in use: what was written last may be lost";
    wait::until_true("the loss to be told", PATIENCE, || {
        status_of("backup").is_ok_and(|status| status["error"].to_string().contains(lost))
    })?;
    drop(file);
    nothing_is_left()?;
    assert_eq!(daemon::log_text().matches("may be lost").count(), 1, "{}", daemon::log_text());
    Ok(())
}

pub(super) fn replugged_disk_works_while_a_process_still_holds_what_it_was(lab: &mut Lab) -> Outcome {
    let backing = locked(lab, "first")?;
    let disk = lab.plug(&backing, "FIRST")?;
    lab.start(&config("FIRST", &key_line()?))?;
    let held = File::open(name("backup").join("hello"))?;
    lab.pull(&disk)?;
    wait_for_unmount()?;
    assert_eq!(mounts::mappings(), ["mydisks-backup"], "still held");
    let again = lab.plug(&backing, "FIRST")?;
    wait_for_device(&again)?;
    assert_ne!(again.diskseq, disk.diskseq);
    assert_eq!(list("backup")?, ["first", "hello"]);
    fs::write(name("backup").join("new"), "written while the old one is held\n")?;
    let mut mappings = mounts::mappings();
    mappings.sort();
    assert_eq!(mappings, ["mydisks-backup", "mydisks-backup:2"]);
    drop(held);
    wait::until_true("the stale mapping to go with its holder", PATIENCE, || {
        mounts::mappings() == ["mydisks-backup:2"]
    })?;
    umount_backup()?;
    assert_eq!(mounts::mappings(), [] as [&str; 0]);
    assert_eq!(list("backup")?, ["first", "hello", "new"]);
    assert_eq!(mounts::mappings(), ["mydisks-backup"], "the first name is free again");
    Ok(())
}

pub(super) fn replugged_plain_disk_works_while_a_process_still_holds_what_it_was(lab: &mut Lab) -> Outcome {
    held_disk_is_replugged(lab, &Recipe::plain(Filesystem::Ext4), "")
}

pub(super) fn replugged_xfs_works_while_a_process_still_holds_what_it_was(lab: &mut Lab) -> Outcome {
    held_disk_is_replugged(lab, &Recipe::plain(Filesystem::Xfs), "")
}

pub(super) fn replugged_encrypted_xfs_works_while_a_process_still_holds_what_it_was(
    lab: &mut Lab,
) -> Outcome {
    held_disk_is_replugged(lab, &Recipe::plain(Filesystem::Xfs).locked(Lock::Luks2, KEY), &key_line()?)
}

pub(super) fn pulled_disk_that_is_held_does_not_keep_the_other_from_being_locked(lab: &mut Lab) -> Outcome {
    let (first, second) = (locked(lab, "first")?, locked(lab, "second")?);
    let disk = lab.plug(&first, "FIRST")?;
    lab.start(&both("")?)?;
    let held = File::open(name("backup").join("hello"))?;
    lab.pull(&disk)?;
    wait_for_unmount()?;
    lab.plug(&second, "SECOND")?;
    wait::until_true("the second disk to be known", PATIENCE, || {
        status_of("backup").is_ok_and(|status| status["id"] == "SECOND")
    })?;
    assert_eq!(list("backup")?, ["hello", "second"]);
    umount_backup()?;
    assert_eq!(mounts::mappings(), ["mydisks-backup"], "that of the disk which is held");
    drop(held);
    nothing_is_left()
}

pub(super) fn second_disk_waits_and_takes_over_when_the_first_is_pulled(lab: &mut Lab) -> Outcome {
    let (first, second) = (plain(lab, "first")?, plain(lab, "second")?);
    let disk = lab.plug(&first, "FIRST")?;
    lab.start(&two(""))?;
    assert_eq!(list("backup")?, ["first", "hello"]);
    lab.plug(&second, "SECOND")?;
    wait::stays_true("the second waits", Duration::from_secs(1), || {
        list("backup").is_ok_and(|files| files == ["first", "hello"])
    })?;
    lab.pull(&disk)?;
    wait_for_unmount()?;
    assert_eq!(list("backup")?, ["hello", "second"]);
    lab.plug(&first, "FIRST")?;
    wait::stays_true("the first waits now", Duration::from_secs(1), || {
        list("backup").is_ok_and(|files| files == ["hello", "second"])
    })
}

pub(super) fn disks_are_exchanged_after_umount_with_no_other_command(lab: &mut Lab) -> Outcome {
    let backings = [("FIRST", locked(lab, "first")?), ("SECOND", locked(lab, "second")?)];
    lab.start(&both("")?)?;
    for week in 0..3 {
        let (serial, backing) = &backings[week % 2];
        let disk = lab.plug(backing, serial)?;
        wait_for_state("backup", "ready")?;
        assert!(list("backup")?.contains(&serial.to_lowercase()));
        fs::write(name("backup").join(format!("week{week}")), "saved\n")?;
        umount_backup()?;
        assert_eq!(mounts::mappings(), [] as [&str; 0]);
        lab.pull(&disk)?;
        wait_for_state("backup", "absent")?;
    }
    lab.plug(&backings[0].1, "FIRST")?;
    wait_for_state("backup", "ready")?;
    assert_eq!(list("backup")?, ["first", "hello", "week0", "week2"]);
    assert!(!daemon::log_text().contains("lost"), "{}", daemon::log_text());
    Ok(())
}

pub(super) fn disks_are_exchanged_after_disuse_with_no_command_at_all(lab: &mut Lab) -> Outcome {
    let backings = [("FIRST", plain(lab, "first")?), ("SECOND", plain(lab, "second")?)];
    lab.start(&two("idle-timeout = \"1s\""))?;
    for (serial, backing) in &backings {
        let disk = lab.plug(backing, serial)?;
        wait_for_state("backup", "ready")?;
        assert!(list("backup")?.contains(&serial.to_lowercase()));
        wait_for_unmount()?;
        // It is out of sight before the disk has got everything.
        wait_for_state("backup", "ready")?;
        lab.pull(&disk)?;
        wait_for_state("backup", "absent")?;
    }
    assert!(!daemon::log_text().contains("lost"), "{}", daemon::log_text());
    Ok(())
}

fn held_disk_is_replugged(lab: &mut Lab, recipe: &Recipe, more: &str) -> Outcome {
    let backing = lab.disk(recipe)?;
    let disk = lab.plug(&backing, "FIRST")?;
    lab.start(&config("FIRST", more))?;
    let held = File::open(name("backup").join("hello"))?;
    lab.pull(&disk)?;
    wait_for_unmount()?;
    let again = lab.plug(&backing, "FIRST")?;
    wait_for_device(&again)?;
    assert_eq!(list("backup")?, ["hello"]);
    drop(held);
    umount_backup()
}

/// The configuration with two disks for one name.
fn two(more: &str) -> String {
    format!("{}\n[mounts.backup]\ndisks = [\"FIRST\", \"SECOND\"]\n{more}\n", head())
}

/// The same with two encrypted disks.
pub(super) fn both(more: &str) -> Outcome<String> {
    Ok(two(&format!("{}\n{more}", key_line()?)))
}

/// A disk that is not encrypted, with this file on it.
fn plain(lab: &mut Lab, file: &str) -> Outcome<PathBuf> {
    lab.disk(&Recipe::plain(Filesystem::Ext4).file(file, ""))
}

/// An encrypted disk with this file on it.
pub(super) fn locked(lab: &mut Lab, file: &str) -> Outcome<PathBuf> {
    lab.disk(&Recipe::plain(Filesystem::Ext4).file(file, "").locked(Lock::Luks2, KEY))
}

fn in_thread<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> Receiver<T> {
    let (sender, answer) = mpsc::channel();
    thread::spawn(move || sender.send(work()));
    answer
}

/// By what the request met: a disk without size, or a queue that goes (`BLK_STS_OFFLINE`).
fn is_of_a_pulled_disk(error: &io::Error) -> bool {
    [Errno::IO, Errno::NODEV].iter().any(|errno| error.raw_os_error() == Some(errno.raw_os_error()))
}

/// Reads all of it, from the disk and not from memory.
fn read_from_disk(file: &mut File) -> io::Result<()> {
    fadvise(&*file, 0, None, Advice::DontNeed)?;
    file.rewind()?;
    file.read_to_end(&mut Vec::new()).map(drop)
}

/// Until udev's news of this plug has reached the daemon.
fn wait_for_device(disk: &Plugged) -> Outcome {
    wait::until_true("the daemon to know the disk", PATIENCE, || {
        status_of("backup").is_ok_and(|status| status["device"] == disk.devnode.to_string_lossy().as_ref())
    })
}

fn wait_for_unmount() -> Outcome {
    wait::until_true("the pulled disk to be unmounted", PATIENCE, || !is_mounted("backup"))
}

fn nothing_is_left() -> Outcome {
    wait_for_unmount()?;
    wait::until_true("the mapping to go", PATIENCE, || mounts::mappings().is_empty())
}

fn umount_backup() -> Outcome {
    Program::new(daemon::BINARY).args(["umount", "backup"]).ok().map(drop)
}
