//! What status shows of guests and their devices.

use std::collections::BTreeSet;

use super::plug::Plug;
use super::verdict::{Verdict, overdue, unreleased, verdict, wrong};
use super::view::{Host, View};
use super::wishes::{Stand, Wish};
use super::{Connection, Guests};
use crate::core::snapshot::{GuestDeviceState, GuestDeviceStatus, GuestState, GuestStatus};

impl Guests {
    /// The guests of the config, then those that have or are to have something by hand.
    pub(in crate::core) fn report(&self, host: Host<'_>) -> Vec<GuestStatus> {
        let view = View::new(host, self);
        let listed: Vec<String> = host.guests.iter().map(|guest| guest.name.to_string()).collect();
        let have = view.sightings.iter().filter(|sighting| sighting.alias.is_some());
        let others = have.map(|sighting| sighting.domain.to_owned());
        let others: BTreeSet<String> =
            view.wishes.iter().map(|wish| wish.guest.to_string()).chain(others).collect();
        let others = others.into_iter().filter(|name| !listed.contains(name));
        listed.iter().cloned().chain(others).map(|name| guest(&view, name)).collect()
    }
}

fn guest(view: &View<'_>, name: String) -> GuestStatus {
    let wishes = view.wishes.iter().filter(|wish| wish.guest.as_str() == name);
    let absent = view.absent.iter().filter(|absent| absent.guest.as_str() == name);
    let mut devices: Vec<GuestDeviceStatus> = wishes.map(|wish| wished(view, wish)).collect();
    devices.extend(absent.map(|absent| GuestDeviceStatus {
        id: absent.id.clone(),
        kind: absent.kind,
        state: GuestDeviceState::Absent,
        device: None,
        target: None,
        alias: None,
        error: None,
    }));
    devices.extend(leaving(view, &name));
    let (state, error) = state(view, &name);
    GuestStatus { name, state, error, devices }
}

fn state(view: &View<'_>, name: &str) -> (GuestState, Option<String>) {
    match &view.guests.connection {
        Connection::Unknown => {
            return (GuestState::Unreachable, Some("libvirt has not been reached yet".to_owned()));
        }
        Connection::Down(why) => {
            return (GuestState::Unreachable, Some(format!("libvirt cannot be reached: {why}")));
        }
        Connection::Up => {}
    }
    if let Some(silent) = overdue(view, name) {
        return (GuestState::Unreachable, Some(silent));
    }
    match view.domain(name) {
        None => (GuestState::Off, Some(format!("libvirt knows no guest called {name}"))),
        Some(domain) if domain.live.is_none() => (GuestState::Off, None),
        Some(_) => (GuestState::Running, None),
    }
}

fn wished(view: &View<'_>, wish: &Wish) -> GuestDeviceStatus {
    let (state, alias, error) = match verdict(view, wish) {
        Verdict::Attached(alias, _) => (GuestDeviceState::Attached, Some(alias), None),
        Verdict::Attaching(alias) => (GuestDeviceState::Attaching, Some(alias), None),
        Verdict::Ready(..) => (GuestDeviceState::Waiting, None, busy(view, wish)),
        Verdict::Failed(_, why, _) => (GuestDeviceState::Failed, None, Some(why)),
        Verdict::Hindered(hindrance) => (GuestDeviceState::Waiting, None, Some(hindrance.text)),
        Verdict::Leaving(alias) => {
            let target = target_of(view, wish);
            let hangs = unreleased(view, wish.guest.as_str(), alias, target.as_deref());
            let why = match &wish.stand {
                Stand::Unwanted(why) => format!("{why}; {hangs}"),
                _ => hangs,
            };
            (GuestDeviceState::Detaching, Some(alias), Some(why))
        }
    };
    let device = match wish.plug {
        Plug::Disk(seq) => view.host.inventory.disk(seq).map(|disk| disk.node.devnode.display().to_string()),
        Plug::Usb { bus, address } => {
            view.host.inventory.usb_at(bus, address).map(|device| device.port.to_string())
        }
    };
    let target = target_of(view, wish).filter(|_| alias.is_some());
    let alias = alias.map(|alias| alias.to_string());
    GuestDeviceStatus { id: wish.id.clone(), kind: wish.kind, state, device, target, alias, error }
}

fn busy(view: &View<'_>, wish: &Wish) -> Option<String> {
    let worker = view.guests.workers.get(&wish.guest)?;
    worker.busy.as_ref().map(|_| format!("{} is at another device", wish.guest))
}

fn target_of(view: &View<'_>, wish: &Wish) -> Option<String> {
    let mut own = view.sightings_of(wish.plug).filter(|sighting| sighting.domain == wish.guest.as_str());
    own.find_map(|sighting| sighting.target).map(str::to_owned)
}

/// What the guest still has of ours although it is pulled, or no longer for it.
fn leaving(view: &View<'_>, name: &str) -> Vec<GuestDeviceStatus> {
    let wished = |plug: Plug| view.wishes.iter().any(|wish| wish.plug == plug && wish.guest.as_str() == name);
    let worker =
        view.guests.workers.iter().find(|(guest, _)| guest.as_str() == name).map(|(_, worker)| worker);
    let gone = wrong(view, name).filter(|(alias, _)| {
        let is_true =
            view.sightings.iter().any(|sighting| sighting.alias == Some(*alias) && sighting.is_true);
        !(is_true && wished(alias.plug))
    });
    gone.map(|(alias, target)| {
        let given = worker.and_then(|worker| worker.given.get(&alias));
        GuestDeviceStatus {
            id: given.map_or_else(|| alias.to_string(), |given| given.id.clone()),
            kind: if alias.id.is_some() { "usb" } else { "disk" },
            state: GuestDeviceState::Detaching,
            device: None,
            target: target.map(str::to_owned),
            alias: Some(alias.to_string()),
            error: Some(unreleased(view, name, alias, target)),
        }
    })
    .collect()
}
