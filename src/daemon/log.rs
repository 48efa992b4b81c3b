//! Where the log goes: standard error in the foreground; the system's log otherwise, by the datagram protocol of
//! syslog(3), which journald listens to as well.

use std::io::{self, Write};
use std::os::unix::net::UnixDatagram;
use std::thread;
use std::time::Duration;

use crossbeam_channel::{Sender, bounded};
use tracing::Level;
use tracing_subscriber::fmt::MakeWriter;

use super::signals;

/// Where to log.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LogTarget {
    /// Standard error, with times.
    Stderr,
    /// /dev/log
    System,
}

impl LogTarget {
    /// That of a daemon in the foreground: standard error, unless that leads to the journal anyway, where times and
    /// levels have places of their own (`JOURNAL_STREAM`, systemd.exec(5)).
    pub fn of_foreground() -> Self {
        let stream = std::env::var("JOURNAL_STREAM").unwrap_or_default();
        match rustix::fs::fstat(rustix::stdio::stderr()) {
            Ok(stat) if stream == format!("{}:{}", stat.st_dev, stat.st_ino) => Self::System,
            _ => Self::Stderr,
        }
    }
}

/// A log that was started. When it is dropped, what waits is written, if that can be done soon.
#[must_use]
pub struct Logging(Option<Sender<Line>>);

/// From here on everything is logged there. Only the first call has an effect.
pub fn start_logging(target: LogTarget) -> Logging {
    let format = tracing_subscriber::fmt().with_target(false).with_ansi(false).with_max_level(Level::INFO);
    let (set, lines) = match target {
        LogTarget::Stderr => {
            let lines = write_to_stderr();
            let format = format.with_writer(Stderr(lines.clone()));
            (tracing::subscriber::set_global_default(format.finish()), Some(lines))
        }
        LogTarget::System => {
            let format = format.without_time().with_level(false).with_writer(System);
            (tracing::subscriber::set_global_default(format.finish()), None)
        }
    };
    // An earlier call has set one; that one stays.
    let _ = set;
    Logging(lines)
}

impl Drop for Logging {
    fn drop(&mut self) {
        let Some(lines) = &self.0 else { return };
        let (written, all_written) = bounded(1);
        if lines.send_timeout(Line::Mark(written), PATIENCE).is_ok() {
            let _ = all_written.recv_timeout(PATIENCE);
        }
    }
}

/// Lines that may wait to be written. More are dropped: they are in `.status/events` all the same.
const WAITING: usize = 1024;

/// How long the end waits for lines that were not written yet.
const PATIENCE: Duration = Duration::from_secs(1);

enum Line {
    Text(Vec<u8>),
    /// Everything before has been written.
    Mark(Sender<()>),
}

/// A thread writes, since nobody who logs may wait for a terminal that was stopped or a pipe that nobody reads.
fn write_to_stderr() -> Sender<Line> {
    // A thread that takes signals would have the process end by them.
    signals::block();
    let (sender, lines) = bounded(WAITING);
    let write = move || {
        for line in lines {
            match line {
                Line::Text(text) => drop(io::stderr().write_all(&text)),
                Line::Mark(written) => drop(written.send(())),
            }
        }
    };
    // Without a thread nothing is logged, but in `.status/events`.
    let _ = thread::Builder::new().name("log".into()).spawn(write);
    sender
}

struct Stderr(Sender<Line>);

/// One line, sent when it is dropped.
struct StderrLine {
    text: Vec<u8>,
    lines: Sender<Line>,
}

impl MakeWriter<'_> for Stderr {
    type Writer = StderrLine;

    fn make_writer(&self) -> StderrLine {
        StderrLine { text: Vec::new(), lines: self.0.clone() }
    }
}

impl io::Write for StderrLine {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.text.extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Drop for StderrLine {
    fn drop(&mut self) {
        let _ = self.lines.try_send(Line::Text(std::mem::take(&mut self.text)));
    }
}

struct System;

/// One message, sent when it is dropped.
struct Message {
    severity: u8,
    text: Vec<u8>,
}

impl MakeWriter<'_> for System {
    type Writer = Message;

    fn make_writer(&self) -> Message {
        Message { severity: 6, text: Vec::new() }
    }

    fn make_writer_for(&self, meta: &tracing::Metadata<'_>) -> Message {
        // RFC 5424, 6.2.1
        let severity = match *meta.level() {
            Level::ERROR => 3,
            Level::WARN => 4,
            Level::INFO => 6,
            _ => 7,
        };
        Message { severity, text: Vec::new() }
    }
}

impl io::Write for Message {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.text.extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Drop for Message {
    fn drop(&mut self) {
        // Facility 3: system daemons.
        let mut datagram =
            format!("<{}>mydisks[{}]: ", 3 * 8 + self.severity, std::process::id()).into_bytes();
        datagram.extend_from_slice(self.text.trim_ascii_end());
        // Without a system log, or with one that is stuck, the message is in `.status/events` all the same.
        let _ = UnixDatagram::unbound().and_then(|socket| {
            socket.set_nonblocking(true)?;
            socket.send_to(&datagram, "/dev/log")
        });
    }
}
