//! Runs calls in processes of their own, all released at the same moment, each held to a deadline.
//!
//! The suite's own process never walks into the file system under test: what hangs there is a child, which is killed.

use crate::raw;
use rustix::event::{PollFd, PollFlags, poll};
use rustix::fd::{AsFd, OwnedFd};
use rustix::pipe::{PipeFlags, pipe_with};
use rustix::process::{Pid, Signal, WaitOptions};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::time::{Duration, Instant};

/// How a child ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Ended {
    /// It reported this.
    Said(String),
    /// It went without a report.
    Died,
    /// It was still in its call at the deadline, and was killed.
    Hung {
        /// SIGKILL did not end it either: it sleeps in the kernel, uninterruptibly.
        unkillable: bool,
    },
}

impl std::fmt::Display for Ended {
    fn fmt(&self, to: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Ended::Said(text) => to.write_str(text),
            Ended::Died => to.write_str("(the process died)"),
            Ended::Hung { unkillable: false } => to.write_str("(hung, killed at the deadline)"),
            Ended::Hung { unkillable: true } => to.write_str("(hung, and survived SIGKILL)"),
        }
    }
}

struct Child {
    pid: Pid,
    report: OwnedFd,
    text: Vec<u8>,
    finished: bool,
}

/// Runs each of `calls` in a process of its own, released together once all stand ready, and collects the reports.
pub(crate) fn at_once(calls: Vec<Box<dyn FnOnce() -> String + '_>>, deadline: Duration) -> Vec<Ended> {
    let (start_read, start_write) = pipe_with(PipeFlags::CLOEXEC).expect("pipe");
    let mut start_write = Some(start_write);
    let mut children: Vec<Child> =
        calls.into_iter().map(|call| start(call, &start_read, &mut start_write)).collect();
    for child in &mut children {
        let mut ready = [0u8; 1];
        rustix::io::read(&child.report, &mut ready).expect("a child that just started reports itself ready");
    }
    drop(start_write);
    collect(&mut children, Instant::now() + deadline);
    children.into_iter().map(end).collect()
}

/// Runs one call in a process of its own.
pub(crate) fn alone(call: impl FnOnce() -> String, deadline: Duration) -> Ended {
    at_once(vec![Box::new(call)], deadline).pop().expect("one call, one report")
}

fn start(
    call: Box<dyn FnOnce() -> String + '_>,
    start_read: &OwnedFd,
    start_write: &mut Option<OwnedFd>,
) -> Child {
    let (report, report_write) = pipe_with(PipeFlags::CLOEXEC).expect("pipe");
    let pid = raw::fork(|| {
        // The copy's end must be closed, or no sibling would ever see the end of the pipe.
        drop(start_write.take());
        let _ = rustix::process::setpgid(None, None);
        let _ = rustix::process::set_parent_process_death_signal(Some(Signal::KILL));
        rustix::process::umask(rustix::fs::Mode::from_raw_mode(0o022));
        let _ = rustix::io::write(&report_write, b".");
        let _ = rustix::io::read(start_read, &mut [0u8; 1]);
        let text = catch_unwind(AssertUnwindSafe(call)).unwrap_or_else(|_| "(the call panicked)".into());
        let _ = rustix::io::write(&report_write, text.as_bytes());
    });
    Child { pid, report, text: Vec::new(), finished: false }
}

fn collect(children: &mut [Child], until: Instant) {
    loop {
        let mut waiting: Vec<&mut Child> = children.iter_mut().filter(|child| !child.finished).collect();
        let left = until.saturating_duration_since(Instant::now());
        if waiting.is_empty() || left.is_zero() {
            return;
        }
        let ready: Vec<bool> = {
            let mut fds: Vec<PollFd<'_>> = waiting
                .iter()
                .map(|child| PollFd::from_borrowed_fd(child.report.as_fd(), PollFlags::IN))
                .collect();
            let timeout =
                rustix::time::Timespec { tv_sec: left.as_secs() as i64, tv_nsec: left.subsec_nanos().into() };
            match poll(&mut fds, Some(&timeout)) {
                Ok(_) | Err(rustix::io::Errno::INTR) => {}
                Err(errno) => panic!("poll: {errno}"),
            }
            fds.iter().map(|fd| !fd.revents().is_empty()).collect()
        };
        for (child, ready) in waiting.iter_mut().zip(ready) {
            let mut buffer = [0u8; 4096];
            if ready {
                match rustix::io::read(&child.report, &mut buffer).unwrap_or(0) {
                    0 => child.finished = true,
                    length => child.text.extend_from_slice(&buffer[..length]),
                }
            }
        }
    }
}

fn end(child: Child) -> Ended {
    if !child.finished {
        let _ = rustix::process::kill_process_group(child.pid, Signal::KILL);
        return Ended::Hung { unkillable: !reaped(child.pid, Duration::from_secs(3)) };
    }
    if !reaped(child.pid, Duration::from_secs(10)) {
        let _ = rustix::process::kill_process_group(child.pid, Signal::KILL);
    }
    match String::from_utf8(child.text) {
        Ok(text) if !text.is_empty() => Ended::Said(text),
        _ => Ended::Died,
    }
}

fn reaped(pid: Pid, patience: Duration) -> bool {
    wait_for(patience, || !matches!(rustix::process::waitpid(Some(pid), WaitOptions::NOHANG), Ok(None)))
}

/// Looks again and again until `condition` holds; false when it does not within `patience`.
pub(crate) fn wait_for(patience: Duration, mut condition: impl FnMut() -> bool) -> bool {
    let until = Instant::now() + patience;
    let mut pause = Duration::from_micros(100);
    loop {
        if condition() {
            return true;
        }
        if Instant::now() >= until {
            return false;
        }
        std::thread::sleep(pause);
        pause = (pause * 2).min(Duration::from_millis(10));
    }
}
