//! How a key is written: numbers are renamed in the order in which they are met, moments are counted from now. Knows
//! nothing of what it writes.

use std::time::{Duration, Instant};

/// All of a state that matters. Equal keys: whatever happens next, the same comes of it.
pub(in crate::core) type Key = Box<[u8]>;

pub(in crate::core) struct Writer {
    now: Instant,
    /// Met so far, of requests, disks, mounts, mappings and runs: one counter gives them all.
    numbers: Vec<u64>,
    bytes: Vec<u8>,
}

impl Writer {
    pub(super) fn new(now: Instant) -> Self {
        Self { now, numbers: Vec::new(), bytes: Vec::with_capacity(128) }
    }

    pub(super) fn key(self) -> Key {
        self.bytes.into()
    }

    pub(in crate::core) fn put(&mut self, value: usize) {
        self.bytes.push(byte(value));
    }

    pub(in crate::core) fn flag(&mut self, flag: bool) {
        self.bytes.push(flag.into());
    }

    pub(super) fn bytes(&mut self, bytes: &[u8]) {
        self.bytes.extend_from_slice(bytes);
    }

    pub(in crate::core) fn number(&mut self, number: u64) {
        let known = self.numbers.iter().position(|&known| known == number);
        let name = known.unwrap_or_else(|| {
            self.numbers.push(number);
            self.numbers.len() - 1
        });
        self.put(name);
    }

    /// A text that does not change, and perhaps a number after it that does.
    pub(in crate::core) fn name(&mut self, name: &str) {
        let text = name.trim_end_matches(|last: char| last.is_ascii_digit());
        self.put(text.len());
        self.bytes.extend_from_slice(text.as_bytes());
        let number = name[text.len()..].parse().ok();
        self.flag(number.is_some());
        number.into_iter().for_each(|number| self.number(number));
    }

    pub(in crate::core) fn time(&mut self, time: Duration) {
        self.put(quarters(time));
    }

    /// What is due is due, however long.
    pub(in crate::core) fn moment(&mut self, at: Option<Instant>) {
        self.flag(at.is_some());
        if let Some(at) = at {
            self.time(at.saturating_duration_since(self.now));
        }
    }
}

/// Few enough of them to fit.
pub(super) fn byte(number: usize) -> u8 {
    u8::try_from(number).expect("a small number")
}

/// Time passes in quarters of a second.
pub(super) fn quarters(time: Duration) -> usize {
    assert_eq!(time.as_nanos() % 250_000_000, 0, "{time:?}");
    usize::try_from(time.as_millis() / 250).expect("a short time")
}
