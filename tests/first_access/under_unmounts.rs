//! Sixteen processes at work on the disk while it is unmounted under them again and again: each of their calls may be
//! the first access, or come while the disk is being mounted for another one, and none may notice.

use crate::child::{self, Ended};
use crate::place::{Outcome, Place, SEATS, describe};
use crate::subject::is_mounted;
use rustix::fs::{CWD, Mode, OFlags, mkdir, openat, rmdir, stat, unlink};
use rustix::io::Errno;
use rustix::mount::{UnmountFlags, unmount};
use std::path::Path;
use std::time::{Duration, Instant};

pub(crate) const NAME: &str = "16 at work while it is unmounted again and again";

/// How long they work.
const WORK: Duration = Duration::from_secs(15);
/// How long a process may take to end after that.
const PATIENCE: Duration = Duration::from_secs(60);
/// An access walks once more and no more: one that has begun must have ended before the next unmount. The daemon leaves
/// as much time itself.
const GRACE: Duration = Duration::from_secs(1);
/// With fewer unmounts than this nothing was tried.
const LEAST: u32 = 3;

/// Puts them to work on the name in `root`; what went wrong.
pub(crate) fn faults(root: &Path, elsewhere: &Path) -> Vec<String> {
    let place = |seat| Place { root: root.into(), elsewhere: elsewhere.into(), seat };
    let name = place(0).name();
    let mut calls: Vec<Box<dyn FnOnce() -> String>> =
        (0..SEATS).map(|seat| boxed(move || work(&place(seat)))).collect();
    calls.push(boxed(move || take_away(&name)));
    let mut ended = child::at_once(calls, WORK + PATIENCE);
    let unmounted = ended.pop().map(|ended| ended.to_string()).unwrap_or_default();
    let mut faults: Vec<String> = ended
        .iter()
        .enumerate()
        .filter(|(_, ended)| **ended != Ended::Said("ok".into()))
        .map(|(seat, ended)| format!("process {seat}: {ended}"))
        .collect();
    if unmounted.parse::<u32>().map_or(true, |times| times < LEAST) {
        faults.push(format!("unmounted under them at least {LEAST} times: {unmounted}"));
    }
    faults
}

fn boxed<'a>(call: impl FnOnce() -> String + 'a) -> Box<dyn FnOnce() -> String + 'a> {
    Box::new(call)
}

/// One call after the other until the time is over, or one fails.
fn work(place: &Place) -> String {
    let until = Instant::now() + WORK;
    let mut number = place.seat;
    while Instant::now() < until {
        let (what, call) = CALLS[number % CALLS.len()];
        if let Err(errno) = call(place) {
            return format!("call {number}, {what}: {}", describe(&Err(errno)));
        }
        number += 1;
        // Between two calls nobody uses the disk, or it could not be unmounted.
        std::thread::sleep(Duration::from_millis(1));
    }
    "ok".into()
}

type Call = fn(&Place) -> Outcome;

/// Each leaves everything as it was.
const CALLS: [(&str, Call); 6] = [
    ("read", |place| std::fs::read(place.file()).map_err(errno).map(|_| String::new())),
    ("list", |place| {
        let entries = std::fs::read_dir(place.name()).and_then(Iterator::collect::<Result<Vec<_>, _>>);
        let there = |entries: Vec<std::fs::DirEntry>| {
            entries.iter().any(|entry| *entry.file_name() == *place.own("file"))
        };
        if there(entries.map_err(errno)?) { Ok(String::new()) } else { Err(Errno::NOENT) }
    }),
    ("stat below", |place| stat(place.inner()).map(|_| String::new())),
    ("mkdir", |place| {
        mkdir(place.child("made"), Mode::RWXU)?;
        rmdir(place.child("made")).map(|()| String::new())
    }),
    ("create", |place| {
        let flags = OFlags::CREATE | OFlags::EXCL | OFlags::WRONLY | OFlags::CLOEXEC;
        drop(openat(CWD, place.child("new"), flags, Mode::RUSR)?);
        unlink(place.child("new")).map(|()| String::new())
    }),
    ("mkdir of what exists", |place| match mkdir(place.dir(), Mode::RWXU) {
        Err(Errno::EXIST) => Ok(String::new()),
        Err(errno) => Err(errno),
        Ok(()) => Err(Errno::NOENT),
    }),
];

fn errno(error: std::io::Error) -> Errno {
    Errno::from_io_error(&error).unwrap_or(Errno::IO)
}

/// Unmounts the name whenever nobody is in it, but leaves it alone at first; how often it came to that.
fn take_away(name: &Path) -> String {
    let until = Instant::now() + WORK;
    let (mut times, mut mounted_since) = (0, None);
    while Instant::now() < until {
        if !is_mounted(name) {
            mounted_since = None;
        } else if mounted_since.get_or_insert_with(Instant::now).elapsed() > GRACE {
            match unmount(name, UnmountFlags::NOFOLLOW) {
                Ok(()) => {
                    times += 1;
                    mounted_since = None;
                }
                Err(Errno::BUSY) => {}
                Err(errno) => return describe(&Err(errno)),
            }
        }
        std::thread::sleep(Duration::from_micros(500));
    }
    times.to_string()
}
