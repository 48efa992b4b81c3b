//! Random sequences of everything that can happen to guests and devices; the world and the hypervisor check the rules
//! after each event.

use std::time::Duration;

use proptest::prelude::*;

use super::hypervisor::{End, disk};
use super::world::World;
use crate::core::*;

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
disks = [{ uuid = "fa" }]
"#;

const GUESTS: [&str; 3] = ["g1", "g2", "theirs"];
const DISKS: [&str; 5] = ["near", "far", "vm", "other", "unlisted"];
const PORTS: [&str; 3] = ["1-4.1", "1-5", "2-1"];

#[derive(Clone, Copy, Debug)]
enum Step {
    Plug(usize, Option<usize>),
    Pull(usize),
    PlugUsb(usize, bool),
    PullUsb(usize),
    Change(usize),
    Start(usize, bool),
    Stop(usize),
    Undefine(usize),
    Connect,
    Disconnect,
    End(usize, End),
    /// A guest grants what it was asked for long ago, or somebody detaches by hand.
    Release(usize, usize),
    Report(usize),
    Attach(usize, Option<usize>),
    Detach(usize),
    Enter,
    EndJob(usize),
    Umount,
    Pass(u64),
}

fn step() -> impl Strategy<Value = Step> {
    let (which, guest) = (0..8_usize, 0..GUESTS.len());
    let end = prop_oneof![4 => Just(End::Good), 1 => Just(End::OnlySaid), 1 => Just(End::DoneAllTheSame), 1 => Just(End::Failed)];
    prop_oneof![
        4 => (0..DISKS.len(), prop::option::of(0..PORTS.len())).prop_map(|(disk, port)| Step::Plug(disk, port)),
        2 => which.clone().prop_map(Step::Pull),
        3 => (0..PORTS.len(), any::<bool>()).prop_map(|(port, serial)| Step::PlugUsb(port, serial)),
        2 => which.clone().prop_map(Step::PullUsb),
        1 => which.clone().prop_map(Step::Change),
        3 => (guest.clone(), any::<bool>()).prop_map(|(guest, own)| Step::Start(guest, own)),
        1 => guest.clone().prop_map(Step::Stop),
        1 => guest.clone().prop_map(Step::Undefine),
        2 => Just(Step::Connect),
        1 => Just(Step::Disconnect),
        8 => (guest.clone(), end).prop_map(|(guest, end)| Step::End(guest, end)),
        1 => (guest.clone(), which.clone()).prop_map(|(guest, which)| Step::Release(guest, which)),
        1 => guest.clone().prop_map(Step::Report),
        1 => (0..DISKS.len(), prop::option::of(guest)).prop_map(|(disk, guest)| Step::Attach(disk, guest)),
        1 => (0..DISKS.len()).prop_map(Step::Detach),
        2 => Just(Step::Enter),
        4 => which.prop_map(Step::EndJob),
        1 => Just(Step::Umount),
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
        Step::PlugUsb(port, serial) => {
            if world.hypervisor.usb.values().all(|device| device.port.as_str() != PORTS[port]) {
                world.plug_usb(PORTS[port], "051d:0002", serial.then_some("S2"));
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
        Step::Start(guest, own) => {
            // A definition of its own may have a file, and a target that is wanted.
            let devices = if own { vec![disk(Some("virtio-disk1"), "vdb", "/var/own.img")] } else { vec![] };
            world.start_guest(GUESTS[guest], devices);
        }
        Step::Stop(guest) => world.stop_guest(GUESTS[guest]),
        Step::Undefine(guest) => {
            world.hypervisor.domains.remove(GUESTS[guest]);
            world.report_guest(GUESTS[guest]);
        }
        Step::Connect => world.connect(),
        Step::Disconnect => world.disconnect(),
        Step::End(guest, end) => world.end_piece(GUESTS[guest], end),
        Step::Release(guest, which) => {
            if let Some(Some(live)) = world.hypervisor.domains.get_mut(GUESTS[guest]) {
                if which < live.devices.len() {
                    live.devices.remove(which);
                    world.report_guest(GUESTS[guest]);
                }
            }
        }
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
                world.end_job(job, None);
            }
        }
        Step::Umount => {
            let command = world.command();
            world.send(Event::Umount { command, name: "a".into(), wish: Wish::Locked, waits: false });
        }
        Step::Pass(milliseconds) => world.pass(Duration::from_millis(milliseconds)),
    }
}

/// The world calms down: everything that is asked for ends well. Then each device is where it belongs.
fn come_to_rest(world: &mut World) {
    world.connect();
    for guest in GUESTS {
        world.stop_guest(guest);
        world.start_guest(guest, vec![]);
    }
    for _ in 0..60 {
        world.settle();
        while let Some(&job) = world.jobs.keys().next() {
            world.end_job(job, None);
        }
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
                    ["claim", "by hand", "a disk on it", "gives it to", "USB device that it is on"]
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
    #![proptest_config(ProptestConfig { cases: 400, ..ProptestConfig::default() })]

    #[test]
    fn the_rules_of_guests_hold_whatever_happens_and_every_device_ends_where_it_belongs(
        steps in prop::collection::vec(step(), 0..100),
    ) {
        let mut world = World::with_config(CONFIG);
        for step in steps {
            apply(&mut world, step);
        }
        come_to_rest(&mut world);
    }
}
