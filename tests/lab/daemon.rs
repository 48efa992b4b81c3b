//! Starts and stops the program under test, as a person would: through mount(8) and fstab, or by hand in the
//! foreground. Keeps what it says.

use std::fs::{self, File};
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::{Path, PathBuf};
use std::process::{Child, Stdio};

use rustix::process::{Pid, Signal, kill_process};

use crate::program::{Finished, Program};
use crate::wait::{self, PATIENCE};
use crate::{Outcome, mounts};

/// The program under test.
pub(crate) const BINARY: &str = env!("CARGO_BIN_EXE_mydisks");
/// Where it mounts, in every scenario.
pub(crate) const MOUNTPOINT: &str = "/mnt/mydisks";
/// Its configuration.
pub(crate) const CONFIG: &str = "/etc/mydisks/mydisks.toml";
const LOG: &str = "/run/lab-daemon.log";
const HELPERS: [&str; 4] = ["mount.mydisks", "umount.mydisks", "mount.fuse.mydisks", "umount.fuse.mydisks"];

/// A daemon that was started in the foreground of a process of ours.
pub(crate) struct Daemon {
    child: Child,
}

impl Daemon {
    /// Writes the configuration, starts it and waits until it serves accesses.
    pub(crate) fn start(config: &str) -> Outcome<Daemon> {
        write_config(config)?;
        Daemon::start_again()
    }

    /// The same with the configuration that is there.
    pub(crate) fn start_again() -> Outcome<Daemon> {
        make_mountpoint()?;
        let log = File::options().create(true).append(true).open(LOG)?;
        let mut command = Program::new(BINARY).args(["mount", "-f", "-c", CONFIG]).command()?;
        let child = command.stdout(Stdio::from(log.try_clone()?)).stderr(Stdio::from(log)).spawn()?;
        let mut daemon = Daemon { child };
        wait::until("the daemon to mount", PATIENCE, || {
            let ended = daemon.child.try_wait().ok().flatten();
            match ended {
                Some(status) => Some(Err(format!("the daemon ended at once with {status}: {}", log_text()))),
                // A dead root of a killed daemon is mounted too, but shows nothing.
                None => fs::read(Path::new(MOUNTPOINT).join(".status/summary")).is_ok().then_some(Ok(())),
            }
        })??;
        Ok(daemon)
    }

    /// Sends SIGTERM and gives the exit status.
    pub(crate) fn terminate(&mut self) -> Outcome<Option<i32>> {
        self.signal(Signal::TERM)?;
        self.ended()
    }

    /// Ends it unless it has ended.
    pub(crate) fn stop(&mut self) -> Outcome {
        if self.is_running() {
            self.terminate()?;
        }
        Ok(())
    }

    /// Sends a signal, waits for nothing.
    pub(crate) fn signal(&self, signal: Signal) -> Outcome {
        Ok(kill_process(Pid::from_child(&self.child), signal)?)
    }

    /// True while the process lives.
    pub(crate) fn is_running(&mut self) -> bool {
        matches!(self.child.try_wait(), Ok(None))
    }

    /// Waits for its end; the exit status.
    pub(crate) fn ended(&mut self) -> Outcome<Option<i32>> {
        let status = wait::until("the daemon to end", PATIENCE, || self.child.try_wait().ok().flatten())?;
        Ok(status.code())
    }
}

impl Drop for Daemon {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Writes [`CONFIG`] as root's and nobody else's.
pub(crate) fn write_config(config: &str) -> Outcome {
    fs::create_dir_all("/etc/mydisks")?;
    fs::write(CONFIG, config)?;
    Ok(fs::set_permissions(CONFIG, fs::Permissions::from_mode(0o600))?)
}

/// Writes a key file as it should be and gives its path.
pub(crate) fn write_key(name: &str, key: &[u8]) -> Outcome<PathBuf> {
    let path = Path::new("/etc/mydisks").join(name);
    fs::create_dir_all("/etc/mydisks")?;
    fs::write(&path, key)?;
    fs::set_permissions(&path, fs::Permissions::from_mode(0o400))?;
    Ok(path)
}

/// Puts the helpers where mount(8) and umount(8) look, as `make install` does, and the line into fstab.
pub(crate) fn install_fstab(options: &str) -> Outcome {
    for helper in HELPERS {
        let path = Path::new("/sbin").join(helper);
        let _ = fs::remove_file(&path);
        symlink(BINARY, path)?;
    }
    make_mountpoint()?;
    fs::write("/etc/fstab", format!("mydisks {MOUNTPOINT} mydisks {options} 0 0\n"))?;
    Ok(())
}

/// `mount /mnt/mydisks`; the helper's own diagnostics go to the log.
pub(crate) fn mount_by_fstab() -> Outcome<Finished> {
    let finished = Program::new("mount").arg(MOUNTPOINT).finish()?;
    let mut log = File::options().create(true).append(true).open(LOG)?;
    std::io::Write::write_all(&mut log, finished.stderr.as_bytes())?;
    Ok(finished)
}

/// Not `create_dir_all`, which wants to look into what may be a dead root.
pub(crate) fn make_mountpoint() -> Outcome {
    match fs::create_dir(MOUNTPOINT) {
        Err(error) if error.kind() != std::io::ErrorKind::AlreadyExists => Err(error.into()),
        _ => Ok(()),
    }
}

/// The FUSE root is there.
pub(crate) fn is_mounted() -> bool {
    mounts::at(Path::new(MOUNTPOINT))
        .is_ok_and(|mounts| mounts.iter().any(|mount| mount.filesystem == "fuse.mydisks"))
}

/// Everything the daemon has said in this scenario.
pub(crate) fn log_text() -> String {
    fs::read(LOG).map(|text| String::from_utf8_lossy(&text).into_owned()).unwrap_or_default()
}

/// Processes of the program under test, by their executable.
pub(crate) fn processes() -> Vec<i32> {
    let Ok(entries) = fs::read_dir("/proc") else { return Vec::new() };
    entries
        .flatten()
        .filter(|entry| fs::read_link(entry.path().join("exe")).is_ok_and(|exe| exe == Path::new(BINARY)))
        .filter_map(|entry| entry.file_name().to_str()?.parse().ok())
        .collect()
}

/// Ends what runs of it and takes its files away, so that the next scenario meets a fresh machine.
pub(crate) fn clear() -> Outcome {
    for process in processes() {
        if let Some(pid) = Pid::from_raw(process) {
            let _ = kill_process(pid, Signal::TERM);
        }
    }
    let gone = wait::until_true("the daemon to end on SIGTERM", PATIENCE / 4, || processes().is_empty());
    for process in processes() {
        if let Some(pid) = Pid::from_raw(process) {
            let _ = kill_process(pid, Signal::KILL);
        }
    }
    for helper in HELPERS {
        let _ = fs::remove_file(Path::new("/sbin").join(helper));
    }
    let _ = fs::remove_dir_all("/etc/mydisks");
    let _ = fs::remove_file(LOG);
    fs::write("/etc/fstab", "")?;
    gone
}
