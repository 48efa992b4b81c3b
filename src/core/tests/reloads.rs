//! The config is read again, told event by event.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use super::configs::{ANOTHER, CONFIG, EXCHANGED, NEVER_IDLE, NOTHING, WITHOUT_A};
use super::jobs::Job;
use super::scenarios::{mount, only_job};
use super::world::World;
use crate::config;
use crate::core::*;
use crate::disk::ErrorKind;

const A: SlotId = SlotId(0);
const B: SlotId = SlotId(1);
const NEW: SlotId = SlotId(4);

fn status(world: &World, name: &str) -> Option<MountStatus> {
    world.core.snapshot().mounts.into_iter().find(|mount| mount.name == name)
}

fn is_leaving(world: &World, name: &str) -> bool {
    status(world, name).is_some_and(|mount| mount.leaving)
}

fn end_all_jobs(world: &mut World) {
    while let Some(&job) = world.jobs.keys().next() {
        world.end_job(job, None);
    }
}

fn umount(world: &mut World, name: &str) {
    let command = world.umount(name, Wish::Locked, false);
    world.pass(Duration::from_secs(1));
    end_all_jobs(world);
    assert!(world.replies[&command].is_ok(), "{:?}", world.replies);
}

#[test]
fn a_name_that_is_added_can_be_used_at_once() {
    let mut world = World::new();
    world.plug("near");
    assert_eq!(
        world.reload(ANOTHER).as_deref(),
        Ok("reloaded: 1 name added; 1 name changed; 3 names removed")
    );
    assert_eq!(world.shown.get(&NEW).map(String::as_str), Some("0"));
    let listed: Vec<_> = world.core.snapshot().mounts.into_iter().map(|mount| mount.name).collect();
    assert_eq!(listed, ["0", "b"], "by name");
    mount(&mut world, NEW);
}

#[test]
fn a_name_that_is_removed_and_comes_back_has_its_number_again() {
    let mut world = World::new();
    world.plug("near");
    world.reload(NOTHING).unwrap();
    assert!(world.shown.is_empty() && world.core.snapshot().mounts.is_empty());
    world.enter(A, Hold::Nothing);
    world.walk(A);
    assert_eq!(world.errors, [libc::ENOENT], "the kernel may ask until it has forgotten it");
    world.reload(CONFIG).unwrap();
    assert_eq!(world.shown.get(&A).map(String::as_str), Some("a"));
    mount(&mut world, A);
}

#[test]
fn a_removed_name_stays_until_its_disk_is_idle_and_locked() {
    let mut world = World::new();
    world.plug("near");
    mount(&mut world, A);
    let said = world.reload(WITHOUT_A).unwrap();
    assert!(said.ends_with("3 names removed; in use and leaving as soon as it is idle: a"), "{said}");
    assert!(is_leaving(&world, "a") && world.shown.contains_key(&A));
    world.walk(A);
    world.enter(A, Hold::Nothing);
    world.pass(Duration::from_millis(1));
    world.report_mounts();
    assert!(world.waiting.is_empty() && world.errors.is_empty(), "it can still be used");
    world.pass(Duration::from_secs(10));
    world.end_job(only_job(&world), None); // unmounted
    world.end_job(only_job(&world), Some(ErrorKind::Busy)); // held
    assert!(is_leaving(&world, "a") && world.shown.contains_key(&A));
    world.enter(A, Hold::Nothing);
    assert_eq!(world.errors, [libc::ENOENT], "it is not opened again");
    world.pass(Duration::from_secs(1));
    world.end_job(only_job(&world), None); // locked
    assert!(!world.shown.contains_key(&A) && status(&world, "a").is_none());
}

#[test]
fn a_removed_name_that_never_expired_leaves_after_disuse_too() {
    let mut world = World::new();
    world.plug("near");
    world.reload(NEVER_IDLE).unwrap();
    mount(&mut world, A);
    assert_eq!(world.core.next_wakeup(), None);
    world.reload(NOTHING).unwrap();
    world.pass(reload::LEAVING_TIMEOUT);
    assert!(matches!(world.jobs[&only_job(&world)].1, Job::Unmount(_, Unmount::Expire)));
    end_all_jobs(&mut world);
    assert!(world.shown.is_empty());
}

#[test]
fn a_name_that_is_removed_while_it_is_unlocked_is_mounted_for_those_who_wait() {
    let mut world = World::new();
    world.plug("near");
    world.enter(A, Hold::Directory);
    world.reload(WITHOUT_A).unwrap();
    assert!(is_leaving(&world, "a"));
    world.end_job(only_job(&world), None);
    world.end_job(only_job(&world), None);
    assert!(world.mounted.contains_key(&A) && world.errors.is_empty() && world.waiting.is_empty());
    umount(&mut world, "a");
    assert!(!world.shown.contains_key(&A));
}

#[test]
fn whoever_waits_for_a_removed_name_whose_disk_fails_learns_why() {
    for (error, errno) in [(ErrorKind::TimedOut, libc::ETIMEDOUT), (ErrorKind::Absent, libc::ENOENT)] {
        let mut world = World::new();
        world.plug("near");
        world.enter(A, Hold::Nothing);
        world.reload(WITHOUT_A).unwrap();
        world.end_job(only_job(&world), Some(error));
        assert_eq!(world.errors, [errno]);
        assert!(!world.shown.contains_key(&A));
    }
}

#[test]
fn a_name_that_comes_back_before_it_has_left_just_stays() {
    let mut world = World::new();
    world.plug("near");
    mount(&mut world, A);
    world.reload(WITHOUT_A).unwrap();
    world.reload(CONFIG).unwrap();
    assert!(!is_leaving(&world, "a"));
    umount(&mut world, "a");
    assert!(world.shown.contains_key(&A));
    mount(&mut world, A);
}

#[test]
fn time_outs_that_change_count_at_once_and_everything_else_at_the_next_mount() {
    let changed = CONFIG
        .replace("\"10s\"", "\"3s\"\noptions = \"noatime\"")
        .replace("access-timeout = \"30s\"", "access-timeout = \"2s\"");
    let mut world = World::new();
    world.plug("near");
    world.plug("far");
    mount(&mut world, A);
    world.enter(B, Hold::Nothing);
    let of_b = only_job(&world);
    assert_eq!(world.reload(&changed).as_deref(), Ok("reloaded: 4 names changed"));
    assert!(world.mounted.contains_key(&A) && !is_leaving(&world, "a"));
    world.enter(B, Hold::Nothing);
    world.pass(Duration::from_secs(2));
    assert_eq!(world.errors, [libc::ETIMEDOUT], "only who came after it");
    world.pass(Duration::from_secs(1));
    let (&of_a, _) = world.jobs.iter().find(|&(&job, _)| job != of_b).unwrap();
    assert!(matches!(world.jobs[&of_a].1, Job::Unmount(_, Unmount::Expire)), "idle for 3 s");
    world.end_job(of_b, Some(ErrorKind::Io));
    end_all_jobs(&mut world);
    world.enter(A, Hold::Nothing);
    let Job::Prepare(order) = &world.jobs[&only_job(&world)].1 else { panic!("{:?}", world.jobs) };
    assert!(order.options.contains(&"noatime".to_owned()), "{order:?}");
}

#[test]
fn a_disk_that_moves_to_another_name_is_busy_until_it_has_left_the_first() {
    let mut world = World::new();
    world.plug("near");
    mount(&mut world, A);
    let said = world.reload(EXCHANGED).unwrap();
    assert!(said.ends_with("leaving as soon as it is idle: a"), "{said}");
    assert!(is_leaving(&world, "a") && !is_leaving(&world, "b"));
    world.enter(B, Hold::Nothing);
    assert_eq!(world.errors, [libc::EBUSY]);
    umount(&mut world, "a");
    assert!(!is_leaving(&world, "a"), "the name stays");
    mount(&mut world, B);
    assert!(!is_leaving(&world, "b"));
}

#[test]
fn an_image_that_moves_to_another_name_leaves_the_first() {
    let mut world = World::new();
    mount(&mut world, B);
    world.reload(ANOTHER).unwrap();
    assert!(!is_leaving(&world, "b"), "it has that image still");
    world.reload(EXCHANGED).unwrap();
    assert!(is_leaving(&world, "b"));
}

#[test]
fn a_new_list_is_begun_at_its_first_disk() {
    let mut world = World::new();
    let far = world.plug("far");
    world.enter(B, Hold::Nothing);
    world.reload(EXCHANGED).unwrap();
    assert!(is_leaving(&world, "b"));
    world.pull(far);
    let near = world.plug("near");
    world.end_job(only_job(&world), Some(ErrorKind::Absent));
    let Job::Prepare(order) = &world.jobs[&only_job(&world)].1 else { panic!("{:?}", world.jobs) };
    assert!(matches!(order.source, crate::disk::Source::Device { diskseq, .. } if diskseq == near.0));
    assert!(!is_leaving(&world, "b"));
}

#[test]
fn a_broken_config_changes_nothing_and_says_why() {
    let mut world = World::new();
    world.plug("near");
    mount(&mut world, A);
    let before = (world.core.snapshot().mounts, world.core.next_wakeup());
    let command = world.command();
    let text = "mydisks.toml:3:1: mounts.a.idel-timeout: is not a known key";
    world.send(Event::Reload { command: Some(command), config: Err(text.into()) });
    let said = world.replies[&command].clone().unwrap_err();
    assert!(said.contains(text), "{said}");
    let snapshot = world.core.snapshot();
    assert!(snapshot.events.last().is_some_and(|line| line.level == Level::Error && line.text == said));
    assert_eq!(before, (snapshot.mounts, world.core.next_wakeup()));
}

#[test]
fn another_mountpoint_is_refused_and_nothing_of_that_config_counts() {
    let mut world = World::new();
    let said = world.reload("mountpoint = \"/mnt/other\"").unwrap_err();
    assert!(said.contains("`umount /mnt/mydisks`, then mount /mnt/other"), "{said}");
    let said = world.reload("libvirt = \"test:///default\"").unwrap_err();
    assert!(said.contains("libvirt cannot change"), "{said}");
    assert_eq!(world.core.snapshot().mounts.len(), 4);
}

#[test]
fn a_reload_is_refused_while_everything_is_being_unmounted() {
    let mut world = World::new();
    world.plug("near");
    mount(&mut world, A);
    let first = world.begin_reload(WITHOUT_A);
    let queued = world.begin_reload(CONFIG);
    assert!(world.replies.is_empty());
    let stop = world.command();
    world.send(Event::Stop(Some(stop)));
    assert!(world.replies[&first].is_ok() && world.replies[&queued].is_err());
    assert!(world.reload(CONFIG).is_err());
    world.pass(Duration::from_secs(1));
    world.end_job(only_job(&world), Some(ErrorKind::Busy));
    assert!(world.replies[&stop].is_err());
    assert!(world.reload(CONFIG).is_ok(), "it serves on");
}

#[test]
fn reloads_count_in_their_order_and_no_name_comes_back_before_it_is_forgotten() {
    let mut world = World::new();
    let first = world.begin_reload(NOTHING);
    let second = world.begin_reload(CONFIG);
    let third = world.begin_reload(WITHOUT_A);
    assert!(world.replies.is_empty() && world.shown.is_empty());
    world.forget();
    assert!(world.replies[&first].is_ok() && world.replies[&second].is_ok() && world.replies[&third].is_ok());
    assert_eq!(world.shown.values().collect::<Vec<_>>(), ["b"]);
}

fn many(names: usize, idle: &str) -> Arc<config::Config> {
    let table =
        |number| format!("[mounts.n{number}]\ndisks = [\"DISK_{number}\"]\nidle-timeout = \"{idle}\"\n");
    let text: String = (0..names).map(table).collect();
    config::parse(&text, Path::new("many.toml")).unwrap().into()
}

#[test]
fn ten_thousand_names_change_at_once_and_none_of_them_wakes_anybody() {
    let now = Now { monotonic: std::time::Instant::now(), wall: std::time::SystemTime::UNIX_EPOCH };
    let mut core = Core::new(many(1, "5m"), now);
    for (names, idle) in [(10_000, "5m"), (10_000, "1s"), (9_000, "1s"), (10_000, "5m"), (1, "5m")] {
        let actions = core.handle(now, Event::Reload { command: None, config: Ok(many(names, idle)) });
        assert_eq!(core.snapshot().mounts.len(), names);
        assert_eq!(core.next_wakeup(), None, "nothing is mounted");
        let changes = actions.iter().filter(|action| matches!(action, Action::Names { .. })).count();
        assert!(changes <= 1 && actions.len() <= 2, "not an action for each");
        core.handle(now, Event::Forgotten);
    }
}
