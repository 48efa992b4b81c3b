//! What people attach and detach.

use std::time::Duration;

use super::{CONFIG, attach, detach, error, piece, state, world};
use crate::core::tests::hypervisor::{End, Piece, disk};
use crate::core::tests::world::World;
use crate::core::*;

#[test]
fn detached_by_hand_it_stays_away_until_it_is_plugged_in_again_or_attached_by_hand() {
    let mut world = world();
    let seq = world.plug("vm");
    world.settle();
    let command = detach(&mut world, "vm");
    assert!(!world.replies.contains_key(&command), "not before it is gone");
    world.settle();
    assert_eq!(world.replies[&command], Ok("vm is with no guest, until it is plugged in again".into()));
    world.start_guest("g1", vec![]);
    assert!(world.hypervisor.pieces.is_empty());
    assert_eq!(error(&world, "g1", "vm"), "detached by hand, until it is plugged in again");
    let command = attach(&mut world, "vm", None);
    world.settle();
    assert_eq!(world.replies[&command], Ok("vm is attached to g1 as vdb".into()));
    detach(&mut world, "vm");
    world.settle();
    world.pull(seq);
    world.plug("vm");
    world.settle();
    assert_eq!(state(&world, "g1", "vm"), GuestDeviceState::Attached);
}

#[test]
fn an_unlisted_device_needs_its_guests_name_and_is_recalled_by_a_later_run() {
    let mut world = world();
    let seq = world.plug("unlisted");
    let command = attach(&mut world, "unlisted", None);
    assert_eq!(
        world.replies[&command],
        Err("unlisted: the configuration has it for no guest: name one".into())
    );
    let command = attach(&mut world, "unlisted", Some("nobody"));
    assert_eq!(world.replies[&command], Err("unlisted: libvirt knows no guest called nobody".into()));
    let command = attach(&mut world, "/dev/sd1", Some("g2"));
    world.settle();
    assert_eq!(world.replies[&command], Ok("/dev/sd1 is attached to g2 as vda".into()));
    let alias = format!("ua-mydisks-hand-disk-{}", seq.0);
    assert_eq!(world.hypervisor.aliases("g2"), std::slice::from_ref(&alias));

    let mut later = World::with_config(CONFIG);
    later.hypervisor.connected = true;
    assert_eq!(later.plug("unlisted"), seq);
    later.start_guest("g2", vec![disk(Some(&alias), "vda", "/dev/sd1")]);
    later.connect();
    assert!(later.hypervisor.pieces.is_empty());
    assert_eq!(state(&later, "g2", "unlisted"), GuestDeviceState::Attached);
    detach(&mut later, "unlisted");
    later.settle();
    assert!(later.hypervisor.aliases("g2").is_empty());
}

#[test]
fn to_another_guest_by_hand_it_leaves_the_first_before_it_is_attached() {
    let mut world = world();
    world.plug("vm");
    world.settle();
    let command = attach(&mut world, "vm", Some("g2"));
    assert!(matches!(piece(&world, "g1"), Piece::Detach(_)));
    assert!(!world.hypervisor.pieces.contains_key(&"g2".parse().unwrap()));
    world.settle();
    assert_eq!(world.replies[&command], Ok("vm is attached to g2 as vda".into()));
}

#[test]
fn a_command_tells_by_its_deadline_how_far_it_is() {
    let mut world = world();
    world.plug("vm");
    world.settle();
    let command = detach(&mut world, "vm");
    world.end_piece("g1", End::OnlySaid);
    world.end_piece("g1", End::Good);
    for _ in 0..20 {
        world.pass(Duration::from_secs(2));
        world.end_piece("g1", End::OnlySaid);
        world.end_piece("g1", End::Good);
    }
    let said = world.replies[&command].clone().unwrap_err();
    assert_eq!(said, "vm: g1 has not released vdb for 30 s; it is asked for again and again");
    world.stop_guest("g1");
    let command = attach(&mut world, "vm", None);
    let said = world.replies[&command].clone().unwrap_err();
    assert_eq!(said, "vm: g1 is off; it is attached as soon as that has changed");
}

#[test]
fn a_device_that_is_not_there_or_not_one_is_refused() {
    let mut world = world();
    world.plug("twin");
    world.plug("twin");
    world.plug("parts");
    for (name, why) in [
        ("x\n", "no device that is plugged in is called x\\n; `mydisks devices` lists them"),
        ("twin", "2 devices are called twin (/dev/sd1, /dev/sd2): say which by its place"),
        ("/dev/sdp1", "/dev/sdp1 is a partition; a guest gets the whole disk, /dev/sd3"),
    ] {
        let command = attach(&mut world, name, Some("g1"));
        assert_eq!(world.replies[&command], Err(why.into()));
    }
    let command = detach(&mut world, "/dev/sd1");
    assert_eq!(world.replies[&command], Err("/dev/sd1 is attached to no guest".into()));
}
