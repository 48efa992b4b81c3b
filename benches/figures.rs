//! Figures as they are printed: many measurements of one thing, and goals with what came of them.

use std::fmt;
use std::fs;
use std::time::Duration;

use crate::Outcome;

/// Measurements of one thing.
#[derive(Clone, Debug, Default)]
pub(crate) struct Samples(Vec<Duration>);

impl Samples {
    pub(crate) fn add(&mut self, sample: Duration) {
        self.0.push(sample);
        self.0.sort_unstable();
    }

    pub(crate) fn median(&self) -> Duration {
        self.quantile(1, 2)
    }

    /// So many parts of so many lie below it.
    fn quantile(&self, parts: usize, of: usize) -> Duration {
        self.0.get((self.0.len().saturating_sub(1)) * parts / of).copied().unwrap_or_default()
    }
}

impl fmt::Display for Samples {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        let [least, low, median, high] =
            [(0, 1), (1, 4), (1, 2), (3, 4)].map(|(parts, of)| milliseconds(self.quantile(parts, of)));
        write!(out, "{median:>8} ms  (quartiles {low} to {high}, least {least}, {} times)", self.0.len())
    }
}

/// Three digits that count.
pub(crate) fn milliseconds(duration: Duration) -> String {
    let value = duration.as_secs_f64() * 1e3;
    let digits = if value < 10.0 { 3 } else { 1 };
    format!("{value:.digits$}")
}

/// One line of a table.
pub(crate) fn line(what: &str, figure: impl fmt::Display) {
    println!("  {what:<52} {figure}");
}

/// A goal, what was measured, and whether it is met.
pub(crate) fn goal(what: &str, measured: impl fmt::Display, met: bool) {
    println!("  goal: {what}: {measured}: {}", if met { "met" } else { "MISSED" });
}

/// The machine that the figures are of.
pub(crate) fn surroundings() -> Outcome<String> {
    let kernel = fs::read_to_string("/proc/sys/kernel/osrelease")?;
    let memory = fs::read_to_string("/proc/meminfo")?;
    let memory: u64 = memory.split_whitespace().nth(1).ok_or("no MemTotal")?.parse()?;
    let load = fs::read_to_string("/proc/loadavg")?;
    let load: Vec<_> = load.split(' ').take(1).collect();
    let processors = std::thread::available_parallelism()?;
    Ok(format!(
        "Linux {}, {processors} processors, {} MiB; load {}",
        kernel.trim(),
        memory >> 10,
        load.concat()
    ))
}
