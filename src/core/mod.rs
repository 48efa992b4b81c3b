//! The functional core: every decision of the daemon, as a state machine. Events go in, actions come out; it
//! does no input or output, asks no clock, and knows nothing of threads, system calls, udev and FUSE. Time is
//! a parameter, so that every race is a sequence of events in a test.

mod closing;
mod event;
mod guests;
mod inventory;
mod leaving;
mod loss;
mod outside;
mod reload;
mod shared;
mod slot;
mod snapshot;
mod stopping;
mod under_way;
mod waiting;

#[cfg(test)]
mod tests;

use std::collections::{BTreeSet, VecDeque};
use std::sync::Arc;
use std::time::Instant;

pub use event::{
    Action, Answer, CommandId, Detached, EjectResult, Event, Hold, JobId, Level, LockResult, MountId, Now,
    OnName, RequestId, SlotId, Unmount, UnmountResult, Wish,
};
pub use shared::Line;
pub use snapshot::{
    DeviceStatus, GuestDeviceState, GuestDeviceStatus, GuestState, GuestStatus, MountState, MountStatus,
    Snapshot,
};

use crate::config::{Config, OnExit};
use guests::{Guests, Host};
use shared::Shared;
use slot::Slot;
use stopping::Stop;

/// All state of the daemon.
#[derive(Debug)]
#[cfg_attr(test, derive(Clone))]
pub struct Core {
    config: Arc<Config>,
    slots: Vec<Slot>,
    shared: Shared,
    guests: Guests,
    /// When which slot has something to do.
    timers: BTreeSet<(Instant, SlotId)>,
    /// Where each slot stands in `timers`.
    ticks: Vec<Option<Instant>>,
    stop: Option<Stop>,
    /// The last action of a stop has been given.
    ending: bool,
    /// Nobody can reach us any more: lock everything, however long it takes, and end.
    root_gone: bool,
    /// Slots that the config has no longer, while something of them is open.
    leaving: BTreeSet<SlotId>,
    /// How many [`Action::Names`] are not done yet. No name comes back before the kernel has forgotten it.
    forgetting: usize,
    /// They wait for that.
    reloads: VecDeque<reload::Reload>,
    /// What they are told then: when a command has returned, a name that was removed is not found.
    reloaded: Vec<(CommandId, Result<String, String>)>,
}

impl Core {
    /// A core for this config, which nothing has happened to yet. Slot numbers are places in `config.mounts`.
    pub fn new(config: Arc<Config>, now: Now) -> Self {
        let slot = |(number, mount): (usize, &Arc<crate::config::Mount>)| {
            Slot::new(SlotId(number), Arc::clone(mount))
        };
        let slots: Vec<_> = config.mounts.iter().enumerate().map(slot).collect();
        let ticks = vec![None; slots.len()];
        Self {
            config,
            slots,
            shared: Shared::new(now),
            guests: Guests::default(),
            timers: BTreeSet::new(),
            ticks,
            stop: None,
            ending: false,
            root_gone: false,
            leaving: BTreeSet::new(),
            forgetting: 0,
            reloads: VecDeque::new(),
            reloaded: Vec::new(),
        }
    }

    /// Takes one event and says what is to be done, in this order.
    pub fn handle(&mut self, now: Now, event: Event) -> Vec<Action> {
        self.shared.now = now;
        match event {
            Event::Trigger { request, slot, hold } => {
                self.shared.triggers += 1;
                self.with(slot, |slot, shared| slot.trigger(request, hold, shared));
            }
            Event::Walk { request, slot } => self.with(slot, |slot, shared| slot.walk(request, shared)),
            Event::Interrupted(request) => self.shared.interrupted(request),
            Event::Caller { request, dying } => {
                if let Some(slot) = self.shared.slot_of_request(request) {
                    self.with(slot, |slot, shared| slot.caller(request, dying, shared));
                }
            }
            Event::DiskPresent(disk) => self.disk_present(*disk),
            Event::DiskGone(seq) => self.disk_gone(seq),
            Event::UsbPresent(device) => self.shared.inventory.usb_present(device),
            Event::UsbGone { bus, address } => self.shared.inventory.usb_gone(bus, address),
            Event::Blind(why) => self.shared.log(Level::Error, format!("{why}; restart the daemon")),
            // Its attach or discard is still to come.
            Event::Prepared { job, result } => {
                self.job(job, result.is_err(), |slot, shared| slot.prepared(job, result, shared));
            }
            Event::Attached { job, result } => {
                self.job(job, true, |slot, shared| slot.attached(job, result, shared))
            }
            Event::Unmounted { job, result } => {
                self.job(job, true, |slot, shared| slot.unmounted(job, result, shared))
            }
            Event::Locked { job, result } => {
                self.job(job, true, |slot, shared| slot.locked(job, result, shared))
            }
            Event::Mounts { read, on } => self.mounts(read, &on),
            Event::Left { slot, is_mounted, detached } => {
                self.with(slot, |slot, shared| slot.left(is_mounted, detached, shared));
            }
            Event::Guest(event) => self.guests.happened(event, &mut self.shared),
            Event::GuestAttach { command, device, guest } => {
                let host = host(&self.config, &self.slots, &self.shared);
                let refusal = self.guests.attach(command, &device, guest.as_deref(), host);
                refusal.into_iter().for_each(|action| self.shared.act(action));
            }
            Event::GuestDetach { command, device } => {
                let host = host(&self.config, &self.slots, &self.shared);
                let refusal = self.guests.detach(command, &device, host);
                refusal.into_iter().for_each(|action| self.shared.act(action));
            }
            Event::Umount { command, name, wish, waits } => {
                self.umount(leaving::Command::new(command, wish, waits), &name);
            }
            Event::GaveUp(command) => {
                let slot = self.slots.iter().find(|slot| slot.has_command(command)).map(|slot| slot.id);
                if let Some(slot) = slot {
                    self.with(slot, |slot, shared| slot.gave_up(command, shared));
                }
                self.guests.gave_up(command, &mut self.shared);
            }
            Event::Ejected { job, result } => {
                self.job(job, true, |slot, shared| slot.ejected(job, result, shared));
            }
            Event::Reload { command, config } => self.reload(command, config),
            Event::Forgotten => self.forgotten(),
            Event::Stop(None) if self.config.on_exit == OnExit::Keep => self.begin_leaving(),
            Event::Stop(command) => self.begin_stop(command),
            Event::RootBusy(why) => self.refuse_stop(&why),
            Event::RootGone => {
                self.root_gone = true;
                self.begin_stop(None);
            }
            Event::Status(request) => self.shared.act(Action::Show(request, Box::new(self.snapshot()))),
            Event::Tick => self.tick(),
        }
        self.let_go();
        self.go_on_stopping();
        self.look_at_guests();
        self.shared.take_actions()
    }

    /// When [`Event::Tick`] is due; `None`: nothing is to be done unless something happens.
    pub fn next_wakeup(&self) -> Option<Instant> {
        if self.ending {
            return None;
        }
        let first = self.timers.first().map(|&(at, _)| at);
        [first, self.guests.next_wakeup(), self.next_of_stop()].into_iter().flatten().min()
    }

    /// What guests get and give back. The end of the daemon waits for none: what they have they keep.
    fn look_at_guests(&mut self) {
        if self.ending || !self.guests.is_due(self.shared.now.monotonic, &self.shared.inventory) {
            return;
        }
        self.guests.recall_hands(&self.shared.inventory);
        let decision = self.guests.decide(self.host());
        self.guests.carry_out(decision, &mut self.shared);
    }

    fn host(&self) -> Host<'_> {
        host(&self.config, &self.slots, &self.shared)
    }

    fn with(&mut self, id: SlotId, what: impl FnOnce(&mut Slot, &mut Shared)) {
        let Some(slot) = self.slots.get_mut(id.0) else { return };
        what(slot, &mut self.shared);
        let next = slot.next_tick();
        let Some(tick) = self.ticks.get_mut(id.0) else { return };
        if *tick == next {
            return;
        }
        if let Some(old) = tick.take() {
            self.timers.remove(&(old, id));
        }
        if let Some(new) = next {
            self.timers.insert((new, id));
        }
        *tick = next;
    }

    fn job(&mut self, job: JobId, ends: bool, what: impl FnOnce(&mut Slot, &mut Shared)) {
        let slot = if ends { self.shared.job_ended(job) } else { self.shared.slot_of_job(job) };
        if let Some(slot) = slot {
            self.with(slot, what);
        }
    }

    fn tick(&mut self) {
        if self.ending {
            // What is left is left.
            return;
        }
        let now = self.shared.now.monotonic;
        let due: Vec<_> =
            self.timers.iter().take_while(|&&(at, _)| at <= now).map(|&(_, slot)| slot).collect();
        for slot in due {
            self.with(slot, Slot::tick);
        }
    }

    fn disk_present(&mut self, disk: crate::device::Disk) {
        let (seq, new) = (disk.seq, self.shared.inventory.disk(disk.seq).is_none());
        if !self.shared.inventory.disk_present(disk) {
            return;
        }
        let Some(disk) = self.shared.inventory.disk(seq) else { return };
        let mut names = Vec::new();
        for slot in self.slots.iter_mut().filter(|slot| slot.lists(disk)) {
            // Whatever failed, failed on what was there then.
            slot.failure = None;
            names.push(slot.config.name.as_str().to_owned());
        }
        if new && !names.is_empty() {
            let what = self.shared.inventory.describe_disk(seq);
            self.shared.log(Level::Info, format!("{what} is attached, for {}", names.join(", ")));
        }
    }

    fn disk_gone(&mut self, seq: crate::device::DiskSeq) {
        let what = self.shared.inventory.describe_disk(seq);
        let (disk, owners) = self.shared.inventory.disk_gone(seq);
        let Some(disk) = disk else { return };
        let mut wanted = false;
        for slot in &mut self.slots {
            if slot.lists(&disk) {
                slot.failure = None;
                wanted = true;
            }
        }
        if wanted {
            self.shared.log(Level::Info, format!("{what} is detached"));
        }
        for slot in owners {
            self.with(slot, |slot, shared| slot.pulled(seq, shared));
        }
    }

    fn mounts(&mut self, read: Instant, on: &[OnName]) {
        let mut by_slot: std::collections::HashMap<SlotId, Vec<&OnName>> = std::collections::HashMap::new();
        for mount in on {
            by_slot.entry(mount.slot).or_default().push(mount);
        }
        for number in 0..self.slots.len() {
            let id = SlotId(number);
            let mounts = by_slot.remove(&id).unwrap_or_default();
            if self.slots.get(number).is_some_and(|slot| !mounts.is_empty() || slot.expects_mounts()) {
                self.with(id, |slot, shared| slot.seen(read, &mounts, shared));
            }
        }
    }

    fn umount(&mut self, command: leaving::Command, name: &str) {
        let is_it =
            |slot: &&Slot| slot.membership != slot::Membership::Gone && slot.config.name.as_str() == name;
        let Some(slot) = self.slots.iter().find(is_it) else {
            return self.shared.act(Action::Reply(command.id, Err(event::unknown_name(name))));
        };
        if self.shared.keeping {
            return self.shared.act(Action::Reply(command.id, Err(format!("{name}: the daemon ends"))));
        }
        if command.wish == Wish::Ejected {
            if let Some(others) = self.others_on_the_disk_of(slot) {
                let why = format!("{name} is not ejected: its disk is in use by {others} too");
                return self.shared.act(Action::Reply(command.id, Err(why)));
            }
        }
        self.with(slot.id, |slot, shared| slot.wanted(command, shared));
    }

    /// The other names that have something of the disk open which this one has, or would be given.
    fn others_on_the_disk_of(&self, slot: &Slot) -> Option<String> {
        let disk = slot.disk(&self.shared)?;
        let owners = self.shared.inventory.owners(disk).filter(|&owner| owner != slot.id);
        let names: Vec<_> =
            owners.filter_map(|owner| Some(self.slots.get(owner.0)?.config.name.as_str())).collect();
        (!names.is_empty()).then(|| names.join(", "))
    }
}

/// The host's side of what guests may get.
fn host<'a>(config: &'a Config, slots: &'a [Slot], shared: &'a Shared) -> Host<'a> {
    Host {
        guests: &config.guests,
        mounts: &config.mounts,
        slots,
        inventory: &shared.inventory,
        now: shared.now.monotonic,
    }
}
