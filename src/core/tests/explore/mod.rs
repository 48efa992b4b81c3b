//! Every sequence of events within a stated budget: a search, breadth first, of the states that the core and its world
//! can reach, each visited once, until nothing is new. The world checks the rules after each event; afterwards it is
//! shown that from every state everything comes to rest, whatever the order in which jobs end and time passes. Knows
//! nothing of how an event is dealt with.

mod budget;
pub(in crate::core) mod canonical;
mod drawing;
mod guests;
mod searches;
mod steps;

use std::collections::{BTreeSet, HashMap};
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::sync::{Arc, OnceLock};
use std::time::Instant;

use super::world::{World, parse};
use crate::config::Config;
use budget::Budget;
use drawing::Edge;
use searches::{Limits, SEARCHES};
use steps::Step;

/// If it is set, every budget has so many more.
const MORE: &str = "EXPLORE_MORE";

/// What a search came to.
struct Explored {
    edges: BTreeSet<Edge>,
}

/// A state that was reached: from where, by what, and where the steps lead that happen by themselves.
struct Known {
    reached: Option<(usize, Step)>,
    by_itself: Vec<usize>,
    at_rest: bool,
}

fn explore(limits: &Limits) -> Explored {
    let begun = Instant::now();
    let mut start = World::with_config(limits.configs[0]);
    guests::begin(&mut start, limits);
    for &id in limits.disks {
        steps::take(&mut start, Step::Plug(id), limits, &[], &mut |_| {});
    }
    let others = limits.configs.iter().skip(1).map(|text| Arc::new(parse(text)));
    let configs: Vec<_> = [Arc::clone(&start.core.config)].into_iter().chain(others).collect();
    let mut numbers = HashMap::from([(key(&start, &configs, limits.budget), 0)]);
    let mut known = vec![Known { reached: None, by_itself: Vec::new(), at_rest: steps::is_at_rest(&start) }];
    let (mut transitions, mut depth) = (0_usize, 0);
    let mut edges = BTreeSet::new();
    let mut level = vec![(0, start, limits.budget)];
    while !level.is_empty() {
        let mut next = Vec::new();
        for (number, world, budget) in level {
            let by_themselves = steps::by_themselves(&world, limits);
            for step in steps::possible(&world, limits) {
                let Some(left) = budget.after(step) else { continue };
                transitions += 1;
                let mut after = world.clone();
                let outcome = catch_unwind(AssertUnwindSafe(|| {
                    steps::take(&mut after, step, limits, &configs, &mut |edge| {
                        edges.insert(edge);
                    });
                    let key = key(&after, &configs, left);
                    let before = numbers.get(&key).copied();
                    if before.is_none() {
                        steps::the_same_again_changes_nothing(&mut after);
                    }
                    (key, before)
                }));
                let (key, before) = outcome.unwrap_or_else(|panic| {
                    eprintln!("{}: after {:?}\nthen {step:?}", limits.what, way(&known, number));
                    resume_unwind(panic)
                });
                let reached = before.unwrap_or_else(|| {
                    numbers.insert(key, known.len());
                    let at_rest = steps::is_at_rest(&after);
                    known.push(Known { reached: Some((number, step)), by_itself: Vec::new(), at_rest });
                    next.push((known.len() - 1, after, left));
                    known.len() - 1
                });
                if reached != number && by_themselves.contains(&step) {
                    known[number].by_itself.push(reached);
                }
            }
        }
        depth += usize::from(!next.is_empty());
        level = next;
    }
    everything_comes_to_rest(limits.what, &known);
    println!(
        "{}: complete within {:?}: {} states, {transitions} transitions, {depth} steps deep, {:.1} s",
        limits.what,
        limits.budget,
        known.len(),
        begun.elapsed().as_secs_f32()
    );
    Explored { edges }
}

/// The state, and what may still happen.
fn key(world: &World, configs: &[Arc<Config>], budget: Budget) -> (canonical::Key, [u8; 6]) {
    (canonical::key(world, configs), budget.bytes())
}

/// The steps that lead to a state.
fn way(known: &[Known], mut number: usize) -> Vec<Step> {
    let mut steps = Vec::new();
    while let Some((before, step)) = known[number].reached {
        steps.push(step);
        number = before;
    }
    steps.reverse();
    steps
}

/// Where nothing more happens by itself nobody waits and nothing is open, and no way there goes round in circles.
fn everything_comes_to_rest(what: &str, known: &[Known]) {
    let mut before = vec![Vec::new(); known.len()];
    let mut ways_on: Vec<usize> = known.iter().map(|state| state.by_itself.len()).collect();
    for (number, state) in known.iter().enumerate() {
        state.by_itself.iter().for_each(|&next| before[next].push(number));
    }
    let mut ends: Vec<usize> = (0..known.len()).filter(|&number| ways_on[number] == 0).collect();
    while let Some(number) = ends.pop() {
        let is_end = known[number].by_itself.is_empty();
        assert!(!is_end || known[number].at_rest, "{what}: no rest after {:?}", way(known, number));
        for &earlier in &before[number] {
            ways_on[earlier] -= 1;
            if ways_on[earlier] == 0 {
                ends.push(earlier);
            }
        }
    }
    let endless = (0..known.len()).find(|&number| ways_on[number] > 0);
    assert!(endless.is_none(), "{what}: for ever after {:?}", endless.map(|number| way(known, number)));
}

/// The search of this number, made once for all tests.
fn explored(number: usize) -> &'static Explored {
    static EXPLORED: [OnceLock<Explored>; SEARCHES.len()] = [const { OnceLock::new() }; SEARCHES.len()];
    EXPLORED[number].get_or_init(|| {
        let mut limits = SEARCHES[number];
        if let Ok(more) = std::env::var(MORE) {
            limits.budget = limits.budget.with(more.parse().expect(MORE));
        }
        explore(&limits)
    })
}

macro_rules! searches {
    ($($name:ident $number:literal)*) => { $(
        #[test]
        fn $name() {
            explored($number);
        }
    )* };
}

searches! {
    three_callers_of_two_names_keep_the_rules_and_come_to_rest 0
    three_callers_of_one_name_keep_the_rules_and_come_to_rest 1
    two_names_keep_the_rules_and_come_to_rest 2
    disks_that_are_alike_keep_the_rules_and_come_to_rest 3
    callers_that_get_signals_keep_the_rules_and_come_to_rest 4
    what_others_do_to_mounts_keeps_the_rules_and_comes_to_rest 5
    commands_keep_the_rules_and_come_to_rest 6
    the_end_keeps_the_rules_and_comes_to_rest 7
    the_end_that_keeps_mounts_keeps_the_rules_and_comes_to_rest 8
    reloads_keep_the_rules_and_come_to_rest 9
    a_command_that_waits_keeps_the_rules_through_a_reload_and_the_end 10
    a_disk_that_is_given_to_a_guest_by_hand_keeps_the_rules_and_comes_to_rest 11
    a_disk_that_a_reload_gives_to_a_guest_keeps_the_rules_and_comes_to_rest 12
    a_disk_that_is_given_to_two_guests_keeps_the_rules_and_comes_to_rest 13
}

#[test]
fn the_drawing_of_the_states_shows_every_transition_that_was_seen_and_no_other() {
    let edges = (0..SEARCHES.len()).flat_map(|number| &explored(number).edges);
    drawing::compare(&edges.copied().collect());
}
