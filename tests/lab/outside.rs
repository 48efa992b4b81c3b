//! The part of the runner that a person starts: boots a machine per group of scenarios, prints a line for each as
//! it ends, and boots a new machine for the rest when one dies or is spoilt. No scenario is run twice.

use std::env;
use std::fs::{self, File};
use std::num::NonZeroUsize;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::{Mutex, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use crate::Outcome;
use crate::report::{self, Line};
use crate::scenarios::{Group, Init, Scenario, mix};

/// Boot and coldplug of an emulated machine on a busy host.
const BOOT: Duration = Duration::from_secs(120);
/// What a scenario that hangs is given beyond its limit, to report that itself and be cleared away.
const REPORT: Duration = Duration::from_secs(60);
/// Emulated processors were seen to block one another for ever in the kernel while the machine boots.
const BOOTS: u32 = 3;
/// At a time; $LAB_MACHINES is another number. On two processors a second machine makes each slower by half.
const MACHINES: NonZeroUsize = NonZeroUsize::MIN;

/// How many did what.
#[derive(Default)]
pub(crate) struct Tally {
    pub(crate) passed: usize,
    pub(crate) failed: usize,
}

/// A group, and those of its scenarios that are to be run.
type Chosen = (&'static Group, Vec<&'static Scenario>);

/// Runs them all; as many groups beside one another as there may be machines.
pub(crate) fn run(chosen: Vec<Chosen>) -> Outcome<Tally> {
    let machines = env::var("LAB_MACHINES").map_or(Ok(MACHINES), |number| number.parse())?;
    let tally = Mutex::new(Tally::default());
    let queue = Mutex::new(chosen.into_iter());
    let next = || queue.lock().unwrap_or_else(PoisonError::into_inner).next();
    let work = || -> Outcome {
        while let Some((group, scenarios)) = next() {
            run_group(group, scenarios, &tally)?;
        }
        Ok(())
    };
    thread::scope(|scope| -> Outcome {
        let workers: Vec<_> = (0..machines.get()).map(|_| scope.spawn(work)).collect();
        for worker in workers {
            worker.join().map_err(|_| "a thread of the runner has panicked")??;
        }
        Ok(())
    })?;
    Ok(tally.into_inner().unwrap_or_else(PoisonError::into_inner))
}

fn run_group(group: &Group, mut rest: Vec<&'static Scenario>, tally: &Mutex<Tally>) -> Outcome {
    let print = |scenario: &str, seconds, error| {
        let mut tally = tally.lock().unwrap_or_else(PoisonError::into_inner);
        tally.print(group, scenario, seconds, error);
    };
    let mut boots = 0;
    while !rest.is_empty() {
        let names = rest.iter().map(|scenario| scenario.name);
        let limit = BOOT + rest.iter().map(|scenario| scenario.limit).sum::<Duration>();
        let mut machine =
            Machine::boot(limit, group.init, ["--inside", group.name].into_iter().chain(names))?;
        let mut running = None;
        let mut ended = 0;
        let mut patience = BOOT;
        boots += 1;
        let status = machine.watch(|line| {
            match line {
                // A scenario that speaks is not done: it has its own limit still.
                Line::Said { text } => println!("lab: {text}"),
                Line::Started { scenario } => {
                    let limit = rest.iter().find(|one| one.name == scenario).map(|one| one.limit);
                    running = Some(scenario);
                    patience = limit.unwrap_or_default() + REPORT;
                }
                Line::Ended { scenario, seconds, error } => {
                    patience = BOOT;
                    running = None;
                    ended += 1;
                    boots = 0;
                    rest.retain(|other| other.name != scenario);
                    print(&scenario, seconds, error);
                }
            }
            patience
        })?;
        let verdict = machine.verdict(status);
        match running {
            Some(name) => {
                rest.retain(|other| other.name != name);
                print(&name, 0.0, Some(format!("{verdict}\n{}", machine.console())));
            }
            None if ended == 0 && machine.is_silent && boots < BOOTS => {
                println!("lab: booting another machine, no scenario had begun: {verdict}");
            }
            None if ended == 0 => {
                let console = machine.console();
                for scenario in rest.drain(..) {
                    print(scenario.name, 0.0, Some(format!("never started: {verdict}\n{console}")));
                }
            }
            None => {}
        }
    }
    Ok(())
}

/// Runs the narrated demonstration; true if it came to its end.
pub(crate) fn demo() -> Outcome<bool> {
    let mut machine = Machine::boot(BOOT * 2, Init::Bare, ["--demo-inside"])?;
    let mut shown = 0;
    let status = machine.follow(|share| {
        let text = fs::read_to_string(share.join("demo")).unwrap_or_default();
        let complete = text.rfind('\n').map_or(0, |end| end + 1);
        print!("{}", &text[shown..complete]);
        shown = complete;
        Ok(None)
    })?;
    if !status.success() {
        println!("demo: {}\n{}", machine.verdict(status), machine.console());
    }
    Ok(status.success())
}

impl Tally {
    fn print(&mut self, group: &Group, scenario: &str, seconds: f32, error: Option<String>) {
        let group = group.name;
        match error {
            None => {
                self.passed += 1;
                println!("lab: {group}::{scenario} ... ok ({seconds:.1} s)");
            }
            Some(error) => {
                self.failed += 1;
                println!("lab: {group}::{scenario} ... FAILED ({seconds:.1} s)");
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
    /// When it was last heard of, and how long it may be silent from then on.
    heard: Instant,
    patience: Duration,
    /// It has been ended because it was silent for longer.
    is_silent: bool,
}

impl Machine {
    fn boot<'a>(
        limit: Duration,
        init: Init,
        arguments: impl IntoIterator<Item = &'a str>,
    ) -> Outcome<Machine> {
        let share = tempfile::Builder::new().prefix("mydisks-lab.").tempdir()?;
        let console = File::create(console_of(share.path()))?;
        let settings = mix::settings();
        let launcher = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/lab/vm.sh");
        let mut append = env::var("LAB_APPEND").unwrap_or_default();
        if init == Init::Systemd {
            append.push_str(" lab.systemd");
        }
        // Killed, this program would leave it running for hours. The thread that begins it sees it end.
        let child = Command::new("setpriv")
            .args(["--pdeathsig", "TERM", "--"])
            .arg(&launcher)
            .arg("-t")
            .arg(limit.as_secs().to_string())
            .arg("env")
            .args(&settings)
            .arg(std::env::current_exe()?)
            .args(arguments)
            .env("LAB_SHARE", share.path())
            .env("LAB_APPEND", append)
            .stdin(Stdio::null())
            .stdout(console.try_clone()?)
            .stderr(console)
            .spawn()
            .map_err(|error| format!("{}: {error}", launcher.display()))?;
        Ok(Machine { child, share, heard: Instant::now(), patience: limit, is_silent: false })
    }

    /// Hands on what the machine reports until it is off. `on_line` says how long the next line may take.
    fn watch(&mut self, mut on_line: impl FnMut(Line) -> Duration) -> Outcome<ExitStatus> {
        let mut seen = 0;
        self.patience = BOOT;
        self.follow(|share| {
            let mut patience = None;
            for line in report::read(share, seen)? {
                seen += 1;
                patience = Some(on_line(line));
            }
            Ok(patience)
        })
    }

    /// Calls `look` again and again, and once more after the machine's end. It says when there was something new, and
    /// how long the machine may be silent after that.
    fn follow(&mut self, mut look: impl FnMut(&Path) -> Outcome<Option<Duration>>) -> Outcome<ExitStatus> {
        loop {
            let status = self.child.try_wait()?;
            if let Some(patience) = look(self.share.path())? {
                self.heard = Instant::now();
                self.patience = patience;
            }
            match status {
                Some(status) => return Ok(status),
                None if self.heard.elapsed() > self.patience => {
                    self.is_silent = true;
                    self.end();
                }
                None => thread::sleep(Duration::from_millis(100)),
            }
        }
    }

    /// vm.sh ends its QEMU when it is told to end.
    fn end(&mut self) {
        let _ = rustix::process::kill_process(
            rustix::process::Pid::from_child(&self.child),
            rustix::process::Signal::TERM,
        );
        let _ = self.child.wait();
    }

    fn verdict(&self, status: ExitStatus) -> String {
        match status.code() {
            _ if self.is_silent => format!("the machine was silent for {} s", self.patience.as_secs()),
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
            self.end();
        }
    }
}

fn console_of(share: &Path) -> PathBuf {
    share.join("console")
}
