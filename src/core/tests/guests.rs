//! Single stories of devices and guests, told event by event.

use std::time::Duration;

use super::hypervisor::{End, Piece, disk};
use super::world::World;
use crate::core::*;
use crate::device::UsbDevice;
use crate::guests::{Bus, LiveDevice, LiveKind, NewDevice};

/// `far` can be reached through the mount `a` by id, and through `g2` by UUID: the text cannot tell.
const CONFIG: &str = r#"
[mounts.a]
disks = ["near", "far"]
[guests.g1]
usb = ["051d:0002", { port = "1-4" }]
disks = [{ id = "vm", target = "vdb" }, { id = "other", readonly = true }]
[guests.g2]
usb = [{ id = "051d:0002", serial = "S2" }, { port = "1-4.2" }]
disks = [{ uuid = "fa" }]
"#;

const A: SlotId = SlotId(0);

/// Connected, and both guests run.
fn world() -> World {
    let mut world = World::with_config(CONFIG);
    world.hypervisor.connected = true;
    world.connect();
    world.start_guest("g1", vec![disk(Some("virtio-disk0"), "vda", "/var/g1.img")]);
    world.start_guest("g2", vec![]);
    world
}

fn device(world: &World, guest: &str, id: &str) -> GuestDeviceStatus {
    let snapshot = world.core.snapshot();
    let guest = snapshot.guests.iter().find(|status| status.name == guest).expect("it is shown").clone();
    guest.devices.iter().find(|device| device.id == id).unwrap_or_else(|| panic!("{id} in {guest:?}")).clone()
}

fn state(world: &World, guest: &str, id: &str) -> GuestDeviceState {
    device(world, guest, id).state
}

fn error(world: &World, guest: &str, id: &str) -> String {
    device(world, guest, id).error.unwrap_or_default()
}

fn piece(world: &World, guest: &str) -> Piece {
    world.hypervisor.pieces[&guest.parse().unwrap()].1.clone()
}

fn mount(world: &mut World) {
    world.enter(A, Hold::Nothing);
    while let Some(&job) = world.jobs.keys().next() {
        world.end_job(job, None);
    }
    assert!(world.mounted.contains_key(&A));
}

fn attach(world: &mut World, device: &str, guest: Option<&str>) -> CommandId {
    let command = world.command();
    world.send(Event::GuestAttach { command, device: device.into(), guest: guest.map(str::to_owned) });
    command
}

fn detach(world: &mut World, device: &str) -> CommandId {
    let command = world.command();
    world.send(Event::GuestDetach { command, device: device.into() });
    command
}

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
