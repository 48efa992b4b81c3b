//! The part of the runner that a person starts: boots a machine per group of scenarios, prints a line for each as
//! it ends, and boots a new machine for the rest when one dies or is spoilt. No scenario is run twice.

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::thread;
use std::time::Duration;

use crate::Outcome;
use crate::report::{self, Line};
use crate::scenarios::{Group, Scenario, mix};

/// Boot and coldplug of an emulated machine on a busy host.
const BOOT: Duration = Duration::from_secs(180);

/// How many did what.
#[derive(Default)]
pub(crate) struct Tally {
    pub(crate) passed: usize,
    pub(crate) failed: usize,
}

/// Runs `scenarios`, all of `group`.
pub(crate) fn run(group: &Group, scenarios: &[&'static Scenario], tally: &mut Tally) -> Outcome {
    let mut rest = scenarios.to_vec();
    while !rest.is_empty() {
        let names = rest.iter().map(|scenario| scenario.name);
        let limit = BOOT + rest.iter().map(|scenario| scenario.limit).sum::<Duration>();
        let mut machine = Machine::boot(limit, ["--inside", group.name].into_iter().chain(names))?;
        let mut running = None;
        let mut ended = 0;
        let status = machine.watch(|line| match line {
            Line::Said { text } => println!("lab: {text}"),
            Line::Started { scenario } => running = Some(scenario),
            Line::Ended { scenario, seconds, error } => {
                running = None;
                ended += 1;
                rest.retain(|other| other.name != scenario);
                tally.print(&scenario, seconds, error);
            }
        })?;
        let verdict = machine.verdict(status);
        match running {
            Some(name) => {
                rest.retain(|other| other.name != name);
                tally.print(&name, 0.0, Some(format!("{verdict}\n{}", machine.console())));
            }
            None if ended == 0 => {
                let console = machine.console();
                for scenario in rest.drain(..) {
                    tally.print(scenario.name, 0.0, Some(format!("never started: {verdict}\n{console}")));
                }
            }
            None => {}
        }
    }
    Ok(())
}

/// Runs the narrated demonstration; true if it came to its end.
pub(crate) fn demo() -> Outcome<bool> {
    let mut machine = Machine::boot(BOOT * 2, ["--demo-inside"])?;
    let mut shown = 0;
    let status = machine.follow(|share| {
        let text = fs::read_to_string(share.join("demo")).unwrap_or_default();
        let complete = text.rfind('\n').map_or(0, |end| end + 1);
        print!("{}", &text[shown..complete]);
        shown = complete;
        Ok(())
    })?;
    if !status.success() {
        println!("demo: {}\n{}", machine.verdict(status), machine.console());
    }
    Ok(status.success())
}

impl Tally {
    fn print(&mut self, scenario: &str, seconds: f32, error: Option<String>) {
        match error {
            None => {
                self.passed += 1;
                println!("lab: {scenario} ... ok ({seconds:.1} s)");
            }
            Some(error) => {
                self.failed += 1;
                println!("lab: {scenario} ... FAILED ({seconds:.1} s)");
                for line in error.trim_end().lines() {
                    println!("    {line}");
                }
            }
        }
    }
}

/// A machine that runs this very program with other arguments.
struct Machine {
    child: Child,
    share: tempfile::TempDir,
    seen: usize,
}

impl Machine {
    fn boot<'a>(limit: Duration, arguments: impl IntoIterator<Item = &'a str>) -> Outcome<Machine> {
        let share = tempfile::Builder::new().prefix("mydisks-lab.").tempdir()?;
        let console = File::create(console_of(share.path()))?;
        let settings = mix::settings();
        let launcher = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/lab/vm.sh");
        let child = Command::new(&launcher)
            .arg("-t")
            .arg(limit.as_secs().to_string())
            .arg("env")
            .args(&settings)
            .arg(std::env::current_exe()?)
            .args(arguments)
            .env("LAB_SHARE", share.path())
            .stdin(Stdio::null())
            .stdout(console.try_clone()?)
            .stderr(console)
            .spawn()
            .map_err(|error| format!("{}: {error}", launcher.display()))?;
        Ok(Machine { child, share, seen: 0 })
    }

    /// Hands on what the machine reports until it is off.
    fn watch(&mut self, mut on_line: impl FnMut(Line)) -> Outcome<ExitStatus> {
        let mut seen = std::mem::take(&mut self.seen);
        self.follow(|share| {
            for line in report::read(share, seen)? {
                seen += 1;
                on_line(line);
            }
            Ok(())
        })
    }

    /// Calls `look` again and again, and once more after the machine's end.
    fn follow(&mut self, mut look: impl FnMut(&Path) -> Outcome) -> Outcome<ExitStatus> {
        loop {
            let status = self.child.try_wait()?;
            look(self.share.path())?;
            match status {
                Some(status) => return Ok(status),
                None => thread::sleep(Duration::from_millis(100)),
            }
        }
    }

    fn verdict(&self, status: ExitStatus) -> String {
        match status.code() {
            Some(2) => "the machine could not be started".to_owned(),
            Some(124) => "the machine ran out of time".to_owned(),
            Some(125) => "the machine died".to_owned(),
            _ => format!("the machine ended with {status}"),
        }
    }

    /// The last of what it printed.
    fn console(&self) -> String {
        let text = fs::read(console_of(self.share.path())).unwrap_or_default();
        let text = String::from_utf8_lossy(&text);
        let lines: Vec<&str> = text.lines().collect();
        format!("--- the machine's console\n{}", lines[lines.len().saturating_sub(40)..].join("\n"))
    }
}

impl Drop for Machine {
    fn drop(&mut self) {
        if let Ok(None) = self.child.try_wait() {
            // vm.sh ends its QEMU when it is told to end.
            let _ = rustix::process::kill_process(
                rustix::process::Pid::from_child(&self.child),
                rustix::process::Signal::TERM,
            );
            let _ = self.child.wait();
        }
    }
}

fn console_of(share: &Path) -> PathBuf {
    share.join("console")
}
