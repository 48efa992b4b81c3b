//! A random mix of plugs, pulls, accesses, writes, commands and kills, against a model that knows what must hold. The
//! runner outside prints the seed; with `LAB_MIX_SEED` the same decisions are made again, `LAB_MIX_SECONDS` says how long.

mod model;
mod visit;

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::{Child, Stdio};
use std::sync::mpsc::{self, Receiver};
use std::thread;
use std::time::{Duration, Instant};

use super::{Scenario, host_disks, scenarios};
use crate::daemon::{self, BINARY, MOUNTPOINT};
use crate::disks::{Filesystem, Lock, Recipe};
use crate::lab::Lab;
use crate::program::{Finished, Program};
use crate::qmp::Plugged;
use crate::report::{self, Line};
use crate::wait::{self, PATIENCE};
use crate::{Outcome, mounts};
use model::{Access, DISKS, Model, NAMES, Random, Result};
use visit::Intent;

/// How long it takes unless told otherwise, in seconds.
const SECONDS: u64 = 30;
/// Between two rests, at which everything must be locked.
const SPELL: Duration = Duration::from_secs(25);
const KEY: &[u8] = b"correct horse battery staple\n";

pub(crate) const SCENARIOS: &[Scenario] = scenarios![within 7200 s:
    self::whatever_happens_an_access_gets_a_right_disk_or_a_fitting_error,
];

/// What the machine must be told: the variables as they are set outside, or what stands in for them.
pub(crate) fn settings() -> Vec<String> {
    let or = |name: &str, value: u64| std::env::var(name).unwrap_or_else(|_| value.to_string());
    let now = std::time::SystemTime::UNIX_EPOCH.elapsed().map_or(0, |since| u64::from(since.subsec_nanos()));
    vec![
        format!("LAB_MIX_SEED={}", or("LAB_MIX_SEED", now)),
        format!("LAB_MIX_SECONDS={}", or("LAB_MIX_SECONDS", SECONDS)),
    ]
}

fn whatever_happens_an_access_gets_a_right_disk_or_a_fitting_error(lab: &mut Lab) -> Outcome {
    let setting = |name: &str| -> Outcome<u64> { Ok(std::env::var(name)?.parse()?) };
    let (seed, seconds) = (setting("LAB_MIX_SEED")?, setting("LAB_MIX_SECONDS")?);
    let say = |share: &Path, what: &str| {
        let text = format!("mix: LAB_MIX_SEED={seed} LAB_MIX_SECONDS={seconds}{what}");
        report::write(share, &Line::Said { text })
    };
    say(&lab.share, "")?;
    let mut mix = Mix::new(lab, seed)?;
    let end = Instant::now() + Duration::from_secs(seconds);
    let result = mix.run(end);
    let (done, at_rests) = (mix.model.summary(), &mix.at_rests);
    say(&mix.lab.share, &format!(": {done}; files and threads of the daemon at each rest: {at_rests:?}"))?;
    result
}

struct Mix<'a> {
    lab: &'a mut Lab,
    random: Random,
    model: Model,
    /// The image of each disk, and its plug.
    disks: Vec<(PathBuf, Option<Plugged>)>,
    accesses: Vec<(Access, Receiver<Result>)>,
    held: Vec<File>,
    umounts: Vec<(Instant, Receiver<Outcome<Finished>>)>,
    callers: Vec<(Child, Instant)>,
    /// Mounts, mappings, loop devices and processes before all.
    at_start: Vec<String>,
    /// Open files and threads of the daemon at each rest.
    at_rests: Vec<(usize, usize)>,
}

impl<'a> Mix<'a> {
    fn new(lab: &'a mut Lab, seed: u64) -> Outcome<Self> {
        let mut disks = Vec::new();
        for disk in &DISKS {
            let mut recipe = Recipe::plain(Filesystem::Ext4).file(disk.file, "0");
            if disk.encrypted {
                recipe = recipe.locked(Lock::Luks2, KEY);
            }
            disks.push((lab.disk(&recipe)?, None));
        }
        let key = daemon::write_key("backup.key", KEY)?;
        let mut config = format!(
            "mountpoint = {MOUNTPOINT:?}\n[defaults]\nidle-timeout = \"2s\"\naccess-timeout = \"40s\"\n"
        );
        for name in NAMES {
            let ids: Vec<&str> = name.disks.iter().map(|&disk| DISKS[disk].serial).collect();
            config += &format!("[mounts.{}]\ndisks = {ids:?}\n", name.name);
            if name.encrypted {
                config += &format!("key-file = {key:?}\n");
            }
        }
        lab.start(&config)?;
        let at_start = lab.leftovers(false);
        Ok(Self {
            lab,
            random: Random(seed),
            model: Model::default(),
            disks,
            accesses: Vec::new(),
            held: Vec::new(),
            umounts: Vec::new(),
            callers: Vec::new(),
            at_start,
            at_rests: Vec::new(),
        })
    }

    fn run(&mut self, end: Instant) -> Outcome {
        while Instant::now() < end {
            let spell = end.min(Instant::now() + SPELL);
            while Instant::now() < spell {
                self.act()?;
                self.look()?;
                let pause = Duration::from_millis([0, 10, 100, 700][self.random.below(4)]);
                thread::sleep(pause);
            }
            self.rest()?;
        }
        Ok(())
    }

    /// Something happens.
    fn act(&mut self) -> Outcome {
        let name = self.random.below(NAMES.len());
        match self.random.below(20) {
            0..=2 => self.plug()?,
            3..=4 => self.pull()?,
            5..=10 => self.access(name, Intent::Read),
            11..=13 => {
                let number = self.model.next_number();
                self.access(name, Intent::Write(number));
            }
            14 => self.access(name, Intent::Hold),
            15 => self.held.clear(),
            16..=17 => self.umount(name),
            _ => self.start_a_caller_to_kill(name)?,
        }
        Ok(())
    }

    fn plug(&mut self) -> Outcome {
        let disk = self.random.below(DISKS.len());
        if self.disks[disk].1.is_none() {
            self.model.plugs(disk);
            let backing = self.disks[disk].0.clone();
            self.disks[disk].1 = Some(self.lab.plug(&backing, DISKS[disk].serial)?);
            self.model.plugged(disk);
        }
        Ok(())
    }

    fn pull(&mut self) -> Outcome {
        let disk = self.random.below(DISKS.len());
        if let Some(plugged) = self.disks[disk].1.take() {
            self.model.pulls(disk);
            self.lab.pull(&plugged)?;
            self.model.pulled(disk);
        }
        Ok(())
    }

    fn access(&mut self, name: usize, intent: Intent) {
        let access = self.model.access(name, intent, false);
        self.start(access, name);
    }

    /// On a thread of its own, so that an access that hangs is told.
    fn start(&mut self, access: Access, name: usize) {
        let (sender, result) = mpsc::channel();
        let intent = access.intent;
        thread::spawn(move || sender.send(visit::visit(NAMES[name].name, intent)));
        self.accesses.push((access, result));
    }

    fn umount(&mut self, name: usize) {
        let (sender, result) = mpsc::channel();
        thread::spawn(move || sender.send(Program::new(BINARY).args(["umount", NAMES[name].name]).finish()));
        self.umounts.push((Instant::now(), result));
    }

    fn start_a_caller_to_kill(&mut self, name: usize) -> Outcome {
        let mut command = Program::new("ls").arg(host_disks::name(NAMES[name].name)).command()?;
        let child = command.stdout(Stdio::null()).stderr(Stdio::null()).spawn()?;
        let life = Duration::from_millis(self.random.below(400) as u64);
        self.callers.push((child, Instant::now() + life));
        Ok(())
    }

    /// What has come of everything that was begun.
    fn look(&mut self) -> Outcome {
        for (access, receiver) in std::mem::take(&mut self.accesses) {
            match receiver.try_recv() {
                Ok(result) => {
                    self.model.check(&access, &result)?;
                    self.held.extend(result.ok().and_then(|sight| sight.held));
                }
                Err(_) if access.started.elapsed() < 3 * PATIENCE => self.accesses.push((access, receiver)),
                Err(_) => return Err(format!("an access hangs: {access:?}").into()),
            }
        }
        for (started, receiver) in std::mem::take(&mut self.umounts) {
            match receiver.try_recv() {
                Ok(finished) => self.check_umount(&finished?)?,
                Err(_) if started.elapsed() < 3 * PATIENCE => self.umounts.push((started, receiver)),
                Err(_) => return Err("umount hangs".into()),
            }
        }
        for (mut child, dies) in std::mem::take(&mut self.callers) {
            if dies <= Instant::now() {
                child.kill()?;
                wait::until("a killed caller to go", PATIENCE, || child.try_wait().ok().flatten())?;
                self.model.count("killed");
            } else {
                self.callers.push((child, dies));
            }
        }
        Ok(())
    }

    fn check_umount(&mut self, finished: &Finished) -> Outcome {
        let is_done = finished.code == Some(0);
        self.model.count(if is_done { "umount" } else { "umount refused" });
        let is_said = is_done || !finished.stderr.is_empty();
        if is_said { Ok(()) } else { Err(format!("umount: {finished:?}").into()) }
    }

    /// Nobody does anything: everything must be answered, unmounted and locked, and nothing be left.
    fn rest(&mut self) -> Outcome {
        self.wait_for_answers()?;
        self.held.clear();
        wait::until_true("everything to be locked", 2 * PATIENCE, || {
            mounts::mappings().is_empty() && !NAMES.iter().any(|name| host_disks::is_mounted(name.name))
        })?;
        self.model.count("rest");
        self.nothing_leaks()?;
        // Who comes now gets the first disk that is there, and ENOMEDIUM if there is none.
        for name in 0..NAMES.len() {
            self.wait_until_it_is_known_what_is_there(name)?;
            let access = self.model.access(name, Intent::Read, true);
            self.start(access, name);
        }
        self.wait_for_answers()
    }

    fn wait_for_answers(&mut self) -> Outcome {
        wait::until("everybody to be answered", 4 * PATIENCE, || match self.look() {
            Ok(()) => {
                let is_all = self.accesses.is_empty() && self.umounts.is_empty() && self.callers.is_empty();
                is_all.then_some(Ok(()))
            }
            Err(error) => Some(Err(error)),
        })?
    }

    fn wait_until_it_is_known_what_is_there(&self, name: usize) -> Outcome {
        let serial = self.model.first_disk(name).map(|disk| DISKS[disk].serial);
        let name = NAMES[name].name;
        wait::until_true(&format!("the status of {name} to show {serial:?}"), PATIENCE, || {
            host_disks::status_of(name).is_ok_and(|status| status["id"].as_str() == serial)
        })
    }

    fn nothing_leaks(&mut self) -> Outcome {
        let what_is_there = || self.lab.leftovers(false);
        let same = wait::until_true("what was not there before to go", PATIENCE, || {
            what_is_there() == self.at_start
        });
        same.map_err(|error| format!("{error}: {:?} instead of {:?}", what_is_there(), self.at_start))?;
        let pid = *daemon::processes().first().ok_or("the daemon has died")?;
        let count = |what: &str| fs::read_dir(format!("/proc/{pid}/{what}")).map_or(0, Iterator::count);
        let now = || (count("fd"), count("task"));
        let (files, threads) = *self.at_rests.first().unwrap_or(&(usize::MAX, usize::MAX));
        let same = wait::until_true("the daemon's files and threads to go", PATIENCE, || {
            let now = now();
            now.0 <= files && now.1 <= threads
        });
        self.at_rests.push(now());
        same.map_err(|error| format!("{error}: {:?}", self.at_rests).into())
    }
}
