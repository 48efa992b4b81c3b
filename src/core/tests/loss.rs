//! What is said when a disk is pulled, or fails, while it is being unmounted.

use std::time::Duration;

use super::jobs::Job;
use super::world::World;
use crate::core::*;
use crate::device::DiskSeq;
use crate::disk::ErrorKind;

const A: SlotId = SlotId(0);
const SAID: &str = "was pulled while being unmounted: what was written last may be lost";

fn only_job(world: &World) -> JobId {
    assert_eq!(world.jobs.len(), 1, "{:?}", world.jobs);
    *world.jobs.keys().next().unwrap()
}

/// A world with a mounted, and the grace of its trigger over.
fn mounted() -> (World, DiskSeq) {
    let mut world = World::new();
    let disk = world.plug("near");
    mount(&mut world);
    world.pass(Duration::from_secs(2));
    (world, disk)
}

fn mount(world: &mut World) {
    world.enter(A, Hold::Nothing);
    world.end_job(only_job(world), None);
    world.end_job(only_job(world), None);
    assert!(world.mounted.contains_key(&A));
}

fn is_being_unmounted(world: &World, expected: Unmount) -> bool {
    matches!(world.jobs[&only_job(world)].1, Job::Unmount(_, how) if how == expected)
}

fn error(world: &World) -> String {
    world.core.snapshot().mounts[A.0].error.clone().unwrap_or_default()
}

/// How often it stands in the log.
fn said(world: &World, words: &str) -> usize {
    world.core.snapshot().events.iter().filter(|event| event.text.contains(words)).count()
}

#[test]
fn a_disk_that_is_gone_after_its_unmount_is_said_to_be_pulled_whichever_news_comes_first() {
    for news_first in [false, true] {
        for how in [Unmount::Expire, Unmount::Now] {
            let (mut world, disk) = mounted();
            if how == Unmount::Now {
                world.umount("a", Wish::Locked, false);
            }
            world.pass(Duration::from_secs(10));
            assert!(is_being_unmounted(&world, how));
            if news_first {
                world.pull(disk);
            }
            world.end_job(only_job(&world), Some(ErrorKind::Absent));
            assert!(matches!(world.jobs[&only_job(&world)].1, Job::Lock(_)), "it is locked all the same");
            if !news_first {
                world.pull(disk);
            }
            world.end_job(only_job(&world), None);
            assert_eq!(said(&world, SAID), 1, "{how:?}");
            assert!(error(&world).contains(SAID), "{}", error(&world));
            assert!(world.open.is_empty() && world.mounted.is_empty());
            world.plug("near");
            mount(&mut world);
            assert_eq!(error(&world), "", "until it is used again");
        }
    }
}

#[test]
fn whoever_wants_a_disk_unmounted_or_ejected_learns_what_may_be_lost() {
    for (wish, also) in [(Wish::Locked, "is unmounted and locked"), (Wish::Ejected, "can be unplugged")] {
        let (mut world, _) = mounted();
        let command = world.umount("a", wish, false);
        world.pass(Duration::ZERO);
        world.end_job(only_job(&world), Some(ErrorKind::Absent)); // unmounted
        while let Some(&job) = world.jobs.keys().next() {
            world.end_job(job, None); // locked, ejected
        }
        let reply = world.replies[&command].clone().unwrap_err();
        assert!(reply.contains(also) && reply.contains(SAID), "{reply}");
    }
}

#[test]
fn a_disk_that_is_pulled_while_everything_ends_is_told_of_and_keeps_nothing_from_ending() {
    for signal in [false, true] {
        let (mut world, _) = mounted();
        let command = (!signal).then(|| world.command());
        world.send(Event::Stop(command));
        world.pass(Duration::ZERO);
        world.end_job(only_job(&world), Some(ErrorKind::Absent));
        world.end_job(only_job(&world), None);
        assert_eq!(said(&world, SAID), 1);
        assert!(world.ended);
        assert!(world.loss.as_ref().is_some_and(|loss| loss.contains(SAID)), "{:?}", world.loss);
    }
}

#[test]
fn what_was_lost_before_the_end_began_does_not_make_a_failure_of_it() {
    let (mut world, disk) = mounted();
    world.pull(disk);
    world.end_job(only_job(&world), None);
    world.end_job(only_job(&world), None);
    assert!(error(&world).contains("may be lost"));
    world.send(Event::Stop(None));
    assert_eq!((world.ended, world.loss), (true, None));
}

#[test]
fn what_was_held_when_the_end_began_is_told_with_it() {
    let (mut world, disk) = mounted();
    world.pull(disk);
    world.end_job(only_job(&world), None);
    world.end_job(only_job(&world), Some(ErrorKind::Busy));
    let command = world.command();
    world.send(Event::Stop(Some(command)));
    world.pass(Duration::ZERO);
    world.end_job(only_job(&world), None);
    assert!(world.ended && world.loss.is_some());
}

#[test]
fn an_end_that_is_refused_tells_what_may_be_lost_of_what_it_has_unmounted() {
    let (mut world, _) = mounted();
    let command = world.command();
    world.send(Event::Stop(Some(command)));
    world.pass(Duration::ZERO);
    world.end_job(only_job(&world), Some(ErrorKind::Absent));
    world.end_job(only_job(&world), None);
    world.ended = false;
    world.send(Event::RootBusy("the root is in use".into()));
    let reply = world.replies[&command].clone().unwrap_err();
    assert!(reply.starts_with("the root is in use; a: ") && reply.contains(SAID), "{reply}");
}

#[test]
fn a_lazy_umount_of_a_disk_that_fails_and_is_still_held_tells_both() {
    let (mut world, _) = mounted();
    let command = world.umount("a", Wish::LockedLater, false);
    world.pass(Duration::ZERO);
    world.end_job(only_job(&world), Some(ErrorKind::Damaged));
    world.end_job(only_job(&world), Some(ErrorKind::Busy));
    let reply = world.replies[&command].clone().unwrap_err();
    assert!(reply.contains("out of sight") && reply.contains("may be lost"), "{reply}");
}

#[test]
fn a_held_disk_that_is_pulled_takes_nothing_from_the_disk_that_is_mounted_now() {
    let mut world = World::new();
    let far = world.plug("far");
    mount(&mut world);
    world.pass(Duration::from_secs(2));
    world.umount("a", Wish::LockedLater, false);
    world.pass(Duration::ZERO);
    world.end_job(only_job(&world), None); // out of sight
    world.end_job(only_job(&world), Some(ErrorKind::Busy)); // held
    world.plug("near");
    mount(&mut world);
    world.pull(far);
    assert!(world.jobs.is_empty() && world.mounted.contains_key(&A), "{:?}", world.jobs);
    assert_eq!(said(&world, "may be lost"), 1, "of the other disk");
    assert!(!error(&world).contains("may be lost"), "{}", error(&world));
}

#[test]
fn a_disk_that_is_there_and_did_not_take_everything_is_told_of() {
    let (mut world, disk) = mounted();
    world.pass(Duration::from_secs(10));
    world.end_job(only_job(&world), Some(ErrorKind::Damaged));
    let failed = "has failed while being unmounted (input/output error): what was written last may be lost";
    assert!(error(&world).contains(failed), "{}", error(&world));
    world.pull(disk);
    world.end_job(only_job(&world), None);
    assert_eq!(said(&world, "may be lost"), 1);
}

#[test]
fn what_cannot_be_lost_is_not_asked_for() {
    let asks = |actions: Vec<Action>| {
        let mut asked = actions.into_iter().filter_map(|action| match action {
            Action::Unmount { disk, .. } => Some(disk.is_some()),
            _ => None,
        });
        asked.next().expect("it is unmounted")
    };
    for (name, read_only) in [("near", true), ("near", false), ("image", false)] {
        let mut world = World::new();
        let slot = if name == "image" { SlotId(1) } else { A };
        world.plug(name);
        world.enter(slot, Hold::Nothing);
        world.end_job(only_job(&world), None);
        world.end_job(only_job(&world), None);
        if read_only {
            world.broken.insert(slot);
            world.report_mounts();
        }
        world.pass(Duration::from_secs(2));
        let command = world.command();
        let name = if slot == A { "a" } else { "b" }.to_owned();
        world.send(Event::Umount { command, name, wish: Wish::Locked, waits: false });
        let is_asked = asks(world.send(Event::Tick));
        assert_eq!(is_asked, slot == A && !read_only, "{slot:?} {read_only}");
    }
}

/// A world in which a is out of sight, by us or by somebody else, and its lock is under way.
fn out_of_sight(lazily: bool) -> (World, DiskSeq) {
    let (mut world, disk) = mounted();
    if lazily {
        world.umount("a", Wish::LockedLater, false);
        world.pass(Duration::ZERO);
        world.end_job(only_job(&world), None);
    } else {
        world.mounted.clear();
        world.report_mounts();
    }
    assert!(matches!(world.jobs[&only_job(&world)].1, Job::Lock(_)));
    (world, disk)
}

#[test]
fn a_disk_that_is_pulled_while_it_is_used_out_of_sight_is_told_of_once() {
    let said_held =
        |world: &World| said(world, "was pulled while still in use: what was written last may be lost");
    for (lazily, lock_ends_first) in [(true, true), (true, false), (false, true), (false, false)] {
        let (mut world, disk) = out_of_sight(lazily);
        if lock_ends_first {
            world.end_job(only_job(&world), Some(ErrorKind::Busy));
            world.pull(disk);
        } else {
            world.pull(disk);
            assert_eq!(said_held(&world), 0, "perhaps it has everything");
            world.end_job(only_job(&world), Some(ErrorKind::Busy));
        }
        assert_eq!(said_held(&world), 1);
        world.pass(Duration::from_secs(1));
        world.end_job(only_job(&world), Some(ErrorKind::Busy));
        world.pass(Duration::from_secs(2));
        world.end_job(only_job(&world), None);
        assert_eq!(said_held(&world), 1);
        assert!(world.open.is_empty() && error(&world).contains("may be lost"), "{}", error(&world));
    }
}

#[test]
fn a_disk_that_has_not_got_what_was_written_out_of_sight_is_told_of_when_it_is_locked() {
    for lazily in [true, false] {
        for (end, words) in
            [(ErrorKind::Absent, SAID), (ErrorKind::Damaged, "has failed while being unmounted")]
        {
            let (mut world, _) = out_of_sight(lazily);
            world.end_job(only_job(&world), Some(end));
            assert!(world.open.is_empty() && error(&world).contains(words), "{}", error(&world));
        }
    }
}

#[test]
fn a_lock_asks_the_disk_of_what_was_written_out_of_sight_only() {
    let asks = |actions: Vec<Action>| {
        let mut asked = actions.into_iter().filter_map(|action| match action {
            Action::Lock { asks, .. } => Some(asks),
            _ => None,
        });
        asked.next().expect("it is locked")
    };
    for read_only in [false, true] {
        let (mut world, _) = mounted();
        if read_only {
            world.broken.insert(A);
            world.report_mounts();
        }
        let read = world.instant();
        world.mounted.clear();
        assert_eq!(asks(world.send(Event::Mounts { read, on: Vec::new() })), !read_only);
    }
    let (mut world, _) = mounted();
    world.umount("a", Wish::Locked, false);
    world.pass(Duration::ZERO);
    let job = only_job(&world);
    world.jobs.clear();
    world.mounted.clear();
    assert!(!asks(world.send(Event::Unmounted { job, result: UnmountResult::Gone })), "it was asked already");
}
