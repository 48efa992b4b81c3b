//! What people want of a slot, told event by event.

use std::time::Duration;

use super::jobs::Job;
use super::world::World;
use crate::core::*;
use crate::disk::ErrorKind;

const A: SlotId = SlotId(0);

fn only_job(world: &World) -> JobId {
    assert_eq!(world.jobs.len(), 1, "{:?}", world.jobs);
    *world.jobs.keys().next().unwrap()
}

fn mount(world: &mut World, slot: SlotId) {
    world.enter(slot, Hold::Nothing);
    world.end_job(only_job(world), None);
    world.end_job(only_job(world), None);
    assert!(world.mounted.contains_key(&slot) && world.waiting.is_empty());
}

/// A world with a mounted, and the command given after the grace of its trigger.
fn wanted(wish: Wish, waits: bool) -> (World, CommandId) {
    let mut world = World::new();
    world.plug("near");
    mount(&mut world, A);
    world.pass(Duration::from_secs(2));
    let command = world.umount("a", wish, waits);
    world.pass(Duration::ZERO);
    (world, command)
}

fn reply(world: &World, command: CommandId) -> Result<&str, &str> {
    world.replies[&command].as_ref().map(String::as_str).map_err(String::as_str)
}

#[test]
fn an_eject_unmounts_locks_and_then_detaches_and_whoever_comes_meanwhile_gets_the_next_disk() {
    let (mut world, command) = wanted(Wish::Ejected, false);
    let far = world.plug("far");
    world.end_job(only_job(&world), None); // unmounted
    world.end_job(only_job(&world), None); // locked
    assert!(matches!(world.jobs[&only_job(&world)].1, Job::Eject(_)));
    let caller = world.enter(A, Hold::Directory);
    assert!(world.waiting.contains_key(&caller), "nothing is opened while it is ejected");
    world.end_job(only_job(&world), None);
    assert_eq!(reply(&world, command), Ok("a: it can be unplugged"));
    while let Some(&job) = world.jobs.keys().next() {
        world.end_job(job, None);
    }
    assert!(world.mounted.contains_key(&A));
    assert_eq!(world.open.values().next().and_then(|open| open.disk), Some(far));
}

#[test]
fn a_disk_that_is_not_mounted_is_ejected_all_the_same() {
    let mut world = World::new();
    world.plug("near");
    let command = world.umount("a", Wish::Ejected, false);
    world.end_job(only_job(&world), None);
    assert!(reply(&world, command).is_ok());
    assert!(world.disks.is_empty());
}

#[test]
fn an_eject_without_a_disk_is_refused() {
    let mut world = World::new();
    let command = world.umount("a", Wish::Ejected, true);
    assert!(reply(&world, command).is_err_and(|why| why.contains("none of its disks is attached")));
    assert!(world.jobs.is_empty());
}

#[test]
fn a_disk_of_which_another_name_has_a_partition_is_not_ejected_and_stays_mounted() {
    let mut world = World::new();
    world.plug("parts");
    mount(&mut world, SlotId(2));
    mount(&mut world, SlotId(3));
    world.pass(Duration::from_secs(2));
    let command = world.umount("c", Wish::Ejected, true);
    assert!(reply(&world, command).is_err_and(|why| why.contains("in use by d too")), "{:?}", world.replies);
    assert!(world.mounted.contains_key(&SlotId(2)) && world.jobs.is_empty());
}

#[test]
fn no_other_name_gets_anything_of_a_disk_that_is_being_ejected() {
    let mut world = World::new();
    world.plug("parts");
    world.umount("c", Wish::Ejected, false);
    world.enter(SlotId(3), Hold::Nothing);
    assert_eq!(world.errors, [libc::EBUSY]);
    assert!(matches!(world.jobs[&only_job(&world)].1, Job::Eject(_)));
}

#[test]
fn a_disk_that_somebody_else_uses_is_not_ejected_and_the_refusal_names_him() {
    let mut world = World::new();
    world.plug("near");
    let command = world.umount("a", Wish::Ejected, false);
    world.end_job(only_job(&world), Some(ErrorKind::Busy));
    assert_eq!(reply(&world, command), Err("a is not ejected: pid 1 (root, dd): open device"));
    assert_eq!(world.core.next_wakeup(), None);
    mount(&mut world, A);
}

#[test]
fn an_eject_that_waits_is_tried_until_nobody_uses_the_disk() {
    let mut world = World::new();
    world.plug("near");
    let command = world.umount("a", Wish::Ejected, true);
    for _ in 0..3 {
        world.end_job(only_job(&world), Some(ErrorKind::Busy));
        assert!(world.told[&command].contains("pid 1 (root, dd)"));
        world.pass(Duration::from_secs(1));
    }
    world.end_job(only_job(&world), None);
    assert!(reply(&world, command).is_ok());
}

#[test]
fn an_umount_that_waits_is_told_for_whom_and_is_done_when_he_has_gone() {
    let (mut world, command) = wanted(Wish::Locked, true);
    for _ in 0..3 {
        world.end_job(only_job(&world), Some(ErrorKind::Busy));
        assert!(world.told[&command].contains("a is busy: pid 1 (root, vim)"));
        assert!(world.mounted.contains_key(&A));
        world.pass(Duration::from_secs(1));
    }
    world.end_job(only_job(&world), None);
    world.end_job(only_job(&world), None);
    assert_eq!(reply(&world, command), Ok("a is unmounted and locked"));
}

#[test]
fn who_gives_up_waiting_leaves_it_mounted() {
    let (mut world, command) = wanted(Wish::Locked, true);
    world.end_job(only_job(&world), Some(ErrorKind::Busy));
    world.send(Event::GaveUp(command));
    assert!(reply(&world, command).is_err_and(|why| why.starts_with("waited in vain: a is busy: pid 1")));
    world.pass(Duration::from_secs(5));
    assert!(world.mounted.contains_key(&A) && world.jobs.is_empty());
}

#[test]
fn an_umount_that_waits_does_not_take_the_disk_from_the_caller_that_it_is_being_opened_for() {
    let mut world = World::new();
    world.plug("near");
    world.enter(A, Hold::Nothing);
    let command = world.umount("a", Wish::Locked, true);
    assert!(world.cancelled.is_empty());
    world.end_job(only_job(&world), None);
    world.end_job(only_job(&world), None);
    assert!(world.errors.is_empty() && world.mounted.contains_key(&A));
    world.pass(Duration::from_secs(1));
    world.end_job(only_job(&world), None);
    world.end_job(only_job(&world), None);
    assert!(reply(&world, command).is_ok());
}

#[test]
fn a_lazy_umount_says_who_still_has_it_and_it_is_locked_when_he_has_gone() {
    let (mut world, command) = wanted(Wish::LockedLater, false);
    let job = only_job(&world);
    assert!(matches!(world.jobs[&job].1, Job::Unmount(_, Unmount::Lazy)));
    world.end_job(job, None);
    let job = only_job(&world);
    world.end_job(job, Some(ErrorKind::Busy));
    assert!(
        reply(&world, command)
            .is_ok_and(|text| text.contains("out of sight") && text.contains("somebody has it")),
        "{:?}",
        world.replies
    );
    world.pass(Duration::from_secs(1));
    world.end_job(only_job(&world), None);
    assert!(world.open.is_empty());
}

#[test]
fn the_end_of_the_daemon_refuses_what_still_waits() {
    let mut world = World::new();
    world.plug("near");
    let command = world.umount("a", Wish::Ejected, true);
    world.end_job(only_job(&world), Some(ErrorKind::Busy));
    world.send(Event::Stop(None));
    assert!(world.ended);
    assert!(reply(&world, command).is_err_and(|why| why.contains("the daemon ends")));
}

#[test]
fn a_signal_keeps_what_is_mounted_if_the_config_says_so_and_a_command_does_not() {
    for signal in [true, false] {
        let mut world = World::with("on-exit = \"keep\"\n");
        world.plug("near");
        mount(&mut world, A);
        world.enter(SlotId(1), Hold::Directory);
        let preparing = only_job(&world);
        let command = (!signal).then(|| world.command());
        world.send(Event::Stop(command));
        assert!(world.cancelled.contains(&preparing) && !world.ended, "not before its job has ended");
        world.end_job(preparing, Some(ErrorKind::TimedOut));
        world.pass(Duration::from_secs(2));
        assert_eq!(world.ended, signal);
        assert_eq!(world.jobs.is_empty(), signal);
        assert!(world.waiting.is_empty() && world.mounted.contains_key(&A));
    }
}
