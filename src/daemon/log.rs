//! Where the log goes: standard error in the foreground; the system's log otherwise, by the datagram protocol of
//! syslog(3), which journald listens to as well.

use std::io;
use std::os::unix::net::UnixDatagram;

use tracing::Level;
use tracing_subscriber::fmt::MakeWriter;

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

/// From here on everything is logged there. Only the first call has an effect.
pub fn start_logging(target: LogTarget) {
    let format = tracing_subscriber::fmt().with_target(false).with_ansi(false).with_max_level(Level::INFO);
    let set = match target {
        LogTarget::Stderr => tracing::subscriber::set_global_default(format.with_writer(io::stderr).finish()),
        LogTarget::System => {
            let format = format.without_time().with_level(false).with_writer(System);
            tracing::subscriber::set_global_default(format.finish())
        }
    };
    // An earlier call has set one; that one stays.
    let _ = set;
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
