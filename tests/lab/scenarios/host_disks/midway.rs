//! Disks that are pulled in the middle of a system call that the daemon makes on them: they are made so slow that the
//! pull falls into it.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::process::{Child, Stdio};
use std::sync::mpsc::{self, Receiver};
use std::thread;

use rustix::io::Errno;
use rustix::process::{Pid, Signal, kill_process};

use super::pulls::{both, locked};
use super::{KEY, config, is_mounted, key_line, list, name, status_of, wait_for_state};
use crate::daemon::{self, MOUNTPOINT};
use crate::disks::{Filesystem, Lock, Recipe};
use crate::lab::Lab;
use crate::program::{Finished, Program};
use crate::qmp::Plugged;
use crate::wait::{self, PATIENCE};
use crate::{Outcome, mounts};

const LOST: &str = "was pulled while being unmounted: what was written last may be lost";

pub(super) fn pulled_while_probed_its_caller_learns_that_at_once(lab: &mut Lab) -> Outcome {
    // Of what is not encrypted its driver is the judge.
    let recipe = Recipe::plain(Filesystem::Ext4).locked(Lock::Luks2, KEY);
    pulled_while_opened(lab, &recipe, |disk| has_open(&disk.devnode))
}

pub(super) fn pulled_while_its_file_system_is_mounted_its_caller_learns_that_at_once(
    lab: &mut Lab,
) -> Outcome {
    pulled_while_opened(lab, &Recipe::plain(Filesystem::Ext4), |_| is_in(libc::SYS_fsconfig))
}

pub(super) fn pulled_while_it_is_unlocked_its_caller_gets_the_next_disk(lab: &mut Lab) -> Outcome {
    let (first, second) = (locked(lab, "first")?, locked(lab, "second")?);
    let disk = lab.plug(&first, "FIRST")?;
    lab.plug(&second, "SECOND")?;
    lab.start(&both("access-timeout = \"600s\"")?)?;
    // By which libdevmapper makes a cookie for udev: cryptsetup has the key, and has no mapping yet.
    let held = Held::in_call("semget")?;
    let answer = entering();
    wait::until_true("cryptsetup to make the mapping", PATIENCE, || {
        unlocking().is_some_and(|process| is_thread_in(&process, libc::SYS_semget))
    })?;
    lab.pull(&disk)?;
    // Nor does it end by a signal while strace has it.
    wait_for_news()?;
    held.let_go()?;
    assert_eq!(answer.recv_timeout(PATIENCE)??, ["hello", "second"]);
    assert_eq!(mounts::mappings(), ["mydisks-backup"]);
    Ok(())
}

pub(super) fn pulled_while_attached_its_caller_learns_that_at_once(lab: &mut Lab) -> Outcome {
    let backing = lab.disk(&Recipe::plain(Filesystem::Ext4))?;
    let disk = lab.plug(&backing, "DISK")?;
    lab.start(&config("DISK", "access-timeout = \"600s\""))?;
    let held = Held::in_call("move_mount")?;
    let answer = entering();
    wait::until_true("the daemon to attach the mount", PATIENCE, || is_in(libc::SYS_move_mount))?;
    lab.pull(&disk)?;
    wait_for_news()?;
    held.let_go()?;
    is_answered_that_there_is_none(&answer)?;
    works_again(lab, &backing)
}

pub(super) fn pulled_while_unmounted_it_is_said_what_may_be_lost(lab: &mut Lab) -> Outcome {
    let backing = lab.disk(&Recipe::plain(Filesystem::Ext4))?;
    let disk = written_and_slow(lab, &backing, "")?;
    let (sender, ended) = mpsc::channel();
    let umount = Program::new(daemon::BINARY).args(["umount", "backup"]);
    thread::spawn(move || sender.send(umount.finish()));
    pulled_in_umount2(lab, &disk)?;
    let reply = ended.recv_timeout(PATIENCE)??;
    assert_eq!(reply.code, Some(1), "{reply:?}");
    assert!(reply.stderr.contains(LOST), "{reply:?}");
    loss_is_told()?;
    works_again(lab, &backing)
}

pub(super) fn pulled_while_unmounted_after_disuse_it_is_said_what_may_be_lost(lab: &mut Lab) -> Outcome {
    let backing = lab.disk(&Recipe::plain(Filesystem::Ext4).locked(Lock::Luks2, KEY))?;
    let disk = written_and_slow(lab, &backing, &format!("idle-timeout = \"1s\"\n{}", key_line()?))?;
    pulled_in_umount2(lab, &disk)?;
    loss_is_told()?;
    works_again(lab, &backing)
}

pub(super) fn pulled_while_everything_ends_whoever_ends_it_is_told_what_may_be_lost(
    lab: &mut Lab,
) -> Outcome {
    let backing = lab.disk(&Recipe::plain(Filesystem::Ext4))?;
    daemon::install_fstab("nofail")?;
    let disk = written_and_slow(lab, &backing, "")?;
    let ended = umount_of_the_root();
    pulled_in_umount2(lab, &disk)?;
    tells_a_loss(&ended.recv_timeout(PATIENCE)??)?;

    let disk = written_and_slow(lab, &backing, "")?;
    let daemon = lab.daemon.as_mut().ok_or("no daemon")?;
    daemon.signal(Signal::TERM)?;
    pulled_in_umount2(lab, &disk)?;
    let daemon = lab.daemon.as_mut().ok_or("no daemon")?;
    assert_eq!(daemon.ended()?, Some(1), "by its exit status");
    Ok(())
}

pub(super) fn pulled_while_the_root_of_a_killed_daemon_is_unmounted_it_is_said_what_may_be_lost(
    lab: &mut Lab,
) -> Outcome {
    let backing = lab.disk(&Recipe::plain(Filesystem::Ext4))?;
    daemon::install_fstab("nofail")?;
    let disk = written_and_slow(lab, &backing, "")?;
    let daemon = lab.daemon.as_mut().ok_or("no daemon")?;
    daemon.signal(Signal::KILL)?;
    daemon.ended()?;
    let ended = umount_of_the_root();
    pulled_in_umount2(lab, &disk)?;
    tells_a_loss(&ended.recv_timeout(PATIENCE)??)
}

fn umount_of_the_root() -> Receiver<Outcome<Finished>> {
    let (sender, ended) = mpsc::channel();
    thread::spawn(move || sender.send(Program::new("umount").arg(MOUNTPOINT).finish()));
    ended
}

fn tells_a_loss(reply: &Finished) -> Outcome {
    // umount(8) gives its helper's.
    assert_eq!(reply.code, Some(32), "{reply:?}");
    assert!(reply.stderr.contains("is unmounted, but ") && reply.stderr.contains(LOST), "{reply:?}");
    assert_eq!(mounts::at(Path::new(MOUNTPOINT))?, []);
    wait::until_true("everything to end", PATIENCE, || daemon::processes().is_empty())
}

/// Mounted, and the kernel has much to write to it, which will take seconds.
fn written_and_slow(lab: &mut Lab, backing: &Path, more: &str) -> Outcome<Plugged> {
    let disk = lab.plug(backing, "DISK")?;
    lab.start(&config("DISK", more))?;
    fs::write(name("backup").join("written"), vec![0x55; 1 << 20])?;
    lab.slow_down(&disk)?;
    Ok(disk)
}

fn pulled_in_umount2(lab: &mut Lab, disk: &Plugged) -> Outcome {
    wait::until_true("the daemon to unmount", PATIENCE, || is_in(libc::SYS_umount2))?;
    lab.pull(disk)
}

fn loss_is_told() -> Outcome {
    wait_for_state("backup", "absent")?;
    assert!(!is_mounted("backup"));
    assert_eq!(mounts::mappings(), [] as [&str; 0]);
    let text = daemon::log_text();
    assert_eq!(text.matches(LOST).count(), 1, "{text}");
    let status = status_of("backup")?;
    assert!(status["error"].as_str().is_some_and(|error| error.contains(LOST)), "{status}");
    Ok(())
}

/// `is_midway`: the daemon is where it has to be for the pull.
fn pulled_while_opened(lab: &mut Lab, recipe: &Recipe, is_midway: impl Fn(&Plugged) -> bool) -> Outcome {
    let backing = lab.disk(recipe)?;
    let disk = lab.plug(&backing, "DISK")?;
    let key = if recipe.lock.is_some() { key_line()? } else { String::new() };
    lab.start(&config("DISK", &format!("access-timeout = \"600s\"\n{key}")))?;
    lab.slow_down(&disk)?;
    let answer = entering();
    wait::until_true("the daemon to be midway", PATIENCE, || is_midway(&disk))?;
    lab.pull(&disk)?;
    is_answered_that_there_is_none(&answer)?;
    works_again(lab, &backing)
}

/// The answer to somebody who enters the name.
fn entering() -> Receiver<io::Result<Vec<String>>> {
    let (sender, answer) = mpsc::channel();
    thread::spawn(move || sender.send(list("backup")));
    answer
}

fn is_answered_that_there_is_none(answer: &Receiver<io::Result<Vec<String>>>) -> Outcome {
    let error = answer.recv_timeout(PATIENCE)?.err().and_then(|error| error.raw_os_error());
    assert_eq!(error, Some(Errno::NOMEDIUM.raw_os_error()));
    wait_for_state("backup", "absent")?;
    assert!(!is_mounted("backup"));
    let text = daemon::log_text();
    // If the news of the pull came before the job's end.
    let words = ["its disk was pulled while it was being opened", "DISK is not attached"];
    assert!(words.iter().any(|words| text.contains(words)), "{text}");
    assert!(!text.contains("may be lost"), "nobody has written: {text}");
    Ok(())
}

fn works_again(lab: &mut Lab, backing: &Path) -> Outcome {
    lab.plug(backing, "DISK")?;
    wait_for_state("backup", "ready")?;
    assert!(list("backup")?.contains(&"hello".to_owned()));
    assert_eq!(mounts::at(&name("backup"))?.len(), 1);
    Ok(())
}

/// Whether the daemon has this file open.
fn has_open(path: &Path) -> bool {
    of_daemon("fd").iter().any(|entry| fs::read_link(entry).is_ok_and(|target| target == path))
}

/// Whether a thread of the daemon is blocked in this system call.
fn is_in(call: libc::c_long) -> bool {
    of_daemon("task").iter().any(|thread| is_thread_in(thread, call))
}

fn is_thread_in(thread: &Path, call: libc::c_long) -> bool {
    fs::read_to_string(thread.join("syscall"))
        .is_ok_and(|text| text.split(' ').next() == Some(&call.to_string()))
}

/// The process that unlocks, by its directory in /proc.
pub(super) fn unlocking() -> Option<PathBuf> {
    let is_it = |process: &fs::DirEntry| {
        fs::read(process.path().join("cmdline")).is_ok_and(|line| {
            let mut words = line.split(|byte| *byte == 0);
            words.next().is_some_and(|program| program.ends_with(b"cryptsetup"))
                && words.next() == Some(b"open")
        })
    };
    Some(fs::read_dir("/proc").ok()?.flatten().find(is_it)?.path())
}

/// Until the daemon has heard that the disk was pulled.
fn wait_for_news() -> Outcome {
    wait::until_true("the news of the pull", PATIENCE, || daemon::log_text().contains("is detached"))
}

/// A strace(1) that keeps a thread of the daemon, or a program that it runs, in its first call of this name, before it has begun.
struct Held(Child);

impl Held {
    fn in_call(call: &str) -> Outcome<Held> {
        let process = daemon::processes().first().ok_or("no daemon runs")?.to_string();
        let delay = format!("--inject={call}:delay_enter={}:when=1", 600 * 1_000_000);
        let mut command = Program::new("strace")
            .args(["-f", "-o", "/dev/null", "-p", &process])
            .args([format!("--trace={call}"), delay])
            .command()?;
        let held = Held(command.stderr(Stdio::null()).spawn()?);
        wait::until_true("strace to see the daemon", PATIENCE, || {
            of_daemon("task").iter().all(|thread| is_traced(thread))
        })?;
        Ok(held)
    }

    /// The call begins now.
    fn let_go(mut self) -> Outcome {
        kill_process(Pid::from_child(&self.0), Signal::TERM)?;
        self.0.wait()?;
        Ok(())
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

fn is_traced(thread: &Path) -> bool {
    fs::read_to_string(thread.join("status")).is_ok_and(|text| !text.contains("TracerPid:\t0\n"))
}

/// The entries of this directory in /proc of the daemon.
fn of_daemon(directory: &str) -> Vec<PathBuf> {
    let entries = |pid| fs::read_dir(format!("/proc/{pid}/{directory}"));
    daemon::processes().into_iter().flat_map(entries).flatten().flatten().map(|entry| entry.path()).collect()
}
