//! Which disk an access gets, or that it gets none.

use std::time::Duration;

use super::{A, B, disk_of, mount, only_job, state};
use crate::core::tests::world::World;
use crate::core::*;
use crate::disk::ErrorKind;

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
fn the_other_disk_of_a_list_is_shown_as_waiting() {
    let mut world = World::new();
    world.plug("near");
    mount(&mut world, A);
    assert!(world.core.snapshot().mounts[A.0].waiting.is_empty());
    world.plug("far");
    assert_eq!(world.core.snapshot().mounts[A.0].waiting, ["far"]);
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
fn twins_are_refused_and_shown() {
    let mut world = World::new();
    world.plug("near");
    world.plug("near");
    world.enter(A, Hold::Nothing);
    assert!(world.waiting.is_empty() && world.jobs.is_empty());
    let status = &world.core.snapshot().mounts[A.0];
    assert!(status.error.as_deref().is_some_and(|error| error.contains("/dev/sd1, /dev/sd2")), "{status:?}");
}
