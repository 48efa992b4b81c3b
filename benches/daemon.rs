//! The program under test, started as a person would: `mydisks mount`, in the background.

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant, SystemTime};

use rustix::process::{Pid, Signal, kill_process};

use crate::Outcome;
use crate::place::{Place, wait_until};

const BINARY: &str = env!("CARGO_BIN_EXE_mydisks");
const LOG: &str = "log";

/// A daemon that serves.
pub(crate) struct Daemon {
    pub(crate) pid: Pid,
    pub(crate) mountpoint: PathBuf,
    /// From the start of `mydisks mount` to its end.
    pub(crate) started_in: Duration,
    /// In the foreground, with a log in its directory.
    child: Option<Child>,
    place: Place,
}

impl Daemon {
    /// With this configuration, on a directory of its own.
    pub(crate) fn start(config: &str) -> Outcome<Self> {
        let place = Place::new()?;
        let (file, mountpoint) = (place.path().join("mydisks.toml"), place.directory("mnt")?);
        fs::write(&file, config)?;
        let start = Instant::now();
        let status = Command::new(BINARY)
            .args(["mount", "-c"])
            .args([&file, &mountpoint])
            .stdin(Stdio::null())
            .status()?;
        let started_in = start.elapsed();
        if !status.success() {
            return Err(format!("mydisks mount: {status}").into());
        }
        let pid = process(&file).ok_or("mydisks mount left no daemon")?;
        Ok(Self { pid, mountpoint, started_in, child: None, place })
    }

    /// The same in the foreground, whose log has times.
    pub(crate) fn start_logging(config: &str) -> Outcome<Self> {
        let place = Place::new()?;
        let (file, mountpoint) = (place.path().join("mydisks.toml"), place.directory("mnt")?);
        fs::write(&file, config)?;
        let start = Instant::now();
        let child = Command::new(BINARY)
            .args(["mount", "-f", "-c"])
            .args([&file, &mountpoint])
            .stdin(Stdio::null())
            .stderr(File::create(place.path().join(LOG))?)
            .spawn()?;
        let pid = Pid::from_child(&child);
        let mut daemon = Self { pid, mountpoint, started_in: Duration::ZERO, child: Some(child), place };
        wait_until("the daemon to serve", || Ok(daemon.status("summary").is_ok()))?;
        daemon.started_in = start.elapsed();
        Ok(daemon)
    }

    /// What it has said.
    pub(crate) fn log(&self) -> String {
        fs::read_to_string(self.place.path().join(LOG)).unwrap_or_default()
    }

    /// When it first said this after that moment.
    pub(crate) fn logged_after(&self, moment: Instant, what: &str) -> Outcome<Option<Instant>> {
        let (now, wall) = (Instant::now(), SystemTime::now());
        for line in self.log().lines().filter(|line| line.contains(what)) {
            let time = line.split(' ').next().unwrap_or_default();
            let ago = wall.duration_since(humantime::parse_rfc3339(time)?)?;
            let at = now.checked_sub(ago).filter(|at| *at > moment);
            if at.is_some() {
                return Ok(at);
            }
        }
        Ok(None)
    }

    /// Runs a command of the program that asks the daemon; it must succeed.
    pub(crate) fn command(&self, words: &[&str]) -> Outcome {
        let output = Command::new(BINARY).args(words).arg("--mountpoint").arg(&self.mountpoint).output()?;
        if output.status.success() {
            return Ok(());
        }
        let said = String::from_utf8_lossy(&output.stderr);
        Err(format!("mydisks {}: {}: {said}", words.join(" "), output.status).into())
    }

    /// A file of its directory in /proc.
    pub(crate) fn proc(&self, file: &str) -> PathBuf {
        Path::new("/proc").join(self.pid.as_raw_nonzero().to_string()).join(file)
    }

    /// The text of a status file.
    pub(crate) fn status(&self, file: &str) -> Outcome<String> {
        Ok(fs::read_to_string(self.mountpoint.join(".status").join(file))?)
    }

    /// Waits until a name that was mounted is closed, unlocked and free for the next access.
    pub(crate) fn wait_until_closed(&self, name: &str) -> Outcome {
        wait_until("the daemon to close a disk", || {
            let status: serde_json::Value = serde_json::from_str(&self.status("status.json")?)?;
            let mounts = status["mounts"].as_array().ok_or("no mounts in status.json")?;
            Ok(mounts.iter().any(|mount| mount["name"] == name && mount["state"] == "ready"))
        })
    }
}

impl Drop for Daemon {
    fn drop(&mut self) {
        let _ = kill_process(self.pid, Signal::CONT);
        let mut child = self.child.take();
        let mut gone = || match &mut child {
            Some(child) => Ok(child.try_wait()?.is_some()),
            None => Ok(!Path::new("/proc").join(self.pid.as_raw_nonzero().to_string()).exists()),
        };
        // A daemon that does not end is ended; `Place` takes away its mounts.
        let _ = kill_process(self.pid, Signal::TERM);
        if wait_until("the daemon to end", &mut gone).is_err() {
            let _ = kill_process(self.pid, Signal::KILL);
        }
    }
}

/// The process that was started with this configuration.
fn process(config: &Path) -> Option<Pid> {
    let config = config.to_str()?;
    fs::read_dir("/proc").ok()?.flatten().find_map(|entry| {
        let line = fs::read(entry.path().join("cmdline")).ok()?;
        let line = String::from_utf8_lossy(&line);
        let mut words = line.split('\0');
        (words.any(|word| word == config))
            .then(|| Pid::from_raw(entry.file_name().to_str()?.parse().ok()?))?
    })
}
