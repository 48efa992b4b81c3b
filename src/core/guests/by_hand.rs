//! `mydisks attach` and `mydisks detach`: which device a person means, what that changes, and the reply once it is known
//! what came of it.

use std::time::{Duration, Instant};

use super::plug::Plug;
use super::verdict::{By, Hindrance, Verdict, on_the_host, unreleased, verdict};
use super::view::{Host, View, usb};
use super::wishes::Stand;
use super::{Connection, Guests, Hand};
use crate::core::event::{Action, CommandId};
use crate::core::inventory::Inventory;
use crate::core::shared::Shared;
use crate::device::{GuestName, PortPath, UsbId, printable};

/// A person is told by then how far it has come.
const PATIENCE: Duration = Duration::from_secs(30);

/// A command whose reply waits for what comes of it.
#[derive(Debug)]
#[cfg_attr(test, derive(Clone))]
pub(super) struct Waiting {
    pub(super) command: CommandId,
    pub(super) plug: Plug,
    /// How the person called it.
    pub(super) name: String,
    /// Attached to this guest, or detached.
    pub(super) to: Option<GuestName>,
    pub(super) deadline: Instant,
}

impl Guests {
    /// A device is to go to a guest: to the one that the config has for it, unless another is named.
    pub(in crate::core) fn attach(
        &mut self,
        command: CommandId,
        name: &str,
        guest: Option<&str>,
        host: Host<'_>,
    ) -> Option<Action> {
        let refuse = |why: String| Some(Action::Reply(command, Err(why)));
        let plug = match find(host.inventory, name) {
            Ok(plug) => plug,
            Err(why) => return refuse(why),
        };
        let guest = match guest.map(str::parse::<GuestName>).transpose() {
            Ok(guest) => guest,
            Err(error) => return refuse(format!("not a guest's name: it {error}")),
        };
        let before = self.hands.remove(&plug);
        match self.intend(plug, guest, host) {
            Ok((to, hand)) => {
                if let Some(hand) = hand {
                    self.hands.insert(plug, hand);
                }
                let deadline = host.now + PATIENCE;
                self.commands.push(Waiting { command, plug, name: printable(name), to: Some(to), deadline });
                self.look_again();
                None
            }
            Err(why) => {
                self.hands.extend(before.map(|hand| (plug, hand)));
                refuse(format!("{}: {why}", printable(name)))
            }
        }
    }

    /// To whom it goes, and what has to be remembered for it. Nothing is changed if it cannot be.
    fn intend(
        &self,
        plug: Plug,
        guest: Option<GuestName>,
        host: Host<'_>,
    ) -> Result<(GuestName, Option<Hand>), String> {
        let view = View::new(host, self);
        on_the_host(&view, plug).or_else(|hindrance| match hindrance.by {
            By::Passing => Ok(()),
            _ => Err(hindrance.text),
        })?;
        if let Some(theirs) = view.sightings_of(plug).find(|sighting| sighting.alias.is_none()) {
            return Err(format!("{} has it, by its own definition", theirs.domain));
        }
        let listed = view.wishes.iter().find(|wish| {
            let meant = guest.as_ref().is_none_or(|guest| wish.guest == *guest);
            wish.plug == plug && meant && !matches!(wish.stand, Stand::Unwanted(_))
        });
        match (listed, guest) {
            // One of twins, asked for by itself.
            (Some(wish), _) if wish.stand != Stand::Wanted => {
                Ok((wish.guest.clone(), Some(Hand::To(wish.guest.clone()))))
            }
            (Some(wish), _) => Ok((wish.guest.clone(), None)),
            (None, None) => Err("the configuration has it for no guest: name one".to_owned()),
            (None, Some(guest)) => {
                let known = self.domains.contains_key(guest.as_str()) || self.connection != Connection::Up;
                if !known {
                    return Err(format!("libvirt knows no guest called {guest}"));
                }
                Ok((guest.clone(), Some(Hand::To(guest))))
            }
        }
    }

    /// A device is to leave its guest, and to stay away until it is plugged in again.
    pub(in crate::core) fn detach(
        &mut self,
        command: CommandId,
        name: &str,
        host: Host<'_>,
    ) -> Option<Action> {
        let refuse = |why: String| Some(Action::Reply(command, Err(why)));
        let plug = match find(host.inventory, name) {
            Ok(plug) => plug,
            Err(why) => return refuse(why),
        };
        let view = View::new(host, self);
        let ours = view.sightings_of(plug).any(|sighting| sighting.alias.is_some());
        let wished = view.wishes.iter().any(|wish| wish.plug == plug);
        if !ours && !wished && view.in_flight(plug).is_none() {
            let shown = printable(name);
            return refuse(match view.sightings_of(plug).next() {
                Some(theirs) => {
                    format!("{shown}: {} has it by its own definition, not by mydisks", theirs.domain)
                }
                None => format!("{shown} is attached to no guest"),
            });
        }
        self.hands.insert(plug, Hand::Off);
        let deadline = host.now + PATIENCE;
        self.commands.push(Waiting { command, plug, name: printable(name), to: None, deadline });
        self.look_again();
        None
    }

    /// Nobody waits for the reply any more; what was asked for stays.
    pub(in crate::core) fn gave_up(&mut self, command: CommandId, shared: &mut Shared) {
        let Some(number) = self.commands.iter().position(|waiting| waiting.command == command) else {
            return;
        };
        let waiting = self.commands.remove(number);
        shared.act(Action::Reply(command, Err(format!("{}: not waited for", waiting.name))));
        self.look_again();
    }

    /// Ends all commands, in vain.
    pub(super) fn refuse_commands(&mut self, why: &str, shared: &mut Shared) {
        for waiting in std::mem::take(&mut self.commands) {
            shared.act(Action::Reply(waiting.command, Err(format!("{}: {why}", waiting.name))));
        }
    }

    /// The commands that end now, by their place, and how.
    pub(super) fn replies(&self, view: &View<'_>) -> Vec<(usize, Result<String, String>)> {
        let replies = self.commands.iter().enumerate();
        replies.filter_map(|(number, command)| Some((number, outcome(view, command)?))).collect()
    }

    pub(super) fn reply(&mut self, mut replies: Vec<(usize, Result<String, String>)>, shared: &mut Shared) {
        replies.sort_by_key(|(number, _)| std::cmp::Reverse(*number));
        for (number, result) in replies {
            let command = self.commands.remove(number);
            shared.act(Action::Reply(command.command, result));
        }
    }
}

/// What there is to tell; `None` = not yet.
fn outcome(view: &View<'_>, command: &Waiting) -> Option<Result<String, String>> {
    let is_late = command.deadline <= view.host.now;
    let name = &command.name;
    let present = match command.plug {
        Plug::Disk(seq) => view.host.inventory.disk(seq).is_some(),
        Plug::Usb { bus, address } => view.host.inventory.usb_at(bus, address).is_some(),
    };
    if !present {
        return Some(Err(format!("{name} has been pulled")));
    }
    match &command.to {
        Some(guest) => attached(view, command, guest, is_late),
        None => {
            let ours = |sighting: &&super::view::Sighting<'_>| sighting.alias.is_some();
            match view.sightings_of(command.plug).find(ours) {
                Some(sighting) if is_late => {
                    let alias = sighting.alias?;
                    let why = unreleased(view, sighting.domain, alias, sighting.target);
                    Some(Err(format!("{name}: {why}; it is asked for again and again")))
                }
                Some(_) => None,
                None => match view.in_flight(command.plug) {
                    None => Some(Ok(format!("{name} is with no guest, until it is plugged in again"))),
                    Some(guest) if is_late => Some(Err(format!("{name}: {guest} does not answer"))),
                    Some(_) => None,
                },
            }
        }
    }
}

fn attached(
    view: &View<'_>,
    command: &Waiting,
    guest: &GuestName,
    is_late: bool,
) -> Option<Result<String, String>> {
    let name = &command.name;
    let Some(wish) = view.wishes.iter().find(|wish| wish.plug == command.plug && wish.guest == *guest) else {
        return Some(Err(format!("{name} is for {guest} no longer")));
    };
    let later = "it is attached as soon as that has changed";
    match verdict(view, wish) {
        Verdict::Attached(_, Some(target)) => Some(Ok(format!("{name} is attached to {guest} as {target}"))),
        Verdict::Attached(_, None) => Some(Ok(format!("{name} is attached to {guest}"))),
        Verdict::Failed(_, why, _) => Some(Err(format!("{name}: {why}; it is tried again"))),
        Verdict::Hindered(Hindrance { by, text }) if by != By::Passing || is_late => {
            Some(Err(format!("{name}: {text}; {later}")))
        }
        _ if is_late => Some(Err(format!("{name} is still being attached to {guest}"))),
        _ => None,
    }
}

/// The device that a person means: a device node, vendor:product, a USB port, or an id.
fn find(inventory: &Inventory, name: &str) -> Result<Plug, String> {
    let mut found: Vec<(Plug, String)> = Vec::new();
    let of_usb = |device: &crate::device::UsbDevice| (usb(device), format!("port {}", device.port));
    let of_disk =
        |disk: &crate::device::Disk| (Plug::Disk(disk.seq), disk.node.devnode.display().to_string());
    let shown = printable(name);
    if name.starts_with("/dev/") {
        let is_node = |disk: &&crate::device::Disk| disk.node.devnode.as_os_str() == name;
        found.extend(inventory.disks().filter(is_node).map(of_disk));
        found.extend(usb_node(name).and_then(|(bus, address)| inventory.usb_at(bus, address)).map(of_usb));
        let parts = |disk: &&crate::device::Disk| {
            disk.partitions.iter().any(|partition| partition.node.devnode.as_os_str() == name)
        };
        if let Some(disk) = inventory.disks().find(parts) {
            let whole = disk.node.devnode.display();
            return Err(format!("{shown} is a partition; a guest gets the whole disk, {whole}"));
        }
    } else if let Ok(id) = name.parse::<UsbId>() {
        found.extend(inventory.usb().filter(|device| device.id == id).map(of_usb));
    } else if let Ok(port) = name.parse::<PortPath>() {
        found.extend(inventory.usb().filter(|device| device.port == port).map(of_usb));
    }
    if found.is_empty() {
        found.extend(inventory.disks().filter(|disk| disk.ids.contains(name)).map(of_disk));
    }
    if found.is_empty() {
        found.extend(inventory.usb().filter(|device| device.serial.as_deref() == Some(name)).map(of_usb));
    }
    match found.as_slice() {
        [] => Err(format!("no device that is plugged in is called {shown}; `mydisks devices` lists them")),
        [(plug, _)] => Ok(*plug),
        several => {
            let places: Vec<_> = several.iter().map(|(_, place)| place.as_str()).collect();
            let all = places.join(", ");
            Err(format!("{} devices are called {shown} ({all}): say which by its place", several.len()))
        }
    }
}

/// `/dev/bus/usb/001/007`
fn usb_node(path: &str) -> Option<(u16, u16)> {
    let (bus, address) = path.strip_prefix("/dev/bus/usb/")?.split_once('/')?;
    Some((bus.parse().ok()?, address.parse().ok()?))
}
