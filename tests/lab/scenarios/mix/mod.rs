//! A random mix of plugs, pulls, accesses, writes, commands and kills, against a model that knows what must hold. The
//! runner outside prints the seed; with `LAB_MIX_SEED` the same decisions are made again, `LAB_MIX_SECONDS` says how long.

mod model;

use std::fs::{self, File};
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Child, Stdio};
use std::sync::mpsc::{self, Receiver};
use std::thread;
use std::time::{Duration, Instant};

use super::{Scenario, host_disks};
use crate::daemon::{self, BINARY, MOUNTPOINT};
use crate::disks::{Filesystem, Lock, Recipe};
use crate::lab::Lab;
use crate::program::Program;
use crate::qmp::Plugged;
use crate::report::{self, Line};
use crate::wait::{self, PATIENCE};
use crate::{Outcome, mounts};
use model::{Access, DISKS, Model, NAMES, Random, Result};

/// How long it takes unless told otherwise, in seconds.
const SECONDS: u64 = 45;
/// Between two rests, at which everything must be locked.
const SPELL: Duration = Duration::from_secs(25);
const KEY: &[u8] = b"correct horse battery staple\n";

pub(crate) const SCENARIOS: &[Scenario] = &[Scenario {
    name: "whatever_happens_an_access_gets_a_right_disk_or_a_fitting_error",
    run: whatever_happens_an_access_gets_a_right_disk_or_a_fitting_error,
    limit: Duration::from_secs(7200),
}];

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
    say(&mix.lab.share, &format!(": {}", mix.model.summary()))?;
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
    callers: Vec<(Child, Instant)>,
    /// Open files and threads of the daemon at the first rest.
    at_rest: Option<(usize, usize)>,
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
        let random = Random(seed);
        let (accesses, held, callers) = (Vec::new(), Vec::new(), Vec::new());
        Ok(Self { lab, random, model: Model::default(), disks, accesses, held, callers, at_rest: None })
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
            5..=11 => self.access(name),
            12..=13 => self.write(name),
            14 => self.hold(name),
            15 => self.held.clear(),
            16..=17 => self.umount(name)?,
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

    fn access(&mut self, name: usize) {
        self.in_thread(self.model.access(name), move || {
            let mut files = host_disks::list(NAMES[name].name)?;
            files.sort();
            Ok(files)
        });
    }

    /// Writes a number that is higher than all before, and synchronises it.
    fn write(&mut self, name: usize) {
        let access = self.model.write(name);
        let number = access.writes;
        self.in_thread(access, move || {
            let path = host_disks::name(NAMES[name].name);
            let files = host_disks::list(NAMES[name].name)?;
            let mut file = File::create(path.join("number"))?;
            file.write_all(number.unwrap_or_default().to_string().as_bytes())?;
            file.sync_all()?;
            Ok(files)
        });
    }

    fn in_thread(&mut self, access: Access, work: impl FnOnce() -> Result + Send + 'static) {
        let (sender, result) = mpsc::channel();
        thread::spawn(move || sender.send(work()));
        self.accesses.push((access, result));
    }

    fn hold(&mut self, name: usize) {
        // By a name that is mounted only: the driver itself must not wait.
        if host_disks::is_mounted(NAMES[name].name) {
            self.held.extend(File::open(host_disks::name(NAMES[name].name).join("hello")));
        }
    }

    fn umount(&mut self, name: usize) -> Outcome {
        let finished = Program::new(BINARY).args(["umount", NAMES[name].name]).finish()?;
        self.model.count("umount", finished.code == Some(0));
        let is_said = finished.code == Some(0) || !finished.stderr.is_empty();
        if is_said { Ok(()) } else { Err(format!("umount: {finished:?}").into()) }
    }

    fn start_a_caller_to_kill(&mut self, name: usize) -> Outcome {
        let mut command = Program::new("ls").arg(host_disks::name(NAMES[name].name)).command()?;
        let child = command.stdout(Stdio::null()).stderr(Stdio::null()).spawn()?;
        let life = Duration::from_millis(self.random.below(400) as u64);
        self.callers.push((child, Instant::now() + life));
        Ok(())
    }

    /// What has come of the accesses and of who was killed.
    fn look(&mut self) -> Outcome {
        for (access, result) in std::mem::take(&mut self.accesses) {
            match result.try_recv() {
                Ok(result) => self.model.check(&access, result)?,
                Err(_) if access.started.elapsed() < 3 * PATIENCE => self.accesses.push((access, result)),
                Err(_) => return Err(format!("an access hangs: {access:?}").into()),
            }
        }
        for (mut child, dies) in std::mem::take(&mut self.callers) {
            if dies <= Instant::now() {
                child.kill()?;
                wait::until("a killed caller to go", PATIENCE, || child.try_wait().ok().flatten())?;
                self.model.count("killed", true);
            } else {
                self.callers.push((child, dies));
            }
        }
        Ok(())
    }

    /// Nobody does anything: everything must be answered, unmounted and locked, and nothing be left.
    fn rest(&mut self) -> Outcome {
        self.held.clear();
        wait::until("all accesses to end", 4 * PATIENCE, || match self.look() {
            Ok(()) if self.accesses.is_empty() && self.callers.is_empty() => Some(Ok(())),
            Ok(()) => None,
            Err(error) => Some(Err(error)),
        })??;
        wait::until_true("everything to be locked", 2 * PATIENCE, || {
            mounts::mappings().is_empty() && !NAMES.iter().any(|name| host_disks::is_mounted(name.name))
        })?;
        self.model.count("rest", true);
        self.nothing_leaks()?;
        // What is surely there must be had, now that nothing else happens.
        for name in 0..NAMES.len() {
            self.access(name);
        }
        wait::until("the accesses at rest to end", 2 * PATIENCE, || match self.look() {
            Ok(()) => self.accesses.is_empty().then_some(Ok(())),
            Err(error) => Some(Err(error)),
        })?
    }

    fn nothing_leaks(&mut self) -> Outcome {
        let pid = *daemon::processes().first().ok_or("the daemon has died")?;
        let count = |what: &str| fs::read_dir(format!("/proc/{pid}/{what}")).map_or(0, Iterator::count);
        let Some((files, threads)) = self.at_rest else {
            self.at_rest = Some((count("fd"), count("task")));
            return Ok(());
        };
        // A thread is kept to spare, and may not be there yet at the first rest.
        wait::until_true("the daemon to have no more files and threads than before", PATIENCE, || {
            count("fd") <= files + 2 && count("task") <= threads + 1
        })
    }
}
