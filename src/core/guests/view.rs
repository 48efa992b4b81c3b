//! Everything that a decision is made of, at one moment: what is plugged in and what the host has of it, who of the
//! guests has what, and what the config and people want. Decides nothing.

use std::collections::{BTreeMap, HashMap};
use std::path::Path;
use std::sync::Arc;
use std::time::Instant;

use super::plug::{Alias, Plug};
use super::wishes::{Absent, Wish};
use super::{Guests, wishes, worker};
use crate::config::{Guest, Mount};
use crate::core::inventory::Inventory;
use crate::core::slot::Slot;
use crate::device::{Disk, DiskSeq, UsbDevice};
use crate::guests::{Domain, LiveKind};

/// The host's side of a decision.
#[derive(Clone, Copy, Debug)]
pub(in crate::core) struct Host<'a> {
    pub(in crate::core) guests: &'a [Guest],
    pub(in crate::core) mounts: &'a [Arc<Mount>],
    pub(in crate::core) slots: &'a [Slot],
    pub(in crate::core) inventory: &'a Inventory,
    pub(in crate::core) now: Instant,
}

/// A device in a domain's live XML that is ours, or that is plugged in.
#[derive(Clone, Debug)]
pub(super) struct Sighting<'a> {
    pub(super) domain: &'a str,
    /// If it is ours.
    pub(super) alias: Option<Alias>,
    /// The device that its source is.
    pub(super) plug: Option<Plug>,
    pub(super) target: Option<&'a str>,
    /// Of ours: the alias tells the truth of the source.
    pub(super) is_true: bool,
}

pub(super) struct View<'a> {
    pub(super) host: Host<'a>,
    pub(super) guests: &'a Guests,
    pub(super) sightings: Vec<Sighting<'a>>,
    pub(super) wishes: Vec<Wish>,
    pub(super) absent: Vec<Absent>,
}

impl<'a> View<'a> {
    pub(super) fn new(host: Host<'a>, guests: &'a Guests) -> Self {
        let sightings = sightings(host.inventory, &guests.domains);
        let mut view = Self { host, guests, sightings, wishes: Vec::new(), absent: Vec::new() };
        (view.wishes, view.absent) = wishes::wishes(&view);
        view
    }

    pub(super) fn domain(&self, guest: &str) -> Option<&'a Domain> {
        self.guests.domains.get(guest)
    }

    /// Who has this device in live XML.
    pub(super) fn sightings_of(&self, plug: Plug) -> impl Iterator<Item = &Sighting<'a>> {
        self.sightings.iter().filter(move |sighting| sighting.plug == Some(plug))
    }

    /// The guest with which a piece of work on this device is under way.
    pub(super) fn in_flight(&self, plug: Plug) -> Option<&'a str> {
        let of_it =
            |worker: &worker::Worker| worker.busy.as_ref().is_some_and(|busy| busy.alias().plug == plug);
        self.guests.workers.iter().find(|(_, worker)| of_it(worker)).map(|(guest, _)| guest.as_str())
    }

    /// Somebody of the guests has it, or may have it in a moment.
    pub(super) fn holder(&self, plug: Plug) -> Option<&str> {
        self.sightings_of(plug).map(|sighting| sighting.domain).next().or_else(|| self.in_flight(plug))
    }

    pub(super) fn has(&self, guest: &str, plug: Plug) -> bool {
        self.sightings_of(plug).any(|sighting| sighting.domain == guest && sighting.alias.is_some())
            || self.in_flight(plug) == Some(guest)
    }

    /// The disks that are on a USB device.
    pub(super) fn disks_on(&self, device: &UsbDevice) -> impl Iterator<Item = &'a Disk> {
        let port = device.port.clone();
        self.host.inventory.disks().filter(move |disk| disk.port.as_ref() == Some(&port))
    }

    /// The USB device that a disk is on.
    pub(super) fn carrier(&self, disk: &Disk) -> Option<&'a UsbDevice> {
        let port = disk.port.as_ref()?;
        self.host.inventory.usb().find(|device| device.port == *port)
    }

    /// The mount that has something of a disk open.
    pub(super) fn mounted_by(&self, disk: DiskSeq) -> Option<&'a str> {
        let slot = self.host.inventory.owners(disk).next()?;
        let name =
            self.host.slots.iter().find(|known| known.id == slot).map(|slot| slot.config.name.as_str());
        // A name that has been taken out of the config is still there until its disk is locked.
        Some(name.unwrap_or("that is no longer configured"))
    }

    /// The mount that the config has a disk for.
    pub(super) fn meant_for(&self, disk: &Disk) -> Option<&'a str> {
        let claims = |mount: &&Arc<Mount>| mount.disks.iter().any(|spec| spec.find(disk).is_some());
        self.host.mounts.iter().find(claims).map(|mount| mount.name.as_str())
    }
}

pub(super) fn usb(device: &UsbDevice) -> Plug {
    Plug::Usb { bus: device.bus, address: device.address }
}

pub(super) fn sightings<'a>(
    inventory: &Inventory,
    domains: &'a BTreeMap<String, Domain>,
) -> Vec<Sighting<'a>> {
    let nodes: HashMap<&Path, DiskSeq> = inventory
        .disks()
        .flat_map(|disk| {
            let partitions = disk.partitions.iter().map(|partition| &partition.node);
            std::iter::once(&disk.node).chain(partitions).map(|node| (node.devnode.as_path(), disk.seq))
        })
        .collect();
    let lives = domains.values().filter_map(|domain| Some((domain.name.as_str(), domain.live.as_ref()?)));
    let mut found = Vec::new();
    for (domain, live) in lives {
        for device in &live.devices {
            let (plug, target) = match &device.kind {
                LiveKind::Disk { target, source } => {
                    let seq = source.as_deref().and_then(|source| nodes.get(source));
                    (seq.map(|&seq| Plug::Disk(seq)), Some(target.as_str()))
                }
                LiveKind::Usb { at, .. } => {
                    let present = at.filter(|&(bus, address)| inventory.usb_at(bus, address).is_some());
                    (present.map(|(bus, address)| Plug::Usb { bus, address }), None)
                }
            };
            let is_disk = target.is_some();
            let alias =
                device.alias.as_deref().and_then(Alias::parse).filter(|alias| is_disk == alias.id.is_none());
            if alias.is_some() || plug.is_some() {
                let is_true = alias.is_some_and(|alias| is_true(inventory, alias, plug));
                found.push(Sighting { domain, alias, plug, target, is_true });
            }
        }
    }
    found
}

fn is_true(inventory: &Inventory, alias: Alias, plug: Option<Plug>) -> bool {
    let same = match alias.plug {
        Plug::Disk(_) => true,
        Plug::Usb { bus, address } => {
            inventory.usb_at(bus, address).is_some_and(|device| Some(device.id) == alias.id)
        }
    };
    same && plug == Some(alias.plug)
}
