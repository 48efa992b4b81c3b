//! What others do to the mount of a slot, told event by event.

use std::time::Duration;

use super::world::World;
use crate::core::*;
use crate::disk::{Damage, ErrorKind};

const A: SlotId = SlotId(0);

fn only_job(world: &World) -> JobId {
    assert_eq!(world.jobs.len(), 1, "{:?}", world.jobs);
    *world.jobs.keys().next().unwrap()
}

fn mounted() -> World {
    let mut world = World::new();
    world.plug("near");
    world.enter(A, Hold::Nothing);
    world.end_job(only_job(&world), None);
    world.end_job(only_job(&world), None);
    world.pass(Duration::from_secs(1));
    world
}

fn status(world: &World) -> MountStatus {
    world.core.snapshot().mounts[A.0].clone()
}

#[test]
fn a_mount_that_is_moved_away_and_back_is_ours_again() {
    let mut world = mounted();
    let mount = world.mounted.remove(&A).unwrap();
    world.moved.insert(A, mount);
    world.report_mounts();
    world.end_job(only_job(&world), None);
    assert_eq!(status(&world).state, MountState::Failed);
    world.moved.clear();
    world.mounted.insert(A, mount);
    world.pass(Duration::from_millis(1));
    world.report_mounts();
    assert_eq!((status(&world).state, status(&world).error), (MountState::Mounted, None));
    world.pass(Duration::from_secs(10));
    world.end_job(only_job(&world), None);
    world.end_job(only_job(&world), None);
    assert!(world.open.is_empty(), "it expires as ever");
}

#[test]
fn a_mount_that_comes_back_while_it_is_being_locked_is_looked_for_again() {
    let mut world = mounted();
    world.move_outside(A);
    world.report_mounts();
    world.move_outside(A);
    world.report_mounts();
    world.asked = false;
    world.end_job(only_job(&world), None);
    assert!(world.asked, "nothing else tells that it is back");
    world.pass(Duration::from_millis(1));
    world.report_mounts();
    assert_eq!(status(&world).state, MountState::Mounted);
}

#[test]
fn what_is_mounted_over_a_name_is_told_and_keeps_the_disk_mounted() {
    let mut world = mounted();
    world.covered.insert(A);
    world.report_mounts();
    assert!(status(&world).error.is_some_and(|error| error.contains("tmpfs (none) is mounted on it")));
    let command = world.umount("a", Wish::Locked, false);
    world.pass(Duration::from_secs(1));
    world.end_job(only_job(&world), None);
    assert!(world.replies[&command].as_ref().is_err_and(|why| why.contains("mounted over it")));
    assert_eq!(status(&world).state, MountState::Mounted);
    world.covered.clear();
    world.report_mounts();
    assert_eq!(status(&world).error, None);
}

#[test]
fn a_pulled_disk_that_was_covered_is_unmounted_when_it_is_not() {
    let mut world = mounted();
    world.covered.insert(A);
    world.pull(*world.disks.keys().next().unwrap());
    world.end_job(only_job(&world), None);
    assert!(world.mounted.contains_key(&A) && world.jobs.is_empty());
    world.covered.clear();
    world.report_mounts();
    world.end_job(only_job(&world), None);
    world.end_job(only_job(&world), None);
    assert!(world.open.is_empty());
}

#[test]
fn a_mount_that_the_kernel_makes_read_only_is_shown_so() {
    let mut world = mounted();
    world.report_mounts();
    assert_eq!(status(&world).read_only, Some(false));
    world.broken.insert(A);
    world.report_mounts();
    assert_eq!(status(&world).read_only, Some(true));
    assert!(world.core.snapshot().events.iter().any(|line| line.text.contains("has become read-only")));
}

#[test]
fn errors_that_a_file_system_finds_are_told_once_and_counted_until_the_name_is_used_again() {
    let mut world = mounted();
    let found = |world: &mut World, count| {
        let damage = Damage { count, last: "ext4_lookup".into() };
        let (read, mount, what) = (world.instant(), world.mounted[&A], "ext4 (/dev/x)".into());
        let on = vec![OnName { slot: A, mount, what, on_top: true, read_only: false, damage }];
        world.send(Event::Mounts { read, on });
        let events = world.core.snapshot().events;
        events.iter().filter(|line| line.text.contains("is damaged")).count()
    };
    assert_eq!(found(&mut world, 0), 0);
    assert_eq!(found(&mut world, 1), 1);
    assert_eq!(found(&mut world, 1), 1);
    assert_eq!(found(&mut world, 3), 1);
    let error = status(&world).error.clone().unwrap();
    assert!(error.contains("is damaged (3 errors, the last in ext4_lookup)"), "{error}");
    let command = world.umount("a", Wish::Locked, false);
    world.pass(Duration::from_secs(1));
    world.end_job(only_job(&world), None);
    world.end_job(only_job(&world), None);
    let reply = world.replies[&command].clone();
    assert!(reply.as_ref().is_err_and(|why| why.contains("is unmounted and locked, but ")), "{reply:?}");
    assert!(status(&world).error.is_some());
    world.enter(A, Hold::Nothing);
    world.end_job(only_job(&world), None);
    world.end_job(only_job(&world), None);
    assert_eq!(status(&world).error, None);
}

#[test]
fn a_mount_table_that_is_older_than_the_unmount_shows_nobody_elses_mount() {
    let mut world = mounted();
    let (read, mount) = (world.instant(), world.mounted[&A]);
    world.umount("a", Wish::Locked, false);
    world.pass(Duration::from_secs(1));
    world.end_job(only_job(&world), None);
    world.end_job(only_job(&world), None);
    let what = "ext4 (/dev/x)".into();
    let on = vec![OnName { slot: A, mount, what, on_top: true, read_only: false, damage: Damage::default() }];
    world.send(Event::Mounts { read, on });
    assert_eq!(status(&world).error, None);
}

#[test]
fn a_failure_by_what_was_in_use_is_forgotten_when_that_is_locked() {
    let mut world = mounted();
    world.mounted.clear();
    world.report_mounts();
    world.end_job(only_job(&world), Some(ErrorKind::Busy));
    world.enter(A, Hold::Nothing);
    world.end_job(only_job(&world), Some(ErrorKind::Busy));
    assert_eq!(status(&world).state, MountState::Failed);
    world.pass(Duration::from_secs(1));
    world.end_job(only_job(&world), None);
    assert_eq!(status(&world).state, MountState::Ready);
}

#[test]
fn what_was_used_again_and_can_still_not_be_locked_is_tried_as_one() {
    let mut world = mounted();
    let seq = *world.disks.keys().next().unwrap();
    world.move_outside(A);
    world.report_mounts();
    world.end_job(only_job(&world), None);
    world.enter(A, Hold::Nothing);
    world.pull(seq);
    world.end_prepare_although_pulled(only_job(&world));
    world.end_job(only_job(&world), None);
    assert_eq!(world.core.slots[A.0].residues.len(), 1, "{:?}", world.core.slots[A.0].residues);
}

#[test]
fn what_is_held_of_one_disk_is_locked_while_the_mount_of_another_is_elsewhere() {
    let mut world = World::new();
    world.plug("near");
    world.enter(A, Hold::Nothing);
    world.pull(*world.disks.keys().next().unwrap());
    world.plug("near");
    world.end_prepare_although_pulled(only_job(&world));
    world.end_job(only_job(&world), Some(ErrorKind::Busy));
    world.end_job(only_job(&world), None);
    world.end_job(only_job(&world), None);
    world.move_outside(A);
    world.report_mounts();
    world.end_job(only_job(&world), None);
    world.pass(Duration::from_secs(1));
    world.end_job(only_job(&world), None);
    assert_eq!(world.open.len(), 1, "{:?}", world.open);
}
