//! Disks that are pulled while they are opened, mounted or unmounted.

use std::time::Duration;

use super::{A, disk_of, error, mount, only_job, state};
use crate::core::tests::jobs::Job;
use crate::core::tests::world::World;
use crate::core::*;
use crate::disk::ErrorKind;

#[test]
fn whoever_waits_while_the_disk_is_pulled_gets_the_next_one() {
    for (prepared, error) in [(false, Some(ErrorKind::TimedOut)), (false, Some(ErrorKind::Io)), (true, None)]
    {
        let mut world = World::new();
        let far = world.plug("far");
        let near = world.plug("near");
        let caller = world.enter(A, Hold::Directory);
        let job = only_job(&world);
        world.pull(near);
        assert!(world.cancelled.contains(&job));
        if prepared {
            world.end_prepare_although_pulled(job);
            assert!(matches!(world.jobs[&job].1, Job::Lock(_)), "not attached");
        }
        world.end_job(job, error);
        assert!(world.waiting.contains_key(&caller), "not told of an error: there is another disk");
        world.end_job(only_job(&world), None);
        world.end_job(only_job(&world), None);
        assert!(world.mounted.contains_key(&A));
        assert_eq!(disk_of(&world, A), Some(far));
    }
}

#[test]
fn whoever_waits_while_the_disk_is_pulled_and_plugged_in_again_gets_it() {
    let mut world = World::new();
    let first = world.plug("near");
    world.enter(A, Hold::Nothing);
    world.pull(first);
    let second = world.plug("near");
    world.end_job(only_job(&world), Some(ErrorKind::Absent));
    world.end_job(only_job(&world), None);
    world.end_job(only_job(&world), None);
    assert!(world.waiting.is_empty());
    assert_eq!(disk_of(&world, A), Some(second));
}

#[test]
fn whoever_waits_for_a_disk_that_is_pulled_while_it_is_opened_learns_that_there_is_none() {
    let mut world = World::new();
    let near = world.plug("near");
    world.enter(A, Hold::Nothing);
    world.pull(near);
    world.end_job(only_job(&world), Some(ErrorKind::TimedOut));
    assert_eq!(world.errors, [libc::ENOMEDIUM]);
    assert_eq!(state(&world, A), MountState::Absent);
}

#[test]
fn whoever_waits_while_the_disk_is_pulled_and_attached_gets_the_next_one() {
    let mut world = World::new();
    let near = world.plug("near");
    let far = world.plug("far");
    let caller = world.enter(A, Hold::Nothing);
    world.end_job(only_job(&world), None); // prepared
    world.pull(near);
    world.end_job(only_job(&world), None); // attached
    assert!(world.waiting.contains_key(&caller), "not sent to a disk that is gone");
    assert_eq!(error(&world, A), "", "nobody has written anything");
    assert!(matches!(world.jobs[&only_job(&world)].1, Job::Unmount(_, Unmount::Lazy)));
    for _ in ["unmounted", "locked", "prepared", "attached"] {
        world.end_job(only_job(&world), None);
    }
    assert!(world.waiting.is_empty());
    assert_eq!(disk_of(&world, A), Some(far));
}

#[test]
fn two_partitions_of_one_disk_can_be_mounted_at_once_and_are_pulled_together() {
    let (c, d) = (SlotId(2), SlotId(3));
    let mut world = World::new();
    let seq = world.plug("parts");
    mount(&mut world, c);
    mount(&mut world, d);
    assert!(world.mounted.contains_key(&c) && world.mounted.contains_key(&d));
    world.pull(seq);
    assert_eq!(world.jobs.len(), 2);
    assert!(world.jobs.values().all(|(_, job)| matches!(job, Job::Unmount(_, Unmount::Lazy))));
}

#[test]
fn a_pull_is_told_until_the_name_is_used_again() {
    for unmounting in [false, true] {
        let mut world = World::new();
        let near = world.plug("near");
        mount(&mut world, A);
        assert_eq!(error(&world, A), "");
        if unmounting {
            world.pass(Duration::from_secs(10));
        }
        world.pull(near);
        world.end_job(only_job(&world), None);
        world.end_job(only_job(&world), None);
        assert_eq!(state(&world, A), MountState::Absent);
        assert!(error(&world, A).contains("what was written last may be lost"), "{}", error(&world, A));
        world.enter(A, Hold::Nothing);
        assert!(error(&world, A).contains("may be lost"), "{}", error(&world, A));
        world.plug("near");
        assert_eq!(state(&world, A), MountState::Ready);
        assert!(error(&world, A).contains("may be lost"), "{}", error(&world, A));
        mount(&mut world, A);
        assert_eq!(error(&world, A), "");
    }
}

#[test]
fn a_pulled_disk_that_is_held_does_not_make_the_umount_of_the_next_one_fail() {
    let mut world = World::new();
    let near = world.plug("near");
    world.plug("far");
    mount(&mut world, A);
    world.pull(near);
    world.end_job(only_job(&world), None); // unmounted
    world.end_job(only_job(&world), Some(ErrorKind::Busy)); // held
    mount(&mut world, A);
    let command = world.umount("a", Wish::Locked, false);
    world.pass(Duration::from_secs(1));
    world.end_job(only_job(&world), None);
    world.end_job(only_job(&world), None);
    assert!(world.replies.get(&command).is_some_and(Result::is_ok), "{:?}", world.replies);
}

#[test]
fn a_disk_that_is_pulled_while_it_is_unmounted_is_done_with_once() {
    for error in [None, Some(ErrorKind::Busy), Some(ErrorKind::Io)] {
        let mut world = World::new();
        let near = world.plug("near");
        mount(&mut world, A);
        world.pass(Duration::from_secs(10));
        let job = only_job(&world);
        world.pull(near);
        assert_eq!(only_job(&world), job, "one job at a time");
        world.end_job(job, error);
        if error.is_some() {
            let lazily = &world.jobs[&only_job(&world)].1;
            assert!(matches!(lazily, Job::Unmount(_, Unmount::Lazy)), "still mounted: {lazily:?}");
            world.end_job(only_job(&world), None);
        }
        world.end_job(only_job(&world), None);
        assert!(world.open.is_empty() && world.mounted.is_empty());
    }
}
