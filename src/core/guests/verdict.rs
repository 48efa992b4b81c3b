//! Whether a wish can be followed at this moment, and if not, what is in its way, in words for a person.

use std::collections::BTreeSet;
use std::time::{Duration, Instant};

use super::plug::{Alias, Plug};
use super::view::{Sighting, View, usb};
use super::wishes::{Stand, Wish};
use super::{Connection, target, worker};
use crate::device::Disk;
use crate::guests::{Live, LiveKind, NewDevice};

/// How a wish stands.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Verdict {
    /// The guest has it.
    Attached(Alias, Option<String>),
    /// The guest still has it, and is not to.
    Leaving(Alias),
    /// It is being attached.
    Attaching(Alias),
    /// Something is in the way.
    Hindered(Hindrance),
    /// The last attempt failed, and when the next one is due.
    Failed(Alias, String, Instant),
    /// It can be attached now, unless the guest is busy.
    Ready(Alias, NewDevice),
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Hindrance {
    pub(super) by: By,
    /// One sentence.
    pub(super) text: String,
}

/// Who has to move first.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum By {
    /// A person: the config or a command is against it.
    Intent,
    /// The host uses it.
    Host,
    /// Another guest has it, or this one by its own definition.
    Guest,
    /// The guest is off, unknown, or out of reach.
    Absence,
    /// Its target is taken.
    Target,
    /// Something that is under way.
    Passing,
}

fn hindered<T>(by: By, text: String) -> Result<T, Hindrance> {
    Err(Hindrance { by, text })
}

pub(super) fn verdict(view: &View<'_>, wish: &Wish) -> Verdict {
    let guest = wish.guest.as_str();
    let own = view.sightings_of(wish.plug).find(|sighting| sighting.domain == guest && sighting.is_true);
    let unwanted = matches!(wish.stand, Stand::Unwanted(_));
    match own {
        Some(Sighting { alias: Some(alias), .. }) if unwanted => return Verdict::Leaving(*alias),
        Some(Sighting { alias: Some(alias), target, .. }) => {
            return Verdict::Attached(*alias, target.map(str::to_owned));
        }
        _ => {}
    }
    if wish.is_being_attached(view) && !is_overdue(view, guest) {
        return Verdict::Attaching(wish.alias(view));
    }
    match hindrance(view, wish) {
        Err(hindrance) => Verdict::Hindered(hindrance),
        Ok(live) => possible(view, wish, live),
    }
}

/// Nothing on the host and among the guests is in the way: the guest's own state decides.
fn possible(view: &View<'_>, wish: &Wish, live: &Live) -> Verdict {
    let alias = wish.alias(view);
    let attempts = view.guests.workers.get(&wish.guest).and_then(|worker| worker.attaching.get(&alias));
    if let Some(attempts) = attempts.filter(|attempts| attempts.not_before > view.host.now) {
        if let Some(error) = &attempts.error {
            return Verdict::Failed(alias, error.clone(), attempts.not_before);
        }
    }
    match device(view, wish, alias, live) {
        Ok(device) => Verdict::Ready(alias, device),
        Err(hindrance) => Verdict::Hindered(hindrance),
    }
}

fn hindrance<'a>(view: &View<'a>, wish: &Wish) -> Result<&'a Live, Hindrance> {
    match &wish.stand {
        Stand::Wanted => {}
        Stand::Kept(why) | Stand::Unwanted(why) => return hindered(By::Intent, why.clone()),
    }
    on_the_host(view, wish.plug)?;
    among_the_guests(view, wish)?;
    let live = reachable(view, wish.guest.as_str())?;
    not_released(view, wish)?;
    Ok(live)
}

/// What the host does with it, or is to do.
pub(super) fn on_the_host(view: &View<'_>, plug: Plug) -> Result<(), Hindrance> {
    let (bus, address) = match plug {
        Plug::Disk(seq) => {
            return match view.mounted_by(seq) {
                Some(mount) => hindered(By::Host, format!("the mount {mount} has it open")),
                None => Ok(()),
            };
        }
        Plug::Usb { bus, address } => (bus, address),
    };
    let Some(device) = view.host.inventory.usb_at(bus, address) else { return Ok(()) };
    if device.is_hub {
        return hindered(By::Host, "it is a hub, which is never given to a guest".to_owned());
    }
    for disk in view.disks_on(device) {
        let node = disk.node.devnode.display();
        if let Some(mount) = view.mounted_by(disk.seq) {
            return hindered(By::Host, format!("the mount {mount} has {node} open, a disk on it"));
        }
        if let Some(mount) = view.meant_for(disk) {
            return hindered(By::Host, format!("{node}, a disk on it, is for the mount {mount}"));
        }
        let of_disk = |wish: &&Wish| wish.plug == Plug::Disk(disk.seq);
        if let Some(wish) = view.wishes.iter().find(of_disk) {
            return hindered(By::Host, format!("{node}, a disk on it, is for the guest {}", wish.guest));
        }
    }
    if !device.bound {
        return hindered(By::Passing, "it is not ready yet: no driver of the host has taken it".to_owned());
    }
    Ok(())
}

/// Who of the guests has it, or what is on it, or what it is on.
fn among_the_guests(view: &View<'_>, wish: &Wish) -> Result<(), Hindrance> {
    let guest = wish.guest.as_str();
    if let Some(sighting) = view.sightings_of(wish.plug).next() {
        let domain = sighting.domain;
        return match sighting.alias {
            Some(_) => hindered(By::Passing, format!("{domain} has not released it yet")),
            None if domain == guest => {
                hindered(By::Guest, format!("{domain} has it already, by its own definition"))
            }
            None => hindered(By::Guest, format!("{domain} has it, by its own definition")),
        };
    }
    let elsewhere = |plug| view.in_flight(plug).filter(|other| *other != guest);
    if let Some(other) = elsewhere(wish.plug) {
        return hindered(By::Passing, format!("work on it for {other} has not ended"));
    }
    let inventory = view.host.inventory;
    match wish.plug {
        Plug::Disk(seq) => {
            let carrier = inventory.disk(seq).and_then(|disk| view.carrier(disk));
            match carrier.and_then(|device| view.holder(usb(device))) {
                Some(other) => hindered(By::Guest, format!("{other} has the USB device that it is on")),
                None => Ok(()),
            }
        }
        Plug::Usb { bus, address } => {
            let disks = inventory.usb_at(bus, address).into_iter().flat_map(|device| view.disks_on(device));
            for disk in disks {
                if let Some(other) = view.holder(Plug::Disk(disk.seq)) {
                    let node = disk.node.devnode.display();
                    return hindered(By::Guest, format!("{other} has {node}, a disk on it"));
                }
            }
            Ok(())
        }
    }
}

fn reachable<'a>(view: &View<'a>, guest: &str) -> Result<&'a Live, Hindrance> {
    match &view.guests.connection {
        Connection::Unknown => return hindered(By::Passing, "libvirt has not been reached yet".to_owned()),
        Connection::Down(why) => return hindered(By::Absence, format!("libvirt cannot be reached: {why}")),
        Connection::Up => {}
    }
    let Some(domain) = view.domain(guest) else {
        return hindered(By::Absence, format!("libvirt knows no guest called {guest}"));
    };
    let Some(live) = &domain.live else { return hindered(By::Absence, format!("{guest} is off")) };
    match overdue(view, guest) {
        Some(text) => hindered(By::Absence, text),
        None => Ok(live),
    }
}

/// What was plugged in before by the same entry has to leave first.
fn not_released(view: &View<'_>, wish: &Wish) -> Result<(), Hindrance> {
    let Some(worker) = view.guests.workers.get(&wish.guest) else { return Ok(()) };
    let same_entry = |alias: &Alias| worker.given.get(alias).is_some_and(|given| given.id == wish.id);
    let hangs = wrong(view, wish.guest.as_str()).find(|(alias, _)| same_entry(alias));
    match hangs {
        Some((alias, target)) => hindered(By::Passing, unreleased(view, wish.guest.as_str(), alias, target)),
        None => Ok(()),
    }
}

/// The devices of ours that a guest has and is not to have.
pub(super) fn wrong<'v>(
    view: &'v View<'_>,
    guest: &'v str,
) -> impl Iterator<Item = (Alias, Option<&'v str>)> {
    let of_guest = view.sightings.iter().filter(move |sighting| sighting.domain == guest);
    of_guest.filter_map(move |sighting| {
        let alias = sighting.alias?;
        let right = |wish: &Wish| {
            wish.guest.as_str() == guest
                && wish.plug == alias.plug
                && !matches!(wish.stand, Stand::Unwanted(_))
        };
        (!(sighting.is_true && view.wishes.iter().any(right))).then_some((alias, sighting.target))
    })
}

/// "guest2 has not released vdb for 12 s"
pub(super) fn unreleased(view: &View<'_>, guest: &str, alias: Alias, target: Option<&str>) -> String {
    let what = target.unwrap_or("the USB device that was pulled");
    let worker = view.guests.workers.iter().find(|(name, _)| name.as_str() == guest);
    let attempts = worker.and_then(|(_, worker)| worker.detaching.get(&alias));
    let plugged = view.sightings_of(alias.plug).next().is_some() && target.is_none();
    let what = if plugged { "the USB device" } else { what };
    let since = attempts.map_or(Duration::ZERO, |attempts| view.host.now - attempts.since).as_secs();
    let why = attempts.and_then(|attempts| attempts.error.as_deref());
    let why = why.map_or_else(String::new, |why| format!(": {why}"));
    if since == 0 {
        return format!("{guest} has not released {what} yet{why}");
    }
    format!("{guest} has not released {what} for {since} s{why}")
}

/// "guest1 does not answer for 42 s"
pub(super) fn overdue(view: &View<'_>, guest: &str) -> Option<String> {
    let busy = view.guests.workers.iter().find(|(name, _)| name.as_str() == guest)?.1.busy.as_ref()?;
    let since = view.host.now.saturating_duration_since(busy.since);
    (since >= worker::DEADLINE).then(|| format!("{guest} does not answer for {} s", since.as_secs()))
}

fn is_overdue(view: &View<'_>, guest: &str) -> bool {
    overdue(view, guest).is_some()
}

/// What to ask for.
fn device(view: &View<'_>, wish: &Wish, alias: Alias, live: &Live) -> Result<NewDevice, Hindrance> {
    let gone = || Hindrance { by: By::Passing, text: "it has been pulled".to_owned() };
    let inventory = view.host.inventory;
    match wish.plug {
        Plug::Disk(seq) => {
            let disk = inventory.disk(seq).ok_or_else(gone)?;
            let target = free_target(view, wish, live)?;
            Ok(NewDevice::Disk {
                node: disk.node.devnode.clone(),
                diskseq: seq.0,
                bus: target::bus(&target, live.has_scsi),
                target,
                serial: serial(disk),
                read_only: wish.read_only || disk.read_only,
                alias: alias.to_string(),
            })
        }
        Plug::Usb { bus, address } => {
            let device = inventory.usb_at(bus, address).ok_or_else(gone)?;
            let disks = view.disks_on(device).map(|disk| (disk.node.devnode.clone(), disk.seq.0)).collect();
            Ok(NewDevice::Usb { bus, address, id: device.id, disks, alias: alias.to_string() })
        }
    }
}

fn free_target(view: &View<'_>, wish: &Wish, live: &Live) -> Result<String, Hindrance> {
    let guest = wish.guest.as_str();
    let taken = live.devices.iter().filter_map(|device| match &device.kind {
        LiveKind::Disk { target, .. } => Some((target.as_str(), device.alias.as_deref())),
        LiveKind::Usb { .. } => None,
    });
    let Some(target) = &wish.target else {
        let config = view.host.guests.iter().find(|config| config.name == wish.guest);
        let meant = config.into_iter().flat_map(|config| &config.disks);
        let mut all: BTreeSet<&str> = taken.map(|(target, _)| target).collect();
        all.extend(meant.filter_map(|disk| disk.target.as_deref()));
        return target::next_free(&all)
            .ok_or_else(|| Hindrance { by: By::Target, text: format!("{guest} has no free target") });
    };
    match { taken }.find(|(name, _)| name == target) {
        None => Ok(target.clone()),
        Some((_, alias)) => match alias.and_then(Alias::parse) {
            Some(alias) if wrong(view, guest).any(|(wrong, _)| wrong == alias) => {
                hindered(By::Passing, unreleased(view, guest, alias, Some(target)))
            }
            _ => hindered(By::Target, format!("{target} of {guest} is taken by another disk")),
        },
    }
}

/// The disk's own serial: the shortest of its names that ends the one that a person would copy.
fn serial(disk: &Disk) -> Option<String> {
    let whole = disk.preferred_id.as_deref()?;
    let whole = whole.strip_suffix("-0:0").unwrap_or(whole);
    let ends = |id: &&String| whole.strip_suffix(id.as_str()).is_some_and(|rest| rest.ends_with('_'));
    let short = disk.ids.iter().filter(ends).min_by_key(|id| id.len());
    Some(short.map_or(whole, String::as_str).to_owned())
}
