//! A world for the core: disks that are plugged and pulled, mounts, mappings, jobs that end some way or other, and
//! callers that wait. It checks every action against the rules and panics where one is broken.

use std::collections::btree_map::Entry;
use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

use super::hypervisor::Hypervisor;
use crate::config::{self, Config};
use crate::core::*;
use crate::device::{BlockNode, Content, Disk, DiskSeq, Partition};
use crate::disk::{Damage, DiskError, ErrorKind, Opened, Order, Source};

/// `far` can be reached through `a` and `b`, and belongs to whoever takes it; `c` and `d` share a disk.
pub(super) const CONFIG: &str = r#"
[defaults]
idle-timeout = "10s"
access-timeout = "30s"
[mounts.a]
disks = ["near", "far"]
[mounts.b]
disks = [{ uuid = "fa" }, { image = "/image" }]
[mounts.c]
disks = [{ id = "parts", partition = 1 }]
[mounts.d]
disks = [{ id = "parts", partition = 2 }]
"#;

pub(super) const WITHOUT_A: &str = "[mounts.b]\ndisks = [{ uuid = \"fa\" }, { image = \"/image\" }]";
pub(super) const NEVER_IDLE: &str = "[mounts.a]\ndisks = [\"near\"]\nidle-timeout = \"0\"";
pub(super) const NOTHING: &str = "";
/// The disks of `a` and `b`, the other way round, and other deadlines.
pub(super) const EXCHANGED: &str = r#"
[mounts.a]
disks = ["far", { image = "/image" }]
access-timeout = "20s"
[mounts.b]
disks = ["near"]
options = "ro"
access-timeout = "40s"
"#;
/// A new name before the others, with the disk of one of them.
pub(super) const ANOTHER: &str = r#"
[mounts."0"]
disks = ["near"]
idle-timeout = "1s"
[mounts.b]
disks = [{ image = "/image" }]
"#;

/// What a reload may meet in place of [`CONFIG`].
pub(super) const OTHERS: [&str; 5] = [WITHOUT_A, NEVER_IDLE, NOTHING, EXCHANGED, ANOTHER];
/// The mount that somebody else makes over a name.
const COVER: MountId = 1_000_000;

/// How many of the names the random sequences use.
pub(super) const NAMES: usize = 2;

/// What a request wants, for the rule that its answer must keep.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Wants {
    Enter(Hold),
    Walk,
}

/// A request that is not answered yet.
#[derive(Clone, Copy, Debug)]
pub(super) struct Request {
    pub(super) slot: SlotId,
    pub(super) wants: Wants,
    /// Answered by then, counted from the start.
    pub(super) deadline: Duration,
}

#[derive(Clone, Debug)]
pub(super) enum Job {
    Prepare(Box<Order>),
    /// Prepared; told to attach.
    Attach(String),
    Unmount(MountId, Unmount),
    Lock(Option<String>),
    Eject(DiskSeq),
}

/// A mapping: what a slot has open, whether or not it is mounted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Open {
    pub(super) slot: SlotId,
    pub(super) disk: Option<DiskSeq>,
    pub(super) partition: Option<u32>,
    /// The last one that was made of it.
    pub(super) mount: MountId,
    /// That one, and those before it: others may still have one of them.
    pub(super) mounts: Vec<MountId>,
    /// None has been: the job that opened it failed.
    pub(super) is_left: bool,
}

#[derive(Clone)]
pub(super) struct World {
    pub(super) core: Core,
    pub(super) start: Instant,
    pub(super) elapsed: Duration,
    pub(super) disks: BTreeMap<DiskSeq, Disk>,
    pub(super) last: u64,
    pub(super) jobs: BTreeMap<JobId, (SlotId, Job)>,
    pub(super) cancelled: BTreeSet<JobId>,
    pub(super) waiting: BTreeMap<RequestId, Request>,
    pub(super) looked_at: BTreeSet<RequestId>,
    pub(super) commands: BTreeSet<CommandId>,
    pub(super) replies: BTreeMap<CommandId, Result<String, String>>,
    /// What each command was last told to wait for.
    pub(super) told: BTreeMap<CommandId, String>,
    /// The errno of each request that failed.
    pub(super) errors: Vec<i32>,
    /// By name.
    pub(super) open: BTreeMap<String, Open>,
    pub(super) mounted: BTreeMap<SlotId, MountId>,
    /// Taken away from its name by somebody else, and not gone.
    pub(super) moved: BTreeMap<SlotId, MountId>,
    /// Brought back by him, and not taken back by the core yet.
    pub(super) back: BTreeSet<SlotId>,
    /// Somebody else has mounted something over them.
    pub(super) covered: BTreeSet<SlotId>,
    /// Read-only since an error.
    pub(super) broken: BTreeSet<SlotId>,
    pub(super) last_retry: BTreeMap<SlotId, Duration>,
    /// The mount table was asked for and not read yet.
    pub(super) asked: bool,
    pub(super) ended: bool,
    /// What the end was told to be lost.
    pub(super) loss: Option<String>,
    pub(super) hypervisor: Hypervisor,
    /// The names in the root.
    pub(super) shown: BTreeMap<SlotId, String>,
    /// So many changes of the root are not done yet.
    pub(super) forgetting: usize,
}

/// Every caller waits for at most 30 s, if the config says nothing else.
pub(super) fn parse(text: &str) -> Config {
    let text = if text.contains("access-timeout") {
        text.to_owned()
    } else {
        format!("{text}\n[defaults]\naccess-timeout = \"30s\"\n")
    };
    config::parse(&text, Path::new("test.toml")).unwrap()
}

fn names_of(config: &Config) -> impl Iterator<Item = String> {
    config.mounts.iter().map(|mount| mount.name.to_string())
}

impl World {
    pub(super) fn new() -> Self {
        Self::with("")
    }

    /// With more keys at the top of the config.
    pub(super) fn with(more: &str) -> Self {
        Self::with_config(&format!("{more}{CONFIG}"))
    }

    pub(super) fn with_config(text: &str) -> Self {
        let config = parse(text);
        let start = Instant::now();
        let now = Now { monotonic: start, wall: SystemTime::UNIX_EPOCH };
        Self {
            shown: names_of(&config).enumerate().map(|(place, name)| (SlotId(place), name)).collect(),
            forgetting: 0,
            core: Core::new(Arc::new(config), now),
            start,
            elapsed: Duration::ZERO,
            disks: BTreeMap::new(),
            last: 0,
            jobs: BTreeMap::new(),
            cancelled: BTreeSet::new(),
            waiting: BTreeMap::new(),
            looked_at: BTreeSet::new(),
            commands: BTreeSet::new(),
            replies: BTreeMap::new(),
            told: BTreeMap::new(),
            errors: Vec::new(),
            open: BTreeMap::new(),
            mounted: BTreeMap::new(),
            moved: BTreeMap::new(),
            back: BTreeSet::new(),
            covered: BTreeSet::new(),
            broken: BTreeSet::new(),
            last_retry: BTreeMap::new(),
            asked: false,
            ended: false,
            loss: None,
            hypervisor: Hypervisor::default(),
        }
    }

    pub(super) fn number(&mut self) -> u64 {
        self.last += 1;
        self.last
    }

    pub(super) fn instant(&self) -> Instant {
        self.start + self.elapsed
    }

    pub(super) fn send(&mut self, event: Event) -> Vec<Action> {
        let now = Now { monotonic: self.instant(), wall: SystemTime::UNIX_EPOCH + self.elapsed };
        let actions = self.core.handle(now, event);
        for action in &actions {
            self.check(action);
        }
        self.check_rest();
        actions
    }

    /// Time passes; the core is told at each moment that it asked for.
    pub(super) fn pass(&mut self, time: Duration) {
        let end = self.elapsed + time;
        while let Some(at) = self.core.next_wakeup().map(|at| at.saturating_duration_since(self.start)) {
            if at > end {
                break;
            }
            self.advance(self.elapsed.max(at));
            let actions = self.send(Event::Tick);
            let next = self.core.next_wakeup();
            assert!(
                !actions.is_empty() || next.is_none_or(|next| next > self.instant()),
                "a tick that does nothing must not be asked for again at once"
            );
        }
        self.advance(end);
    }

    /// It is so late now. Whatever moments the core has asked for, nobody waits beyond his own deadline.
    pub(super) fn advance(&mut self, to: Duration) {
        self.elapsed = to;
        let late = self.waiting.iter().find(|(_, request)| request.deadline < to);
        assert!(late.is_none(), "not answered by the deadline: {late:?} at {to:?}");
    }

    pub(super) fn plug(&mut self, id: &str) -> DiskSeq {
        let seq = DiskSeq(self.number());
        self.disks.insert(seq, disk(seq, id));
        self.send(Event::DiskPresent(Box::new(self.disks[&seq].clone())));
        seq
    }

    pub(super) fn pull(&mut self, seq: DiskSeq) {
        self.disks.remove(&seq);
        self.send(Event::DiskGone(seq));
    }

    pub(super) fn enter(&mut self, slot: SlotId, hold: Hold) -> RequestId {
        let request = self.expect_answer(slot, Wants::Enter(hold));
        self.send(Event::Trigger { request, slot, hold });
        request
    }

    pub(super) fn walk(&mut self, slot: SlotId) -> RequestId {
        let request = self.expect_answer(slot, Wants::Walk);
        self.send(Event::Walk { request, slot });
        request
    }

    /// A new request, to be answered within the access-timeout that the config has now for its name; if it has none,
    /// that of the last config that had.
    pub(super) fn expect_answer(&mut self, slot: SlotId, wants: Wants) -> RequestId {
        let request = RequestId(self.number());
        let last = self.core.slots[slot.0].newest();
        let configured = self.core.config.mounts.iter().find(|mount| mount.name == last.name);
        let deadline = self.elapsed + configured.unwrap_or(last).access_timeout;
        self.waiting.insert(request, Request { slot, wants, deadline });
        request
    }

    pub(super) fn command(&mut self) -> CommandId {
        let command = CommandId(self.number());
        self.commands.insert(command);
        command
    }

    pub(super) fn umount(&mut self, name: &str, wish: Wish, waits: bool) -> CommandId {
        let command = self.command();
        self.send(Event::Umount { command, name: name.into(), wish, waits });
        command
    }

    /// The config is read again, and once more, which must change nothing.
    pub(super) fn reload(&mut self, text: &str) -> Result<String, String> {
        self.forget();
        let command = self.begin_reload(text);
        self.forget();
        let before = (self.core.snapshot().mounts, self.core.next_wakeup());
        let again = self.command();
        let actions = self.send(Event::Reload { command: Some(again), config: Ok(parse(text).into()) });
        let says = |action: &Action| matches!(action, Action::Log(..) | Action::Reply(..));
        assert!(actions.iter().all(says), "the same config again: {actions:?}");
        assert_eq!(before, (self.core.snapshot().mounts, self.core.next_wakeup()));
        self.replies.remove(&command).expect("replied to when what was before it is forgotten")
    }

    /// The config is read again.
    pub(super) fn begin_reload(&mut self, text: &str) -> CommandId {
        let (command, config) = (self.command(), parse(text));
        self.send(Event::Reload { command: Some(command), config: Ok(config.into()) });
        command
    }

    /// The names of the config.
    pub(super) fn configured(&self) -> BTreeSet<String> {
        names_of(&self.core.config).collect()
    }

    /// The kernel has forgotten the names that are hidden.
    pub(super) fn forget(&mut self) {
        while self.forgetting > 0 {
            self.forgetting -= 1;
            self.send(Event::Forgotten);
        }
    }

    /// Somebody else moves a mount away from its name, or back.
    pub(super) fn move_outside(&mut self, slot: SlotId) {
        if let Some(mount) = self.moved.remove(&slot) {
            // What is mounted there meanwhile stays alone: two mounts on one name are not modelled.
            if let Entry::Vacant(name) = self.mounted.entry(slot) {
                name.insert(mount);
                self.back.insert(slot);
            }
        } else if let Some(mount) = self.mounted.remove(&slot) {
            self.back.remove(&slot);
            self.moved.insert(slot, mount);
        }
    }

    /// Somebody else mounts something over a name, or takes it away again.
    pub(super) fn cover_outside(&mut self, slot: SlotId) {
        if !self.covered.remove(&slot) {
            self.covered.insert(slot);
        }
    }

    /// The mount table is read now.
    pub(super) fn report_mounts(&mut self) {
        self.asked = false;
        let one = |slot, mount, on_top| OnName {
            slot,
            mount,
            what: if mount == COVER { "tmpfs (none)" } else { "ext4 (/dev/x)" }.into(),
            on_top,
            read_only: mount != COVER && self.broken.contains(&slot),
            damage: Damage::default(),
        };
        let ours = self.mounted.iter().map(|(&slot, &mount)| one(slot, mount, !self.covered.contains(&slot)));
        let on = ours.chain(self.covered.iter().map(|&slot| one(slot, COVER, true))).collect();
        self.send(Event::Mounts { read: self.instant(), on });
        // Until the core has taken it back, it is news: what is on its way to or from the name is not compared.
        let Self { back, core, mounted, .. } = self;
        back.retain(|slot| mounted.contains_key(slot) && core.slots[slot.0].taken.is_some());
    }

    /// Somebody else has moved a mount of this mapping away, or has just brought it back.
    pub(super) fn is_elsewhere(&self, slot: SlotId, mapping: &str) -> bool {
        let back = self.mounted.get(&slot).filter(|_| self.back.contains(&slot));
        let mut mounts = self.moved.get(&slot).into_iter().chain(back);
        self.open.get(mapping).is_some_and(|open| mounts.any(|mount| open.mounts.contains(mount)))
    }

    /// Ends a job well, or with this error.
    pub(super) fn end_job(&mut self, job: JobId, error: Option<ErrorKind>) {
        let Some((slot, work)) = self.jobs.remove(&job) else { return };
        match work {
            Job::Prepare(order) => self.end_prepare(job, slot, &order, error),
            Job::Attach(mapping) => {
                let result = match error {
                    None => {
                        self.mounted.insert(slot, self.open[&mapping].mount);
                        self.back.remove(&slot);
                        Ok(self.instant())
                    }
                    Some(kind) => Err(failure(kind)),
                };
                self.send(Event::Attached { job, result });
            }
            Job::Unmount(mount, how) => {
                let there = self.mounted.get(&slot) == Some(&mount);
                let result = match error {
                    _ if there && self.covered.contains(&slot) => UnmountResult::Covered("tmpfs".into()),
                    Some(ErrorKind::Busy) if there && how != Unmount::Lazy => {
                        UnmountResult::Busy("pid 1 (root, vim): open file /x".into())
                    }
                    Some(ErrorKind::Io) if there && how == Unmount::Expire => UnmountResult::Marked,
                    Some(ErrorKind::Absent) if there => {
                        self.mounted.remove(&slot);
                        UnmountResult::GoneWithDisk
                    }
                    Some(ErrorKind::Damaged) if there => {
                        self.mounted.remove(&slot);
                        UnmountResult::GoneUnsaved("input/output error".into())
                    }
                    Some(_) if there => UnmountResult::Failed("it failed".into()),
                    _ if !there => UnmountResult::NotThere,
                    _ => {
                        self.mounted.remove(&slot);
                        UnmountResult::Gone
                    }
                };
                self.send(Event::Unmounted { job, result });
            }
            Job::Lock(mapping) => {
                let is_elsewhere = mapping.as_ref().is_some_and(|mapping| self.is_elsewhere(slot, mapping));
                let is_left = mapping.as_ref().is_some_and(|mapping| self.open[mapping].is_left);
                let result = match error {
                    _ if !is_left && is_elsewhere => LockResult::Held("mounted elsewhere".into()),
                    None | Some(ErrorKind::Absent | ErrorKind::Damaged) => {
                        self.open.remove(&mapping.unwrap());
                        match error {
                            Some(ErrorKind::Absent) => LockResult::LockedWithDisk,
                            Some(_) => LockResult::LockedUnsaved("input/output error".into()),
                            None => LockResult::Locked,
                        }
                    }
                    Some(ErrorKind::Busy) => LockResult::Held("somebody has it".into()),
                    Some(_) => LockResult::Failed("it failed".into()),
                };
                self.send(Event::Locked { job, result });
            }
            Job::Eject(seq) => {
                let result = match error {
                    None | Some(ErrorKind::Absent) => EjectResult::Ejected("it can be unplugged".into()),
                    Some(ErrorKind::Busy) => EjectResult::Busy("pid 1 (root, dd): open device".into()),
                    Some(_) => EjectResult::Failed("it failed".into()),
                };
                let gone = matches!(result, EjectResult::Ejected(_));
                self.send(Event::Ejected { job, result });
                if gone && self.disks.contains_key(&seq) {
                    self.pull(seq);
                }
            }
        }
    }

    /// The mount was ready before the disk was pulled, and the news of it came after that.
    pub(super) fn end_prepare_although_pulled(&mut self, job: JobId) {
        let Some((slot, Job::Prepare(order))) = self.jobs.remove(&job) else {
            panic!("not prepared: {job:?}")
        };
        self.is_prepared(job, slot, &order);
    }

    fn end_prepare(&mut self, job: JobId, slot: SlotId, order: &Order, error: Option<ErrorKind>) {
        let error = match error {
            None if disk_of(order).is_some_and(|seq| !self.disks.contains_key(&seq)) => {
                Some(ErrorKind::Absent)
            }
            // Somebody has brought another mount to the name.
            None if self.mounted.contains_key(&slot) => Some(ErrorKind::Busy),
            error => error,
        };
        match error {
            // It was opened, and could not be put away again.
            Some(kind @ ErrorKind::Other) => {
                let (_, opened) = self.open(slot, order, true);
                self.send(Event::Prepared {
                    job,
                    result: Err(failure(kind).and_left(Some(opened), "it hangs")),
                });
            }
            Some(kind) => {
                self.send(Event::Prepared { job, result: Err(failure(kind)) });
            }
            None => self.is_prepared(job, slot, order),
        }
    }

    fn is_prepared(&mut self, job: JobId, slot: SlotId, order: &Order) {
        let (mount, opened) = self.open(slot, order, false);
        self.jobs.insert(job, (slot, Job::Attach(opened.mapping.clone().unwrap())));
        let detached = Detached {
            mount,
            opened,
            filesystem: "ext4".into(),
            read_only: false,
            errors: 0,
            notes: Vec::new(),
        };
        self.send(Event::Prepared { job, result: Ok(detached) });
    }

    fn open(&mut self, slot: SlotId, order: &Order, fails: bool) -> (MountId, Opened) {
        let disk = disk_of(order);
        let mount = self.number();
        // Reused if it is open on that disk, and under another name if it is open on another.
        let reused = self.open.iter().find(|(_, open)| open.slot == slot && open.disk == disk);
        let is_left = fails && reused.is_none_or(|(_, open)| open.is_left);
        let mapping = reused.map_or_else(|| format!("mapping {mount}"), |(name, _)| name.clone());
        let mut mounts = reused.map_or_else(Vec::new, |(_, open)| open.mounts.clone());
        mounts.push(mount);
        let open = Open { slot, disk, partition: order.partition, mount, mounts, is_left };
        self.open.insert(mapping.clone(), open);
        (mount, Opened { mapping: Some(mapping), ..Opened::default() })
    }

    fn check(&mut self, action: &Action) {
        assert!(!self.ended || matches!(action, Action::Log(..)), "after the end: {action:?}");
        match action {
            Action::Answer(request, answer) => self.check_answer(*request, *answer),
            Action::Prepare { job, slot, order } => {
                let name = self.shown.get(slot).expect("nothing is opened for a hidden name");
                assert!(self.configured().contains(name), "opened for a name that is leaving");
                self.add_job(*job, *slot, Job::Prepare(Box::new(order.clone())))
            }
            Action::Cancel(job) => {
                self.cancelled.insert(*job);
            }
            Action::Attach { job, first } => {
                let slot = self.jobs[job].0;
                for request in first {
                    self.check_answer(*request, Answer::Retry);
                }
                self.no_lock_holder_waits(slot);
            }
            Action::Abandon(job) => {
                let job = self.jobs.get_mut(job).expect("only what was prepared is abandoned");
                let Job::Attach(mapping) = &job.1 else { panic!("abandoned: {job:?}") };
                job.1 = Job::Lock(Some(mapping.clone()));
            }
            Action::Unmount { job, slot, mount, how, disk } => {
                let grace = self.last_retry.get(slot).is_none_or(|&last| self.elapsed >= last + slot::GRACE);
                assert!(grace || *how == Unmount::Lazy, "unmounted within a second of a trigger");
                let of = self.open.values().find(|open| open.mount == *mount).and_then(|open| open.disk);
                // A mapping that is mounted a second time is known here by that mount only.
                let is_there = of.is_none_or(|seq| self.disks.contains_key(&seq));
                assert!(disk.is_none() || is_there, "only a disk that is there is asked after it");
                self.add_job(*job, *slot, Job::Unmount(*mount, *how));
            }
            Action::Lock { job, opened, .. } => {
                let slot = self.core.shared.slot_of_job(*job).expect("a job has a slot");
                let is_mounted = self.mounted.contains_key(&slot) && !self.back.contains(&slot);
                assert!(!is_mounted, "locked while mounted");
                self.add_job(*job, slot, Job::Lock(opened.mapping.clone()));
            }
            Action::Eject { job, sequence, .. } => {
                let slot = self.core.shared.slot_of_job(*job).expect("a job has a slot");
                self.add_job(*job, slot, Job::Eject(*sequence));
            }
            Action::Names { shown, hidden } => {
                assert!(
                    shown.is_empty() || self.forgetting == 0,
                    "a name could come back before it is forgotten"
                );
                self.forgetting += 1;
                for (slot, name) in shown {
                    assert!(self.shown.insert(*slot, name.to_string()).is_none(), "shown twice");
                }
                for slot in hidden {
                    assert!(self.shown.remove(slot).is_some(), "hidden twice");
                    assert!(
                        !self.mounted.contains_key(slot),
                        "the kernel would detach what is mounted there"
                    );
                    assert!(self.jobs.values().all(|(of, _)| of != slot), "a job of a hidden name");
                    assert!(self.open.values().all(|open| open.slot != *slot), "left open");
                    assert!(self.waiting.values().all(|request| request.slot != *slot), "left waiting");
                }
            }
            Action::LookAtMounts => self.asked = true,
            Action::Tell(command, what) => {
                assert!(self.commands.contains(command), "told after the reply: {action:?}");
                let before = self.told.insert(*command, what.clone());
                assert_ne!(before.as_ref(), Some(what), "told twice");
            }
            Action::LookAtCaller(request) => {
                self.looked_at.insert(*request);
            }
            Action::Reply(command, result) => {
                assert!(self.commands.remove(command), "replied twice: {action:?}");
                self.replies.insert(*command, result.clone());
            }
            Action::End { command, loss } => {
                assert!(self.open.is_empty() && self.mounted.is_empty() && self.jobs.is_empty());
                if let Some(command) = command {
                    assert!(self.commands.contains(command), "its reply is the end, or why there is none");
                }
                self.ended = true;
                self.loss.clone_from(loss);
            }
            Action::GiveUp => {
                assert!(!self.jobs.is_empty(), "there is nothing to give up for");
                assert!(self.waiting.is_empty(), "left without an answer: {:?}", self.waiting);
                self.ended = true;
            }
            Action::Leave => {
                assert!(self.jobs.is_empty() && self.commands.is_empty());
                assert!(self.waiting.is_empty(), "left without an answer: {:?}", self.waiting);
                self.ended = true;
            }
            Action::Guest(action) => self.hypervisor.take(action, &self.disks, &self.open),
            Action::Show(..) | Action::Log(..) | Action::StillEnding(_) => {}
        }
    }

    fn add_job(&mut self, job: JobId, slot: SlotId, work: Job) {
        assert!(self.jobs.values().all(|(other, _)| *other != slot), "two jobs at once for one slot");
        assert!(self.jobs.insert(job, (slot, work)).is_none());
    }

    fn check_answer(&mut self, request: RequestId, answer: Answer) {
        let Request { slot, wants, deadline } =
            self.waiting.remove(&request).expect("answered twice, or never asked");
        assert!(self.elapsed <= deadline, "answered after the deadline: {request:?}");
        match (wants, answer) {
            (Wants::Walk, Answer::Entry) => {}
            (Wants::Walk, Answer::Fail(libc::ENOENT)) if !self.shown.contains_key(&slot) => {}
            (Wants::Enter(_), Answer::Fail(errno)) => self.errors.push(errno),
            (Wants::Enter(_), Answer::Retry) => {
                self.last_retry.insert(slot, self.elapsed);
            }
            other => panic!("a wrong answer: {other:?}"),
        }
    }

    fn no_lock_holder_waits(&self, slot: SlotId) {
        let waits =
            |request: &Request| request.slot == slot && request.wants == Wants::Enter(Hold::Directory);
        assert!(!self.waiting.values().any(waits), "move_mount would wait for ever");
    }

    /// Of a disk that is being ejected nothing is open, nor about to be.
    fn nothing_is_ejected_in_use(&self) {
        let ejecting = self.jobs.values().filter_map(|(_, job)| match job {
            Job::Eject(seq) => Some(*seq),
            _ => None,
        });
        for seq in ejecting {
            assert!(self.open.values().all(|open| open.disk != Some(seq)), "ejected while it is open");
            let opening = |job: &Job| matches!(job, Job::Prepare(order) if disk_of(order) == Some(seq));
            assert!(!self.jobs.values().any(|(_, job)| opening(job)), "opened while it is ejected");
        }
    }

    /// What must hold after every event.
    fn check_rest(&self) {
        self.nothing_is_ejected_in_use();
        self.hypervisor.check(&self.open);
        let mut owners = BTreeMap::new();
        for open in self.open.values() {
            if let Some(disk) = open.disk {
                let other = owners.insert((disk, open.partition), open.slot);
                assert!(other.is_none_or(|slot| slot == open.slot), "one disk open for two names");
            }
        }
        for slot in (0..self.core.slots.len()).map(SlotId) {
            let attaching = matches!(self.core.slots[slot.0].state, slot::State::Attaching { .. });
            if attaching {
                self.no_lock_holder_waits(slot);
            }
            // What is open is mounted, or a job or a timer will see to it.
            let is_open = self.open.values().any(|open| open.slot == slot);
            if is_open && !self.mounted.contains_key(&slot) {
                let job = self.jobs.values().any(|(of, _)| *of == slot);
                let timer = self.core.slots[slot.0].next_tick().is_some();
                let unseen = matches!(self.core.slots[slot.0].state, slot::State::Mounted { .. });
                assert!(job || timer || unseen, "{slot:?} stays open and nobody will lock it");
            }
        }
    }
}

pub(super) fn disk_of(order: &Order) -> Option<DiskSeq> {
    match order.source {
        Source::Device { diskseq, .. } => Some(DiskSeq(diskseq)),
        Source::Image(_) => None,
    }
}

fn failure(kind: ErrorKind) -> DiskError {
    DiskError::new(kind, format!("{kind:?}"))
}

/// A disk whose id is `id` and whose UUID begins with the first two letters of it.
pub(super) fn disk(seq: DiskSeq, id: &str) -> Disk {
    let content =
        Content { fs_type: Some("ext4".into()), uuid: id.get(..2).map(str::to_owned), ..Content::default() };
    Disk {
        seq,
        node: BlockNode {
            devnode: PathBuf::from(format!("/dev/sd{}", seq.0)),
            devnum: seq.0,
            size: 1 << 30,
            content,
            probed: true,
        },
        ids: [id.to_owned()].into(),
        preferred_id: Some(id.to_owned()),
        wwns: BTreeSet::new(),
        model: None,
        port: None,
        partitions: if id == "parts" { vec![partition(1), partition(2)] } else { Vec::new() },
        read_only: false,
    }
}

fn partition(number: u32) -> Partition {
    let content = Content { fs_type: Some("ext4".into()), ..Content::default() };
    let devnode = PathBuf::from(format!("/dev/sdp{number}"));
    let node = BlockNode { devnode, devnum: 900 + u64::from(number), size: 1 << 20, content, probed: true };
    Partition { number, partuuid: None, node }
}
