//! What can happen in a state, and what then becomes of core and world. New events of the core belong here.

use std::sync::Arc;

use super::drawing::{Edge, States};
use super::guests;
use super::searches::Limits;
use crate::config::Config;
use crate::core::slot::State;
use crate::core::tests::hypervisor::End as Work;
use crate::core::tests::jobs::Job;
use crate::core::tests::world::World;
use crate::core::*;
use crate::device::DiskSeq;
use crate::disk::ErrorKind;

/// How a job ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum End {
    Well,
    Badly(ErrorKind),
    /// The mount was ready before the disk was pulled.
    PreparedAlthoughPulled,
}

/// One thing that happens.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Step {
    Enter(SlotId, Hold),
    Walk(SlotId),
    /// The news of a signal overtakes the request that it is for.
    EnterInterrupted(SlotId),
    Interrupt(RequestId),
    Caller(RequestId, bool),
    Plug(&'static str),
    Pull(DiskSeq),
    End(JobId, End),
    UnmountOutside(SlotId),
    MoveOutside(SlotId),
    CoverOutside(SlotId),
    /// What others have mounted and moved is gone again.
    OthersGo,
    ReadMounts,
    Umount(SlotId, Wish, bool),
    /// What a guest was asked for comes out so.
    Work(&'static str, Work),
    /// A guest is looked at, as was asked for.
    Look(&'static str),
    GuestStarts(&'static str),
    GuestStops(&'static str),
    /// Of what it has, that of this place.
    GuestLoses(&'static str, usize),
    Connect,
    Disconnect,
    /// A person gives a disk to a guest.
    Attach(&'static str, &'static str),
    Detach(&'static str),
    GiveUp(CommandId),
    /// To the config of this number; `None` = a broken one.
    Reload(Option<usize>),
    Forget,
    Stop,
    Signal,
    RootBusy,
    RootGone,
    /// Time passes, until something is due or for as long as the search says.
    Pass,
    Tick,
}

/// Nobody waits, nothing is open or under way.
pub(super) fn is_at_rest(world: &World) -> bool {
    let nobody_waits = world.waiting.is_empty() && world.commands.is_empty() && world.forgetting == 0;
    let nothing_is_open = world.jobs.is_empty() && world.open.is_empty() && world.mounted.is_empty();
    let nothing_is_asked = world.hypervisor.pieces.is_empty() && world.hypervisor.looks.is_empty();
    let names_fit =
        world.shown.values().cloned().collect::<std::collections::BTreeSet<_>>() == world.configured();
    let nothing_is_due = world.core.next_wakeup().is_none();
    let is_quiet = nobody_waits && nothing_is_open && nothing_is_asked && names_fit && nothing_is_due;
    world.ended || is_quiet && guests_have_what_is_theirs(world)
}

fn guests_have_what_is_theirs(world: &World) -> bool {
    let guests = world.core.snapshot().guests;
    guests.iter().flat_map(|guest| &guest.devices).all(|device| match device.state {
        GuestDeviceState::Attached | GuestDeviceState::Absent => true,
        GuestDeviceState::Waiting => {
            device.error.as_deref() == Some("detached by hand, until it is plugged in again")
        }
        GuestDeviceState::Attaching | GuestDeviceState::Detaching | GuestDeviceState::Failed => false,
    })
}

fn is_due(world: &World) -> bool {
    world.core.next_wakeup().is_some_and(|at| at <= world.instant())
}

/// What is brought back is seen before anything else happens, unless the table would be as old as our last unmount.
fn is_read_first(world: &World) -> bool {
    let is_too_early = world.core.slots.iter().any(|slot| slot.gone == Some(world.instant()));
    !world.back.is_empty() && world.jobs.is_empty() && !is_too_early
}

/// What happens although nobody does anything more: jobs end well, time passes. Others take away what is theirs, and the
/// table is read, before anything else; the daemon reads it whenever it changes. Guests that can be reached and run come
/// before all.
pub(super) fn by_themselves(world: &World, limits: &Limits) -> Vec<Step> {
    if world.ended {
        return Vec::new();
    }
    if let Some(first) = guests::calm_down(world, limits) {
        return vec![first];
    }
    if !world.moved.is_empty() || !world.covered.is_empty() {
        return vec![Step::OthersGo];
    }
    if is_read_first(world) {
        return vec![Step::ReadMounts];
    }
    let mut steps: Vec<_> = world.jobs.keys().map(|&job| Step::End(job, End::Well)).collect();
    steps.push(Step::ReadMounts);
    steps.extend((world.forgetting > 0).then_some(Step::Forget));
    steps.extend(guests::work(world, limits));
    steps.push(if is_due(world) { Step::Tick } else { Step::Pass });
    steps
}

/// All steps that the limits allow.
pub(super) fn possible(world: &World, limits: &Limits) -> Vec<Step> {
    if world.ended {
        let busy = world.core.stop.is_some() && !world.core.shared.keeping && !world.core.root_gone;
        return busy.then_some(Step::RootBusy).into_iter().collect();
    }
    let mut steps = Vec::new();
    let mut add = |allowed: bool, step: Step| {
        if allowed {
            steps.push(step);
        }
    };
    let (commands, root) = (world.commands.len() < limits.commands, !world.core.root_gone);
    for slot in world.shown.keys().copied() {
        let more = root && world.waiting.len() < limits.callers;
        add(more, Step::Enter(slot, Hold::Directory));
        add(more, Step::Enter(slot, Hold::Nothing));
        add(more, Step::Walk(slot));
        add(more && limits.signals, Step::EnterInterrupted(slot));
        let is_mounted = world.mounted.contains_key(&slot);
        add(is_mounted, Step::UnmountOutside(slot));
        let can_move = match (is_mounted, world.moved.get(&slot)) {
            (is_mounted, None) => is_mounted,
            (true, Some(_)) => false,
            // Two mounts of one name are not modelled.
            (false, Some(&moved)) => match &world.core.slots[slot.0].state {
                State::Mounted { in_use, .. } => in_use.detached.mount == moved,
                State::Idle | State::Locking { .. } => true,
                _ => false,
            },
        };
        add(limits.outside && can_move, Step::MoveOutside(slot));
        add(limits.outside, Step::CoverOutside(slot));
        for &(wish, waits) in limits.wishes {
            add(commands, Step::Umount(slot, wish, waits));
        }
    }
    let of_slots = world.core.slots.iter().flat_map(|slot| &slot.commands).map(|command| command.id);
    of_slots
        .chain(world.core.guests.commands().map(|(command, _)| command))
        .for_each(|command| add(true, Step::GiveUp(command)));
    guests::possible(world, limits).for_each(|step| add(true, step));
    for config in 0..limits.configs.len() {
        add(limits.configs.len() > 1 && commands, Step::Reload(Some(config)));
    }
    add(limits.configs.len() > 1 && commands, Step::Reload(None));
    add(world.forgetting > 0, Step::Forget);
    add(limits.stop && commands && root, Step::Stop);
    add(limits.stop && root && world.core.stop.is_none(), Step::Signal);
    add(limits.stop && root, Step::RootGone);
    for &request in world.waiting.keys() {
        add(limits.signals, Step::Interrupt(request));
    }
    for &request in world.looked_at.iter().filter(|request| world.waiting.contains_key(request)) {
        add(true, Step::Caller(request, true));
        add(true, Step::Caller(request, false));
    }
    let is_gone = |disk: DiskSeq| !world.disks.contains_key(&disk);
    let stale = world.open.values().filter(|open| open.disk.is_some_and(is_gone)).count();
    for &id in limits.disks {
        let is_there = world.disks.values().any(|disk| disk.preferred_id.as_deref() == Some(id));
        add((!is_there || limits.twins) && world.disks.len() < 2 && stale < 1, Step::Plug(id));
    }
    world.disks.keys().for_each(|&seq| add(true, Step::Pull(seq)));
    for (&job, (slot, work)) in &world.jobs {
        ends(world, *slot, work).into_iter().for_each(|end| add(true, Step::End(job, end)));
    }
    add(true, Step::ReadMounts);
    add(!is_read_first(world), if is_due(world) { Step::Tick } else { Step::Pass });
    for step in by_themselves(world, limits) {
        if !steps.contains(&step) {
            steps.push(step);
        }
    }
    steps
}

/// Each way in which a job can end.
fn ends(world: &World, slot: SlotId, work: &Job) -> Vec<End> {
    let also = |kinds: &[ErrorKind]| {
        let mut ends: Vec<_> = kinds.iter().map(|&kind| End::Badly(kind)).collect();
        ends.push(End::Well);
        ends
    };
    match work {
        Job::Prepare(_) => {
            let mut ends = also(&[
                ErrorKind::Absent,
                ErrorKind::KeyRejected,
                ErrorKind::Busy,
                ErrorKind::TimedOut,
                ErrorKind::Io,
                ErrorKind::Other,
            ]);
            if !world.mounted.contains_key(&slot) {
                ends.push(End::PreparedAlthoughPulled);
            }
            ends
        }
        Job::Attach(_) => also(&[ErrorKind::Other]),
        // Marked, busy, failed, gone with its disk: see `World::end_job`. Gone or locked and not saved decides nothing else.
        Job::Unmount(_, Unmount::Expire) => {
            also(&[ErrorKind::Io, ErrorKind::Busy, ErrorKind::Other, ErrorKind::Absent])
        }
        Job::Unmount(_, Unmount::Now) => also(&[ErrorKind::Busy, ErrorKind::Other, ErrorKind::Absent]),
        Job::Unmount(_, Unmount::Lazy) => also(&[ErrorKind::Other]),
        Job::Eject(_) => also(&[ErrorKind::Busy, ErrorKind::Other]),
        Job::Lock(mapping) => {
            let attempts = match world.core.slots[slot.0].state {
                State::Locking { attempts, .. } => attempts,
                _ => panic!("{slot:?} locks in another state"),
            };
            // One mapping is refused once in a row, or the pauses would grow for ever.
            let is_held = mapping.as_ref().is_some_and(|mapping| world.is_elsewhere(slot, mapping));
            match (attempts, is_held) {
                (0, _) => also(&[ErrorKind::Busy, ErrorKind::Other]),
                (_, true) => Vec::new(),
                (_, false) => also(&[]),
            }
        }
    }
}

/// Does a step, and then what is due, as the daemon does. How the slots' states change is told to `saw`.
pub(super) fn take(
    world: &mut World,
    step: Step,
    limits: &Limits,
    configs: &[Arc<Config>],
    saw: &mut impl FnMut(Edge),
) {
    let before = States::of(world);
    let because = super::drawing::because(world, step);
    apply(world, step, limits, configs);
    before.compare(world, because, saw);
    if step != Step::Pass && step != Step::Tick && is_due(world) {
        let before = States::of(world);
        apply(world, Step::Tick, limits, configs);
        before.compare(world, "time", saw);
    }
    guests::nothing_is_with_a_guest_and_the_host(world);
    // What is only told, and decides nothing.
    world.errors.clear();
    world.replies.clear();
    world.told.clear();
    world.cancelled.clear();
    world.core.shared.events.clear();
    let World { looked_at, waiting, .. } = world;
    looked_at.retain(|request| waiting.contains_key(request));
}

/// The devices and guests are reported again, and an early tick comes.
pub(super) fn the_same_again_changes_nothing(world: &mut World) {
    if is_due(world) && !world.hypervisor.domains.is_empty() {
        // What guests are to get is decided with any event, and what is due is done then.
        return;
    }
    let again = world.disks.values().map(|disk| Event::DiskPresent(Box::new(disk.clone())));
    let early = (!is_due(world)).then_some(Event::Tick);
    for event in again.chain(guests::seen_again(world)).chain(early).collect::<Vec<_>>() {
        let actions = world.send(event.clone());
        assert!(actions.is_empty(), "{event:?} again: {actions:?}");
    }
}

fn apply(world: &mut World, step: Step, limits: &Limits, configs: &[Arc<Config>]) {
    match step {
        Step::Enter(slot, hold) => {
            world.enter(slot, hold);
        }
        Step::Walk(slot) => {
            world.walk(slot);
        }
        Step::EnterInterrupted(slot) => {
            world.send(Event::Interrupted(RequestId(world.last + 1)));
            world.enter(slot, Hold::Nothing);
            // It may have been answered at once.
            world.core.shared.early.clear();
        }
        Step::Interrupt(request) => {
            world.send(Event::Interrupted(request));
        }
        Step::Caller(request, dying) => {
            world.looked_at.remove(&request);
            world.send(Event::Caller { request, dying });
            assert!(!dying || !world.waiting.contains_key(&request), "who dies goes at once");
        }
        Step::Plug(id) => {
            world.plug(id);
        }
        Step::Pull(seq) => world.pull(seq),
        Step::End(job, End::Well) => world.end_job(job, None),
        Step::End(job, End::Badly(kind)) => world.end_job(job, Some(kind)),
        Step::End(job, End::PreparedAlthoughPulled) => world.end_prepare_although_pulled(job),
        Step::UnmountOutside(slot) => {
            world.mounted.remove(&slot);
        }
        Step::MoveOutside(slot) => world.move_outside(slot),
        Step::CoverOutside(slot) => world.cover_outside(slot),
        Step::OthersGo => {
            world.moved.clear();
            world.covered.clear();
            world.report_mounts();
        }
        Step::ReadMounts => world.report_mounts(),
        Step::Umount(slot, wish, waits) => {
            let name = world.core.slots[slot.0].config.name.to_string();
            world.umount(&name, wish, waits);
        }
        Step::Work(guest, end) => world.end_piece(guest, end),
        Step::Look(guest) => world.report_guest(guest),
        Step::GuestStarts(guest) => world.start_guest(guest, Vec::new()),
        Step::GuestStops(guest) => world.stop_guest(guest),
        Step::GuestLoses(guest, which) => world.release(guest, which),
        Step::Connect => world.connect(),
        Step::Disconnect => world.disconnect(),
        Step::Attach(device, guest) => {
            let (command, guest) = (world.command(), Some(guest.to_owned()));
            world.send(Event::GuestAttach { command, device: device.to_owned(), guest });
        }
        Step::Detach(device) => {
            let command = world.command();
            world.send(Event::GuestDetach { command, device: device.to_owned() });
        }
        Step::GiveUp(command) => {
            world.send(Event::GaveUp(command));
        }
        Step::Reload(number) => {
            let config =
                number.map(|number| Arc::clone(&configs[number])).ok_or_else(|| "it is broken".into());
            let command = Some(world.command());
            world.send(Event::Reload { command, config });
        }
        Step::Forget => world.forget(),
        Step::Stop => {
            let command = world.command();
            world.send(Event::Stop(Some(command)));
        }
        Step::Signal => {
            world.send(Event::Stop(None));
        }
        Step::RootBusy => {
            world.ended = false;
            world.send(Event::RootBusy("in use".into()));
        }
        Step::RootGone => {
            world.send(Event::RootGone);
        }
        Step::Pass => {
            let due = world.core.next_wakeup().map(|at| at.saturating_duration_since(world.start));
            let longest = world.elapsed + limits.longest_pass;
            world.advance(due.map_or(longest, |due| due.min(longest)));
        }
        Step::Tick => {
            let actions = world.send(Event::Tick);
            assert!(!actions.is_empty() || !is_due(world), "a tick that does nothing is asked for again");
        }
    }
}
