//! Faults by strace(1), `--inject`: one call of one thread fails or is delayed. Knows nothing of the daemon.

use std::fmt;
use std::fs;
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};
use tempfile::TempDir;

use crate::disk_fixture::PATIENCE;

/// What is to happen to a system call.
pub(crate) struct Fault {
    call: String,
    what: String,
}

impl Fault {
    /// The `when`th call fails.
    pub(crate) fn error(call: &str, error: &str, when: u32) -> Self {
        Self { call: call.to_owned(), what: format!("error={error}:when={when}") }
    }

    pub(crate) fn error_is(&self, error: &str) -> bool {
        self.what.starts_with(&format!("error={error}:"))
    }

    /// The `when`th call begins late.
    pub(crate) fn hang(call: &str, when: u32, span: Duration) -> Self {
        Self { call: call.to_owned(), what: format!("delay_enter={}:when={when}", span.as_micros()) }
    }
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.call, self.what)
    }
}

/// A strace that watches one thread.
pub(crate) struct Tracer {
    child: Child,
    directory: TempDir,
}

impl Tracer {
    /// Returns when the thread is watched.
    pub(crate) fn attach(thread: u32, fault: Option<&Fault>) -> Self {
        let directory = tempfile::tempdir().unwrap();
        let messages = fs::File::create(directory.path().join("messages")).unwrap();
        let mut command = Command::new("strace");
        command.arg("-o").arg(directory.path().join("calls")).args(["-p", &thread.to_string()]);
        if let Some(fault) = fault {
            command.arg(format!("--trace={}", fault.call)).arg(format!("--inject={fault}"));
        }
        let child = command.stdin(Stdio::null()).stderr(messages).spawn();
        let child = child.unwrap_or_else(|error| panic!("strace: {error}: run \"make deps\""));
        let mut tracer = Self { child, directory };
        let deadline = Instant::now() + PATIENCE;
        while !tracer.read("messages").contains(" attached") {
            if let Some(status) = tracer.child.try_wait().unwrap() {
                panic!("strace cannot attach, {status}: {}", tracer.read("messages"));
            }
            assert!(Instant::now() < deadline, "strace does not attach: {}", tracer.read("messages"));
            thread::sleep(Duration::from_millis(2));
        }
        tracer
    }

    /// The calls that were seen until now.
    pub(crate) fn calls(&self) -> String {
        self.read("calls")
    }

    /// Lets the thread go; the calls that were seen.
    pub(crate) fn detach(mut self) -> String {
        self.end();
        self.calls()
    }

    fn end(&mut self) {
        // Gone already if its thread is.
        let _ = kill_process(Pid::from_child(&self.child), Signal::INT);
        let _ = self.child.wait();
    }

    fn read(&self, file: &str) -> String {
        fs::read_to_string(self.directory.path().join(file)).unwrap_or_default()
    }
}

impl Drop for Tracer {
    fn drop(&mut self) {
        // After a failure: nothing else ends it.
        if matches!(self.child.try_wait(), Ok(None)) {
            self.end();
        }
    }
}
