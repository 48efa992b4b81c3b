//! One device is with the host or with a guest, never with both.

use super::{A, CONFIG, attach, error, mount, piece, state, world};
use crate::core::tests::hypervisor::{Piece, disk};
use crate::core::tests::world::World;
use crate::core::*;
use crate::guests::NewDevice;

#[test]
fn a_disk_that_a_mount_has_waits_until_it_is_locked_and_one_that_a_guest_has_is_busy() {
    let mut world = World::with_config(CONFIG);
    world.hypervisor.connected = true;
    world.connect();
    world.start_guest("g2", vec![]);
    // Not yet known to be for the guest: its content has not been seen.
    let far = world.plug("far");
    world.settle();
    assert_eq!(state(&world, "g2", "uuid=fa"), GuestDeviceState::Attached);
    world.enter(A, Hold::Nothing);
    assert_eq!(world.errors, [libc::EBUSY]);
    let said = world.core.snapshot().mounts[0].error.clone().unwrap();
    assert!(said.ends_with("is in use by the guest g2"), "{said}");
    world.pull(far);
    world.settle();

    let near = world.plug("near");
    mount(&mut world);
    attach(&mut world, "near", Some("g2"));
    assert!(world.hypervisor.pieces.is_empty());
    world.pull(near);
}

#[test]
fn a_disk_that_a_mount_has_is_refused_by_hand_with_the_reason() {
    let mut world = world();
    world.plug("near");
    mount(&mut world);
    let command = attach(&mut world, "near", Some("g2"));
    assert_eq!(world.replies[&command], Err("near: the mount a has it open".into()));
}

#[test]
fn a_disk_of_a_guest_is_never_opened_by_a_slot_even_while_the_guest_is_off() {
    let mut world = world();
    world.stop_guest("g2");
    world.plug("far");
    world.enter(A, Hold::Nothing);
    assert_eq!(world.errors, [libc::EBUSY]);
}

#[test]
fn a_disk_that_any_guest_has_by_its_own_definition_is_refused_until_it_is_released() {
    let mut world = world();
    world.start_guest("theirs", vec![disk(None, "vda", "/dev/sd1")]);
    let seq = world.plug("vm");
    assert_eq!(world.disks[&seq].node.devnode.to_str(), Some("/dev/sd1"));
    assert_eq!(error(&world, "g1", "vm"), "theirs has it, by its own definition");
    world.stop_guest("theirs");
    world.settle();
    assert_eq!(state(&world, "g1", "vm"), GuestDeviceState::Attached);
}

#[test]
fn a_partition_or_an_image_that_a_guest_has_keeps_the_host_off() {
    let mut world = World::with_config(
        "[mounts.c]\ndisks = [{ id = \"parts\", partition = 1 }]\n[mounts.i]\ndisks = [{ image = \"/image\" }]",
    );
    world.hypervisor.connected = true;
    world.connect();
    world.start_guest("theirs", vec![disk(None, "vda", "/dev/sdp2"), disk(None, "vdb", "/image")]);
    world.plug("parts");
    world.enter(SlotId(0), Hold::Nothing);
    world.enter(SlotId(1), Hold::Nothing);
    assert_eq!(world.errors, [libc::EBUSY, libc::EBUSY]);
}

#[test]
fn a_usb_device_that_carries_a_disk_of_a_mount_or_a_guest_stays_on_the_host() {
    for (id, why) in [
        ("near", "/dev/sd1, a disk on it, is for the mount a"),
        ("vm", "/dev/sd1, a disk on it, is for the guest g1"),
    ] {
        let mut world = world();
        world.stop_guest("g1");
        world.plug_on(id, "1-4.2");
        world.plug_usb("1-4.2", "ffff:0001", None);
        assert!(world.hypervisor.pieces.is_empty());
        assert_eq!(error(&world, "g2", "port=1-4.2"), why);
    }
    let mut world = world();
    world.plug_on("nobody's", "1-4.2");
    world.plug_usb("1-4.2", "ffff:0001", None);
    let Piece::Attach(NewDevice::Usb { disks, .. }) = piece(&world, "g2") else { panic!() };
    assert_eq!(disks, [("/dev/sd1".into(), 1)], "to be looked at once more before it is given away");
}
