//! A new config while the old one is in use. What is idle changes at once; what is in use stays as it is until it is
//! idle, and is said to be leaving if the new config has no place for it. Knows nothing of files.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use super::Core;
use super::event::{Action, CommandId, Level, SlotId};
use super::inventory::{Inventory, Place};
use super::shared::Shared;
use super::slot::{GRACE, Membership, Slot, State};
use crate::config::{Config, Mount, MountOptions};
use crate::device::{Disk, DiskSpec, Found, MountName};

/// What is leaving has gone after one to two of it without use, whatever its idle-timeout.
pub(super) const LEAVING_TIMEOUT: Duration = Duration::from_secs(5 * 60);

/// How many names a sentence has.
const TOLD: usize = 20;

/// A config to come, and who is to be told how it went.
#[derive(Debug)]
#[cfg_attr(test, derive(Clone))]
pub(super) struct Reload {
    pub(super) command: Option<CommandId>,
    pub(super) config: Result<Arc<Config>, String>,
}

/// What a new config changes.
#[derive(Debug, Default)]
struct Changes {
    /// Not in the root yet.
    shown: Vec<(SlotId, MountName)>,
    /// Those, and those that were leaving.
    added: usize,
    changed: usize,
    removed: Vec<SlotId>,
    guests: bool,
    on_exit: bool,
}

impl Changes {
    fn are_any(&self) -> bool {
        self.added + self.changed + self.removed.len() > 0 || self.guests || self.on_exit
    }
}

impl Core {
    /// The config was read again. In the order in which they were read.
    pub(super) fn reload(&mut self, command: Option<CommandId>, config: Result<Arc<Config>, String>) {
        self.reloads.push_back(Reload { command, config });
        self.go_on_reloading();
    }

    /// The kernel remembers nothing of the names that were hidden.
    pub(super) fn forgotten(&mut self) {
        self.forgetting = self.forgetting.saturating_sub(1);
        self.go_on_reloading();
    }

    /// The daemon is about to end: those that wait are refused.
    pub(super) fn end_reloads(&mut self) {
        for Reload { command, .. } in std::mem::take(&mut self.reloads) {
            self.say_reloaded(command, Err(STOPPING.to_owned()));
        }
        self.reply_reloaded();
    }

    /// Names of which nothing is open any more go.
    pub(super) fn let_go(&mut self) {
        let Self { leaving, slots, .. } = self;
        let is_closed = |id: &SlotId| slots.get(id.0).is_none_or(Slot::is_over);
        let hidden: Vec<_> = leaving.iter().copied().filter(is_closed).collect();
        for &id in &hidden {
            self.leaving.remove(&id);
            if let Some(slot) = self.slots.get_mut(id.0) {
                slot.go();
                self.shared
                    .log(Level::Info, format!("{} has left, as it is not configured", slot.config.name));
            }
        }
        self.change_names(Vec::new(), hidden);
    }

    fn go_on_reloading(&mut self) {
        while self.forgetting == 0 {
            self.reply_reloaded();
            let Some(Reload { command, config }) = self.reloads.pop_front() else { return };
            let result = config.and_then(|config| self.take_config(config));
            self.say_reloaded(command, result);
        }
    }

    fn reply_reloaded(&mut self) {
        for (command, result) in self.reloaded.drain(..) {
            self.shared.act(Action::Reply(command, result));
        }
    }

    fn say_reloaded(&mut self, command: Option<CommandId>, result: Result<String, String>) {
        let result = match result {
            Ok(done) => Ok(format!("reloaded: {done}")),
            Err(why) => Err(format!("not reloaded, nothing has changed: {why}")),
        };
        let (level, text) = match &result {
            Ok(text) => (Level::Info, text),
            Err(text) => (Level::Error, text),
        };
        self.shared.log(level, text.clone());
        self.reloaded.extend(command.map(|command| (command, result)));
    }

    fn take_config(&mut self, config: Arc<Config>) -> Result<String, String> {
        if self.stop.is_some() {
            return Err(STOPPING.to_owned());
        }
        let mountpoint = self.config.mountpoint.display();
        let remount = |key| {
            format!("{key} cannot change while {mountpoint} is mounted: `umount {mountpoint}`, then mount")
        };
        if config.mountpoint != self.config.mountpoint {
            return Err(format!("{} {}", remount("mountpoint"), config.mountpoint.display()));
        }
        if config.libvirt != self.config.libvirt {
            return Err(format!("{} it again", remount("libvirt")));
        }
        let changes = self.compare(&config);
        self.config = config;
        if changes.are_any() {
            self.guests.look_again();
        }
        let done = self.describe(&changes);
        let slots = &self.slots;
        let is_leaving =
            |id: &SlotId| slots.get(id.0).is_some_and(|slot| slot.membership == Membership::Leaving);
        self.leaving.retain(is_leaving);
        let is_closed = |id: &SlotId| self.slots.get(id.0).is_none_or(Slot::is_over);
        let (hidden, leaving): (Vec<_>, Vec<_>) = changes.removed.into_iter().partition(is_closed);
        self.leaving.extend(leaving);
        for id in &hidden {
            self.slots.get_mut(id.0).into_iter().for_each(Slot::go);
        }
        self.change_names(changes.shown, hidden);
        Ok(done)
    }

    /// Gives each slot its part of the config, new ones at the end.
    fn compare(&mut self, config: &Config) -> Changes {
        let of_name = |slot: &Slot| (slot.config.name.clone(), slot.id);
        let mut known: HashMap<_, _> = self.slots.iter().map(of_name).collect();
        let old = &self.config;
        let mut changes = Changes {
            guests: config.guests != old.guests,
            on_exit: config.on_exit != old.on_exit,
            ..Changes::default()
        };
        for mount in &config.mounts {
            let Some(id) = known.remove(&mount.name) else {
                let id = SlotId(self.slots.len());
                self.slots.push(Slot::new(id, Arc::clone(mount)));
                self.ticks.push(None);
                changes.shown.push((id, mount.name.clone()));
                changes.added += 1;
                continue;
            };
            self.with(id, |slot, shared| {
                if slot.membership == Membership::Gone {
                    changes.shown.push((id, mount.name.clone()));
                }
                if slot.membership != Membership::Configured {
                    changes.added += 1;
                } else if **slot.newest() != **mount {
                    changes.changed += 1;
                }
                slot.configure(mount, shared);
            });
        }
        let mut removed: Vec<_> = known.into_values().collect();
        removed.sort_unstable();
        for id in removed {
            self.with(id, |slot, shared| {
                if slot.membership == Membership::Configured {
                    changes.removed.push(id);
                    slot.remove(shared);
                }
            });
        }
        changes
    }

    fn change_names(&mut self, shown: Vec<(SlotId, MountName)>, hidden: Vec<SlotId>) {
        if !shown.is_empty() || !hidden.is_empty() {
            self.forgetting += 1;
            self.shared.act(Action::Names { shown, hidden });
        }
    }

    fn describe(&self, changes: &Changes) -> String {
        let counts =
            [(changes.added, "added"), (changes.changed, "changed"), (changes.removed.len(), "removed")];
        let mut parts: Vec<String> = Vec::new();
        for (count, what) in counts.into_iter().filter(|&(count, _)| count > 0) {
            parts.push(format!("{count} {} {what}", if count == 1 { "name" } else { "names" }));
        }
        parts.extend(changes.guests.then(|| "guests changed".to_owned()));
        parts.extend(changes.on_exit.then(|| "on-exit changed".to_owned()));
        if parts.is_empty() {
            parts.push("the configuration is the same".to_owned());
        }
        let leaving = self.slots.iter().filter(|slot| slot.is_leaving() && !slot.is_over());
        let mut names: Vec<_> = leaving.map(|slot| slot.config.name.to_string()).collect();
        if !names.is_empty() {
            names.sort_unstable();
            let more = names.len().saturating_sub(TOLD);
            names.truncate(TOLD);
            let more = if more == 0 { String::new() } else { format!(" and {more} more") };
            parts.push(format!("in use and leaving as soon as it is idle: {}{more}", names.join(", ")));
        }
        parts.join("; ")
    }
}

const STOPPING: &str = "everything is being unmounted";

impl Slot {
    /// What is configured now, whether or not it holds already.
    pub(super) fn newest(&self) -> &Arc<Mount> {
        self.next.as_ref().unwrap_or(&self.config)
    }

    /// The name, or the disk that is in use, has no place in the config any more.
    pub(super) fn is_leaving(&self) -> bool {
        self.membership == Membership::Leaving || self.disk_leaves
    }

    /// Whether one of its disks is this one.
    pub(super) fn lists(&self, disk: &Disk) -> bool {
        self.membership != Membership::Gone
            && self.newest().disks.iter().any(|spec| spec.find(disk).is_some())
    }

    /// After how long without use it is unmounted.
    pub(super) fn idle_timeout(&self) -> Option<Duration> {
        let configured = self.newest().idle_timeout;
        if self.is_leaving() {
            Some(configured.map_or(LEAVING_TIMEOUT, |idle| idle.min(LEAVING_TIMEOUT)))
        } else {
            configured
        }
    }

    /// Nothing of it is open, and nobody waits for what comes of it.
    fn is_over(&self) -> bool {
        self.is_closed() && self.commands.is_empty()
    }

    /// The config has the name, and says this of it.
    fn configure(&mut self, mount: &Arc<Mount>, shared: &Shared) {
        let (idle, is_new) = (self.idle_timeout(), self.newest() != mount);
        self.membership = Membership::Configured;
        if is_new {
            // Whatever failed, failed by what was configured then.
            self.failure = None;
        }
        if self.state == State::Idle || *self.config == **mount {
            // Equal, but one copy is enough.
            self.config = Arc::clone(mount);
            self.next = None;
        } else {
            self.next = Some(Arc::clone(mount));
        }
        self.disk_leaves = !self.keeps_disk(&shared.inventory);
        self.wait_anew(idle, shared);
    }

    /// The config does not have the name any more.
    fn remove(&mut self, shared: &Shared) {
        let idle = self.idle_timeout();
        self.membership = Membership::Leaving;
        self.wait_anew(idle, shared);
    }

    /// Nothing of it is open, and it is not in the root.
    fn go(&mut self) {
        self.membership = Membership::Gone;
        self.failure = None;
        self.loss = None;
        // Its number stays for ever, so little else should.
        self.config = Arc::new(Mount {
            name: self.config.name.clone(),
            disks: Vec::new(),
            key_file: None,
            filesystem: None,
            options: MountOptions::default(),
            idle_timeout: None,
            access_timeout: self.config.access_timeout,
        });
    }

    /// A time-out that has changed counts from now on.
    fn wait_anew(&mut self, before: Option<Duration>, shared: &Shared) {
        let idle = self.idle_timeout();
        if let State::Mounted { expire_at, .. } = &mut self.state {
            if idle != before {
                *expire_at = idle.map(|idle| shared.now.monotonic + idle.max(GRACE));
            }
        }
    }

    /// Whether the disk that is in use, if one is, is among those that are configured now.
    fn keeps_disk(&self, inventory: &Inventory) -> bool {
        let Some(next) = &self.next else { return true };
        let spec = match &self.state {
            State::Idle | State::Locking { .. } | State::Ejecting { .. } => return true,
            State::Preparing { spec, .. } => Some(*spec),
            State::Attaching { in_use, .. }
            | State::Mounted { in_use, .. }
            | State::Unmounting { in_use, .. } => in_use.spec,
        };
        if let Some(place) = self.place() {
            // One that has been pulled goes anyway.
            let disk = inventory.disk(place.disk);
            return disk.is_none_or(|disk| next.disks.iter().any(|spec| is_at(spec, disk, place)));
        }
        let images =
            |mount: &Mount| mount.disks.iter().filter_map(|spec| spec.image.clone()).collect::<Vec<_>>();
        let used = match spec.and_then(|spec| self.config.disks.get(spec)) {
            Some(spec) => spec.image.iter().cloned().collect(),
            None => images(&self.config),
        };
        let listed = images(next);
        used.iter().any(|image| listed.contains(image))
    }
}

/// Whether that is what an access by this entry would use.
fn is_at(spec: &DiskSpec, disk: &Disk, place: Place) -> bool {
    match (spec.find(disk), place.partition) {
        (None, _) | (Some(Found::Whole), Some(_)) | (Some(Found::Partition(_)), None) => false,
        (Some(Found::Partition(one)), Some(other)) => one == other,
        (Some(Found::Whole), None) | (Some(Found::Undecided), _) => true,
    }
}
