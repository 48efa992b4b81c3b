//! The alarm that the core sets: whoever has just run it sets it, one thread waits for it. To set it wakes nobody.

use std::io;
use std::os::fd::OwnedFd;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use rustix::io::Errno;
use rustix::time::{
    Itimerspec, TimerfdClockId, TimerfdFlags, TimerfdTimerFlags, Timespec, timerfd_create, timerfd_settime,
};

/// A timer of the kernel (timerfd_create(2)), of the clock that [`Instant`] is.
pub(super) struct Timer {
    clock: OwnedFd,
    has_ended: AtomicBool,
}

impl Timer {
    /// One that is not set.
    ///
    /// # Errors
    /// Out of file descriptors or memory.
    pub(super) fn new() -> io::Result<Self> {
        let clock = timerfd_create(TimerfdClockId::Monotonic, TimerfdFlags::CLOEXEC)?;
        Ok(Self { clock, has_ended: AtomicBool::new(false) })
    }

    /// Goes off then, at once if that has passed, or not at all; what was set before is forgotten.
    pub(super) fn set(&self, at: Option<Instant>) {
        // No time at all would mean never.
        let left = at.map(|at| at.saturating_duration_since(Instant::now()).max(Duration::from_nanos(1)));
        let left = left.unwrap_or_default();
        let value = Timespec {
            tv_sec: i64::try_from(left.as_secs()).unwrap_or(i64::MAX),
            tv_nsec: left.subsec_nanos().into(),
        };
        let once = Itimerspec { it_interval: Timespec::default(), it_value: value };
        // It fails only for values that are no times (timerfd_settime(2)).
        let _ = timerfd_settime(&self.clock, TimerfdTimerFlags::empty(), &once);
    }

    /// Nobody is to wait any more.
    pub(super) fn end(&self) {
        self.has_ended.store(true, Ordering::SeqCst);
        self.set(Some(Instant::now()));
    }

    /// Waits until it goes off; `false` after [`Timer::end`].
    pub(super) fn wait(&self) -> bool {
        // How often it has gone off since; EINTR is as good as once, since whatever is not due is not done.
        let read = rustix::io::read(&self.clock, &mut [0; 8]);
        matches!(read, Ok(_) | Err(Errno::INTR)) && !self.has_ended.load(Ordering::SeqCst)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_goes_off_when_it_was_set_to_last_and_never_before() {
        let timer = Timer::new().unwrap();
        let at = Instant::now() + Duration::from_millis(30);
        timer.set(Some(Instant::now() + Duration::from_secs(3600)));
        timer.set(Some(at));
        assert!(timer.wait());
        assert!(Instant::now() >= at);
        timer.set(Some(at));
        assert!(timer.wait(), "a moment that has passed is due at once");
    }

    #[test]
    fn the_end_wakes_who_waits_for_it() {
        let timer = Timer::new().unwrap();
        std::thread::scope(|scope| {
            let waits = scope.spawn(|| timer.wait());
            timer.end();
            assert!(!waits.join().unwrap());
        });
        timer.set(None);
        timer.end();
        assert!(!timer.wait());
    }
}
