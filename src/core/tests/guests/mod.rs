//! Single stories of devices and guests, told event by event.

mod by_hand;
mod entries;
mod host;
mod running;
mod trouble;

use super::hypervisor::{Piece, disk};
use super::world::World;
use crate::core::*;

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
