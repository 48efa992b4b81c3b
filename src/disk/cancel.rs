//! Giving up: a handle that stops work on a disk from another thread, and the deadline that does so by itself. Knows
//! nothing of the work.

use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use rustix::event::{EventfdFlags, PollFd, PollFlags, Timespec, eventfd, poll};
use rustix::io::Errno;

use super::{DiskError, ErrorKind};

/// Stops work on a disk: checked between its steps, and interrupts the wait for an external program. Clones are the
/// same handle; once cancelled, always cancelled. A system call that is under way (fsconfig(2) that mounts from a disk
/// that does not answer) cannot be interrupted.
#[derive(Clone, Debug)]
pub struct Cancel(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    cancelled: AtomicBool,
    /// Readable once cancelled; never read, so it stays so.
    event: OwnedFd,
}

impl Cancel {
    /// A handle that is not cancelled.
    ///
    /// # Errors
    /// eventfd(2) fails: out of file descriptors or memory.
    pub fn new() -> io::Result<Self> {
        let event = eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK)?;
        Ok(Self(Arc::new(Inner { cancelled: AtomicBool::new(false), event })))
    }

    /// Asks the work to stop.
    pub fn cancel(&self) {
        if !self.0.cancelled.swap(true, Ordering::SeqCst) {
            // One write to a fresh counter cannot overflow it, the only way for it to fail (eventfd(2)).
            let _ = rustix::io::write(&self.0.event, &1_u64.to_ne_bytes());
        }
    }

    /// Whether [`cancel`](Self::cancel) was called.
    pub fn is_cancelled(&self) -> bool {
        self.0.cancelled.load(Ordering::SeqCst)
    }
}

impl AsFd for Cancel {
    /// Readable (poll(2)) once cancelled.
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.event.as_fd()
    }
}

/// A piece of work's reasons to give up.
#[derive(Clone, Copy)]
pub(super) struct Limits<'a> {
    pub(super) cancel: &'a Cancel,
    pub(super) deadline: Instant,
}

impl Limits<'_> {
    /// Goes on, or says why not before `step`.
    pub(super) fn check(&self, step: &str) -> Result<(), DiskError> {
        if self.cancel.is_cancelled() {
            Err(DiskError::new(ErrorKind::TimedOut, format!("Cancelled before {step}")))
        } else if Instant::now() >= self.deadline {
            Err(DiskError::new(ErrorKind::TimedOut, format!("Took too long: gave up before {step}")))
        } else {
            Ok(())
        }
    }

    /// Sleeps for `pause`, shorter if cancelled or the deadline passes.
    pub(super) fn pause(&self, pause: Duration) {
        let pause = pause.min(self.deadline.saturating_duration_since(Instant::now()));
        let mut fds = [PollFd::new(self.cancel, PollFlags::IN)];
        // Woken early (EINTR) is harmless: every caller looks again.
        let _ = poll(&mut fds, Some(&timespec(pause)));
    }
}

/// poll(2) with a point in time instead of a duration, restarted after signals. `Ok(false)`: the time has come.
pub(super) fn poll_until(fds: &mut [PollFd<'_>], deadline: Instant) -> io::Result<bool> {
    loop {
        let left = deadline.saturating_duration_since(Instant::now());
        match poll(fds, Some(&timespec(left))) {
            Ok(0) if Instant::now() < deadline => {}
            Ok(ready) => return Ok(ready > 0),
            Err(Errno::INTR) => {}
            Err(errno) => return Err(errno.into()),
        }
    }
}

fn timespec(duration: Duration) -> Timespec {
    Timespec::try_from(duration).unwrap_or(Timespec { tv_sec: i64::MAX, tv_nsec: 0 })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_clone_sees_the_cancellation_and_poll_wakes() {
        let cancel = Cancel::new().unwrap();
        let clone = cancel.clone();
        assert!(!clone.is_cancelled());
        let far = Instant::now() + Duration::from_secs(3600);
        let waiter = std::thread::spawn(move || {
            let mut fds = [PollFd::new(&clone, PollFlags::IN)];
            poll_until(&mut fds, far).unwrap()
        });
        cancel.cancel();
        cancel.cancel();
        assert!(waiter.join().unwrap());
        let limits = Limits { cancel: &cancel, deadline: far };
        assert_eq!(limits.check("the test").unwrap_err().kind, ErrorKind::TimedOut);
    }

    #[test]
    fn a_deadline_that_has_passed_stops_the_work() {
        let cancel = Cancel::new().unwrap();
        let limits = Limits { cancel: &cancel, deadline: Instant::now() };
        assert!(limits.check("the test").unwrap_err().message.contains("too long"));
        let mut fds = [PollFd::new(&cancel, PollFlags::IN)];
        assert!(!poll_until(&mut fds, limits.deadline).unwrap());
    }
}
