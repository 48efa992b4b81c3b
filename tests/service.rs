//! The daemon as a service: when it says that it is ready, where it logs, and the unit file.
// In a test program a panic is the report.
#![allow(clippy::unwrap_used)]

use std::fs::{self, File};
use std::os::fd::OwnedFd;
use std::os::unix::fs::MetadataExt;
use std::os::unix::net::UnixDatagram;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process};

const BINARY: &str = env!("CARGO_BIN_EXE_mydisks");
const PATIENCE: Duration = Duration::from_secs(60);

/// A daemon in the foreground, which serves no disk, and the socket of its service manager.
struct Service {
    child: Child,
    manager: UnixDatagram,
    directory: tempfile::TempDir,
}

impl Service {
    fn start(environment: impl FnOnce(&File) -> Vec<(&'static str, String)>) -> Self {
        Self::logging_to(None, environment)
    }

    fn logging_to(
        stderr: Option<OwnedFd>,
        environment: impl FnOnce(&File) -> Vec<(&'static str, String)>,
    ) -> Self {
        let directory = tempfile::tempdir().unwrap();
        let path = |name: &str| directory.path().join(name);
        fs::create_dir(path("root")).unwrap();
        let config = format!("mountpoint = {:?}\n[mounts.backup]\ndisks = [\"absent\"]\n", path("root"));
        fs::write(path("mydisks.toml"), config).unwrap();
        let manager = UnixDatagram::bind(path("notify")).unwrap();
        manager.set_read_timeout(Some(PATIENCE)).unwrap();
        let log = File::create(path("log")).unwrap();
        let child = Command::new(BINARY)
            .args(["mount", "--foreground", "--config"])
            .arg(path("mydisks.toml"))
            .env("NOTIFY_SOCKET", path("notify"))
            .envs(environment(&log))
            .stdin(Stdio::null())
            .stderr(stderr.map_or_else(|| Stdio::from(log), Stdio::from))
            .spawn()
            .unwrap();
        Self { child, manager, directory }
    }

    /// What the service manager is told next.
    fn told(&self) -> String {
        let mut message = [0; 256];
        let length = self.manager.recv(&mut message).unwrap();
        String::from_utf8_lossy(&message[..length]).into_owned()
    }

    fn is_mounted(&self) -> bool {
        let root = self.directory.path().join("root");
        let table = fs::read_to_string("/proc/self/mountinfo").unwrap();
        table.lines().any(|line| line.split(' ').nth(4).is_some_and(|at| Path::new(at) == root))
    }

    fn log(&self) -> String {
        fs::read_to_string(self.directory.path().join("log")).unwrap()
    }

    fn end(&mut self) {
        kill_process(Pid::from_child(&self.child), Signal::TERM).unwrap();
        assert!(self.child.wait().unwrap().success());
        assert!(!self.is_mounted());
    }
}

impl Drop for Service {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
        let root = self.directory.path().join("root");
        let _ = rustix::mount::unmount(&root, rustix::mount::UnmountFlags::DETACH);
    }
}

#[test]
fn a_service_is_ready_when_accesses_are_served() {
    let mut service = Service::start(|_| Vec::new());
    assert_eq!(service.told().trim_end(), "READY=1");
    let name = service.directory.path().join("root/backup");
    let refused = fs::read_dir(name).unwrap_err();
    assert_eq!(refused.raw_os_error(), Some(rustix::io::Errno::NOMEDIUM.raw_os_error()));
    service.end();
    assert!(service.log().contains("absent is not attached"), "{}", service.log());
}

#[test]
fn standard_error_that_is_the_journal_gets_no_second_time_and_level() {
    let journal = |log: &File| {
        let stream = log.metadata().unwrap();
        vec![("JOURNAL_STREAM", format!("{}:{}", stream.dev(), stream.ino()))]
    };
    let mut service = Service::start(journal);
    service.told();
    let _ = fs::read_dir(service.directory.path().join("root/backup"));
    service.end();
    assert_eq!(service.log(), "", "all of it went to the system's log");
    let mut other = Service::start(|_| vec![("JOURNAL_STREAM", "1:1".to_owned())]);
    other.told();
    let _ = fs::read_dir(other.directory.path().join("root/backup"));
    other.end();
    assert_ne!(other.log(), "");
}

#[test]
fn a_log_that_nobody_reads_keeps_nobody_waiting() {
    let (reader, writer) = rustix::pipe::pipe_with(rustix::pipe::PipeFlags::CLOEXEC).unwrap();
    rustix::io::ioctl_fionbio(&writer, true).unwrap();
    while rustix::io::write(&writer, &[b'x'; 4096]).is_ok() {}
    while rustix::io::write(&writer, b"x").is_ok() {}
    rustix::io::ioctl_fionbio(&writer, false).unwrap();
    let mut service = Service::logging_to(Some(writer), |_| Vec::new());
    service.told();
    let refused = fs::read_dir(service.directory.path().join("root/backup")).unwrap_err();
    assert_eq!(refused.raw_os_error(), Some(rustix::io::Errno::NOMEDIUM.raw_os_error()));
    service.end();
    drop(reader);
}

#[test]
fn of_several_that_start_at_once_one_serves_and_the_others_say_so() {
    let directory = tempfile::tempdir().unwrap();
    let root = directory.path().join("root");
    fs::create_dir(&root).unwrap();
    let config = directory.path().join("mydisks.toml");
    fs::write(&config, format!("mountpoint = {root:?}\n")).unwrap();
    let start =
        || Command::new(BINARY).arg("mount").arg("-c").arg(&config).stderr(Stdio::piped()).spawn().unwrap();
    let all: Vec<Child> = (0..4).map(|_| start()).collect();
    let ended: Vec<_> = all.into_iter().map(|child| child.wait_with_output().unwrap()).collect();
    let table = fs::read_to_string("/proc/self/mountinfo").unwrap();
    let roots =
        table.lines().filter(|line| line.split(' ').nth(4).is_some_and(|at| Path::new(at) == root)).count();
    // As umount(8) does: the helper is the program under another name.
    let unmounted = Command::new(BINARY).arg0("umount.mydisks").arg(&root).status().unwrap();
    assert_eq!(roots, 1);
    assert_eq!(ended.iter().filter(|output| output.status.success()).count(), 1);
    for output in ended.iter().filter(|output| !output.status.success()) {
        let words = String::from_utf8_lossy(&output.stderr);
        assert!(words.contains("is mounted already"), "{words}");
    }
    assert!(unmounted.success());
}

#[test]
fn the_unit_file_is_one_that_systemd_accepts() {
    let unit = fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/config/mydisks.service")).unwrap();
    let binaries = Path::new(BINARY).parent().unwrap();
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("mydisks.service");
    fs::write(&file, unit.replace("@BINDIR@", binaries.to_str().unwrap())).unwrap();
    let verified = Command::new("systemd-analyze").args(["verify", "--man=no"]).arg(&file).output().unwrap();
    let words = String::from_utf8_lossy(&verified.stderr);
    assert!(verified.status.success() && !words.contains("mydisks.service"), "{words}");
}
