//! What a guest gets, keeps and gives back while it runs, and over its runs and those of the daemon.

use super::{CONFIG, attach, device, error, piece, state, world};
use crate::core::tests::hypervisor::{Piece, disk};
use crate::core::tests::world::World;
use crate::core::*;
use crate::guests::{Bus, LiveDevice, LiveKind, NewDevice};

#[test]
fn a_disk_goes_to_its_guest_when_it_is_plugged_in_and_leaves_when_it_is_pulled() {
    let mut world = world();
    let seq = world.plug("vm");
    let Piece::Attach(NewDevice::Disk { target, bus, node, read_only, .. }) = piece(&world, "g1") else {
        panic!()
    };
    assert_eq!((target.as_str(), bus, read_only), ("vdb", Bus::Virtio, false));
    assert_eq!(node, world.disks[&seq].node.devnode);
    assert_eq!(state(&world, "g1", "vm"), GuestDeviceState::Attaching);
    world.settle();
    let shown = device(&world, "g1", "vm");
    assert_eq!(shown.state, GuestDeviceState::Attached);
    assert_eq!(shown.alias, Some(format!("ua-mydisks-disk-{}", seq.0)));
    assert_eq!(world.core.next_wakeup(), None, "nothing to wait for");
    world.pull(seq);
    assert_eq!(state(&world, "g1", "vm"), GuestDeviceState::Absent);
    assert!(matches!(piece(&world, "g1"), Piece::Detach(_)));
    world.settle();
    assert_eq!(world.hypervisor.aliases("g1"), ["virtio-disk0"]);
    assert_eq!(world.core.next_wakeup(), None);
}

#[test]
fn a_target_that_is_not_named_is_the_next_free_one_and_leaves_out_those_that_are_named() {
    let mut world = world();
    world.plug("other");
    let Piece::Attach(NewDevice::Disk { target, read_only, .. }) = piece(&world, "g1") else { panic!() };
    assert_eq!((target.as_str(), read_only), ("vdc", true));
}

#[test]
fn a_taken_target_is_said_and_the_disk_attached_when_it_is_free() {
    let mut world = world();
    world.start_guest("g1", vec![disk(None, "vdb", "/var/x.img")]);
    world.plug("vm");
    assert!(world.hypervisor.pieces.is_empty());
    assert_eq!(error(&world, "g1", "vm"), "vdb of g1 is taken by another disk");
    world.hypervisor.domains.get_mut("g1").unwrap().as_mut().unwrap().devices.clear();
    world.report_guest("g1");
    world.settle();
    assert_eq!(state(&world, "g1", "vm"), GuestDeviceState::Attached);
}

#[test]
fn a_guest_that_is_off_gets_its_devices_when_it_starts_and_anew_with_each_run() {
    let mut world = world();
    world.stop_guest("g1");
    world.plug("vm");
    world.plug_usb("2-1", "051d:0002", None);
    assert_eq!(error(&world, "g1", "vm"), "g1 is off");
    for _ in 0..2 {
        world.start_guest("g1", vec![]);
        world.settle();
        assert_eq!(world.hypervisor.aliases("g1").len(), 2);
    }
    let asked = world.hypervisor.asked;
    world.report_guest("g1"); // rebooted: the same run
    assert_eq!(world.hypervisor.asked, asked);
}

#[test]
fn a_daemon_that_starts_late_attaches_what_is_there_and_keeps_what_an_earlier_run_attached() {
    let mut world = World::with_config(CONFIG);
    world.hypervisor.connected = true;
    let seq = world.plug("vm");
    let alias = format!("ua-mydisks-disk-{}", seq.0);
    let node = world.disks[&seq].node.devnode.to_str().unwrap().to_owned();
    world.start_guest("g2", vec![]);
    world.start_guest(
        "g1",
        vec![disk(Some(&alias), "vdb", &node), disk(Some("ua-mydisks-disk-99"), "vdc", "/dev/sdz")],
    );
    assert_eq!(error(&world, "g1", "vm"), "", "adopted as soon as it is seen");
    let usb = world.plug_usb("2-1", "051d:0002", None);
    world.connect();
    assert_eq!(piece(&world, "g1"), Piece::Detach("ua-mydisks-disk-99".into()), "nothing accounts for it");
    world.settle();
    let usb = format!("ua-mydisks-usb-1-{}-051d-0002", usb.1);
    assert_eq!(world.hypervisor.aliases("g1"), [alias, usb]);
}

#[test]
fn an_alias_that_lies_of_its_source_is_detached() {
    let mut world = world();
    let vm = world.plug("vm");
    world.settle();
    let alias = format!("ua-mydisks-disk-{}", vm.0);
    world.start_guest("g1", vec![disk(Some(&alias), "vdb", "/dev/another")]);
    assert_eq!(piece(&world, "g1"), Piece::Detach(alias));
    world.settle();
    assert_eq!(state(&world, "g1", "vm"), GuestDeviceState::Attached);
    let usb = world.plug_usb("2-1", "051d:0002", None);
    world.settle();
    let foreign = format!("ua-mydisks-usb-1-{}-ffff-0001", usb.1);
    let kind = LiveKind::Usb { at: Some(usb), id: None };
    world.start_guest("g1", vec![LiveDevice { alias: Some(foreign.clone()), kind }]);
    assert_eq!(piece(&world, "g1"), Piece::Detach(foreign), "another device had that number");
}

#[test]
fn what_is_not_ours_is_never_touched() {
    let mut world = world();
    let vm = world.plug("vm");
    world.settle();
    let node = world.disks[&vm].node.devnode.to_str().unwrap().to_owned();
    let asked = world.hypervisor.asked;
    world.start_guest(
        "g1",
        vec![disk(Some("ua-theirs"), "vdb", &node), disk(Some("ua-mydisks-x"), "vdc", "/dev/x")],
    );
    assert_eq!(world.hypervisor.asked, asked);
    assert_eq!(error(&world, "g1", "vm"), "g1 has it already, by its own definition");
}

#[test]
fn a_guest_that_is_wanted_for_the_first_time_is_connected_for() {
    const NO_GUESTS: &str = "[mounts.a]\ndisks = [\"near\"]";
    let mut reloaded = World::with_config(NO_GUESTS);
    reloaded.plug("vm");
    assert_eq!(reloaded.hypervisor.asked_to_connect, 0);
    reloaded.reload(CONFIG).unwrap();
    assert_eq!(reloaded.hypervisor.asked_to_connect, 1);

    let mut by_hand = World::with_config(NO_GUESTS);
    by_hand.plug("vm");
    let command = attach(&mut by_hand, "vm", Some("g2"));
    assert_eq!(by_hand.hypervisor.asked_to_connect, 1);
    assert!(!by_hand.replies.contains_key(&command), "it is waited for");
    by_hand.hypervisor.connected = true;
    by_hand.start_guest("g2", vec![]);
    by_hand.connect();
    by_hand.settle();
    assert_eq!(by_hand.replies[&command], Ok("vm is attached to g2 as vda".into()));
    assert_eq!(by_hand.hypervisor.asked_to_connect, 1);
}
