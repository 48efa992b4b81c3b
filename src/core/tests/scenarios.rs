//! Single stories, told event by event.

use std::time::Duration;

use super::world::{Job, Open, Wants, World};
use crate::core::*;
use crate::device::DiskSeq;
use crate::disk::ErrorKind;

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

#[test]
fn lock_holders_are_answered_before_the_attach_and_the_others_after_it() {
    let mut world = World::new();
    world.plug("near");
    let holder = world.enter(A, Hold::Directory);
    let other = world.enter(A, Hold::Nothing);
    world.end_job(only_job(&world), None);
    assert!(!world.waiting.contains_key(&holder));
    assert!(world.waiting.contains_key(&other));
    let late = world.enter(A, Hold::Directory);
    let walker = world.walk(A);
    assert!(!world.waiting.contains_key(&late) && world.waiting.contains_key(&walker));
    world.end_job(only_job(&world), None);
    assert!(world.waiting.is_empty());
}

#[test]
fn a_walk_is_answered_at_once_unless_an_attach_is_under_way() {
    let mut world = World::new();
    world.plug("near");
    world.walk(A);
    assert!(world.waiting.is_empty());
    world.enter(A, Hold::Nothing);
    world.walk(A);
    assert_eq!(world.waiting.len(), 1);
}

#[test]
fn a_second_caller_joins_the_wait_of_the_first() {
    let mut world = World::new();
    world.plug("near");
    world.enter(A, Hold::Nothing);
    world.enter(A, Hold::Directory);
    assert!(matches!(world.jobs[&only_job(&world)].1, Job::Prepare(_)));
}

#[test]
fn an_access_without_a_disk_fails_with_enomedium_and_starts_nothing() {
    let mut world = World::new();
    let actions = world.core.handle(
        Now { monotonic: world.instant(), wall: std::time::SystemTime::UNIX_EPOCH },
        Event::Trigger { request: RequestId(99), slot: A, hold: Hold::Nothing },
    );
    assert!(actions.contains(&Action::Answer(RequestId(99), Answer::Fail(libc::ENOMEDIUM))), "{actions:?}");
    assert_eq!(state(&world, A), MountState::Absent);
}

#[test]
fn the_first_disk_of_the_list_that_is_there_is_taken() {
    let mut world = World::new();
    let far = world.plug("far");
    let near = world.plug("near");
    mount(&mut world, A);
    assert_eq!(disk_of(&world, A), Some(near));
    world.pull(near);
    while let Some(&job) = world.jobs.keys().next() {
        world.end_job(job, None);
    }
    world.pass(Duration::from_secs(1));
    mount(&mut world, A);
    assert_eq!(disk_of(&world, A), Some(far));
}

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
fn a_disk_that_another_name_has_open_is_busy() {
    let mut world = World::new();
    world.plug("far");
    mount(&mut world, A);
    let actions = world.send(Event::Tick);
    assert!(actions.is_empty());
    world.enter(B, Hold::Nothing);
    assert!(world.waiting.is_empty(), "refused at once");
    assert_eq!(state(&world, B), MountState::Failed);
}

#[test]
fn an_image_that_is_missing_is_absent() {
    let mut world = World::new();
    world.enter(B, Hold::Nothing);
    world.end_job(only_job(&world), Some(ErrorKind::Absent));
    assert!(world.waiting.is_empty() && world.jobs.is_empty());
    assert_eq!(state(&world, B), MountState::Absent);
}

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
fn a_caller_that_comes_while_it_is_expired_gets_the_disk_after_all() {
    let mut world = World::new();
    world.plug("near");
    mount(&mut world, A);
    world.pass(Duration::from_secs(10));
    let caller = world.enter(A, Hold::Directory);
    world.end_job(only_job(&world), None); // unmounted
    world.end_job(only_job(&world), None); // locked
    world.end_job(only_job(&world), None); // prepared
    world.end_job(only_job(&world), None); // attached
    assert!(world.mounted.contains_key(&A) && !world.waiting.contains_key(&caller));
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
fn a_caller_who_cannot_see_the_mount_is_answered_when_the_table_shows_it() {
    let mut world = World::new();
    world.plug("near");
    mount(&mut world, A);
    world.pass(Duration::from_millis(1));
    world.enter(A, Hold::Directory);
    world.report_mounts();
    assert!(world.waiting.is_empty() && world.jobs.is_empty());
}

#[test]
fn a_dying_caller_goes_at_once_and_one_that_only_got_a_signal_waits_on() {
    let mut world = World::new();
    world.plug("near");
    let (dying, living) = (world.enter(A, Hold::Nothing), world.enter(A, Hold::Nothing));
    for request in [dying, living] {
        world.send(Event::Interrupted(request));
        assert!(world.looked_at.contains(&request));
        world.send(Event::Caller { request, dying: request == dying });
    }
    assert!(!world.waiting.contains_key(&dying) && world.waiting.contains_key(&living));
    world.looked_at.clear();
    world.pass(Duration::from_secs(1));
    assert!(world.looked_at.contains(&living), "the kernel reports only the first signal");
}

#[test]
fn when_the_last_caller_dies_the_disk_is_not_opened_after_all_and_nothing_is_left() {
    for (error, comes_back) in
        [(Some(ErrorKind::TimedOut), false), (None, false), (Some(ErrorKind::TimedOut), true), (None, true)]
    {
        let mut world = World::new();
        world.plug("near");
        let callers = [world.enter(A, Hold::Nothing), world.enter(A, Hold::Directory)];
        let job = only_job(&world);
        for request in callers {
            assert!(!world.cancelled.contains(&job), "somebody waits");
            world.send(Event::Interrupted(request));
            world.send(Event::Caller { request, dying: true });
        }
        assert!(world.cancelled.contains(&job) && world.waiting.is_empty());
        if comes_back {
            world.enter(A, Hold::Nothing);
        }
        for _ in ["prepared", "attached or locked", "prepared", "attached"] {
            if let Some(&next) = world.jobs.keys().next() {
                world.end_job(next, if next == job && world.open.is_empty() { error } else { None });
            }
        }
        assert!(world.jobs.is_empty() && world.waiting.is_empty() && world.errors == [libc::EINTR; 2]);
        assert_eq!(world.mounted.contains_key(&A), comes_back);
        assert_eq!(world.open.len(), usize::from(comes_back));
        assert_eq!(state(&world, A), if comes_back { MountState::Mounted } else { MountState::Ready });
    }
}

#[test]
fn whoever_waits_for_a_disk_that_hangs_is_told_at_his_deadline_and_the_next_one_waits_anew() {
    let mut world = World::new();
    world.plug("near");
    world.enter(A, Hold::Nothing);
    world.pass(Duration::from_secs(30));
    assert_eq!(world.errors, [libc::ETIMEDOUT]);
    let late = world.enter(A, Hold::Nothing);
    assert!(world.waiting.contains_key(&late), "joins what is under way: no second job on a disk that hangs");
    world.end_job(only_job(&world), None);
    world.end_job(only_job(&world), None);
    assert!(world.mounted.contains_key(&A) && world.waiting.is_empty());
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
fn an_interrupt_that_overtakes_its_request_is_not_lost() {
    let mut world = World::new();
    world.plug("near");
    let request = world.expect_answer(A, Wants::Enter(Hold::Nothing));
    world.send(Event::Interrupted(request));
    world.send(Event::Trigger { request, slot: A, hold: Hold::Nothing });
    assert!(world.looked_at.contains(&request));
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

#[test]
fn twins_are_refused_and_shown() {
    let mut world = World::new();
    world.plug("near");
    world.plug("near");
    world.enter(A, Hold::Nothing);
    assert!(world.waiting.is_empty() && world.jobs.is_empty());
    let status = &world.core.snapshot().mounts[A.0];
    assert!(status.error.as_deref().is_some_and(|error| error.contains("/dev/sd1, /dev/sd2")), "{status:?}");
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

fn error(world: &World, slot: SlotId) -> String {
    world.core.snapshot().mounts[slot.0].error.clone().unwrap_or_default()
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
fn the_other_disk_of_a_list_is_shown_as_waiting() {
    let mut world = World::new();
    world.plug("near");
    mount(&mut world, A);
    assert!(world.core.snapshot().mounts[A.0].waiting.is_empty());
    world.plug("far");
    assert_eq!(world.core.snapshot().mounts[A.0].waiting, ["far"]);
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
