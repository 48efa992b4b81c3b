//! Jobs that do not come back from the kernel: who waits for one is told so, and the daemon ends without it.

use std::time::Duration;

use super::world::World;
use crate::core::*;

const A: SlotId = SlotId(0);

/// A disk that is being unmounted, for a person.
fn unmounting() -> (World, JobId, CommandId) {
    let mut world = World::new();
    world.plug("near");
    world.enter(A, Hold::Nothing);
    for _ in 0..2 {
        let job = *world.jobs.keys().next().unwrap();
        world.end_job(job, None);
    }
    world.pass(Duration::from_secs(1));
    let command = world.umount("a", Wish::Locked, false);
    world.pass(Duration::from_millis(1));
    let job = *world.jobs.keys().next().unwrap();
    (world, job, command)
}

fn error_of_a(world: &mut World) -> Option<String> {
    // Whoever opens a status file brings the time with him.
    world.send(Event::Status(RequestId(0)));
    world.core.snapshot().mounts[0].error.clone()
}

#[test]
fn what_takes_long_is_told_in_the_status_and_to_a_command_that_gives_up() {
    let (mut world, job, command) = unmounting();
    assert_eq!(error_of_a(&mut world), None);
    world.pass(Duration::from_secs(12));
    let error = error_of_a(&mut world).unwrap();
    assert!(error.starts_with("unmounting near on /dev/sd") && error.ends_with("after 12 s"), "{error}");
    world.send(Event::GaveUp(command));
    let reply = world.replies[&command].clone().unwrap_err();
    assert!(reply.contains("waited in vain: a: unmounting near"), "{reply}");
    let caller = world.enter(A, Hold::Nothing);
    world.pass(Duration::from_secs(30));
    assert!(!world.waiting.contains_key(&caller) && world.errors == [libc::ETIMEDOUT]);
    world.end_job(job, None);
    let job = *world.jobs.keys().next().unwrap();
    world.end_job(job, None);
    assert_eq!(error_of_a(&mut world), None);
    assert!(world.open.is_empty());
}

#[test]
fn a_signal_ends_the_daemon_although_a_job_hangs_and_nobody_is_left_without_an_answer() {
    for keep in ["", "on-exit = \"keep\"\n"] {
        let mut world = World::with(keep);
        world.plug("near");
        world.enter(A, Hold::Nothing);
        world.pass(Duration::from_secs(20));
        world.send(Event::Stop(None));
        assert_eq!(world.cancelled.len(), 1);
        let told = |world: &World| {
            world
                .core
                .snapshot()
                .events
                .iter()
                .any(|line| line.text.contains("waits for this: a: opening near"))
        };
        assert!(!told(&world));
        world.pass(Duration::from_secs(5));
        assert!(told(&world));
        world.pass(Duration::from_secs(84));
        assert!(!world.ended);
        world.pass(Duration::from_secs(1));
        assert!(world.ended, "90 s after the signal");
        let last = world.core.snapshot().events.last().unwrap().clone();
        assert_eq!(last.level, Level::Error);
        assert!(last.text.contains("a: opening near on /dev/sd"), "{last:?}");
    }
}

#[test]
fn an_umount_of_the_root_is_told_for_what_it_waits_and_refused_in_the_end() {
    let (mut world, job, _) = unmounting();
    let command = world.command();
    world.send(Event::Stop(Some(command)));
    world.pass(Duration::from_secs(5));
    assert!(world.told[&command].contains("a: unmounting near"), "{:?}", world.told);
    world.pass(Duration::from_secs(85));
    let reply = world.replies[&command].clone().unwrap_err();
    assert!(reply.contains("has not ended after"), "{reply}");
    assert!(!world.ended);
    // Whoever comes is served again.
    world.enter(A, Hold::Nothing);
    for job in [Some(job), None, None, None] {
        let job = job.unwrap_or_else(|| *world.jobs.keys().next().unwrap());
        world.end_job(job, None);
    }
    assert!(world.mounted.contains_key(&A));
}

#[test]
fn an_umount_of_the_root_that_a_signal_overtakes_ends_the_daemon() {
    let (mut world, _, _) = unmounting();
    let command = world.command();
    world.send(Event::Stop(Some(command)));
    world.pass(Duration::from_secs(30));
    world.send(Event::Stop(None));
    world.pass(Duration::from_secs(60));
    assert!(world.ended);
    assert!(world.replies[&command].is_err());
}
