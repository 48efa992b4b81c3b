//! Who keeps a disk from being unmounted or locked: processes in all mount namespaces, and what the kernel itself has
//! on it. Reads /proc and /sys only: no file of the disk is opened, and its file system is asked nothing.
//!
//! What cannot be seen from there is not named: descriptors on their way through a Unix socket or kept by io_uring,
//! mount namespaces without a process, the exports of a server of NFS, and on btrfs what is open on a mount that has
//! been taken away lazily (mapped files are seen).

mod holder;
mod kernel;
mod mounts;
mod process;

use std::io;
use std::path::Path;
use std::sync::LazyLock;
use std::thread;
use std::time::{Duration, Instant};

use crossbeam_channel::{Receiver, SendError, Sender, bounded};

use super::busy::block_devnum;
use super::{Opened, mountinfo};
pub use holder::{Holder, Use};
use mounts::Mounts;

/// How many holders are named; the others are counted.
const NAMED: usize = 20;

/// Looking at a process can hang on it: /proc/PID/maps waits for a lock of its memory (`mmap_read_lock`). So long for
/// each.
const PATIENCE: Duration = Duration::from_secs(10);

/// So long for everything, on a machine that is that slow.
const LONGEST: Duration = Duration::from_secs(60);

/// How many look at once. A look that hangs keeps its place.
const LOOKS: usize = 4;

/// What is asked after.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Subject {
    /// Device numbers of the file system as mountinfo shows them (`s_dev`), which for btrfs are not `st_dev`.
    filesystems: Vec<u64>,
    /// Device numbers of the block devices that are to be closed.
    devices: Vec<u64>,
    /// It is to be locked, and so every mount of it counts, in whatever namespace.
    is_unmounted: bool,
}

impl Subject {
    /// A mount of this namespace that could not be unmounted; `None` if there is none of that id.
    ///
    /// # Errors
    /// As [`mountinfo::read`].
    pub fn mounted(mount_id: u64) -> io::Result<Option<Self>> {
        let mount = mountinfo::read()?.into_iter().find(|mount| mount.id == mount_id);
        Ok(mount.map(|mount| Self {
            filesystems: vec![mount.devnum],
            devices: Vec::new(),
            is_unmounted: false,
        }))
    }

    /// A disk that is unmounted, but could not be locked.
    pub fn unmounted(opened: &Opened) -> Self {
        let mut devices = vec![opened.devnum];
        devices.extend(opened.loop_device.as_deref().and_then(block_devnum));
        devices.dedup();
        Self { filesystems: devices.clone(), devices, is_unmounted: true }
    }

    /// Block devices that nobody shall have open, mount or lie on: a disk and its partitions.
    pub fn devices(devices: Vec<u64>) -> Self {
        Self { filesystems: devices.clone(), devices, is_unmounted: true }
    }

    fn is_device(&self, path: &Path) -> bool {
        !self.devices.is_empty() && block_devnum(path).is_some_and(|devnum| self.devices.contains(&devnum))
    }
}

/// What was found.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Holders {
    /// The first ones.
    pub named: Vec<Holder>,
    /// How many more there are.
    pub more: usize,
    /// Looking was given up, at this process if it was one: there may be others.
    pub gave_up: Option<Option<u32>>,
}

/// What a look tells while it goes on.
enum News {
    /// It begins to look at this process.
    At(u32),
    Found(Holder),
}

/// Looks for whoever uses it, this process left out. Costs in proportion to the processes of the machine and their open
/// files, and takes a minute at most; a process that does not answer is given up after ten seconds.
pub fn holders(subject: Subject) -> Holders {
    let deadline = Instant::now() + LONGEST;
    let (sender, news) = bounded(NAMED);
    let Some(place) = Place::take(deadline) else { return Holders::unknown() };
    let look = move || {
        let _place = place;
        // Whoever waited has given up.
        let _ = look(subject, &sender);
    };
    // Not on the caller's thread: this one may hang.
    match thread::Builder::new().name("holders".into()).spawn(look) {
        Ok(_) => Holders::collect(&news, deadline),
        Err(_) => Holders::unknown(),
    }
}

/// One of [`LOOKS`], until it is dropped.
struct Place;

static PLACES: LazyLock<(Sender<()>, Receiver<()>)> = LazyLock::new(|| bounded(LOOKS));

impl Place {
    fn take(deadline: Instant) -> Option<Self> {
        PLACES.0.send_deadline((), deadline).is_ok().then_some(Self)
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        // Each place that was taken is one message.
        let _ = PLACES.1.try_recv();
    }
}

/// What cannot hang first. Ends early when nobody listens any more.
fn look(mut subject: Subject, news: &Sender<News>) -> Result<(), SendError<News>> {
    let processes = process::list();
    let mounts = Mounts::read(&mut subject, &processes);
    for holder in kernel::holders(&subject, &mounts) {
        news.send(News::Found(holder))?;
    }
    let users = process::users();
    for pid in processes {
        news.send(News::At(pid))?;
        let namespace = mounts.namespace_of(pid).filter(|_| subject.is_unmounted);
        let uses = process::uses(pid, &subject, &mounts);
        if let Some(holder) = process::holder(pid, &users, namespace.into_iter().chain(uses)) {
            news.send(News::Found(holder))?;
        }
    }
    Ok(())
}

impl Holders {
    fn unknown() -> Self {
        Self { gave_up: Some(None), ..Self::default() }
    }

    fn collect(news: &Receiver<News>, deadline: Instant) -> Self {
        let mut holders = Self::default();
        let mut at = None;
        loop {
            match news.recv_deadline(deadline.min(Instant::now() + PATIENCE)) {
                Ok(News::At(pid)) => at = Some(pid),
                Ok(News::Found(holder)) if holders.named.len() < NAMED => holders.named.push(holder),
                Ok(News::Found(_)) => holders.more += 1,
                Err(error) => {
                    holders.gave_up = error.is_timeout().then_some(at);
                    return holders;
                }
            }
        }
    }

    /// The end of a sentence that begins "is busy: ".
    pub fn sentence(&self) -> String {
        let mut parts: Vec<String> = self.named.iter().map(Holder::to_string).collect();
        if self.more > 0 {
            parts.push(format!("and {} more", self.more));
        }
        match self.gave_up {
            Some(Some(pid)) => parts.push(format!("looking for others took too long, at pid {pid}")),
            Some(None) => parts.push("looking for who uses it took too long".to_owned()),
            None => {}
        }
        if parts.is_empty() {
            return "no process was found that uses it: perhaps it has just ended, so try again".to_owned();
        }
        parts.join("; ")
    }
}

/// Who keeps this mount from being unmounted, as [`Holders::sentence`].
pub fn of_mount(mount_id: u64) -> String {
    match Subject::mounted(mount_id) {
        Ok(Some(subject)) => holders(subject).sentence(),
        Ok(None) => Holders::default().sentence(),
        Err(error) => format!("who uses it is not known: the mount table cannot be read: {error}"),
    }
}

/// Who keeps this disk from being locked, as [`Holders::sentence`].
pub fn of_disk(opened: &Opened) -> String {
    holders(Subject::unmounted(opened)).sentence()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn holder(pid: u32) -> Holder {
        let uses = vec![Use::File("/x".into())];
        Holder::Process { pid, user: "root".into(), command: "vim".into(), uses, more: 0 }
    }

    #[test]
    fn the_first_are_named_and_the_others_counted() {
        let (sender, news) = bounded(NAMED + 3);
        (0..NAMED as u32 + 3).for_each(|pid| sender.send(News::Found(holder(pid))).unwrap());
        drop(sender);
        let holders = Holders::collect(&news, Instant::now() + PATIENCE);
        assert_eq!((holders.named.len(), holders.more, holders.gave_up), (NAMED, 3, None));
        let sentence = holders.sentence();
        assert!(sentence.starts_with("pid 0 (root, vim): open file /x; pid 1 "), "{sentence}");
        assert!(sentence.ends_with("; and 3 more"), "{sentence}");
    }

    #[test]
    fn what_was_found_before_a_process_did_not_answer_is_kept() {
        let (sender, news) = bounded(2);
        sender.send(News::Found(holder(7))).unwrap();
        sender.send(News::At(8)).unwrap();
        let holders = Holders::collect(&news, Instant::now());
        assert_eq!((holders.named.len(), holders.gave_up), (1, Some(Some(8))));
        assert!(holders.sentence().ends_with("/x; looking for others took too long, at pid 8"));
        let nothing = Holders::collect(&news, Instant::now());
        assert_eq!(nothing, Holders::unknown());
    }

    #[test]
    fn a_look_whose_places_are_all_taken_says_so_and_a_place_can_be_taken_again() {
        let deadline = Instant::now() + PATIENCE;
        let taken: Vec<_> = (0..LOOKS).map(|_| Place::take(deadline).unwrap()).collect();
        assert!(Place::take(Instant::now()).is_none());
        drop(taken);
        assert!(Place::take(deadline).is_some());
    }

    #[test]
    fn nobody_is_a_sentence_too() {
        assert!(Holders::default().sentence().contains("no process was found"));
    }
}
