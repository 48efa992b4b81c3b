//! What must hold whatever happens: which results an access may have, given when which disk was there. Knows nothing of
//! how things are done.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use rustix::io::Errno;

use crate::Outcome;

/// How long the news of a plug or a pull may take to the daemon, on an emulated machine.
const NEWS: Duration = Duration::from_secs(10);

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

/// Names of the files, or the error.
pub(super) type Result = std::io::Result<Vec<String>>;

/// An access that is under way.
#[derive(Debug)]
pub(super) struct Access {
    name: usize,
    pub(super) started: Instant,
    /// The number that it writes.
    pub(super) writes: Option<u64>,
}

/// When a disk was there: begin and end of each plug, with the doubt at both ends.
#[derive(Debug, Clone, Copy)]
struct Stay {
    plugged: Option<Instant>,
    pulls: Option<Instant>,
    pulled: Option<Instant>,
}

#[derive(Default)]
pub(super) struct Model {
    stays: [Vec<Stay>; DISKS.len()],
    counts: BTreeMap<String, u64>,
    numbers: u64,
}

impl Model {
    pub(super) fn plugs(&mut self, disk: usize) {
        self.stays[disk].push(Stay { plugged: None, pulls: None, pulled: None });
    }

    pub(super) fn plugged(&mut self, disk: usize) {
        self.count("plug", true);
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
        self.count("pull", true);
        if let Some(stay) = self.stays[disk].last_mut() {
            stay.pulled = Some(Instant::now());
        }
    }

    pub(super) fn access(&self, name: usize) -> Access {
        Access { name, started: Instant::now(), writes: None }
    }

    pub(super) fn write(&mut self, name: usize) -> Access {
        self.numbers += 1;
        Access { name, started: Instant::now(), writes: Some(self.numbers) }
    }

    pub(super) fn count(&mut self, what: &str, well: bool) {
        *self.counts.entry(if well { what.to_owned() } else { format!("{what} refused") }).or_default() += 1;
    }

    pub(super) fn summary(&self) -> String {
        let counts: Vec<String> = self.counts.iter().map(|(what, count)| format!("{count} {what}")).collect();
        counts.join(", ")
    }

    /// Whether this may have come of an access that has just ended.
    pub(super) fn check(&mut self, access: &Access, result: Result) -> Outcome {
        let fits = match &result {
            Ok(files) => self.is_a_disk_of(access, files),
            Err(error) => self.may_fail(access, error.raw_os_error().unwrap_or_default()),
        };
        let what = match &result {
            Ok(_) => "access".to_owned(),
            Err(error) => format!("access: {error}"),
        };
        self.count(&what, true);
        if fits {
            return Ok(());
        }
        let name = &NAMES[access.name];
        let stays: Vec<_> = name.disks.iter().map(|&disk| self.stays[disk].last()).collect();
        let now = Instant::now();
        Err(format!("{}: {result:?} does not fit {access:?} until {now:?} with {stays:?}", name.name).into())
    }

    /// The files of one disk of the name, which was there; never an empty directory.
    fn is_a_disk_of(&self, access: &Access, files: &[String]) -> bool {
        let marks: Vec<usize> =
            (0..DISKS.len()).filter(|&disk| files.iter().any(|file| file == DISKS[disk].file)).collect();
        let [disk] = marks.as_slice() else { return false };
        // A directory that is still in memory can be listed for a moment after the pull.
        let was_there = self.stays[*disk]
            .iter()
            .any(|stay| stay.pulled.is_none_or(|pulled| pulled + NEWS >= access.started));
        NAMES[access.name].disks.contains(disk) && files.iter().any(|file| file == "hello") && was_there
    }

    /// Without a pull around that time an access succeeds if a disk is there, and finds none if none is.
    fn may_fail(&self, access: &Access, errno: i32) -> bool {
        let now = Instant::now();
        let stays = || NAMES[access.name].disks.iter().flat_map(|&disk| &self.stays[disk]);
        let surely_there = stays().any(|stay| {
            stay.plugged.is_some_and(|plugged| plugged + NEWS < access.started) && stay.pulls.is_none()
        });
        let pulled_around = stays().any(|stay| {
            stay.pulls.is_some_and(|pulls| {
                pulls <= now && stay.pulled.is_none_or(|pulled| pulled + NEWS >= access.started)
            })
        });
        match Errno::from_raw_os_error(errno) {
            Errno::NOMEDIUM => !surely_there || pulled_around,
            // A file that was open, a directory that was entered, a journal that was aborted by the pull.
            Errno::IO | Errno::ROFS | Errno::NXIO | Errno::NODEV | Errno::NOENT => pulled_around,
            _ => false,
        }
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
