//! Which entry of the configuration means a device, and what is done where several do.

use super::{attach, error, state, world};
use crate::core::*;
use crate::device::UsbDevice;

#[test]
fn of_the_entries_for_a_usb_device_the_serial_goes_before_the_port_and_that_before_the_model() {
    let mut world = world();
    world.plug_usb("1-4.1", "051d:0002", Some("S2")); // serial: g2
    world.plug_usb("1-4.2", "051d:0002", None); // the nearer port: g2
    world.plug_usb("1-4.3", "ffff:0001", None); // behind the hub at 1-4: g1
    world.plug_usb("2-1", "051d:0002", None); // the model: g1
    world.plug_usb("2-2", "051d:0002", None); // and its twin
    world.plug_usb("2-3", "ffff:0001", None); // nobody's
    world.settle();
    assert_eq!((world.hypervisor.aliases("g1").len(), world.hypervisor.aliases("g2").len()), (1 + 3, 2));
    assert_eq!(state(&world, "g2", "port=1-4.2"), GuestDeviceState::Attached);
    assert_eq!(state(&world, "g1", "port=1-4"), GuestDeviceState::Attached);
}

#[test]
fn a_usb_device_waits_until_it_is_bound_and_a_hub_is_never_given_away() {
    let mut world = world();
    let device = |address, is_hub, bound| UsbDevice {
        port: "1-4".parse().unwrap(),
        id: "051d:0002".parse().unwrap(),
        serial: None,
        bus: 1,
        address,
        name: None,
        is_hub,
        bound,
    };
    world.usb_is(device(900, true, true));
    assert!(world.hypervisor.pieces.is_empty());
    let command = attach(&mut world, "/dev/bus/usb/001/900", Some("g1"));
    assert_eq!(
        world.replies[&command],
        Err("/dev/bus/usb/001/900: it is a hub, which is never given to a guest".into())
    );
    world.pull_usb((1, 900));
    world.usb_is(device(901, false, false));
    assert!(world.hypervisor.pieces.is_empty());
    assert!(error(&world, "g1", "port=1-4").starts_with("it is not ready yet"));
    world.usb_is(device(901, false, true));
    world.settle();
    assert_eq!(state(&world, "g1", "port=1-4"), GuestDeviceState::Attached);
}

#[test]
fn twins_of_a_disk_are_refused_and_the_one_that_the_guest_has_stays() {
    let mut world = world();
    let first = world.plug("vm");
    world.settle();
    let second = world.plug("vm");
    assert!(world.hypervisor.pieces.is_empty());
    let node = |seq| world.disks[&seq].node.devnode.display();
    let states: Vec<_> =
        world.core.snapshot().guests[0].devices.iter().filter(|d| d.id == "vm").map(|d| d.state).collect();
    assert_eq!(
        states,
        [GuestDeviceState::Attached, GuestDeviceState::Waiting],
        "{} {}",
        node(first),
        node(second)
    );
    world.stop_guest("g1");
    world.start_guest("g1", vec![]);
    assert!(world.hypervisor.pieces.is_empty(), "nothing tells them apart");
    assert!(error(&world, "g1", "vm").contains("2 attached disks claim vm"));
    world.pull(first);
    world.settle();
    assert_eq!(state(&world, "g1", "vm"), GuestDeviceState::Attached);
}

#[test]
fn a_disk_stays_with_its_guest_when_what_the_guest_writes_makes_its_entry_untrue() {
    let mut world = world();
    let far = world.plug("far");
    world.settle();
    let mut disk = world.disks[&far].clone();
    disk.node.content.uuid = None;
    world.send(Event::DiskPresent(Box::new(disk)));
    assert!(world.hypervisor.pieces.is_empty());
    assert_eq!(state(&world, "g2", "uuid=fa"), GuestDeviceState::Attached);
}
