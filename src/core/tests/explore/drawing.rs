//! The table of a slot's states in ARCHITECTURE.md, made of the transitions that the searches have seen.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::Path;

use super::steps::{End, Step};
use crate::core::slot::{Slot, State};
use crate::core::tests::jobs::Job;
use crate::core::tests::world::World;
use crate::disk::ErrorKind;

const FILE: &str = "ARCHITECTURE.md";
const BEGIN: &str = "<!-- The states of a slot: written by a test -->\n";
const END: &str = "<!-- The end of what a test writes -->\n";
/// If it is set, the drawing is written anew.
const UPDATE: &str = "UPDATE_DRAWING";

/// One slot goes from one state to another because of something.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Edge {
    from: &'static str,
    to: &'static str,
    because: &'static str,
}

/// The states of all slots; the job tells a state that was left and entered again from one that was not left.
pub(super) struct States(Vec<(&'static str, Option<u64>)>);

impl States {
    pub(super) fn of(world: &World) -> Self {
        Self(world.core.slots.iter().map(|slot| (name(slot), job_of(slot))).collect())
    }

    /// What has changed since.
    pub(super) fn compare(&self, after: &World, because: &'static str, saw: &mut impl FnMut(Edge)) {
        for (&(from, job), slot) in self.0.iter().zip(&after.core.slots) {
            let to = name(slot);
            if (from, job) != (to, job_of(slot)) {
                saw(Edge { from, to, because });
            }
        }
    }
}

/// Fails unless the drawing in the document is this one.
pub(super) fn compare(edges: &BTreeSet<Edge>) {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join(FILE);
    let text = fs::read_to_string(&path).expect(FILE);
    let (before, rest) = text.split_once(BEGIN).expect("the place of the drawing");
    let (drawn, after) = rest.split_once(END).expect("the end of the drawing");
    let drawing = draw(edges);
    if drawn != drawing && std::env::var_os(UPDATE).is_some() {
        fs::write(&path, [before, BEGIN, &drawing, END, after].concat()).expect(FILE);
        return;
    }
    assert!(
        drawn == drawing,
        "{FILE} draws other states than the core has.\n{drawing}\nIf that is what you mean, run \
         `{UPDATE}=1 cargo test --lib explore` and look at the difference."
    );
}

fn draw(edges: &BTreeSet<Edge>) -> String {
    let mut becauses: BTreeMap<(&str, &str), Vec<&str>> = BTreeMap::new();
    for edge in edges {
        becauses.entry((edge.from, edge.to)).or_default().push(edge.because);
    }
    let mut drawing = "```mermaid\nstateDiagram-v2\n    [*] --> Idle\n".to_owned();
    for ((from, to), because) in becauses {
        drawing += &format!("    {from} --> {to}: {}\n", because.join(", "));
    }
    drawing + "```\n"
}

fn name(slot: &Slot) -> &'static str {
    match &slot.state {
        State::Idle if slot.residues.is_empty() => "Idle",
        State::Idle => "Residue",
        State::Preparing { .. } => "Preparing",
        State::Attaching { .. } => "Attaching",
        State::Mounted { .. } => "Mounted",
        State::Unmounting { .. } => "Unmounting",
        State::Locking { .. } => "Locking",
        State::Ejecting { .. } => "Ejecting",
    }
}

fn job_of(slot: &Slot) -> Option<u64> {
    match &slot.state {
        State::Preparing { job, .. }
        | State::Unmounting { job, .. }
        | State::Locking { job, .. }
        | State::Ejecting { job, .. } => Some(job.0),
        State::Idle | State::Attaching { .. } | State::Mounted { .. } => None,
    }
}

/// In the words of the drawing.
pub(super) fn because(before: &World, step: Step) -> &'static str {
    match step {
        Step::Enter(..) | Step::EnterInterrupted(_) => "trigger",
        Step::Walk(_) => "walk",
        Step::Interrupt(_) | Step::Caller(..) => "signal",
        Step::Plug(_) => "plugged",
        Step::Pull(_) => "pulled",
        Step::End(job, end) => match (&before.jobs[&job].1, end) {
            (Job::Prepare(_), End::Badly(_)) => "not prepared",
            (Job::Prepare(_), End::PreparedAlthoughPulled | End::Well) => "prepared",
            (Job::Attach(_), End::Badly(_)) => "not attached",
            (Job::Attach(_), _) => "attached",
            (Job::Unmount(..), End::Badly(ErrorKind::Absent)) => "unmounted",
            (Job::Unmount(..), End::Badly(_)) => "not unmounted",
            (Job::Unmount(..), _) => "unmounted",
            (Job::Lock(_), End::Badly(_)) => "not locked",
            (Job::Lock(_), _) => "locked",
            (Job::Eject(_), End::Badly(_)) => "not ejected",
            (Job::Eject(_), _) => "ejected",
        },
        Step::UnmountOutside(_) | Step::MoveOutside(_) | Step::CoverOutside(_) => "others",
        Step::ReadMounts | Step::OthersGo => "mount table",
        Step::Work(..) | Step::Look(_) | Step::GuestStarts(_) | Step::GuestStops(_) => "guest",
        Step::GuestLoses(..) | Step::Connect | Step::Disconnect => "guest",
        Step::Umount(..) | Step::Attach(..) | Step::Detach(_) => "command",
        Step::GiveUp(_) => "command given up",
        Step::Reload(_) => "reload",
        Step::Forget => "forgotten",
        Step::Stop | Step::Signal | Step::RootBusy | Step::RootGone => "stop",
        Step::Pass | Step::Tick => "time",
    }
}
