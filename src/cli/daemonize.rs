//! A mount in the background: the daemon is a new process of this program, in a session of its own, and the one
//! that was called ends when accesses are served, or with the daemon's first error on its terminal.

use std::io::{self, Read, Write};
use std::path::Path;
use std::process::{Command, Stdio};

use rustix::fs::{Mode, OFlags};

use super::utab;

/// What the daemon says when it serves.
const READY: &[u8] = b"ready\n";

/// Starts the daemon, returns when it serves and umount(8) knows of its helper.
///
/// # Errors
/// One sentence; none if the daemon has ended, which has said why on standard error.
pub(super) fn start(config: &Path, options: &str, mountpoint: &Path) -> Result<(), String> {
    let program = std::env::current_exe().map_err(|error| format!("cannot find this program: {error}"))?;
    let mut command = Command::new(program);
    command.arg("mount").arg("--detached").arg("--config").arg(config);
    if !options.is_empty() {
        command.arg("-o").arg(options);
    }
    command.arg(mountpoint);
    let mut child = command
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .spawn()
        .map_err(|error| format!("cannot start the daemon: {error}"))?;
    let mut said = Vec::new();
    if let Some(stdout) = child.stdout.take() {
        // The pipe ends when the daemon serves, or when it ends: whatever was read counts.
        let _ = stdout.take(READY.len() as u64).read_to_end(&mut said);
    }
    if said == READY {
        utab::register(mountpoint);
        return Ok(());
    }
    let status = child.wait().map_err(|error| format!("cannot wait for the daemon: {error}"))?;
    Err(if status.code().is_some() { String::new() } else { format!("the daemon has crashed ({status})") })
}

/// The daemon, before it serves: standard error is still the terminal's.
pub(super) struct Detached(());

/// Leaves the caller's session and directory.
///
/// # Errors
/// When the system refuses; it does not for a new process.
pub(super) fn detach() -> Result<Detached, String> {
    rustix::process::setsid().map_err(|error| format!("cannot leave the terminal's session: {error}"))?;
    rustix::process::chdir("/").map_err(|error| format!("cannot change to /: {error}"))?;
    Ok(Detached(()))
}

impl Detached {
    /// Tells the process that waits, and lets go of the terminal.
    pub(super) fn ready(self) {
        let mut stdout = io::stdout();
        // If it waits no longer, the mount is there all the same.
        let _ = stdout.write_all(READY).and_then(|()| stdout.flush());
        if let Ok(null) = rustix::fs::open("/dev/null", OFlags::RDWR | OFlags::CLOEXEC, Mode::empty()) {
            let _ = rustix::stdio::dup2_stdout(&null);
            let _ = rustix::stdio::dup2_stderr(&null);
        }
    }
}
