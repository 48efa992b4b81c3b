//! Single stories, told event by event.

mod callers;
mod choice;
mod closing;
mod pulls;

use super::world::World;
use crate::core::*;
use crate::device::DiskSeq;

const A: SlotId = SlotId(0);
const B: SlotId = SlotId(1);

pub(super) fn only_job(world: &World) -> JobId {
    assert_eq!(world.jobs.len(), 1, "{:?}", world.jobs);
    *world.jobs.keys().next().unwrap()
}

pub(super) fn mount(world: &mut World, slot: SlotId) {
    world.enter(slot, Hold::Nothing);
    world.end_job(only_job(world), None);
    world.end_job(only_job(world), None);
    assert!(world.mounted.contains_key(&slot) && world.waiting.is_empty());
}

fn disk_of(world: &World, slot: SlotId) -> Option<DiskSeq> {
    world.open.values().find(|open| open.slot == slot).and_then(|open| open.disk)
}

fn state(world: &World, slot: SlotId) -> MountState {
    world.core.snapshot().mounts[slot.0].state
}

fn error(world: &World, slot: SlotId) -> String {
    world.core.snapshot().mounts[slot.0].error.clone().unwrap_or_default()
}
