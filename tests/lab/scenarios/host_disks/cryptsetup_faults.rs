//! `cryptsetup` goes wrong in every way that a program can: its caller is told by a fitting errno, nothing is left, and
//! the next access gets the disk.

use std::fs;
use std::time::{Duration, Instant};

use rustix::io::Errno;

use super::{KEY, config, errno, is_mounted, key_line, list, status_of};
use crate::daemon;
use crate::disks::{Filesystem, Lock, Recipe};
use crate::lab::Lab;
use crate::program::{Finished, Program};
use crate::stand_in::StandIn;
use crate::wait::{self, PATIENCE};
use crate::{Outcome, mounts};

pub(super) fn cryptsetup_that_cannot_be_run_is_told_and_the_next_access_succeeds(lab: &mut Lab) -> Outcome {
    let scene = Scene::set(lab, "60s")?;
    scene.stand_in.is_absent()?;
    scene.is_refused("absent", Errno::IO, "cryptsetup is not installed")?;
    for (what, content, mode, words) in [
        ("not executable", "#!/bin/sh\n", 0o644, "Permission denied"),
        ("no program", "\u{7f}ELF\0\0", 0o755, "Exec format error"),
        ("without its interpreter", "#!/no/such/shell\n", 0o755, "No such file"),
    ] {
        scene.stand_in.is(content.as_bytes(), mode)?;
        scene.is_refused(what, Errno::IO, words)?;
    }
    scene.works()
}

pub(super) fn however_cryptsetup_ends_its_caller_is_told_and_nothing_is_left(lab: &mut Lab) -> Outcome {
    let scene = Scene::set(lab, "60s")?;
    // cryptsetup(8), "Return codes".
    for (lines, expected, words) in [
        ("exit 1", Errno::IO, "exit status 1"),
        ("exit 2", Errno::KEYREJECTED, "no key slot accepts the key file"),
        ("exit 3", Errno::AGAIN, "not enough memory"),
        ("exit 4", Errno::IO, "exit status 4"),
        ("exit 5", Errno::BUSY, "it is in use"),
        ("exit 0", Errno::IO, "is not there"),
        ("kill -SEGV $$", Errno::IO, "killed by signal 11"),
        ("head -c 3000000 /dev/zero | tr '\\0' x >&2; exit 1", Errno::IO, "xxxx"),
        // The mapping is there when it ends.
        ("real \"$@\"; exit 1", Errno::IO, "exit status 1"),
        ("real \"$@\"; exit 2", Errno::KEYREJECTED, "exit status 2"),
        ("real \"$@\"; kill -KILL $$", Errno::IO, "killed by signal 9"),
    ] {
        scene.stand_in.open_does(lines)?;
        scene.is_refused(lines, expected, words)?;
    }
    scene.works()?;
    scene.stand_in.open_does("head -c 3000000 /dev/zero | tr '\\0' x >&2")?;
    assert_eq!(list("backup")?, ["hello"], "words alone are no failure");
    scene.umount_succeeds()
}

pub(super) fn mapping_that_a_crash_left_is_locked_or_taken_over(lab: &mut Lab) -> Outcome {
    let scene = Scene::set(lab, "60s")?;
    for close in ["exit 1", "kill -KILL $$"] {
        scene.stand_in.open_and_close_do("real \"$@\"; kill -KILL $$", close)?;
        assert_eq!(errno("backup"), Some(Errno::IO.raw_os_error()), "{close}");
        assert_eq!(mounts::mappings(), ["mydisks-backup"]);
        assert_eq!(status_of("backup")?["state"], "failed");
        says("could not be locked")?;
        // Nobody asks for it.
        scene.stand_in.is_honest()?;
        scene.rests(close)?;

        scene.stand_in.open_and_close_do("real \"$@\"; kill -KILL $$", close)?;
        assert_eq!(errno("backup"), Some(Errno::IO.raw_os_error()), "{close}");
        assert_eq!(list("backup")?, ["hello"], "taken over, without a program");
        assert_eq!(status_of("backup")?["state"], "mounted");
        scene.stand_in.is_honest()?;
        scene.umount_succeeds()?;
    }
    scene.works()
}

pub(super) fn cryptsetup_that_hangs_is_killed_when_its_caller_has_waited_long_enough(
    lab: &mut Lab,
) -> Outcome {
    let limit = Duration::from_secs(20);
    let scene = Scene::set(lab, "20s")?;
    for lines in ["exec sleep 1000", "trap '' TERM; real \"$@\"; sleep 1000"] {
        scene.stand_in.open_does(lines)?;
        let began = Instant::now();
        assert_eq!(errno("backup"), Some(Errno::TIMEDOUT.raw_os_error()), "{lines}");
        let waited = began.elapsed();
        assert!(waited >= limit && waited < limit * 2, "{waited:?}");
        scene.rests(lines)?;
        assert!(!is_running("sleep\u{0}1000"), "{lines}");
        says("did not end in time and was killed")?;
        logged("did not end in time and was killed")?;
    }
    scene.works()
}

/// libdevmapper waits for udev by a semaphore (`dm_udev_create_cookie`), which it takes away itself when it has waited.
pub(super) fn cryptsetup_that_is_killed_while_it_waits_for_udev_leaves_its_semaphore_and_nothing_else(
    lab: &mut Lab,
) -> Outcome {
    let scene = Scene::set(lab, "10s")?;
    Program::new("udevadm").args(["control", "--stop-exec-queue"]).ok()?;
    let found = errno("backup");
    Program::new("udevadm").args(["control", "--start-exec-queue"]).ok()?;
    assert_eq!(found, Some(Errno::TIMEDOUT.raw_os_error()));
    let left: Vec<_> = semaphores()?.into_iter().filter(|key| !scene.semaphores.contains(key)).collect();
    assert!(!left.is_empty(), "the semaphore is gone: nothing has to be said of it any more");
    // `DM_COOKIE_MAGIC`, by which dmsetup(8) knows them too.
    assert!(left.iter().all(|key| key >> 16 == 0x0d4d), "{left:x?}");
    Program::new("dmsetup").args(["udevcomplete_all", "-y"]).ok()?;
    scene.rests("udev goes on")?;
    scene.works()
}

pub(super) fn disk_that_cannot_be_locked_is_told_and_tried_again(lab: &mut Lab) -> Outcome {
    let scene = Scene::set(lab, "60s")?;
    for lines in ["exit 1", "exit 5", "kill -KILL $$"] {
        assert_eq!(list("backup")?, ["hello"]);
        scene.stand_in.close_does(lines)?;
        let refused = umount()?;
        assert_eq!(refused.code, Some(1), "{lines}: {refused:?}");
        assert!(refused.stderr.contains("could not be locked"), "{lines}: {refused:?}");
        assert!(!is_mounted("backup"));
        assert_eq!(mounts::mappings(), ["mydisks-backup"]);
        assert_eq!(status_of("backup")?["state"], "failed");
        says("could not be locked")?;
        logged("could not be locked")?;
        scene.stand_in.is_honest()?;
        scene.rests(lines)?;
    }
    // Killed when it had done its work.
    assert_eq!(list("backup")?, ["hello"]);
    scene.stand_in.close_does("real \"$@\"; kill -KILL $$")?;
    scene.umount_succeeds()?;
    scene.works()
}

pub(super) fn close_that_hangs_is_killed_and_tried_again(lab: &mut Lab) -> Outcome {
    let scene = Scene::set(lab, "60s")?;
    assert_eq!(list("backup")?, ["hello"]);
    scene.stand_in.close_does("exec sleep 1000")?;
    let refused = umount()?;
    assert_eq!(refused.code, Some(1), "{refused:?}");
    assert!(refused.stderr.contains("did not end in time and was killed"), "{refused:?}");
    says("could not be locked")?;
    scene.stand_in.is_honest()?;
    assert_eq!(list("backup")?, ["hello"], "the name can be used meanwhile");
    scene.umount_succeeds()?;
    assert!(!is_running("sleep\u{0}1000"));
    scene.works()
}

/// An encrypted disk that was entered once, and a stand-in for the program.
struct Scene {
    stand_in: StandIn,
    /// What the daemon has at rest.
    files: Vec<String>,
    threads: usize,
    /// What the machine has at rest.
    semaphores: Vec<i32>,
}

impl Scene {
    fn set(lab: &mut Lab, access_timeout: &str) -> Outcome<Scene> {
        let backing = lab.disk(&Recipe::plain(Filesystem::Ext4).locked(Lock::Luks2, KEY))?;
        lab.plug(&backing, "DISK")?;
        let more = format!("access-timeout = {access_timeout:?}\nidle-timeout = \"0\"\n{}", key_line()?);
        lab.start(&config("DISK", &more))?;
        let mut scene =
            Scene { stand_in: StandIn::new()?, files: Vec::new(), threads: 0, semaphores: Vec::new() };
        assert_eq!(list("backup")?, ["hello"]);
        umount()?;
        wait::until_true("one job's thread to be left", PATIENCE, || jobs() == 1)?;
        scene.files = files();
        scene.threads = threads();
        scene.semaphores = semaphores()?;
        Ok(scene)
    }

    /// An access fails so, the status and the log say why, and nothing is left.
    fn is_refused(&self, what: &str, expected: Errno, words: &str) -> Outcome {
        let found = errno("backup").map(Errno::from_raw_os_error);
        assert_eq!(found, Some(expected), "{what}: {}", status_of("backup")?["error"]);
        says(words)?;
        logged(words)?;
        self.rests(what)
    }

    /// With the program as it should be an access succeeds.
    fn works(&self) -> Outcome {
        self.stand_in.is_honest()?;
        assert_eq!(list("backup")?, ["hello"]);
        self.umount_succeeds()
    }

    fn umount_succeeds(&self) -> Outcome {
        let done = umount()?;
        assert_eq!(done.code, Some(0), "{done:?}");
        assert_eq!(mounts::mappings(), [] as [&str; 0], "locked when the command returns");
        self.rests("umount")
    }

    /// Waits until nothing is mounted, unlocked or attached, and the daemon has no more files and threads than at first.
    fn rests(&self, after: &str) -> Outcome {
        wait::until_true(&format!("nothing to be left after {after}"), PATIENCE, || self.left().is_empty())
            .map_err(|error| format!("{error}: {:?}", self.left()).into())
    }

    fn left(&self) -> Vec<String> {
        let mut left = mounts::mappings();
        left.extend(mounts::loops());
        left.extend(is_mounted("backup").then(|| "a mount".to_owned()));
        let mut more = files();
        for known in &self.files {
            more.iter().position(|file| file == known).map(|known| more.swap_remove(known));
        }
        left.extend(more);
        let is_new = |key: &i32| !self.semaphores.contains(key);
        let semaphores = semaphores().unwrap_or_default();
        left.extend(semaphores.into_iter().filter(is_new).map(|key| format!("semaphore {key:x}")));
        left.extend((threads() > self.threads).then(|| format!("{} threads", threads())));
        left
    }
}

fn umount() -> Outcome<Finished> {
    Program::new(daemon::BINARY).args(["umount", "backup"]).finish()
}

fn says(words: &str) -> Outcome {
    let error = status_of("backup")?["error"].to_string();
    assert!(error.contains(words), "status says {error} and not {words:?}");
    Ok(())
}

fn logged(words: &str) -> Outcome {
    wait::until_true(&format!("the log to say {words:?}"), PATIENCE, || daemon::log_text().contains(words))
}

/// What the daemon has open; a file that is open twice is there twice.
fn files() -> Vec<String> {
    of_daemon("fd").filter_map(|file| Some(fs::read_link(file).ok()?.display().to_string())).collect()
}

fn threads() -> usize {
    of_daemon("task").count()
}

/// The keys of System V semaphores (sysvipc(7)).
fn semaphores() -> Outcome<Vec<i32>> {
    let table = fs::read_to_string("/proc/sysvipc/sem")?;
    let keys = table.lines().skip(1).filter_map(|line| line.split_whitespace().next());
    Ok(keys.map(str::parse).collect::<Result<_, _>>()?)
}

/// Threads of jobs.
fn jobs() -> usize {
    let name = |thread: std::path::PathBuf| fs::read_to_string(thread.join("comm")).unwrap_or_default();
    of_daemon("task").filter(|thread| name(thread.clone()) == "job\n").count()
}

fn of_daemon(directory: &'static str) -> impl Iterator<Item = std::path::PathBuf> {
    let entries = move |pid| fs::read_dir(format!("/proc/{pid}/{directory}"));
    daemon::processes().into_iter().flat_map(entries).flatten().flatten().map(|entry| entry.path())
}

/// Whether a process with these words, apart by NUL, at the beginning of its command line runs.
fn is_running(command: &str) -> bool {
    let processes = fs::read_dir("/proc").into_iter().flatten().flatten();
    processes
        .filter_map(|process| fs::read_to_string(process.path().join("cmdline")).ok())
        .any(|line| line.starts_with(command))
}
