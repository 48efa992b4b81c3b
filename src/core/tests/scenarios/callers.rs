//! Who waits before a name, how each is answered, and what becomes of the disk when nobody waits any more.

use std::time::Duration;

use super::{A, mount, only_job, state};
use crate::core::tests::jobs::Job;
use crate::core::tests::world::{Wants, World};
use crate::core::*;
use crate::disk::ErrorKind;

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
fn an_interrupt_that_overtakes_its_request_is_not_lost() {
    let mut world = World::new();
    world.plug("near");
    let request = world.expect_answer(A, Wants::Enter(Hold::Nothing));
    world.send(Event::Interrupted(request));
    world.send(Event::Trigger { request, slot: A, hold: Hold::Nothing });
    assert!(world.looked_at.contains(&request));
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
