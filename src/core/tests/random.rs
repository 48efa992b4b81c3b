//! Random sequences of everything that can happen, in any order; the world checks the rules after each event.

use std::collections::BTreeSet;
use std::time::Duration;

use proptest::prelude::*;

use super::configs::{CONFIG, OTHERS};
use super::jobs::Job;
use super::world::World;
use crate::core::*;
use crate::disk::ErrorKind;

/// How many of the names are used.
const NAMES: usize = 2;
/// The slot of the name that [`OTHERS`] add.
const ADDED: usize = 4;

#[derive(Clone, Copy, Debug)]
enum Step {
    Enter(usize, bool),
    Walk(usize),
    Interrupt(usize),
    Caller(usize, bool),
    Plug(usize),
    Pull(usize),
    Change(usize),
    EndJob(usize, Option<ErrorKind>),
    PrepareAlthoughPulled(usize),
    UnmountOutside(usize),
    MoveOutside(usize),
    CoverOutside(usize),
    BreakOutside(usize),
    ReportMounts,
    Umount(usize, Wish, bool),
    GiveUp(usize),
    Reload(usize),
    BrokenReload,
    Forget,
    Stop,
    Signal,
    Pass(u64),
}

fn step() -> impl Strategy<Value = Step> {
    let which = 0..8_usize;
    let error = prop_oneof![
        4 => Just(None),
        1 => Just(Some(ErrorKind::Busy)),
        1 => Just(Some(ErrorKind::Io)),
        1 => Just(Some(ErrorKind::Absent)),
        1 => Just(Some(ErrorKind::TimedOut)),
        1 => Just(Some(ErrorKind::Other)),
    ];
    let wish = prop_oneof![Just(Wish::Locked), Just(Wish::LockedLater), Just(Wish::Ejected)];
    let time = prop_oneof![Just(0), Just(1), 200..1500_u64, 5_000..40_000_u64];
    prop_oneof![
        4 => (slot(), any::<bool>()).prop_map(|(slot, lock)| Step::Enter(slot, lock)),
        3 => slot().prop_map(Step::Walk),
        1 => which.clone().prop_map(Step::Interrupt),
        1 => (which.clone(), any::<bool>()).prop_map(|(which, dying)| Step::Caller(which, dying)),
        2 => (0..2_usize).prop_map(Step::Plug),
        1 => which.clone().prop_map(Step::Pull),
        1 => which.clone().prop_map(Step::Change),
        8 => (which.clone(), error).prop_map(|(which, error)| Step::EndJob(which, error)),
        1 => which.clone().prop_map(Step::PrepareAlthoughPulled),
        1 => slot().prop_map(Step::UnmountOutside),
        1 => (0..NAMES).prop_map(Step::MoveOutside),
        1 => (0..NAMES).prop_map(Step::CoverOutside),
        1 => (0..NAMES).prop_map(Step::BreakOutside),
        2 => Just(Step::ReportMounts),
        2 => (slot(), wish, any::<bool>()).prop_map(|(slot, wish, waits)| Step::Umount(slot, wish, waits)),
        1 => which.clone().prop_map(Step::GiveUp),
        2 => (0..=OTHERS.len()).prop_map(Step::Reload),
        1 => Just(Step::BrokenReload),
        2 => Just(Step::Forget),
        1 => Just(Step::Stop),
        1 => Just(Step::Signal),
        4 => time.prop_map(Step::Pass),
    ]
}

/// Of a name that is there from the start, or of one that a reload adds.
fn slot() -> impl Strategy<Value = usize> {
    prop_oneof![4 => 0..NAMES, 1 => Just(ADDED)]
}

fn nth<K: Copy, V>(map: &std::collections::BTreeMap<K, V>, which: usize) -> Option<K> {
    map.keys().nth(which % map.len().max(1)).copied()
}

fn apply(world: &mut World, step: Step) {
    match step {
        Step::Enter(slot, _) | Step::Walk(slot) if slot >= world.core.slots.len() => {}
        Step::Enter(slot, lock) => {
            // A mount hides the name directory, but not from everybody.
            world.enter(SlotId(slot), if lock { Hold::Directory } else { Hold::Nothing });
        }
        Step::Walk(slot) => {
            world.walk(SlotId(slot));
        }
        Step::Interrupt(which) => {
            if let Some(request) = nth(&world.waiting, which) {
                world.send(Event::Interrupted(request));
            }
        }
        Step::Caller(which, dying) => {
            if let Some(&request) = world.looked_at.iter().nth(which % world.looked_at.len().max(1)) {
                world.looked_at.remove(&request);
                world.send(Event::Caller { request, dying });
            }
        }
        Step::Plug(which) => {
            if world.disks.len() < 3 {
                world.plug(["near", "far"][which]);
            }
        }
        Step::Pull(which) => {
            if let Some(seq) = nth(&world.disks, which) {
                world.pull(seq);
            }
        }
        Step::Change(which) => {
            if let Some(seq) = nth(&world.disks, which) {
                let actions = world.send(Event::DiskPresent(Box::new(world.disks[&seq].clone())));
                assert!(actions.is_empty(), "the same event twice: {actions:?}");
            }
        }
        Step::EndJob(which, error) => {
            if let Some(job) = nth(&world.jobs, which) {
                world.end_job(job, error);
            }
        }
        Step::PrepareAlthoughPulled(which) => {
            let preparing = |slot: &SlotId, job: &Job| {
                matches!(job, Job::Prepare(_)) && !world.mounted.contains_key(slot)
            };
            let jobs: Vec<_> = world.jobs.iter().filter(|(_, (slot, job))| preparing(slot, job)).collect();
            if let Some(&(&job, _)) = jobs.get(which % jobs.len().max(1)) {
                world.end_prepare_although_pulled(job);
            }
        }
        Step::UnmountOutside(slot) => {
            world.mounted.remove(&SlotId(slot));
        }
        Step::MoveOutside(slot) => world.move_outside(SlotId(slot)),
        Step::CoverOutside(slot) => world.cover_outside(SlotId(slot)),
        Step::BreakOutside(slot) => {
            world.broken.insert(SlotId(slot));
        }
        Step::ReportMounts => world.report_mounts(),
        Step::Umount(slot, wish, waits) => {
            let name = if slot == ADDED { "0" } else { ["a", "b"][slot] };
            world.umount(name, wish, waits);
        }
        Step::GiveUp(which) => {
            let waiting = world.commands.iter().nth(which % world.commands.len().max(1)).copied();
            if let Some(command) = waiting {
                world.send(Event::GaveUp(command));
            }
        }
        Step::Reload(which) => {
            world.begin_reload(OTHERS.get(which).unwrap_or(&CONFIG));
        }
        Step::BrokenReload => {
            let command = Some(world.command());
            world.send(Event::Reload { command, config: Err("it is broken".into()) });
        }
        Step::Forget => world.forget(),
        Step::Stop => {
            let command = world.command();
            world.send(Event::Stop(Some(command)));
        }
        Step::Signal => {
            world.send(Event::Stop(None));
        }
        Step::Pass(milliseconds) => world.pass(Duration::from_millis(milliseconds)),
    }
}

/// Every job ends well, time passes, the table is read: nobody may be left waiting, and nothing open.
fn come_to_rest(world: &mut World) {
    let mut reloaded = false;
    world.moved.clear();
    world.covered.clear();
    for _ in 0..200 {
        if world.ended {
            return;
        }
        reloaded = reloaded || world.reload(CONFIG).is_ok();
        world.forget();
        if world.asked {
            world.report_mounts();
        }
        take_strangers_away(world);
        if let Some(job) = nth(&world.jobs, 0) {
            world.end_job(job, None);
        } else {
            world.pass(Duration::from_secs(5));
            world.report_mounts();
        }
        if !world.ended
            && world.waiting.is_empty()
            && world.jobs.is_empty()
            && world.open.is_empty()
            && world.commands.is_empty()
            && world.forgetting == 0
        {
            assert_eq!(world.core.next_wakeup(), None);
            assert!(world.core.snapshot().mounts.iter().all(|mount| !mount.leaving));
            assert_eq!(world.shown.values().cloned().collect::<BTreeSet<_>>(), world.configured());
            return;
        }
    }
    panic!("no rest: waiting {:?} jobs {:?} open {:?}", world.waiting, world.jobs, world.open);
}

/// A mount that was brought back after the core had made another one of the same disk is left alone for ever: whoever
/// brought it takes it away.
fn take_strangers_away(world: &mut World) {
    let World { back, mounted, core, .. } = world;
    back.retain(|slot| {
        let taken = core.slots[slot.0].taken.as_ref();
        let is_ours = taken.is_some_and(|taken| mounted.get(slot) == Some(&taken.in_use.detached.mount));
        if taken.is_some() && !is_ours {
            mounted.remove(slot);
        }
        is_ours || taken.is_none()
    });
}

fn whatever_happens(mut world: World, steps: Vec<Step>) {
    for step in steps {
        if !world.ended {
            apply(&mut world, step);
        }
    }
    come_to_rest(&mut world);
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 2_000, ..ProptestConfig::default() })]

    #[test]
    fn the_rules_hold_whatever_happens_and_everything_comes_to_rest(steps in prop::collection::vec(step(), 0..120)) {
        whatever_happens(World::new(), steps);
    }

    #[test]
    fn the_rules_hold_too_if_mounts_are_kept_at_the_end(steps in prop::collection::vec(step(), 0..60)) {
        whatever_happens(World::with("on-exit = \"keep\"\n"), steps);
    }
}
