//! One daemon after another looks what is mounted and mounts its root: two at once would both find nothing there.

use std::fs::File;
use std::io;
use std::path::Path;
use std::thread;
use std::time::{Duration, Instant};

use rustix::fs::{FlockOperation, flock};
use rustix::io::Errno;

use crate::control;

/// A start takes less than a second, but for udev's list of all devices.
const PATIENCE: Duration = Duration::from_secs(60);
const PAUSE: Duration = Duration::from_millis(20);

/// Nobody else starts while it lives.
pub(super) struct Starting(#[allow(dead_code, reason = "the lock is that of the open file")] File);

/// Waits until no other daemon is starting.
///
/// # Errors
/// /run/mydisks cannot be made; `EAGAIN` if another one does not come to the end of its start.
pub(super) fn wait() -> io::Result<Starting> {
    control::make_directory()?;
    let file = File::create(Path::new(control::DIRECTORY).join("starting"))?;
    let deadline = Instant::now() + PATIENCE;
    loop {
        match flock(&file, FlockOperation::NonBlockingLockExclusive) {
            Ok(()) => return Ok(Starting(file)),
            Err(Errno::AGAIN) if Instant::now() < deadline => thread::sleep(PAUSE),
            Err(errno) => return Err(errno.into()),
        }
    }
}
