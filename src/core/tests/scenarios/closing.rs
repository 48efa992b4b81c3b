//! What is open is unmounted and locked: after disuse, after failures, after an earlier run, at the end.

use std::time::Duration;

use super::{A, mount, only_job, state};
use crate::core::tests::jobs::Job;
use crate::core::tests::world::{Open, World};
use crate::core::*;
use crate::disk::ErrorKind;

#[test]
fn disuse_unmounts_and_then_locks() {
    let mut world = World::new();
    world.plug("near");
    mount(&mut world, A);
    world.pass(Duration::from_secs(10));
    world.end_job(only_job(&world), Some(ErrorKind::Io)); // marked
    assert_eq!(state(&world, A), MountState::Mounted);
    world.pass(Duration::from_secs(10));
    world.end_job(only_job(&world), None);
    assert!(matches!(world.jobs[&only_job(&world)].1, Job::Lock(_)));
    world.end_job(only_job(&world), None);
    assert_eq!(state(&world, A), MountState::Ready);
    assert_eq!(world.core.next_wakeup(), None, "nothing mounted, nothing to wake up for");
}

#[test]
fn a_clock_that_is_set_unmounts_nothing_and_keeps_nothing_mounted() {
    let day = Duration::from_secs(86_400);
    for wall in [std::time::SystemTime::UNIX_EPOCH + 400 * day, std::time::SystemTime::UNIX_EPOCH - day] {
        let mut world = World::new();
        world.plug("near");
        mount(&mut world, A);
        let due = world.core.next_wakeup();
        let now = Now { monotonic: world.instant(), wall };
        assert!(world.core.handle(now, Event::Tick).is_empty());
        assert_eq!(world.core.next_wakeup(), due);
        world.pass(Duration::from_secs(10));
        assert!(matches!(world.jobs[&only_job(&world)].1, Job::Unmount(_, Unmount::Expire)));
    }
}

#[test]
fn a_lock_that_fails_is_tried_again_until_it_is_done() {
    let mut world = World::new();
    world.plug("near");
    mount(&mut world, A);
    world.pass(Duration::from_secs(10));
    world.end_job(only_job(&world), None);
    for _ in 0..5 {
        world.end_job(only_job(&world), Some(ErrorKind::Busy));
        assert_eq!(state(&world, A), MountState::Failed);
        world.pass(Duration::from_secs(60));
    }
    world.end_job(only_job(&world), None);
    assert!(world.open.is_empty());
}

#[test]
fn a_mount_that_vanished_is_noticed_by_the_table_and_by_the_next_caller() {
    for by_caller in [false, true] {
        let mut world = World::new();
        world.plug("near");
        mount(&mut world, A);
        world.mounted.clear();
        world.pass(Duration::from_millis(1));
        if by_caller {
            world.enter(A, Hold::Directory);
            assert!(world.asked);
        }
        world.report_mounts();
        assert!(matches!(world.jobs[&only_job(&world)].1, Job::Lock(_)));
    }
}

#[test]
fn what_a_job_that_failed_has_left_open_is_locked_without_anybody_asking() {
    let mut world = World::new();
    world.plug("near");
    world.enter(A, Hold::Nothing);
    world.end_job(only_job(&world), Some(ErrorKind::Other));
    assert_eq!(world.errors, [libc::EIO]);
    assert_eq!(state(&world, A), MountState::Failed);
    let error = world.core.snapshot().mounts[0].error.clone().unwrap();
    assert!(error.contains("could not be locked"), "{error}");
    world.pass(Duration::from_secs(2));
    world.end_job(only_job(&world), Some(ErrorKind::Busy));
    world.pass(Duration::from_secs(3));
    world.end_job(only_job(&world), None);
    assert!(world.open.is_empty() && world.core.next_wakeup().is_none());
}

#[test]
fn what_a_job_that_failed_has_left_open_is_taken_over_by_the_next_access() {
    let mut world = World::new();
    world.plug("near");
    world.enter(A, Hold::Nothing);
    world.end_job(only_job(&world), Some(ErrorKind::Other));
    mount(&mut world, A);
    assert_eq!(world.open.len(), 1, "the same mapping");
    world.pass(Duration::from_secs(5));
    assert!(world.jobs.is_empty(), "it is not locked under the mount");
    assert_eq!(state(&world, A), MountState::Mounted);
}

#[test]
fn what_an_earlier_run_left_mounted_expires_as_if_it_were_new() {
    let mut world = World::new();
    let seq = world.plug("near");
    world.open.insert(
        "mydisks-a".into(),
        Open { slot: A, disk: Some(seq), partition: None, mount: 7, mounts: vec![7], is_left: false },
    );
    world.mounted.insert(A, 7);
    let opened = crate::disk::Opened {
        mapping: Some("mydisks-a".into()),
        disk_sequence: seq.0,
        ..crate::disk::Opened::default()
    };
    let detached = Detached {
        mount: 7,
        opened,
        filesystem: "ext4".into(),
        read_only: false,
        errors: 0,
        notes: Vec::new(),
    };
    world.send(Event::Left { slot: A, is_mounted: true, detached });
    assert_eq!(state(&world, A), MountState::Mounted);
    world.pass(Duration::from_secs(10));
    world.end_job(only_job(&world), None);
    world.end_job(only_job(&world), None);
    assert!(world.open.is_empty());
}

#[test]
fn a_stop_unmounts_what_is_idle_and_refuses_while_something_is_busy() {
    let mut world = World::new();
    world.plug("near");
    mount(&mut world, A);
    let command = world.command();
    world.send(Event::Stop(Some(command)));
    world.pass(Duration::from_secs(1));
    world.end_job(only_job(&world), Some(ErrorKind::Busy));
    assert_eq!(world.replies[&command], Err("a is busy: pid 1 (root, vim): open file /x".into()));
    assert!(!world.ended);

    let command = world.command();
    world.send(Event::Stop(Some(command)));
    world.pass(Duration::from_secs(1));
    world.end_job(only_job(&world), None);
    world.end_job(only_job(&world), None);
    assert!(world.ended);
}

#[test]
fn a_root_that_is_gone_ends_the_daemon_only_when_all_is_locked() {
    let mut world = World::new();
    world.plug("near");
    mount(&mut world, A);
    world.mounted.clear();
    world.send(Event::RootGone);
    world.pass(Duration::from_secs(1));
    world.end_job(only_job(&world), None);
    world.end_job(only_job(&world), Some(ErrorKind::Busy));
    assert!(!world.ended);
    world.pass(Duration::from_secs(5));
    world.end_job(only_job(&world), None);
    assert!(world.ended);
}
