//! A world for the core: disks that are plugged and pulled, mounts, mappings, and callers that wait.

use std::collections::btree_map::Entry;
use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

use super::configs::CONFIG;
use super::hypervisor::Hypervisor;
use super::jobs::Job;
use crate::config::{self, Config};
use crate::core::*;
use crate::device::{BlockNode, Content, Disk, DiskSeq, Partition};
use crate::disk::Damage;

/// The mount that somebody else makes over a name.
const COVER: MountId = 1_000_000;

/// So long a command waits for what comes of a device and a guest.
const PATIENCE: Duration = Duration::from_secs(30);

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
    /// When whoever gave a device to a guest, or took it away, is told how far it is.
    pub(super) told_by: BTreeMap<CommandId, Duration>,
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
            told_by: BTreeMap::new(),
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
        if let Event::GuestAttach { command, .. } | Event::GuestDetach { command, .. } = event {
            self.told_by.insert(command, self.elapsed + PATIENCE);
        }
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
        let late = self.told_by.iter().find(|&(_, &deadline)| deadline < to);
        assert!(late.is_none(), "not told by the deadline: {late:?} at {to:?}");
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
