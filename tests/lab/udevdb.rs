//! What udev knows, asked through udevadm: a second opinion that shares no code with the program under test.

use std::collections::BTreeMap;
use std::io::{BufRead, BufReader};
use std::process::{Child, Stdio};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;

use crate::Outcome;
use crate::program::Program;
use crate::wait::{self, PATIENCE};

/// The properties of a device or of an event.
pub(crate) type Properties = BTreeMap<String, String>;

/// The properties of the block device `name` (`sda1`).
pub(crate) fn of_block(name: &str) -> Outcome<Properties> {
    let path = format!("--path=/sys/class/block/{name}");
    let text = Program::new("udevadm").args(["info", "--query=property"]).arg(path).ok()?;
    Ok(text.lines().filter_map(property).collect())
}

/// Waits until udev has handled all events.
pub(crate) fn settle() -> Outcome {
    Program::new("udevadm").args(["settle", "--timeout=60"]).ok().map(drop)
}

/// Records udev's events from its start to its end.
pub(crate) struct Recorder {
    monitor: Child,
    events: Arc<Mutex<Vec<Properties>>>,
}

impl Recorder {
    /// Listens to the events that udev has processed; returns when it does listen.
    pub(crate) fn start() -> Outcome<Recorder> {
        let mut command = Program::new("udevadm").args(["monitor", "--udev", "--property"]).command()?;
        let mut monitor = command.stdout(Stdio::piped()).spawn()?;
        let output = BufReader::new(monitor.stdout.take().ok_or("no pipe from udevadm")?);
        let events = Arc::new(Mutex::new(vec![Properties::new()]));
        let (ready, listening) = std::sync::mpsc::channel();
        let seen = Arc::clone(&events);
        thread::spawn(move || {
            for line in output.split(b'\n').map_while(Result::ok) {
                let line = String::from_utf8_lossy(&line);
                if line.starts_with("UDEV - the event") {
                    let _ = ready.send(());
                }
                let mut events = seen.lock().unwrap_or_else(PoisonError::into_inner);
                match property(&line) {
                    Some((key, value)) => {
                        if let Some(last) = events.last_mut() {
                            last.insert(key, value);
                        }
                    }
                    None => events.push(Properties::new()),
                }
            }
        });
        listening.recv_timeout(PATIENCE).map_err(|_| "udevadm monitor does not start")?;
        Ok(Recorder { monitor, events })
    }

    /// Waits for an event that has all these properties.
    pub(crate) fn expect(&self, wanted: &[(&str, &str)]) -> Outcome<Properties> {
        wait::until(&format!("a udev event with {wanted:?}"), PATIENCE, || {
            let events = self.events.lock().unwrap_or_else(PoisonError::into_inner);
            // The last one may still be growing.
            let complete = events.len().saturating_sub(1);
            let matches = |event: &&Properties| {
                wanted.iter().all(|(key, value)| event.get(*key).is_some_and(|found| found == value))
            };
            events[..complete].iter().find(matches).cloned()
        })
    }
}

impl Drop for Recorder {
    fn drop(&mut self) {
        let _ = self.monitor.kill();
        let _ = self.monitor.wait();
    }
}

fn property(line: &str) -> Option<(String, String)> {
    let (key, value) = line.split_once('=')?;
    let is_key = key.bytes().all(|byte| byte.is_ascii_uppercase() || byte.is_ascii_digit() || byte == b'_');
    (is_key && !key.is_empty()).then(|| (key.to_owned(), value.to_owned()))
}
