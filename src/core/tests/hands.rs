//! What a person has detached, against everything that makes the core look at guests again.

use std::time::Duration;

use super::hypervisor::End;
use super::world::World;
use crate::core::*;

const CONFIG: &str = r#"
[guests.g1]
usb = ["051d:0002"]
disks = [{ id = "vm", target = "vdb" }]
[guests.off]
disks = ["other"]
"#;

/// As guests are looked at for what nobody reported, while somebody waits for one.
const SLOW: Duration = Duration::from_secs(60);

fn states(world: &World) -> Vec<(GuestDeviceState, String)> {
    let devices = world.core.snapshot().guests[0].devices.clone();
    devices.into_iter().map(|device| (device.state, device.error.unwrap_or_default())).collect()
}

fn assert_away(world: &World, what: &str) {
    assert!(world.hypervisor.pieces.is_empty(), "{what}: {:?}", world.hypervisor.pieces);
    assert!(world.hypervisor.aliases("g1").is_empty(), "{what}");
    let away = (GuestDeviceState::Waiting, "detached by hand, until it is plugged in again".to_owned());
    assert_eq!(states(world), [away.clone(), away], "{what}");
}

#[test]
fn detached_by_hand_it_stays_away_however_often_guests_are_looked_at_and_libvirt_is_reached_again() {
    let mut world = World::with_config(CONFIG);
    world.connect();
    world.start_guest("g1", vec![]);
    let (disk, usb) = (world.plug("vm"), world.plug_usb("2-1", "051d:0002", None));
    // It waits for its guest, which is looked at again and again.
    world.plug("other");
    world.settle();
    assert_eq!(world.hypervisor.aliases("g1").len(), 2);
    for device in ["vm", "051d:0002"] {
        let command = world.command();
        world.send(Event::GuestDetach { command, device: device.into() });
        world.settle();
        assert!(world.replies[&command].is_ok());
    }
    assert_away(&world, "at once");
    for round in 0..5 {
        world.pass(SLOW);
        let looks = std::mem::take(&mut world.hypervisor.looks);
        assert_eq!(looks, ["off".to_owned()].into(), "round {round}: the timer is not what this test is for");
        for guest in ["off", "g1"] {
            world.report_guest(guest);
        }
        assert_away(&world, "looked at");
        world.disconnect();
        world.pass(SLOW);
        world.connect();
        assert_away(&world, "reached again");
    }
    world.reload(&format!("{CONFIG}[mounts.new]\ndisks = [\"new\"]")).unwrap();
    world.start_guest("g1", vec![]);
    assert_away(&world, "reloaded, and the guest started again");
    world.pull(disk);
    world.pull_usb(usb);
    world.plug("vm");
    world.plug_usb("2-1", "051d:0002", None);
    world.settle();
    assert_eq!(world.hypervisor.aliases("g1").len(), 2);
}

/// It was asked for while the guest did not release it: what is still there is asked for again, and nothing is attached.
#[test]
fn detached_by_hand_and_not_released_it_is_asked_for_after_a_reconnect_too_and_not_attached_again() {
    let mut world = World::with_config(CONFIG);
    world.connect();
    world.start_guest("g1", vec![]);
    world.plug("vm");
    world.settle();
    let command = world.command();
    world.send(Event::GuestDetach { command, device: "vm".into() });
    world.end_piece("g1", End::OnlySaid);
    world.disconnect();
    world.pass(SLOW);
    world.connect();
    assert_eq!(world.hypervisor.aliases("g1").len(), 1);
    world.pass(SLOW);
    world.settle();
    assert!(world.hypervisor.aliases("g1").is_empty());
    let asked = world.hypervisor.asked;
    world.pass(SLOW * 10);
    assert_eq!(world.hypervisor.asked, asked);
}
