//! What must hold whatever happens: which results an access may have, given when which disk was there. Knows nothing of
//! how things are done.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use rustix::io::Errno;

use super::visit::{Intent, Sight};
use crate::Outcome;

/// How long the news of a plug or a pull may take to the daemon, on an emulated machine that is not at rest.
const NEWS: Duration = Duration::from_secs(5);

pub(super) struct Disk {
    pub(super) serial: &'static str,
    /// A file that is on no other disk.
    pub(super) file: &'static str,
    pub(super) encrypted: bool,
}

pub(super) struct Name {
    pub(super) name: &'static str,
    pub(super) disks: &'static [usize],
    pub(super) encrypted: bool,
}

pub(super) const DISKS: [Disk; 3] = [
    Disk { serial: "FIRST", file: "first", encrypted: true },
    Disk { serial: "SECOND", file: "second", encrypted: true },
    Disk { serial: "THIRD", file: "third", encrypted: false },
];

pub(super) const NAMES: [Name; 2] = [
    Name { name: "backup", disks: &[0, 1], encrypted: true },
    Name { name: "plain", disks: &[2], encrypted: false },
];

/// What came of an access.
pub(super) type Result = std::io::Result<Sight>;

/// An access that is under way.
#[derive(Debug)]
pub(super) struct Access {
    name: usize,
    pub(super) intent: Intent,
    pub(super) started: Instant,
    /// Nothing else happens, and the daemon knows all disks.
    is_at_rest: bool,
}

/// When a disk was there: begin and end of a plug, with the doubt at its end.
#[derive(Debug, Clone, Copy)]
struct Stay {
    plugged: Option<Instant>,
    pulls: Option<Instant>,
    pulled: Option<Instant>,
}

#[derive(Default)]
pub(super) struct Model {
    stays: [Vec<Stay>; DISKS.len()],
    /// The numbers that are surely on each disk, and since when that is known.
    synchronised: [BTreeMap<u64, Instant>; DISKS.len()],
    counts: BTreeMap<String, u64>,
    numbers: u64,
}

impl Model {
    pub(super) fn plugs(&mut self, disk: usize) {
        self.stays[disk].push(Stay { plugged: None, pulls: None, pulled: None });
    }

    pub(super) fn plugged(&mut self, disk: usize) {
        self.count("plug");
        if let Some(stay) = self.stays[disk].last_mut() {
            stay.plugged = Some(Instant::now());
        }
    }

    pub(super) fn pulls(&mut self, disk: usize) {
        if let Some(stay) = self.stays[disk].last_mut() {
            stay.pulls = Some(Instant::now());
        }
    }

    pub(super) fn pulled(&mut self, disk: usize) {
        self.count("pull");
        if let Some(stay) = self.stays[disk].last_mut() {
            stay.pulled = Some(Instant::now());
        }
    }

    /// The disk that an access to the name gets if nothing of it is mounted.
    pub(super) fn first_disk(&self, name: usize) -> Option<usize> {
        let is_there = |disk: &usize| self.stays[*disk].last().is_some_and(|stay| stay.pulls.is_none());
        NAMES[name].disks.iter().copied().find(is_there)
    }

    /// A number that was never written.
    pub(super) fn next_number(&mut self) -> u64 {
        self.numbers += 1;
        self.numbers
    }

    pub(super) fn access(&self, name: usize, intent: Intent, is_at_rest: bool) -> Access {
        Access { name, intent, started: Instant::now(), is_at_rest }
    }

    pub(super) fn count(&mut self, what: &str) {
        *self.counts.entry(what.to_owned()).or_default() += 1;
    }

    pub(super) fn summary(&self) -> String {
        let counts: Vec<String> = self.counts.iter().map(|(what, count)| format!("{count} {what}")).collect();
        counts.join(", ")
    }

    /// Whether this may have come of an access that has just ended.
    pub(super) fn check(&mut self, access: &Access, result: &Result) -> Outcome {
        let intent = match access.intent {
            Intent::Read => "access",
            Intent::Write(_) => "write",
            Intent::Hold => "hold",
        };
        match result {
            Ok(_) => self.count(intent),
            Err(error) => self.count(&format!("{intent}: {error}")),
        }
        let verdict = match result {
            Ok(sight) => self.is_right(access, sight),
            Err(error) => self.may_fail(access, error.raw_os_error().unwrap_or_default()),
        };
        verdict.map_err(|reason| {
            let name = &NAMES[access.name];
            let age = access.started.elapsed().as_secs_f32();
            let disks: Vec<String> = name.disks.iter().map(|&disk| self.last_stay(disk)).collect();
            let disks = disks.join("; ");
            format!(
                "{}: {reason}: {result:?} of {:?}, started {age:.1} s ago; {disks}",
                name.name, access.intent
            )
            .into()
        })
    }

    /// The files of one disk of the name, which was there, with all that is surely on it; never an empty directory.
    fn is_right(&mut self, access: &Access, sight: &Sight) -> std::result::Result<(), String> {
        let has = |file: &str| sight.files.iter().any(|other| other == file);
        let marks: Vec<usize> = (0..DISKS.len()).filter(|&disk| has(DISKS[disk].file)).collect();
        let [disk] = marks.as_slice() else { return Err("not the files of one disk".to_owned()) };
        let disk = *disk;
        if !NAMES[access.name].disks.contains(&disk) || !has("hello") {
            return Err("the files of a wrong disk".to_owned());
        }
        if access.is_at_rest && self.first_disk(access.name) != Some(disk) {
            return Err("not the first disk that is there".to_owned());
        }
        // A directory that is still in memory can be listed for a moment after the pull.
        if !self.stays[disk]
            .iter()
            .any(|stay| stay.pulled.is_none_or(|pulled| pulled + NEWS >= access.started))
        {
            return Err("the files of a disk that was not there".to_owned());
        }
        let known = self.synchronised[disk].iter().filter(|(_, since)| **since < access.started);
        for (number, _) in known {
            // The kernel leaves out what it cannot read of a directory of a pulled disk.
            if !sight.numbers.contains(number) && !self.is_pulled_around(access, &[disk]) {
                return Err(format!("{number} was synchronised to {} and is lost", DISKS[disk].serial));
            }
            if sight
                .newest
                .as_ref()
                .is_some_and(|(newest, text)| newest == number && *text != number.to_string())
            {
                return Err(format!("{number} was synchronised to {} and is another", DISKS[disk].serial));
            }
        }
        if let Intent::Write(number) = access.intent {
            self.synchronised[disk].insert(number, Instant::now());
        }
        Ok(())
    }

    /// An access fails with ENOMEDIUM unless a disk is there, and with an error of the disk if one is pulled around
    /// that time.
    fn may_fail(&self, access: &Access, errno: i32) -> std::result::Result<(), String> {
        let disks = NAMES[access.name].disks;
        let is_surely_there = disks.iter().flat_map(|&disk| &self.stays[disk]).any(|stay| {
            let is_known = stay.plugged.is_some_and(|plugged| plugged + NEWS < access.started);
            stay.pulls.is_none() && (is_known || access.is_at_rest)
        });
        let fits = match Errno::from_raw_os_error(errno) {
            Errno::NOMEDIUM => !is_surely_there,
            // A file that was open, a directory that was entered, a journal that was aborted by the pull.
            Errno::IO | Errno::ROFS | Errno::NXIO | Errno::NODEV | Errno::NOENT | Errno::SHUTDOWN => {
                self.is_pulled_around(access, disks)
            }
            _ => false,
        };
        if fits { Ok(()) } else { Err("no reason for that error".to_owned()) }
    }

    /// One of the disks was pulled while the access went on, or just before.
    fn is_pulled_around(&self, access: &Access, disks: &[usize]) -> bool {
        let ended_before = |stay: &Stay| stay.pulled.is_some_and(|pulled| pulled + NEWS < access.started);
        let mut stays = disks.iter().flat_map(|&disk| &self.stays[disk]);
        !access.is_at_rest && stays.any(|stay| stay.pulls.is_some() && !ended_before(stay))
    }

    fn last_stay(&self, disk: usize) -> String {
        let ago = |instant: Option<Instant>| {
            instant.map_or("not".to_owned(), |at| format!("{:.1} s ago", at.elapsed().as_secs_f32()))
        };
        let serial = DISKS[disk].serial;
        self.stays[disk].last().map_or(format!("{serial} never plugged"), |stay| {
            format!(
                "{serial} plugged {}, pulled {} to {}",
                ago(stay.plugged),
                ago(stay.pulls),
                ago(stay.pulled)
            )
        })
    }
}

/// Steele, Lea and Flood's SplitMix64: the same decisions for the same seed.
pub(super) struct Random(pub(super) u64);

impl Random {
    /// One of the numbers below `end`.
    pub(super) fn below(&mut self, end: usize) -> usize {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        ((mixed ^ (mixed >> 31)) % end as u64) as usize
    }
}
