//! Which device goes to which guest. Level-triggered: an event only says *look again*. What is wanted (the rules of the
//! config and people's commands, applied to what is plugged in) is compared with what the guests have, and for each
//! guest at most one piece of work is asked for at a time. Knows nothing of libvirt but what [`crate::guests`] says.

mod by_hand;
#[cfg(test)]
mod canonical;
mod decide;
mod plug;
mod report;
mod target;
mod verdict;
mod view;
mod wishes;
mod worker;

use std::collections::{BTreeMap, BTreeSet};
use std::time::Instant;

use super::event::{Action, Level};
use super::shared::Shared;
use crate::device::GuestName;
use crate::guests::{Domain, GuestAction, GuestEvent, Live, Ticket};
use worker::{Work, Worker, ours};

#[cfg(test)]
pub(super) use canonical::write_live;
pub(super) use plug::{Alias, Plug};
pub(super) use view::Host;
pub(super) use wishes::usb_entry;

/// Whether libvirt can be asked.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
enum Connection {
    /// There was no news of it yet.
    #[default]
    Unknown,
    Up,
    /// And why.
    Down(String),
}

/// What a person wants of one plug of a device.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Hand {
    Off,
    To(GuestName),
}

/// All that is known of the guests.
#[derive(Debug, Default)]
#[cfg_attr(test, derive(Clone))]
pub(super) struct Guests {
    connection: Connection,
    /// It was asked to connect: there was nothing to connect for before.
    connecting: bool,
    /// As last seen; those that run go on with what they have while libvirt cannot be asked.
    domains: BTreeMap<String, Domain>,
    workers: BTreeMap<GuestName, Worker>,
    hands: BTreeMap<Plug, Hand>,
    commands: Vec<by_hand::Waiting>,
    last_ticket: u64,
    /// There is something to decide upon.
    look_again: bool,
    /// Of the inventory, at the last decision.
    revision: u64,
    wakeup: Option<Instant>,
    /// When guests are looked at again for what nobody reported.
    slow: Option<Instant>,
}

impl Guests {
    /// Something has happened that concerns guests.
    pub(super) fn happened(&mut self, event: GuestEvent, shared: &mut Shared) {
        self.look_again = true;
        match event {
            GuestEvent::Connected(domains) => self.connected(domains, shared),
            GuestEvent::Disconnected(why) => {
                let down = Connection::Down(why);
                if let (true, Connection::Down(why)) = (self.connection != down, &down) {
                    shared.log(Level::Warning, format!("libvirt cannot be reached: {why}"));
                }
                self.connection = down;
            }
            GuestEvent::Seen { name, domain } => self.seen(&name, domain, shared),
            GuestEvent::Done { ticket, result } => self.done(ticket, result, shared),
        }
    }

    /// The daemon ends. It waits for no guest, and says what is left open.
    pub(super) fn end(&mut self, shared: &mut Shared) {
        self.refuse_commands("the daemon ends", shared);
        for (guest, worker) in &self.workers {
            let Some(busy) = worker.busy.as_ref().filter(|busy| busy.ticket.is_some()) else { continue };
            let what = describe(busy.alias(), shared);
            let may = if matches!(busy.work, Work::Attach(_)) { "get" } else { "release" };
            let since = shared.now.monotonic.saturating_duration_since(busy.since).as_secs();
            let text = format!(
                "{guest} has not answered for {since} s and is not waited for: it may still {may} {what} later"
            );
            shared.log(Level::Warning, text);
        }
    }

    /// The config or a person's wish has changed.
    pub(super) fn look_again(&mut self) {
        self.look_again = true;
    }

    /// When something is to be done although nothing happens.
    pub(super) fn next_wakeup(&self) -> Option<Instant> {
        self.wakeup
    }

    fn connected(&mut self, domains: Vec<Domain>, shared: &mut Shared) {
        if self.connection != Connection::Up {
            shared.log(Level::Info, format!("connected to libvirt, {} guests", domains.len()));
        }
        self.connection = Connection::Up;
        let mut domains: BTreeMap<String, Domain> =
            domains.into_iter().map(|domain| (domain.name.clone(), domain)).collect();
        let gone: BTreeSet<String> = self.domains.keys().cloned().collect();
        for name in gone.into_iter().chain(domains.keys().cloned()).collect::<BTreeSet<_>>() {
            let domain = domains.remove(&name);
            self.seen(&name, domain, shared);
        }
    }

    fn seen(&mut self, name: &str, domain: Option<Domain>, shared: &mut Shared) {
        let before = self.domains.remove(name).and_then(|domain| domain.live);
        let guest: Option<GuestName> = name.parse().ok();
        let live = domain.as_ref().and_then(|domain| domain.live.as_ref());
        if let Some(worker) = guest.as_ref().and_then(|guest| self.workers.get_mut(guest)) {
            let just_done = worker.busy.as_ref().is_some_and(|busy| busy.ticket.is_none());
            let asked = worker.busy.as_ref().map(|busy| busy.work);
            compare(name, worker, before.as_ref(), live, asked, shared);
            if just_done {
                worker.looked_at(live);
            }
        }
        if let Some(domain) = domain {
            self.domains.insert(name.to_owned(), domain);
        }
    }

    fn done(&mut self, ticket: Ticket, result: Result<(), String>, shared: &mut Shared) {
        let of_ticket =
            |worker: &Worker| worker.busy.as_ref().is_some_and(|busy| busy.ticket == Some(ticket));
        let Some((guest, worker)) = self.workers.iter_mut().find(|(_, worker)| of_ticket(worker)) else {
            return;
        };
        let failure = result.as_ref().err().cloned();
        let told = worker.busy.as_ref().is_some_and(|busy| busy.told);
        let work = worker.busy.as_ref().map(|busy| busy.work);
        let new = worker.ended(shared.now.monotonic, result);
        if told {
            shared.log(Level::Info, format!("{guest} answers again"));
        }
        if let (true, Some(why)) = (new, failure) {
            let doing = if matches!(work, Some(Work::Attach(_))) { "attach to" } else { "detach from" };
            shared.log(Level::Warning, format!("cannot {doing} {guest}: {why}"));
        }
        // Errors do not tell what is the case, and success not that it is so: only a look does. Without a connection
        // the next one brings it.
        if self.connection == Connection::Up {
            shared.act(Action::Guest(GuestAction::Look(guest.to_string())));
        }
    }

    fn next_ticket(&mut self) -> Ticket {
        self.last_ticket += 1;
        Ticket(self.last_ticket)
    }
}

/// What has changed in a guest since it was last seen.
fn compare(
    name: &str,
    worker: &mut Worker,
    before: Option<&Live>,
    now: Option<&Live>,
    asked: Option<Work>,
    shared: &mut Shared,
) {
    let moment = shared.now.monotonic;
    if before.map(|live| live.run) != now.map(|live| live.run) {
        worker.restarted();
        return;
    }
    let (Some(before), Some(now)) = (before, now) else { return };
    if before == now {
        return;
    }
    let aliases = |live: &Live| ours(live).map(|(alias, _)| alias).collect::<BTreeSet<Alias>>();
    let (had, has) = (aliases(before), aliases(now));
    let mut try_again = before.has_scsi != now.has_scsi;
    let gone: BTreeSet<Alias> = had.difference(&has).copied().collect();
    for &alias in &gone {
        let what = worker.given.get(&alias).map_or_else(|| alias.to_string(), |given| given.id.clone());
        if worker.lost(alias, moment) {
            try_again = true;
            shared.log(Level::Info, format!("{name} has released {what}"));
        } else {
            shared.log(Level::Warning, format!("{name} lost {what} without being asked"));
        }
    }
    for (alias, target) in ours(now).filter(|(alias, _)| !had.contains(alias)) {
        if asked == Some(Work::Attach(alias)) {
            let as_target = target.map_or_else(String::new, |target| format!(" as {target}"));
            shared.log(Level::Info, format!("{name} has {}{as_target}", describe(alias, shared)));
        }
    }
    let foreign = |live: &Live| {
        let is_ours = |alias: &String| Alias::parse(alias).is_some();
        let theirs = live.devices.iter().filter(|device| !device.alias.as_ref().is_some_and(is_ours));
        theirs.cloned().collect::<Vec<_>>()
    };
    if try_again || foreign(before) != foreign(now) {
        worker.try_again(&gone, moment);
    }
}

/// A device of ours, for the log.
fn describe(alias: Alias, shared: &Shared) -> String {
    match alias.plug {
        Plug::Disk(seq) => shared.inventory.describe_disk(seq),
        Plug::Usb { bus, address } => match shared.inventory.usb_at(bus, address) {
            Some(device) => format!("{} at port {}", device.id, device.port),
            None => "a USB device that has been pulled".to_owned(),
        },
    }
}
