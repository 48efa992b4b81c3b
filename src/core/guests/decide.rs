//! From what is wanted and what is to what is to be done next. The decision changes nothing; its steps are then
//! carried out in one go.

use std::collections::{BTreeSet, HashMap};
use std::path::PathBuf;
use std::time::{Duration, Instant};

use super::plug::{Alias, Plug};
use super::verdict::{By, Hindrance, Verdict, verdict, wrong};
use super::view::{Host, View, sightings, usb};
use super::worker::{DEADLINE, Given, Work};
use super::{Connection, Guests, Hand, describe};
use crate::core::event::{Action, Level};
use crate::core::inventory::Inventory;
use crate::core::shared::Shared;
use crate::device::{DiskSeq, GuestName};
use crate::guests::{GuestAction, LiveKind, NewDevice};

/// How often guests are looked at for what nobody reported, while somebody waits for one of them.
const SLOW: Duration = Duration::from_secs(60);

/// What one look at everything comes to.
#[derive(Debug, Default)]
pub(in crate::core) struct Decision {
    attach: Vec<(GuestName, Alias, NewDevice)>,
    detach: Vec<(GuestName, Alias)>,
    /// Guests whose state somebody waits for.
    awaited: BTreeSet<String>,
    given: Vec<(GuestName, Alias, Given)>,
    /// Somebody wants a guest, by a reload or by hand, and nobody did before.
    connect: bool,
    /// Why no slot may have a disk.
    disks: HashMap<DiskSeq, String>,
    sources: HashMap<PathBuf, String>,
    wakeup: Option<Instant>,
    /// How the commands of people end.
    replies: Vec<(usize, Result<String, String>)>,
}

impl Guests {
    /// Whether [`Guests::decide`] may come to something else than the last time.
    pub(in crate::core) fn is_due(&self, now: Instant, inventory: &Inventory) -> bool {
        self.look_again || self.revision != inventory.revision() || self.wakeup.is_some_and(|at| at <= now)
    }

    /// What a person gave to a guest is known by its alias, to a later run too; what is pulled is nobody's wish.
    pub(in crate::core) fn recall_hands(&mut self, inventory: &Inventory) {
        self.hands.retain(|plug, _| is_present(inventory, *plug));
        for sighting in sightings(inventory, &self.domains).iter().filter(|sighting| sighting.is_true) {
            let Some(alias) = sighting.alias.filter(|alias| alias.by_hand) else { continue };
            if let Ok(guest) = sighting.domain.parse() {
                self.hands.entry(alias.plug).or_insert(Hand::To(guest));
            }
        }
        for worker in self.workers.values_mut() {
            worker.attaching.retain(|alias, _| is_present(inventory, alias.plug));
        }
    }

    /// What is to be done.
    pub(in crate::core) fn decide(&self, host: Host<'_>) -> Decision {
        let view = View::new(host, self);
        let wanted = !host.guests.is_empty() || !view.wishes.is_empty();
        let connect = wanted && self.connection == Connection::Unknown && !self.connecting;
        let mut decision = Decision { connect, ..Decision::default() };
        for wish in &view.wishes {
            if let Verdict::Attached(alias, target) = verdict(&view, wish) {
                let given = Given { id: wish.id.clone(), kind: wish.kind, target };
                decision.given.push((wish.guest.clone(), alias, given));
            }
        }
        for guest in self.guests_of(&view) {
            self.decide_guest(&view, &guest, &mut decision);
        }
        self.decide_disks(&view, &mut decision);
        decision.replies = self.replies(&view);
        let deadlines = self.commands.iter().map(|command| command.deadline);
        decision.wakeup = decision.wakeup.into_iter().chain(deadlines).min();
        decision
    }

    /// All that something is wanted of, or that have something of ours.
    fn guests_of(&self, view: &View<'_>) -> BTreeSet<GuestName> {
        let have = view.sightings.iter().filter(|sighting| sighting.alias.is_some());
        let have = have.filter_map(|sighting| sighting.domain.parse().ok());
        view.wishes
            .iter()
            .map(|wish| wish.guest.clone())
            .chain(have)
            .chain(self.workers.keys().cloned())
            .collect()
    }

    fn decide_guest(&self, view: &View<'_>, guest: &GuestName, decision: &mut Decision) {
        let now = view.host.now;
        let mut wake =
            |at: Instant| decision.wakeup = Some(decision.wakeup.map_or(at, |first| first.min(at)));
        let worker = self.workers.get(guest);
        if let Some(busy) = worker.and_then(|worker| worker.busy.as_ref()) {
            if !busy.told {
                wake(busy.since + DEADLINE);
            }
            return;
        }
        if self.connection != Connection::Up {
            return;
        }
        let due = |alias: &Alias| {
            worker.and_then(|worker| worker.detaching.get(alias)).map_or(now, |a| a.not_before)
        };
        let mut leaving: Vec<_> =
            wrong(view, guest.as_str()).map(|(alias, _)| (due(&alias), alias)).collect();
        leaving.sort_unstable();
        match leaving.first() {
            Some(&(at, alias)) if at <= now => return decision.detach.push((guest.clone(), alias)),
            Some(&(at, _)) => wake(at),
            None => {}
        }
        for wish in view.wishes.iter().filter(|wish| wish.guest == *guest) {
            match verdict(view, wish) {
                Verdict::Ready(alias, device) => {
                    return decision.attach.push((guest.clone(), alias, device));
                }
                Verdict::Failed(_, _, at) => wake(at),
                Verdict::Hindered(Hindrance { by: By::Guest | By::Absence | By::Target, .. }) => {
                    let holders = view.sightings_of(wish.plug).map(|sighting| sighting.domain.to_owned());
                    decision.awaited.extend(holders.chain([guest.to_string()]));
                }
                _ => {}
            }
        }
    }

    /// What slots must keep their hands off.
    fn decide_disks(&self, view: &View<'_>, decision: &mut Decision) {
        for disk in view.host.inventory.disks() {
            let plug = Plug::Disk(disk.seq);
            let carrier = view.carrier(disk).and_then(|device| view.holder(usb(device)));
            let wish = view.wishes.iter().find(|wish| wish.plug == plug);
            let why = if let Some(guest) = view.holder(plug) {
                format!("is in use by the guest {guest}")
            } else if let Some(guest) = carrier {
                format!("is on a USB device that the guest {guest} has")
            } else if let Some(wish) = wish {
                format!("is for the guest {}", wish.guest)
            } else {
                continue;
            };
            decision.disks.insert(disk.seq, why);
        }
        for domain in self.domains.values() {
            let live = domain.live.as_ref();
            for device in live.into_iter().flat_map(|live| &live.devices) {
                if let LiveKind::Disk { source: Some(source), .. } = &device.kind {
                    decision.sources.insert(source.clone(), domain.name.clone());
                }
            }
        }
    }

    /// Does what was decided.
    pub(in crate::core) fn carry_out(&mut self, decision: Decision, shared: &mut Shared) {
        let now = shared.now.monotonic;
        let begun = !decision.attach.is_empty() || !decision.detach.is_empty();
        if decision.connect {
            self.connecting = true;
            shared.act(Action::Guest(GuestAction::Connect));
        }
        for (guest, alias, given) in decision.given {
            self.workers.entry(guest).or_default().given.insert(alias, given);
        }
        for (guest, alias) in decision.detach {
            let ticket = self.next_ticket();
            let worker = self.workers.entry(guest.clone()).or_default();
            if !worker.detaching.contains_key(&alias) {
                let what =
                    worker.given.get(&alias).map_or_else(|| alias.to_string(), |given| given.id.clone());
                shared.log(Level::Info, format!("taking {what} from {guest}"));
            }
            worker.begin(Work::Detach(alias), ticket, now);
            let alias = alias.to_string();
            shared.act(Action::Guest(GuestAction::Detach { ticket, guest, alias }));
        }
        for (guest, alias, device) in decision.attach {
            let ticket = self.next_ticket();
            let worker = self.workers.entry(guest.clone()).or_default();
            if !worker.attaching.contains_key(&alias) {
                shared.log(Level::Info, format!("giving {} to {guest}", describe(alias, shared)));
            }
            worker.begin(Work::Attach(alias), ticket, now);
            shared.act(Action::Guest(GuestAction::Attach { ticket, guest, device }));
        }
        shared.inventory.belong_to_guests(decision.disks, decision.sources);
        self.reply(decision.replies, shared);
        self.tell_who_is_silent(shared);
        self.look_slowly(&decision.awaited, shared);
        self.look_again = false;
        self.revision = shared.inventory.revision();
        // What has just begun, and what has just been replied to, has its own moments.
        let silent =
            self.workers.values().filter_map(|worker| worker.busy.as_ref()).filter(|busy| !busy.told);
        let silent = silent.map(|busy| busy.since + DEADLINE);
        let commands = self.commands.iter().map(|command| command.deadline);
        let planned = decision.wakeup.filter(|&at| at > now || begun);
        self.wakeup = [planned, self.slow]
            .into_iter()
            .flatten()
            .chain(silent)
            .chain(commands)
            .filter(|&at| at > now)
            .min();
    }

    fn tell_who_is_silent(&mut self, shared: &mut Shared) {
        let now = shared.now.monotonic;
        for (guest, worker) in &mut self.workers {
            let Some(busy) = worker.busy.as_mut().filter(|busy| !busy.told && busy.is_overdue(now)) else {
                continue;
            };
            busy.told = true;
            let seconds = DEADLINE.as_secs();
            shared.log(
                Level::Warning,
                format!("{guest} does not answer for {seconds} s: nothing more is sent to it"),
            );
        }
    }

    fn look_slowly(&mut self, awaited: &BTreeSet<String>, shared: &mut Shared) {
        let now = shared.now.monotonic;
        if awaited.is_empty() || self.connection != Connection::Up {
            self.slow = None;
            return;
        }
        match self.slow {
            Some(at) if at > now => {}
            Some(_) => {
                for name in awaited {
                    shared.act(Action::Guest(GuestAction::Look(name.clone())));
                }
                self.slow = Some(now + SLOW);
            }
            None => self.slow = Some(now + SLOW),
        }
    }
}

fn is_present(inventory: &Inventory, plug: Plug) -> bool {
    match plug {
        Plug::Disk(seq) => inventory.disk(seq).is_some(),
        Plug::Usb { bus, address } => inventory.usb_at(bus, address).is_some(),
    }
}
