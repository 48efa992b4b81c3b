//! Running an external program to its end, its deadline or its cancellation; it is never left behind. Knows nothing of
//! what the program does.

use std::ffi::OsStr;
use std::fs::File;
use std::io::{self, Read};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags};
use rustix::io::Errno;
use rustix::process::{Pid, PidfdFlags, Signal, kill_process_group, pidfd_open};
use thiserror::Error;

use super::cancel::{Limits, poll_until};
use super::error::one_line;

/// Where programs are looked for; never `PATH`.
pub(super) const DIRECTORIES: [&str; 4] = ["/usr/sbin", "/sbin", "/usr/bin", "/bin"];

/// How much of what a program says is kept, in bytes.
const KEPT: usize = 8 << 10;

/// How long a killed program may take to die before a thread of its own waits on.
const DYING: Duration = Duration::from_secs(5);

/// A program that has ended.
#[derive(Debug)]
pub(super) struct Finished {
    pub(super) status: ExitStatus,
    /// What it wrote to stderr, as one bounded line.
    pub(super) said: String,
}

impl Finished {
    /// How it ended and what it said, for a sentence.
    pub(super) fn explain(&self) -> String {
        let end = match (self.status.code(), self.status.signal()) {
            (Some(code), _) => format!("exit status {code}"),
            (None, Some(signal)) => format!("killed by signal {signal}"),
            (None, None) => "ended in an unknown way".to_owned(),
        };
        if self.said.is_empty() { end } else { format!("{} ({end})", self.said) }
    }
}

/// Why a program did not end by itself.
#[derive(Debug, Error)]
pub(super) enum RunError {
    /// It could not be started or waited for.
    #[error(transparent)]
    System(#[from] io::Error),
    /// Killed at the deadline.
    #[error("did not end in time and was killed{0}")]
    TimedOut(&'static str),
    /// Killed since the work was cancelled.
    #[error("was cancelled and killed{0}")]
    Cancelled(&'static str),
}

/// The first of `directories` that has the program.
pub(super) fn find(name: &str, directories: &[PathBuf]) -> Option<PathBuf> {
    directories.iter().map(|directory| directory.join(name)).find(|path| path.is_file())
}

/// Runs `path` with `arguments` in a process group of its own and an environment that holds nothing but `LC_ALL=C` and
/// a fixed `PATH`; stdin is `input` or /dev/null.
pub(super) fn run(
    path: &Path,
    arguments: &[&OsStr],
    input: Option<File>,
    limits: Limits<'_>,
) -> Result<Finished, RunError> {
    let mut child = Command::new(path)
        .args(arguments)
        .env_clear()
        .env("LC_ALL", "C")
        .env("PATH", "/usr/sbin:/usr/bin:/sbin:/bin")
        .current_dir("/")
        .process_group(0)
        .stdin(input.map_or_else(Stdio::null, Stdio::from))
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .spawn()?;
    match watch(&mut child, limits) {
        // The child is dead, so this does not wait.
        Ok(said) => Ok(Finished { status: child.wait()?, said }),
        Err(error) => Err(kill(child, error)),
    }
}

/// Why [`watch`] came back before the program's end.
enum Stop {
    Cancelled,
    TimedOut,
    Failed(io::Error),
}

impl From<io::Error> for Stop {
    fn from(error: io::Error) -> Self {
        Self::Failed(error)
    }
}

/// Sleeps until the program has ended, and collects what it says meanwhile.
fn watch(child: &mut Child, limits: Limits<'_>) -> Result<String, Stop> {
    let end = pidfd(child)?;
    let mut words = child.stderr.take();
    let mut said = Vec::new();
    loop {
        let mut fds = vec![PollFd::new(&end, PollFlags::IN), PollFd::new(limits.cancel, PollFlags::IN)];
        if let Some(words) = &words {
            fds.push(PollFd::new(words, PollFlags::IN));
        }
        if !poll_until(&mut fds, limits.deadline)? {
            return Err(Stop::TimedOut);
        }
        let [has_ended, is_cancelled] = [0, 1].map(|index| !fds[index].revents().is_empty());
        let has_words = fds.get(2).is_some_and(|fd| !fd.revents().is_empty());
        if has_words {
            listen(&mut words, &mut said)?;
        }
        if has_ended && !has_words {
            return Ok(one_line(&String::from_utf8_lossy(&said)));
        }
        if is_cancelled && !has_ended {
            return Err(Stop::Cancelled);
        }
        // Words without end must not keep the time from running out.
        if Instant::now() >= limits.deadline {
            return Err(Stop::TimedOut);
        }
    }
}

/// Reads once, which cannot block after poll(2) said so; at the end of the stream there is nothing more to listen to.
fn listen(words: &mut Option<impl Read>, said: &mut Vec<u8>) -> io::Result<()> {
    let Some(stream) = words else { return Ok(()) };
    let mut buffer = [0; 1024];
    match stream.read(&mut buffer) {
        Ok(0) => *words = None,
        // Beyond the bound it is read, so that the program does not block, and dropped.
        Ok(length) => said.extend_from_slice(&buffer[..length.min(KEPT - said.len())]),
        Err(error) if Errno::from_io_error(&error) == Some(Errno::INTR) => {}
        Err(error) => return Err(error),
    }
    Ok(())
}

fn pidfd(child: &Child) -> io::Result<OwnedFd> {
    Ok(pidfd_open(pid(child)?, PidfdFlags::empty())?)
}

fn pid(child: &Child) -> io::Result<Pid> {
    let pid = i32::try_from(child.id()).ok().and_then(Pid::from_raw);
    pid.ok_or_else(|| io::ErrorKind::InvalidData.into())
}

/// Kills the whole group and reaps the child: here if it dies soon, on a thread of its own if it hangs in the kernel.
fn kill(mut child: Child, stop: Stop) -> RunError {
    // Not reaped yet, so the number still means this child's group.
    let killed = pid(&child).and_then(|pid| Ok(kill_process_group(pid, Signal::KILL)?));
    let dies = || -> io::Result<bool> {
        let end = pidfd(&child)?;
        poll_until(&mut [PollFd::from_borrowed_fd(end.as_fd(), PollFlags::IN)], Instant::now() + DYING)
    };
    let is_dead = killed.and_then(|()| dies()).unwrap_or(false);
    let note = if is_dead {
        let _ = child.wait();
        ""
    } else {
        let reaper = std::thread::Builder::new().name("reaper".to_owned());
        // Without a thread the child stays a zombie until we end: nothing else can be done about it.
        let _ = reaper.spawn(move || child.wait());
        ", but hangs in the kernel"
    };
    match stop {
        Stop::Cancelled => RunError::Cancelled(note),
        Stop::TimedOut => RunError::TimedOut(note),
        Stop::Failed(error) => RunError::System(error),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::disk::Cancel;

    fn shell(script: &str, deadline: Duration, cancel: &Cancel) -> Result<Finished, RunError> {
        let limits = Limits { cancel, deadline: Instant::now() + deadline };
        run(Path::new("/bin/sh"), &[OsStr::new("-c"), OsStr::new(script)], None, limits)
    }

    const LONG: Duration = Duration::from_secs(60);

    #[test]
    fn status_and_words_come_back() {
        let cancel = Cancel::new().unwrap();
        let finished = shell("echo first >&2; echo second >&2; exit 3", LONG, &cancel).unwrap();
        assert_eq!(finished.status.code(), Some(3));
        assert_eq!(finished.explain(), "first; second (exit status 3)");
        let finished = shell("kill -ABRT $$", LONG, &cancel).unwrap();
        assert_eq!(finished.explain(), "killed by signal 6");
    }

    #[test]
    fn the_environment_is_clean_and_stdin_empty() {
        let cancel = Cancel::new().unwrap();
        let script = "/usr/bin/env | grep -v ^_= | grep -v ^PWD= | sort >&2; cat >&2; pwd >&2";
        let finished = shell(script, LONG, &cancel).unwrap();
        assert_eq!(finished.said, "LC_ALL=C; PATH=/usr/sbin:/usr/bin:/sbin:/bin; /");
    }

    #[test]
    fn a_flood_of_words_is_read_to_the_end_and_bounded() {
        let cancel = Cancel::new().unwrap();
        let finished = shell("yes | head -c 1000000 >&2", LONG, &cancel).unwrap();
        assert!(finished.status.success());
        assert!(finished.said.len() <= KEPT);
    }

    #[test]
    fn at_the_deadline_the_whole_group_is_killed() {
        let cancel = Cancel::new().unwrap();
        let (reader, writer) = rustix::pipe::pipe_with(rustix::pipe::PipeFlags::CLOEXEC).unwrap();
        // The grandchild holds the pipe's other end as stdin: its end is seen here when both are dead.
        let input = File::from(writer);
        let limits = Limits { cancel: &cancel, deadline: Instant::now() + Duration::from_millis(200) };
        let arguments = [OsStr::new("-c"), OsStr::new("sleep 1000 <&0 & wait")];
        let error = run(Path::new("/bin/sh"), &arguments, Some(input), limits).unwrap_err();
        assert!(matches!(error, RunError::TimedOut("")), "{error}");
        assert_eq!(rustix::io::read(&reader, &mut [0]).unwrap(), 0);
    }

    #[test]
    fn cancelling_interrupts_the_wait() {
        let cancel = Cancel::new().unwrap();
        let canceller = cancel.clone();
        let waiter = std::thread::spawn(move || shell("exec sleep 1000", LONG * 10, &cancel));
        canceller.cancel();
        assert!(matches!(waiter.join().unwrap(), Err(RunError::Cancelled(""))));
    }

    #[test]
    fn a_child_that_leaves_its_stderr_to_a_grandchild_still_ends() {
        let cancel = Cancel::new().unwrap();
        let finished = shell("sleep 30 & echo gone >&2", LONG, &cancel).unwrap();
        assert_eq!(finished.said, "gone");
    }

    #[test]
    fn a_program_that_is_not_there_is_not_found() {
        let directories = DIRECTORIES.map(PathBuf::from);
        assert_eq!(find("no-such-program", &directories), None);
        assert!(find("sh", &directories).is_some_and(|path| path.is_absolute()));
    }
}
