//! What one request through the FUSE root costs: from the caller through kernel, pump and daemon, and back.

use std::time::{Duration, Instant};

use rustix::fs::{Access, AtFlags, CWD, accessat};

use crate::Outcome;
use crate::daemon::Daemon;
use crate::figures::{Samples, line};
use crate::many_names;

const ROUNDS: usize = 31;
const BATCH: u32 = 200;

pub(crate) fn run() -> Outcome {
    println!("a request");
    let daemon = Daemon::start(&many_names::config(3))?;
    line(
        "access(2) of the root, one request",
        time(|| Ok(accessat(CWD, &daemon.mountpoint, Access::READ_OK, AtFlags::empty())?))?,
    );
    line("reading .status/summary, five requests", time(|| daemon.status("summary").map(drop))?);
    Ok(())
}

/// The mean of a batch, many times.
fn time(what: impl Fn() -> Outcome) -> Outcome<Samples> {
    let mut samples = Samples::default();
    for _ in 0..ROUNDS {
        let start = Instant::now();
        for _ in 0..BATCH {
            what()?;
        }
        samples.add(Duration::from_secs_f64(start.elapsed().as_secs_f64() / f64::from(BATCH)));
    }
    Ok(samples)
}
