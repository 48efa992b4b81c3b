//! The part of the runner that runs in the machine: one scenario after another, each from a clean machine, each
//! under a watchdog, and a look for leaks after each.

use std::any::Any;
use std::fmt::Write as _;
use std::fs;
use std::panic::{self, AssertUnwindSafe};
use std::sync::mpsc::{self, RecvTimeoutError};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;
use std::time::Instant;

use crate::lab::Lab;
use crate::program::Program;
use crate::report::{self, Line};
use crate::scenarios::Scenario;
use crate::{Outcome, daemon};

/// The machine is no longer fit for another scenario: the runner outside boots a new one for the rest.
pub(crate) const SPOILT: i32 = 70;

/// Runs them all; an exit status.
pub(crate) fn run(scenarios: &[&'static Scenario]) -> Outcome<i32> {
    let place = record_panics();
    let mut lab = Lab::open()?;
    let share = lab.share.clone();
    for scenario in scenarios {
        report::write(&share, &Line::Started { scenario: scenario.name.to_owned() })?;
        Program::new("dmesg").arg("-C").ok()?;
        let start = Instant::now();
        let (back, result) = guarded(lab, scenario, &place);
        let seconds = start.elapsed().as_secs_f32();
        let error = result.err();
        let line = Line::Ended { scenario: scenario.name.to_owned(), seconds, error };
        report::write(&share, &line)?;
        match back {
            Some(clean) if clean.leftovers(true).is_empty() => lab = clean,
            _ => return Ok(SPOILT),
        }
    }
    Ok(0)
}

/// Runs one; the lab comes back unless the scenario hangs.
fn guarded(mut lab: Lab, scenario: &Scenario, place: &Mutex<String>) -> (Option<Lab>, Result<(), String>) {
    let (sender, receiver) = mpsc::channel();
    let run = scenario.run;
    thread::spawn(move || {
        let result = match panic::catch_unwind(AssertUnwindSafe(|| run(&mut lab))) {
            Ok(result) => result.map_err(|error| error.to_string()),
            Err(payload) => Err(panic_text(payload.as_ref())),
        };
        let evidence = result.as_ref().err().map(|_| evidence());
        let cleared = match panic::catch_unwind(AssertUnwindSafe(|| lab.clear())) {
            Ok(cleared) => cleared.map_err(|error| error.to_string()),
            Err(payload) => Err(panic_text(payload.as_ref())),
        };
        let _ = sender.send((lab, result, cleared, evidence));
    });
    match receiver.recv_timeout(scenario.limit) {
        Ok((lab, result, cleared, evidence)) => {
            let evidence = evidence.unwrap_or_default();
            let place = std::mem::take(&mut *place.lock().unwrap_or_else(PoisonError::into_inner));
            let result = match (result, cleared) {
                (Ok(()), Ok(())) => Ok(()),
                (Ok(()), Err(leak)) => Err(format!("{leak}\n{}", self::evidence())),
                (Err(error), Ok(())) => Err(format!("{error}{place}\n{evidence}")),
                (Err(error), Err(leak)) => Err(format!("{error}{place}\nand then: {leak}\n{evidence}")),
            };
            (Some(lab), result)
        }
        Err(RecvTimeoutError::Timeout) => {
            let limit = scenario.limit.as_secs();
            (None, Err(format!("not done after {limit} s\n{}{}", sleepers(), evidence())))
        }
        Err(RecvTimeoutError::Disconnected) => (None, Err("the scenario's thread has vanished".to_owned())),
    }
}

/// What a person needs who looks for the cause.
fn evidence() -> String {
    let kernel = Program::new("dmesg").ok().unwrap_or_default();
    let mut text = String::new();
    for (title, content, lines) in
        [("the daemon's log", daemon::log_text(), 80), ("the kernel's log", kernel, 25)]
    {
        let from = content.lines().count().saturating_sub(lines);
        let _ = writeln!(text, "--- {title}");
        for line in content.lines().skip(from) {
            let _ = writeln!(text, "{line}");
        }
    }
    text
}

/// Where uninterruptible tasks are stuck in the kernel.
fn sleepers() -> String {
    let mut text = String::new();
    for entry in fs::read_dir("/proc").into_iter().flatten().flatten() {
        let tasks = fs::read_dir(entry.path().join("task")).into_iter().flatten().flatten();
        for task in tasks {
            let stat = fs::read_to_string(task.path().join("stat")).unwrap_or_default();
            if stat.rsplit(") ").next().is_some_and(|rest| rest.starts_with('D')) {
                let stack = fs::read_to_string(task.path().join("stack")).unwrap_or_default();
                let _ = write!(text, "--- stuck: {stat}{stack}");
            }
        }
    }
    text
}

/// Keeps where the last panic was, for the report.
fn record_panics() -> Arc<Mutex<String>> {
    let place = Arc::new(Mutex::new(String::new()));
    let kept = Arc::clone(&place);
    panic::set_hook(Box::new(move |info| {
        let text = info.location().map(|at| format!(" ({}:{})", at.file(), at.line())).unwrap_or_default();
        *kept.lock().unwrap_or_else(PoisonError::into_inner) = text;
    }));
    place
}

fn panic_text(payload: &(dyn Any + Send)) -> String {
    let text = payload.downcast_ref::<String>().map(String::as_str);
    text.or_else(|| payload.downcast_ref::<&str>().copied()).unwrap_or("panic").to_owned()
}
