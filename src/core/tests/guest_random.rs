//! Random sequences of everything that can happen to guests and devices; the world and the hypervisor check the rules
//! after each event.

use std::time::Duration;

use proptest::prelude::*;

use super::hypervisor::{End, disk};
use super::world::World;
use crate::core::*;
use crate::device::UsbDevice;
use crate::disk::ErrorKind;

/// `far` can be reached through `a` by id, and through `g2` by UUID.
const CONFIG: &str = r#"
[defaults]
idle-timeout = "10s"
access-timeout = "30s"
[mounts.a]
disks = ["near", "far"]
[mounts.b]
disks = ["else"]
[guests.g1]
usb = ["051d:0002", { port = "1-4" }]
disks = [{ id = "vm", target = "vdb" }, "other"]
[guests.g2]
usb = [{ id = "051d:0002", serial = "S2" }]
disks = [{ uuid = "fa", target = "sdb" }]
"#;

/// The same disks and devices the other way round, `b` left out and `c` new.
const EXCHANGED: &str = r#"
[mounts.a]
disks = ["vm"]
[mounts.c]
disks = ["other", "far"]
idle-timeout = "1s"
[guests.g1]
disks = [{ id = "near", target = "sdc" }]
[guests.g2]
usb = ["051d:0002"]
"#;

const NO_GUESTS: &str = "[mounts.a]\ndisks = [\"near\", \"vm\"]";

const CONFIGS: [&str; 3] = [CONFIG, EXCHANGED, NO_GUESTS];

const GUESTS: [&str; 3] = ["g1", "g2", "theirs"];
const DISKS: [&str; 5] = ["near", "far", "vm", "other", "unlisted"];
const PORTS: [&str; 4] = ["1-4.1", "1-5", "2-1", "1-4"];

/// What is plugged in that is no disk.
#[derive(Clone, Copy, Debug)]
enum Kind {
    Plain,
    WithSerial,
    /// No driver of the host has taken it yet.
    Unbound,
    Hub,
}

#[derive(Clone, Copy, Debug)]
enum Step {
    Plug(usize, Option<usize>),
    Pull(usize),
    PlugUsb(usize, Kind),
    /// A driver takes a USB device, or lets go of it.
    Bind(usize),
    PullUsb(usize),
    Change(usize),
    /// With a definition of its own, and with SCSI.
    Start(usize, bool, bool),
    TurnOff(usize),
    Undefine(usize),
    Connect,
    Disconnect,
    End(usize, End),
    EndAlthoughMissing(usize),
    /// A guest grants what it was asked for long ago, or somebody detaches by hand.
    Release(usize, usize),
    Report(usize),
    /// An attach that a dead daemon had asked for ends well, or fails.
    EndOrphan(usize, bool),
    Attach(usize, Option<usize>),
    Detach(usize),
    Enter,
    EndJob(usize),
    Umount,
    Reload(usize),
    Forget,
    /// The daemon is killed and started again, if it has nothing open; nothing else is modelled here.
    Kill,
    /// The daemon is to end, and is started again if it does.
    Stop(bool),
    Pass(u64),
}

fn step() -> impl Strategy<Value = Step> {
    let (which, guest) = (0..8_usize, 0..GUESTS.len());
    let kind = prop_oneof![2 => Just(Kind::Plain), 2 => Just(Kind::WithSerial), 1 => Just(Kind::Unbound), 1 => Just(Kind::Hub)];
    let end = prop_oneof![4 => Just(End::Good), 1 => Just(End::OnlySaid), 1 => Just(End::DoneAllTheSame), 1 => Just(End::Failed), 1 => Just(End::Unanswered)];
    prop_oneof![
        4 => (0..DISKS.len(), prop::option::of(0..PORTS.len())).prop_map(|(disk, port)| Step::Plug(disk, port)),
        2 => which.clone().prop_map(Step::Pull),
        3 => (0..PORTS.len(), kind).prop_map(|(port, kind)| Step::PlugUsb(port, kind)),
        1 => which.clone().prop_map(Step::Bind),
        2 => which.clone().prop_map(Step::PullUsb),
        1 => which.clone().prop_map(Step::Change),
        3 => (guest.clone(), any::<bool>(), any::<bool>()).prop_map(|(guest, own, scsi)| Step::Start(guest, own, scsi)),
        1 => guest.clone().prop_map(Step::TurnOff),
        1 => guest.clone().prop_map(Step::Undefine),
        2 => Just(Step::Connect),
        1 => Just(Step::Disconnect),
        8 => (guest.clone(), end).prop_map(|(guest, end)| Step::End(guest, end)),
        1 => guest.clone().prop_map(Step::EndAlthoughMissing),
        1 => (guest.clone(), which.clone()).prop_map(|(guest, which)| Step::Release(guest, which)),
        1 => guest.clone().prop_map(Step::Report),
        2 => (which.clone(), any::<bool>()).prop_map(|(which, is_good)| Step::EndOrphan(which, is_good)),
        2 => (0..DISKS.len(), prop::option::of(guest)).prop_map(|(disk, guest)| Step::Attach(disk, guest)),
        1 => (0..DISKS.len()).prop_map(Step::Detach),
        2 => Just(Step::Enter),
        4 => which.prop_map(Step::EndJob),
        1 => Just(Step::Umount),
        1 => (0..CONFIGS.len()).prop_map(Step::Reload),
        1 => Just(Step::Forget),
        2 => Just(Step::Kill),
        1 => any::<bool>().prop_map(Step::Stop),
        3 => prop_oneof![Just(0), Just(1_000), 1_000..70_000_u64].prop_map(Step::Pass),
    ]
}

fn apply(world: &mut World, step: Step) {
    match step {
        Step::Plug(id, port) => {
            let free = port
                .is_none_or(|port| world.disks.values().all(|disk| disk.port != PORTS[port].parse().ok()));
            if world.disks.len() < 4 && free {
                match port {
                    Some(port) => world.plug_on(DISKS[id], PORTS[port]),
                    None => world.plug(DISKS[id]),
                };
            }
        }
        Step::Pull(which) => {
            if let Some(seq) = world.disks.keys().nth(which % world.disks.len().max(1)).copied() {
                world.pull(seq);
            }
        }
        Step::PlugUsb(port, kind) => {
            if world.hypervisor.usb.values().all(|device| device.port.as_str() != PORTS[port]) {
                let address = u16::try_from(world.number()).unwrap();
                world.usb_is(UsbDevice {
                    port: PORTS[port].parse().unwrap(),
                    id: "051d:0002".parse().unwrap(),
                    serial: matches!(kind, Kind::WithSerial).then(|| "S2".to_owned()),
                    bus: 1,
                    address,
                    name: None,
                    is_hub: matches!(kind, Kind::Hub),
                    bound: !matches!(kind, Kind::Unbound),
                });
            }
        }
        Step::Bind(which) => {
            let device =
                world.hypervisor.usb.values().nth(which % world.hypervisor.usb.len().max(1)).cloned();
            if let Some(device) = device {
                world.usb_is(UsbDevice { bound: !device.bound, ..device });
            }
        }
        Step::PullUsb(which) => {
            if let Some(at) =
                world.hypervisor.usb.keys().nth(which % world.hypervisor.usb.len().max(1)).copied()
            {
                world.pull_usb(at);
            }
        }
        Step::Change(which) => {
            if let Some(disk) = world.disks.values().nth(which % world.disks.len().max(1)).cloned() {
                let actions = world.send(Event::DiskPresent(Box::new(disk)));
                assert!(actions.is_empty(), "the same event twice: {actions:?}");
            }
        }
        Step::Start(guest, own, has_scsi) => {
            // A definition of its own may have a file, and a target that is wanted.
            let devices = if own { vec![disk(Some("virtio-disk1"), "vdb", "/var/own.img")] } else { vec![] };
            world.start_guest_as(GUESTS[guest], devices, has_scsi);
        }
        Step::TurnOff(guest) => world.stop_guest(GUESTS[guest]),
        Step::Undefine(guest) => {
            world.hypervisor.domains.remove(GUESTS[guest]);
            world.report_guest(GUESTS[guest]);
        }
        Step::Connect => world.connect(),
        Step::Disconnect => world.disconnect(),
        Step::End(guest, end) => end_piece(world, GUESTS[guest], end),
        Step::EndAlthoughMissing(guest) => world.end_piece_although_missing(GUESTS[guest]),
        Step::EndOrphan(which, is_good) => world.end_orphan(which, is_good),
        Step::Release(guest, which) => world.release(GUESTS[guest], which),
        Step::Report(guest) => {
            world.report_guest(GUESTS[guest]);
            let asked = world.hypervisor.asked;
            world.report_guest(GUESTS[guest]);
            assert_eq!(world.hypervisor.asked, asked, "the same event twice");
        }
        Step::Attach(disk, guest) => {
            let command = world.command();
            let guest = guest.map(|guest| GUESTS[guest].to_owned());
            world.send(Event::GuestAttach { command, device: DISKS[disk].into(), guest });
        }
        Step::Detach(disk) => {
            let command = world.command();
            world.send(Event::GuestDetach { command, device: DISKS[disk].into() });
        }
        Step::Enter => {
            world.enter(SlotId(0), Hold::Nothing);
        }
        Step::EndJob(which) => {
            if let Some(job) = world.jobs.keys().nth(which % world.jobs.len().max(1)).copied() {
                end_job(world, job);
            }
        }
        Step::Umount => {
            let command = world.command();
            world.send(Event::Umount { command, name: "a".into(), wish: Wish::Locked, waits: false });
        }
        Step::Reload(which) => {
            world.begin_reload(CONFIGS[which]);
        }
        Step::Forget => world.forget(),
        Step::Kill => {
            if world.open.is_empty() && world.jobs.is_empty() && world.waiting.is_empty() {
                world.restart();
            }
        }
        Step::Stop(by_command) => {
            let command = by_command.then(|| world.command());
            world.send(Event::Stop(command));
        }
        Step::Pass(milliseconds) => world.pass(Duration::from_millis(milliseconds)),
    }
}

/// As the claims on disks have it.
fn end_piece(world: &mut World, guest: &str, end: End) {
    let end = if world.is_claimed_for_another(guest) { End::Failed } else { end };
    world.end_piece(guest, end);
}

/// The same of the host's side.
fn end_job(world: &mut World, job: JobId) {
    let error = world.is_refused(job).then_some(ErrorKind::Busy);
    world.end_job(job, error);
}

/// What has ended is started again. False if it has given up a job that hangs, which is not modelled further.
fn goes_on(world: &mut World) -> bool {
    if world.ended && world.jobs.is_empty() {
        world.restart();
    }
    !world.ended
}

/// The world calms down: everything that is asked for ends well. Then each device is where it belongs.
fn come_to_rest(world: &mut World) {
    for _ in 0..80 {
        // The daemon may be about to end, and is started again.
        if let Some(&job) = world.jobs.keys().next() {
            end_job(world, job);
        } else {
            world.forget();
            world.report_mounts();
            world.pass(Duration::from_secs(5));
        }
        if !goes_on(world) {
            return;
        }
    }
    while !world.hypervisor.orphans.is_empty() {
        world.end_orphan(0, true);
    }
    world.reload(CONFIG).unwrap();
    world.connect();
    for device in world.hypervisor.usb.values().cloned().collect::<Vec<_>>() {
        world.usb_is(UsbDevice { bound: true, ..device });
    }
    for guest in GUESTS {
        world.stop_guest(guest);
        world.start_guest(guest, vec![]);
    }
    for _ in 0..60 {
        world.settle();
        while let Some(&job) = world.jobs.keys().next() {
            end_job(world, job);
        }
        world.forget();
        world.report_mounts();
        world.pass(Duration::from_secs(10));
    }
    assert!(world.commands.is_empty(), "nobody was told: {:?}", world.commands);
    let asked = world.hypervisor.asked;
    let snapshot = world.core.snapshot();
    for guest in &snapshot.guests {
        for device in &guest.devices {
            let settled = match device.state {
                GuestDeviceState::Absent | GuestDeviceState::Attached => true,
                // Twins, what a person detached, and what the host is to have.
                GuestDeviceState::Waiting => {
                    let why = device.error.as_deref().unwrap_or_default();
                    [
                        "claim",
                        "by hand",
                        "a disk on it",
                        "gives it to",
                        "USB device that it is on",
                        "it is a hub",
                    ]
                    .iter()
                    .any(|known| why.contains(known))
                }
                _ => false,
            };
            assert!(settled, "{}: {device:?}", guest.name);
        }
    }
    for name in GUESTS {
        for alias in world.hypervisor.aliases(name) {
            let shown = snapshot.guests.iter().any(|guest| {
                guest.name == name
                    && guest.devices.iter().any(|device| device.alias.as_deref() == Some(&alias))
            });
            assert!(shown, "{alias} was left in {name}");
        }
    }
    world.pass(Duration::from_secs(600));
    assert_eq!(world.hypervisor.asked, asked, "it does not come to rest");
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 600, ..ProptestConfig::default() })]

    #[test]
    fn the_rules_of_guests_hold_whatever_happens_and_every_device_ends_where_it_belongs(
        steps in prop::collection::vec(step(), 0..100),
    ) {
        let mut world = World::with_config(CONFIG);
        for step in steps {
            apply(&mut world, step);
            if !goes_on(&mut world) {
                return Ok(());
            }
        }
        come_to_rest(&mut world);
    }
}
