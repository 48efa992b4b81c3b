//! A hypervisor that does what libvirt and QEMU were seen to do: a detach that succeeds and does nothing, an attach that
//! fails after it was done, calls that do not come back, guests that restart meanwhile. It checks what it is asked for.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use super::world::{Open, World};
use crate::core::Event;
use crate::device::{Disk, DiskSeq, GuestName, UsbDevice};
use crate::guests::{Bus, Domain, GuestAction, GuestEvent, Live, LiveDevice, LiveKind, NewDevice, Ticket};

/// No run of a guest has the number of anything else.
const RUNS: u32 = 2_000_000;

/// What a guest has been asked for, and has not ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Piece {
    Attach(NewDevice),
    Detach(String),
    /// The work has been reported done, and a look was asked for.
    Look,
}

/// How a piece of work ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum End {
    Good,
    /// Reported as done, and not done: a virtio disk whose guest does not answer.
    OnlySaid,
    /// Reported as failed, and done: the event came late.
    DoneAllTheSame,
    Failed,
    /// Done and seen, while the call has not come back.
    Unanswered,
}

#[derive(Clone, Default)]
pub(super) struct Hypervisor {
    pub(super) connected: bool,
    pub(super) asked_to_connect: u32,
    pub(super) domains: BTreeMap<String, Option<Live>>,
    pub(super) pieces: BTreeMap<GuestName, (Option<Ticket>, Piece)>,
    /// Looks that were asked for without work.
    pub(super) looks: BTreeSet<String>,
    pub(super) usb: BTreeMap<(u16, u16), UsbDevice>,
    /// Attaches of a daemon that is dead. Who does them holds a claim on the disk, as the living one's.
    pub(super) orphans: Vec<(String, NewDevice)>,
    pub(super) runs: u32,
    /// How many attaches and detaches were asked for.
    pub(super) asked: u32,
}

impl Hypervisor {
    /// Checks and takes what the core asks for.
    pub(super) fn take(
        &mut self,
        action: &GuestAction,
        disks: &BTreeMap<DiskSeq, Disk>,
        open: &BTreeMap<String, Open>,
    ) {
        if *action == GuestAction::Connect {
            self.asked_to_connect += 1;
            return;
        }
        assert!(self.connected, "asked while there is no connection: {action:?}");
        let (ticket, guest, piece) = match action {
            GuestAction::Connect => return,
            GuestAction::Look(name) => {
                let guest: GuestName = name.parse().unwrap();
                match self.pieces.get_mut(&guest) {
                    Some((ticket @ None, piece)) if *piece != Piece::Look => {
                        (*ticket, *piece) = (None, Piece::Look);
                    }
                    _ => {
                        self.looks.insert(name.clone());
                    }
                }
                return;
            }
            GuestAction::Attach { ticket, guest, device } => {
                self.check_attach(guest, device, disks, open);
                (*ticket, guest.clone(), Piece::Attach(device.clone()))
            }
            GuestAction::Detach { ticket, guest, alias } => {
                let ours = alias.starts_with("ua-mydisks-disk-")
                    || alias.starts_with("ua-mydisks-usb-")
                    || alias.starts_with("ua-mydisks-hand-");
                assert!(ours, "what is not ours is touched: {alias}");
                (*ticket, guest.clone(), Piece::Detach(alias.clone()))
            }
        };
        self.asked += 1;
        let other = self.pieces.insert(guest, (Some(ticket), piece));
        assert_eq!(other, None, "two pieces of work at once for one guest");
    }

    fn check_attach(
        &self,
        guest: &GuestName,
        device: &NewDevice,
        disks: &BTreeMap<DiskSeq, Disk>,
        open: &BTreeMap<String, Open>,
    ) {
        let under_way = self
            .pieces
            .values()
            .any(|(_, piece)| matches!(piece, Piece::Attach(other) if same(other, device)));
        assert!(!under_way, "attached to two guests at once: {device:?}");
        match device {
            NewDevice::Disk { node, diskseq, target, bus, .. } => {
                let seq = DiskSeq(*diskseq);
                assert_eq!(&disks[&seq].node.devnode, node);
                assert!(open.values().all(|open| open.disk != Some(seq)), "open on the host: {device:?}");
                assert!(self.holders(node).is_empty(), "{device:?} is with {:?}", self.holders(node));
                let live = self.domains[guest.as_str()].as_ref().expect("it runs");
                let expected = match target.get(..2) {
                    Some("vd") => Bus::Virtio,
                    Some("sd") if live.has_scsi => Bus::Scsi,
                    Some("sd") => Bus::Usb,
                    _ => panic!("what is {target}?"),
                };
                assert_eq!(*bus, expected);
                assert!(!live.devices.iter().any(|device| is_at(device, target)), "{target} is taken");
            }
            NewDevice::Usb { bus, address, id, disks: on_it, .. } => {
                let present = &self.usb[&(*bus, *address)];
                assert!(present.bound && !present.is_hub && present.id == *id);
                for (_, seq) in on_it {
                    assert!(open.values().all(|open| open.disk != Some(DiskSeq(*seq))));
                }
            }
        }
    }

    /// What must hold after every event: nothing that is open on the host is with a guest, or on its way there.
    pub(super) fn check(&self, open: &BTreeMap<String, Open>) {
        for seq in open.values().filter_map(|open| open.disk) {
            let aliases = ["disk", "hand-disk"].map(|kind| format!("ua-mydisks-{kind}-{}", seq.0));
            let is_it = |device: &LiveDevice| device.alias.as_ref().is_some_and(|own| aliases.contains(own));
            let with = |live: &Live| live.devices.iter().any(is_it);
            assert!(
                !self.domains.values().flatten().any(with),
                "{seq:?} is open on the host and with a guest"
            );
            let is_it = |piece: &Piece| matches!(piece, Piece::Attach(device) if has(device, seq));
            let mut under_way = self.pieces.values().filter(|(ticket, _)| ticket.is_some());
            assert!(
                !under_way.any(|(_, piece)| is_it(piece)),
                "{seq:?} is open on the host and being attached"
            );
        }
    }

    /// The guests that have a device node open.
    pub(super) fn holders(&self, node: &Path) -> Vec<&str> {
        let has = |device: &LiveDevice| matches!(&device.kind, LiveKind::Disk { source: Some(source), .. } if source == node);
        let with = |live: &Option<Live>| live.as_ref().is_some_and(|live| live.devices.iter().any(has));
        self.domains.iter().filter(|(_, live)| with(live)).map(|(name, _)| name.as_str()).collect()
    }

    pub(super) fn aliases(&self, guest: &str) -> Vec<String> {
        let live = self.domains.get(guest).and_then(Option::as_ref);
        live.into_iter().flat_map(|live| &live.devices).filter_map(|device| device.alias.clone()).collect()
    }

    fn domain(&self, name: &str) -> Option<Domain> {
        Some(Domain { name: name.to_owned(), live: self.domains.get(name)?.clone() })
    }

    pub(super) fn attach(&mut self, guest: &str, device: &NewDevice) -> Result<(), String> {
        let live = self.domains.get_mut(guest).and_then(Option::as_mut).ok_or("the domain is not running")?;
        let device = match device {
            NewDevice::Disk { node, target, alias, .. } => {
                if live.devices.iter().any(|device| is_at(device, target)) {
                    return Err(format!("target {target} already exists"));
                }
                disk(Some(alias), target, node.to_str().unwrap())
            }
            NewDevice::Usb { bus, address, alias, .. } => {
                let kind = LiveKind::Usb { at: Some((*bus, *address)), id: None };
                LiveDevice { alias: Some(alias.clone()), kind }
            }
        };
        live.devices.push(device);
        Ok(())
    }

    fn is_missing(&mut self, guest: &str, alias: &str) {
        let live = self.domains.get_mut(guest).and_then(Option::as_mut);
        for device in live.into_iter().flat_map(|live| &mut live.devices) {
            if let (Some(own), LiveKind::Usb { at, .. }) = (&device.alias, &mut device.kind) {
                *at = at.filter(|_| own != alias);
            }
        }
    }

    fn detach(&mut self, guest: &str, alias: &str) {
        if let Some(live) = self.domains.get_mut(guest).and_then(Option::as_mut) {
            live.devices.retain(|device| device.alias.as_deref() != Some(alias));
        }
    }
}

pub(super) fn same(one: &NewDevice, other: &NewDevice) -> bool {
    match (one, other) {
        (NewDevice::Disk { diskseq: one, .. }, NewDevice::Disk { diskseq: other, .. }) => one == other,
        (NewDevice::Usb { bus, address, .. }, NewDevice::Usb { bus: b, address: a, .. }) => {
            (bus, address) == (b, a)
        }
        _ => false,
    }
}

/// Whether it is that disk, or a USB device with it.
pub(super) fn has(device: &NewDevice, seq: DiskSeq) -> bool {
    match device {
        NewDevice::Disk { diskseq, .. } => *diskseq == seq.0,
        NewDevice::Usb { disks, .. } => disks.iter().any(|(_, other)| *other == seq.0),
    }
}

fn is_at(device: &LiveDevice, target: &str) -> bool {
    matches!(&device.kind, LiveKind::Disk { target: own, .. } if own == target)
}

/// A disk in live XML.
pub(super) fn disk(alias: Option<&str>, target: &str, node: &str) -> LiveDevice {
    let kind = LiveKind::Disk { target: target.to_owned(), source: Some(PathBuf::from(node)) };
    LiveDevice { alias: alias.map(str::to_owned), kind }
}

impl World {
    /// A guest starts; another run of it if it ran.
    pub(super) fn start_guest(&mut self, name: &str, devices: Vec<LiveDevice>) {
        self.start_guest_as(name, devices, false);
    }

    /// The same, with a controller for SCSI disks or without.
    pub(super) fn start_guest_as(&mut self, name: &str, devices: Vec<LiveDevice>, has_scsi: bool) {
        self.hypervisor.runs += 1;
        let live = Live { run: RUNS + self.hypervisor.runs, devices, has_scsi };
        self.hypervisor.domains.insert(name.to_owned(), Some(live));
        self.report_guest(name);
    }

    pub(super) fn stop_guest(&mut self, name: &str) {
        if let Some(live) = self.hypervisor.domains.get_mut(name) {
            *live = None;
            self.report_guest(name);
        }
    }

    /// What libvirt's events lead to.
    pub(super) fn report_guest(&mut self, name: &str) {
        if self.hypervisor.connected {
            let domain = self.hypervisor.domain(name);
            // Read after the work had ended, so it is the answer to the look too.
            self.hypervisor
                .pieces
                .retain(|guest, (_, piece)| guest.as_str() != name || *piece != Piece::Look);
            self.hypervisor.looks.remove(name);
            self.send(Event::Guest(GuestEvent::Seen { name: name.to_owned(), domain }));
        }
    }

    pub(super) fn connect(&mut self) {
        self.hypervisor.connected = true;
        self.hypervisor.pieces.retain(|_, (ticket, _)| ticket.is_some());
        let names: Vec<String> = self.hypervisor.domains.keys().cloned().collect();
        let domains = names.iter().filter_map(|name| self.hypervisor.domain(name)).collect();
        self.send(Event::Guest(GuestEvent::Connected(domains)));
    }

    pub(super) fn disconnect(&mut self) {
        self.hypervisor.connected = false;
        self.hypervisor.looks.clear();
        self.send(Event::Guest(GuestEvent::Disconnected("the socket is closed".into())));
    }

    /// The piece of work of a guest ends so, or is looked at.
    pub(super) fn end_piece(&mut self, guest: &str, end: End) {
        let name: GuestName = guest.parse().unwrap();
        let Some((ticket, piece)) = self.hypervisor.pieces.get(&name).cloned() else { return };
        let (Some(ticket), false) = (ticket, piece == Piece::Look) else {
            return self.report_guest(guest);
        };
        let done = match (&piece, end) {
            (_, End::Failed | End::OnlySaid) => Ok(()),
            (Piece::Attach(device), _) => self.hypervisor.attach(guest, device),
            (Piece::Detach(alias), _) => {
                self.hypervisor.detach(guest, alias);
                Ok(())
            }
            (Piece::Look, _) => Ok(()),
        };
        if end == End::Unanswered {
            return self.report_guest(guest);
        }
        let result = match end {
            End::Good | End::OnlySaid => done,
            End::DoneAllTheSame | End::Failed | End::Unanswered => Err("internal error: code 1".into()),
        };
        self.hypervisor.pieces.insert(name, (None, piece));
        self.send(Event::Guest(GuestEvent::Done { ticket, result }));
    }

    /// A guest lets go of something: it was asked to long ago, or somebody else detaches it.
    pub(super) fn release(&mut self, guest: &str, which: usize) {
        let live = self.hypervisor.domains.get_mut(guest).and_then(Option::as_mut);
        if let Some(live) = live.filter(|live| which < live.devices.len()) {
            live.devices.remove(which);
            self.report_guest(guest);
        }
    }

    /// It ends well, but libvirt did not find the USB device: the guest has it by name only.
    pub(super) fn end_piece_although_missing(&mut self, guest: &str) {
        let name: GuestName = guest.parse().unwrap();
        let Some((Some(ticket), Piece::Attach(device))) = self.hypervisor.pieces.get(&name).cloned() else {
            return;
        };
        let NewDevice::Usb { alias, .. } = &device else { return };
        let result = self.hypervisor.attach(guest, &device);
        self.hypervisor.is_missing(guest, alias);
        self.hypervisor.pieces.insert(name, (None, Piece::Attach(device)));
        self.send(Event::Guest(GuestEvent::Done { ticket, result }));
    }

    /// Work and looks of all guests end well, until nothing is asked for any more.
    pub(super) fn settle(&mut self) {
        for _ in 0..100 {
            let guests: Vec<String> = self.hypervisor.pieces.keys().map(ToString::to_string).collect();
            if guests.is_empty() {
                return;
            }
            guests.iter().for_each(|guest| self.end_piece(guest, End::Good));
        }
        panic!("work without end: {:?}", self.hypervisor.pieces);
    }

    /// A disk like that of [`World::plug`], on this USB port.
    pub(super) fn plug_on(&mut self, id: &str, port: &str) -> DiskSeq {
        let seq = DiskSeq(self.number());
        let disk = Disk { port: port.parse().ok(), ..super::world::disk(seq, id) };
        self.disks.insert(seq, disk.clone());
        self.send(Event::DiskPresent(Box::new(disk)));
        seq
    }

    pub(super) fn plug_usb(&mut self, port: &str, id: &str, serial: Option<&str>) -> (u16, u16) {
        let address = u16::try_from(self.number()).unwrap();
        let device = UsbDevice {
            port: port.parse().unwrap(),
            id: id.parse().unwrap(),
            serial: serial.map(str::to_owned),
            bus: 1,
            address,
            name: None,
            is_hub: false,
            bound: true,
        };
        self.usb_is(device);
        (1, address)
    }

    pub(super) fn usb_is(&mut self, device: UsbDevice) {
        self.hypervisor.usb.insert((device.bus, device.address), device.clone());
        self.send(Event::UsbPresent(device));
    }

    pub(super) fn pull_usb(&mut self, (bus, address): (u16, u16)) {
        self.hypervisor.usb.remove(&(bus, address));
        self.send(Event::UsbGone { bus, address });
    }
}
