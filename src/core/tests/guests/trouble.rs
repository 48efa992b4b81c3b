//! Guests and libvirt that fail, lie, or do not answer.

use std::time::Duration;

use super::{attach, detach, error, piece, state, world};
use crate::core::tests::hypervisor::{End, Piece};
use crate::core::*;

#[test]
fn a_detach_that_was_only_said_to_succeed_is_asked_for_again_and_a_replug_waits_and_says_so() {
    let mut world = world();
    let seq = world.plug("vm");
    world.settle();
    world.pull(seq);
    world.plug("vm");
    for _ in 0..6 {
        assert!(matches!(piece(&world, "g1"), Piece::Detach(_)));
        world.end_piece("g1", End::OnlySaid);
        world.end_piece("g1", End::Good);
        assert!(world.hypervisor.pieces.is_empty(), "a pause before it is asked for again");
        world.pass(Duration::from_secs(60));
    }
    let waiting = world.core.snapshot().guests[0].devices.clone();
    let waiting = waiting.iter().find(|d| d.state == GuestDeviceState::Waiting).unwrap();
    assert_eq!(waiting.error.as_deref(), Some("g1 has not released vdb for 360 s"));
    world.settle();
    assert_eq!(state(&world, "g1", "vm"), GuestDeviceState::Attached);
}

#[test]
fn a_usb_device_that_was_pulled_is_detached_before_its_next_plug_is_attached() {
    let mut world = world();
    let first = world.plug_usb("2-1", "051d:0002", None);
    world.settle();
    world.pull_usb(first);
    let second = world.plug_usb("2-1", "051d:0002", None);
    world.end_piece("g1", End::OnlySaid);
    world.end_piece("g1", End::Good);
    assert!(world.hypervisor.pieces.is_empty());
    world.hypervisor.domains.get_mut("g1").unwrap().as_mut().unwrap().devices.pop();
    world.report_guest("g1"); // DEVICE_REMOVED, late
    world.settle();
    let alias = format!("ua-mydisks-usb-1-{}-051d-0002", second.1);
    assert_eq!(world.hypervisor.aliases("g1")[1..], [alias]);
}

#[test]
fn an_attach_that_failed_or_was_only_said_to_succeed_is_tried_again_with_the_reason_shown() {
    for (end, why) in [(End::Failed, "internal error: code 1"), (End::OnlySaid, "does not have it")] {
        let mut world = world();
        world.plug("vm");
        world.end_piece("g1", end);
        world.end_piece("g1", End::Good);
        assert_eq!(state(&world, "g1", "vm"), GuestDeviceState::Failed);
        assert!(error(&world, "g1", "vm").contains(why));
        world.pass(Duration::from_secs(2));
        world.settle();
        assert_eq!(state(&world, "g1", "vm"), GuestDeviceState::Attached);
        assert_eq!(error(&world, "g1", "vm"), "");
    }
}

#[test]
fn an_attach_that_is_said_to_have_failed_and_has_not_is_seen() {
    let mut world = world();
    world.plug("vm");
    world.end_piece("g1", End::DoneAllTheSame);
    world.end_piece("g1", End::Good);
    assert_eq!(state(&world, "g1", "vm"), GuestDeviceState::Attached);
    assert_eq!(world.core.next_wakeup(), None);
}

#[test]
fn a_guest_that_does_not_answer_is_told_and_left_alone_and_the_others_go_on() {
    let mut world = world();
    world.plug("vm");
    world.plug("other");
    world.pass(Duration::from_secs(42));
    world.send(Event::Tick);
    assert_eq!(error(&world, "g1", "vm"), "g1 does not answer for 42 s");
    assert_eq!(error(&world, "g1", "other"), "g1 does not answer for 42 s");
    assert_eq!(world.core.snapshot().guests[0].state, GuestState::Unreachable);
    assert_eq!(world.hypervisor.asked, 1);
    world.plug_usb("2-1", "051d:0002", Some("S2"));
    world.settle();
    assert_eq!(state(&world, "g2", "051d:0002 serial=S2"), GuestDeviceState::Attached);
    assert_eq!(state(&world, "g1", "other"), GuestDeviceState::Attached);
}

/// So libvirt does it with the policy by which a saved guest can be restored without a device that has been pulled.
#[test]
fn a_usb_device_that_a_guest_has_by_name_only_is_taken_away_and_attached_again_after_a_pause() {
    let mut world = world();
    world.plug_usb("2-1", "051d:0002", None);
    world.end_piece_although_missing("g1");
    world.end_piece("g1", End::Good);
    assert!(matches!(piece(&world, "g1"), Piece::Detach(_)));
    world.end_piece("g1", End::Good);
    world.end_piece("g1", End::Good);
    assert!(world.hypervisor.pieces.is_empty(), "a pause: {:?}", world.hypervisor.pieces);
    assert_eq!(state(&world, "g1", "051d:0002"), GuestDeviceState::Failed);
    assert!(error(&world, "g1", "051d:0002").contains("the guest does not have it"));
    world.pass(Duration::from_secs(2));
    world.settle();
    assert_eq!(state(&world, "g1", "051d:0002"), GuestDeviceState::Attached);
}

#[test]
fn without_a_connection_it_is_said_why_and_all_is_done_when_it_is_back() {
    let mut world = world();
    world.disconnect();
    let seq = world.plug("vm");
    assert_eq!(error(&world, "g1", "vm"), "libvirt cannot be reached: the socket is closed");
    assert_eq!(world.core.next_wakeup(), None);
    world.connect();
    // The connection breaks in the middle of the work, which was done all the same.
    world.disconnect();
    world.end_piece("g1", End::DoneAllTheSame);
    world.connect();
    assert_eq!(state(&world, "g1", "vm"), GuestDeviceState::Attached);
    world.pull(seq);
    world.settle();
    assert_eq!(world.hypervisor.aliases("g1"), ["virtio-disk0"]);
}

#[test]
fn a_guest_that_restarts_in_the_middle_of_the_work_gets_it_in_its_new_run() {
    for end in [End::Good, End::Failed, End::OnlySaid, End::DoneAllTheSame] {
        let mut world = world();
        world.plug("vm");
        world.start_guest("g1", vec![]);
        world.end_piece("g1", end);
        world.settle();
        world.pass(Duration::from_secs(10));
        world.settle();
        assert_eq!(state(&world, "g1", "vm"), GuestDeviceState::Attached, "{end:?}");
    }
}

#[test]
fn what_a_guest_loses_again_and_again_is_attached_with_pauses() {
    let mut world = world();
    world.plug("vm");
    world.settle();
    for _ in 0..5 {
        world.hypervisor.domains.get_mut("g1").unwrap().as_mut().unwrap().devices.pop();
        world.report_guest("g1");
        assert!(world.hypervisor.pieces.is_empty());
        world.pass(Duration::from_secs(60));
        world.settle();
        assert_eq!(state(&world, "g1", "vm"), GuestDeviceState::Attached);
    }
}

#[test]
fn the_end_of_the_daemon_waits_for_no_guest_and_takes_nothing_away() {
    let mut world = world();
    world.plug("vm");
    let command = world.command();
    world.send(Event::Stop(Some(command)));
    assert!(world.ended);
}

#[test]
fn the_end_of_the_daemon_says_which_guest_has_not_answered_and_refuses_commands() {
    for (work, may) in [(End::Good, "release"), (End::Failed, "get")] {
        let mut world = world();
        world.plug("vm");
        let mut commands = Vec::new();
        if work == End::Good {
            world.settle();
            commands.push(detach(&mut world, "vm"));
        } else {
            commands.push(attach(&mut world, "vm", None));
        }
        assert!(world.hypervisor.pieces.contains_key(&"g1".parse().unwrap()));
        world.pass(Duration::from_secs(3));
        let end = world.command();
        world.send(Event::Stop(Some(end)));
        assert!(world.ended);
        assert_eq!(world.replies[&commands[0]], Err("vm: the daemon ends".into()));
        let said = world.core.snapshot().events;
        let expected = format!("g1 has not answered for 3 s and is not waited for: it may still {may} ");
        assert!(said.iter().any(|line| line.text.starts_with(&expected)), "{said:?}");
    }
}
