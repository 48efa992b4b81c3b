//! What is wanted: the rules of the config, and what people asked for, applied to what is plugged in. Whether it can be
//! had is decided elsewhere.

use std::collections::BTreeMap;

use super::plug::{Alias, Plug};
use super::view::{View, usb};
use super::{Hand, worker::Work};
use crate::config::Guest;
use crate::device::{Disk, DiskSpec, GuestName, UsbDevice, printable};

/// A device that is plugged in and that somebody wants to be with a guest.
#[derive(Clone, Debug)]
pub(super) struct Wish {
    pub(super) guest: GuestName,
    pub(super) plug: Plug,
    /// As the config names it; of an unlisted device, as a person would.
    pub(super) id: String,
    pub(super) kind: &'static str,
    pub(super) target: Option<String>,
    pub(super) read_only: bool,
    pub(super) by_hand: bool,
    pub(super) stand: Stand,
}

/// How far a wish is to be followed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Stand {
    /// The guest is to have it.
    Wanted,
    /// Not attached anew, and not taken away either; why.
    Kept(String),
    /// The guest is not to have it; why.
    Unwanted(String),
}

/// An entry of the config that nothing is plugged in for.
#[derive(Clone, Debug)]
pub(super) struct Absent {
    pub(super) guest: GuestName,
    pub(super) id: String,
    pub(super) kind: &'static str,
}

/// The guest and the place among its `usb` of the entry that is the most specific for this device.
pub(in crate::core) fn usb_entry(guests: &[Guest], device: &UsbDevice) -> Option<(usize, usize)> {
    let entries = guests.iter().enumerate().flat_map(|(guest, config)| {
        config.usb.iter().enumerate().map(move |(entry, rule)| ((guest, entry), rule))
    });
    let matching = entries.filter(|(_, rule)| rule.matches(device));
    matching.max_by_key(|(_, rule)| rule.precedence()).map(|(place, _)| place)
}

pub(super) fn wishes(view: &View<'_>) -> (Vec<Wish>, Vec<Absent>) {
    let mut by_entry: BTreeMap<(usize, usize), Vec<&UsbDevice>> = BTreeMap::new();
    for device in view.host.inventory.usb() {
        if let Some(entry) = usb_entry(view.host.guests, device) {
            by_entry.entry(entry).or_default().push(device);
        }
    }
    let (mut wishes, mut absent) = (Vec::new(), Vec::new());
    for (number, guest) in view.host.guests.iter().enumerate() {
        let name = &guest.name;
        for (entry, rule) in guest.usb.iter().enumerate() {
            let id = rule.to_string();
            match by_entry.get(&(number, entry)) {
                None => absent.push(Absent { guest: name.clone(), id, kind: "usb" }),
                Some(devices) => wishes.extend(devices.iter().map(|device| Wish {
                    guest: name.clone(),
                    plug: usb(device),
                    id: id.clone(),
                    kind: "usb",
                    target: None,
                    read_only: false,
                    by_hand: false,
                    stand: Stand::Wanted,
                })),
            }
        }
        for disk in &guest.disks {
            let found = disks(view, name, &disk.disk);
            if found.is_empty() {
                absent.push(Absent { guest: name.clone(), id: disk.disk.to_string(), kind: "disk" });
            }
            wishes.extend(found.into_iter().map(|(plug, stand)| Wish {
                guest: name.clone(),
                plug,
                id: disk.disk.to_string(),
                kind: "disk",
                target: disk.target.clone(),
                read_only: disk.read_only,
                by_hand: false,
                stand,
            }));
        }
    }
    one_guest_each(view, &mut wishes);
    follow_hands(view, &mut wishes);
    (wishes, absent)
}

/// The disks that are meant by one entry. Of several none is taken, but one that the guest has stays.
fn disks(view: &View<'_>, guest: &GuestName, spec: &DiskSpec) -> Vec<(Plug, Stand)> {
    let id = spec.to_string();
    let worker = view.guests.workers.get(guest);
    // What a guest writes on its disk changes what the entry says of it, not whose it is.
    let was_given = |disk: &Disk| {
        let alias = Alias { plug: Plug::Disk(disk.seq), id: None, by_hand: false };
        worker.and_then(|worker| worker.given.get(&alias)).is_some_and(|given| given.id == id)
    };
    let found: Vec<&Disk> =
        view.host.inventory.disks().filter(|disk| spec.find(disk).is_some() || was_given(disk)).collect();
    let has = |disk: &&&Disk| view.has(guest.as_str(), Plug::Disk(disk.seq));
    let keeper =
        found.iter().find(has).map(|disk| disk.seq).filter(|_| found.iter().filter(has).count() == 1);
    let stand = |disk: &Disk| {
        if found.len() == 1 || keeper == Some(disk.seq) {
            return Stand::Wanted;
        }
        let nodes: Vec<_> = found.iter().map(|disk| disk.node.devnode.display().to_string()).collect();
        Stand::Kept(format!(
            "{} attached disks claim {id} ({}): pull one, or tell them apart with uuid, partuuid or luks-uuid",
            found.len(),
            nodes.join(", ")
        ))
    };
    found.iter().map(|disk| (Plug::Disk(disk.seq), stand(disk))).collect()
}

/// Two entries may turn out to name one disk: the guest that has it keeps it, else the first gets it.
fn one_guest_each(view: &View<'_>, wishes: &mut [Wish]) {
    let mut owners: BTreeMap<Plug, usize> = BTreeMap::new();
    for (number, wish) in wishes.iter().enumerate().filter(|(_, wish)| wish.stand == Stand::Wanted) {
        let owner = owners.entry(wish.plug).or_insert(number);
        let has = |wish: &Wish| view.has(wish.guest.as_str(), wish.plug);
        if has(wish) && wishes.get(*owner).is_some_and(|owner| !has(owner)) {
            *owner = number;
        }
    }
    let of_owner: BTreeMap<Plug, (usize, GuestName)> = owners
        .into_iter()
        .filter_map(|(plug, number)| Some((plug, (number, wishes.get(number)?.guest.clone()))))
        .collect();
    for (number, wish) in wishes.iter_mut().enumerate().filter(|(_, wish)| wish.stand == Stand::Wanted) {
        match of_owner.get(&wish.plug) {
            Some((owner, guest)) if *owner != number => {
                let text = format!("another entry of the configuration gives it to {guest}");
                // Of two entries of one guest neither takes it away.
                let same = *guest == wish.guest;
                wish.stand = if same { Stand::Kept(text) } else { Stand::Unwanted(text) };
            }
            _ => {}
        }
    }
}

/// What people asked for goes before the config.
fn follow_hands(view: &View<'_>, wishes: &mut Vec<Wish>) {
    for (&plug, hand) in &view.guests.hands {
        let of_it = wishes.iter_mut().filter(|wish| wish.plug == plug);
        let to = match hand {
            Hand::Off => {
                of_it.for_each(|wish| {
                    wish.stand = Stand::Unwanted("detached by hand, until it is plugged in again".to_owned());
                });
                continue;
            }
            Hand::To(guest) => guest,
        };
        let mut listed = false;
        for wish in of_it {
            if wish.guest == *to && !listed {
                // Twins are told apart by whoever asks for one of them.
                wish.stand = Stand::Wanted;
                listed = true;
            } else {
                wish.stand = Stand::Unwanted(format!("attached to {to} by hand"));
            }
        }
        if !listed {
            wishes.extend(by_hand(view, plug, to));
        }
    }
}

fn by_hand(view: &View<'_>, plug: Plug, guest: &GuestName) -> Option<Wish> {
    let (id, kind) = match plug {
        Plug::Disk(seq) => {
            let disk = view.host.inventory.disk(seq)?;
            let node = disk.node.devnode.display().to_string();
            (disk.preferred_id.as_deref().map_or(node, printable), "disk")
        }
        Plug::Usb { bus, address } => (view.host.inventory.usb_at(bus, address)?.id.to_string(), "usb"),
    };
    let (guest, stand) = (guest.clone(), Stand::Wanted);
    Some(Wish { guest, plug, id, kind, target: None, read_only: false, by_hand: true, stand })
}

impl Wish {
    /// The alias that it goes by.
    pub(super) fn alias(&self, view: &View<'_>) -> Alias {
        let id = match self.plug {
            Plug::Disk(_) => None,
            Plug::Usb { bus, address } => view.host.inventory.usb_at(bus, address).map(|device| device.id),
        };
        Alias { plug: self.plug, id, by_hand: self.by_hand }
    }

    /// It is being attached at this moment.
    pub(super) fn is_being_attached(&self, view: &View<'_>) -> bool {
        let busy = view.guests.workers.get(&self.guest).and_then(|worker| worker.busy.as_ref());
        busy.is_some_and(|busy| matches!(busy.work, Work::Attach(alias) if alias.plug == self.plug))
    }
}
