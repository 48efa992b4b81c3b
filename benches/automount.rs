//! autofs, to compare with: an `automount` with maps of its own.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::process::CommandExt;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};

use rustix::process::{Pid, Signal, kill_process};

use crate::Outcome;
use crate::place::{Place, wait_until};

/// What answers the question where a name's disk is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Map {
    /// A program, run at each access: a shell script that prints one line.
    Program,
    /// A file.
    File,
}

/// An `automount` that serves one directory.
pub(crate) struct Automount {
    child: Child,
    pub(crate) directory: PathBuf,
    _place: Place,
}

impl Automount {
    /// Each name in its directory means `location` (`-fstype=… :/dev/…`, autofs(5)).
    pub(crate) fn start(map: Map, location: &str) -> Outcome<Self> {
        let place = Place::new()?;
        let (master, file) = (place.path().join("auto.master"), place.path().join("auto.bench"));
        let directory = place.directory("mnt")?;
        let (text, mode, kind) = match map {
            Map::Program => (format!("#!/bin/sh\necho '{location}'\n"), 0o755, "program"),
            Map::File => (format!("disk {location}\n"), 0o644, "file"),
        };
        fs::write(&file, text)?;
        fs::set_permissions(&file, fs::Permissions::from_mode(mode))?;
        fs::write(&master, format!("{} {kind}:{}\n", directory.display(), file.display()))?;
        // A session of its own: what is in its process group is served no mounts.
        let child = Command::new("/usr/bin/setsid")
            .arg0("setsid")
            .args(["/usr/sbin/automount", "--foreground", "--dont-check-daemon", "--timeout", "600"])
            .arg("--pid-file")
            .arg(place.path().join("pid"))
            .arg(&master)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()?;
        let mut automount = Self { child, directory, _place: place };
        automount.wait()?;
        Ok(automount)
    }

    fn wait(&mut self) -> Outcome {
        let point = self.directory.to_str().ok_or("not UTF-8")?.to_owned();
        wait_until("automount to serve", || {
            if let Some(status) = self.child.try_wait()? {
                return Err(format!("automount ended with {status}").into());
            }
            let table = fs::read_to_string("/proc/self/mountinfo")?;
            let mut points = table.lines().filter(|line| line.contains(" - autofs "));
            Ok(points.any(|line| line.split(' ').nth(4) == Some(&point)))
        })
    }
}

impl Drop for Automount {
    fn drop(&mut self) {
        let _ = kill_process(Pid::from_child(&self.child), Signal::TERM);
        let _ = self.child.wait();
    }
}
