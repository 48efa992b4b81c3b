//! What can happen to the guests of a search.

use super::searches::Limits;
use super::steps::Step;
use crate::core::Event;
use crate::core::tests::hypervisor::{End, Piece};
use crate::core::tests::jobs::{Job, disk_of};
use crate::core::tests::world::World;
use crate::guests::{Domain, GuestEvent, Live, LiveKind, NewDevice};

/// They run, and can be reached.
pub(super) fn begin(world: &mut World, limits: &Limits) {
    if !limits.guests.is_empty() {
        world.connect();
        limits.guests.iter().for_each(|guest| world.start_guest(guest, Vec::new()));
    }
}

/// What becomes of guests that nobody does anything to.
pub(super) fn calm_down(world: &World, limits: &Limits) -> Option<Step> {
    if !limits.guests.is_empty() && !world.hypervisor.connected {
        return Some(Step::Connect);
    }
    limits.guests.iter().find(|guest| live(world, guest).is_none()).map(|guest| Step::GuestStarts(guest))
}

/// What guests have been asked for is done.
pub(super) fn work(world: &World, limits: &Limits) -> Vec<Step> {
    let of_guest = |guest: &&'static str| asked(world, guest).first().copied();
    limits.guests.iter().filter_map(of_guest).collect()
}

/// All that may happen to them, however it ends.
pub(super) fn possible<'a>(world: &'a World, limits: &'a Limits) -> impl Iterator<Item = Step> + 'a {
    let connected = world.hypervisor.connected;
    let connection = if connected { Step::Disconnect } else { Step::Connect };
    let of_guest = move |&guest: &&'static str| {
        let mut steps = asked(world, guest);
        match live(world, guest) {
            None => steps.push(Step::GuestStarts(guest)),
            Some(live) => {
                steps.push(Step::GuestStops(guest));
                steps.extend((0..live.devices.len()).map(|which| Step::GuestLoses(guest, which)));
            }
        }
        steps
    };
    let more = world.commands.len() < limits.commands;
    let by_hand = limits.by_hand.iter().filter(move |_| more).flat_map(|&disk| {
        let attach = limits.guests.iter().map(move |&guest| Step::Attach(disk, guest));
        attach.chain([Step::Detach(disk)])
    });
    let connection = (!limits.guests.is_empty()).then_some(connection);
    limits.guests.iter().flat_map(of_guest).chain(connection).chain(by_hand)
}

/// All domains are seen once more, as they are, unless that is being waited for.
pub(super) fn seen_again(world: &World) -> Vec<Event> {
    let hypervisor = &world.hypervisor;
    let is_news = |name: &str| {
        let piece = hypervisor.pieces.iter().find(|(guest, _)| guest.as_str() == name);
        hypervisor.looks.contains(name) || piece.is_some_and(|(_, (ticket, _))| ticket.is_none())
    };
    let seen = hypervisor.domains.iter().filter(|(name, _)| hypervisor.connected && !is_news(name));
    let event = |(name, live): (&String, &Option<Live>)| {
        let domain = Domain { name: name.clone(), live: live.clone() };
        Event::Guest(GuestEvent::Seen { name: name.clone(), domain: Some(domain) })
    };
    seen.map(event).collect()
}

/// What a guest has of ours, or is being given, the host neither has open nor opens nor ejects.
pub(super) fn nothing_is_with_a_guest_and_the_host(world: &World) {
    let with_guests = world.hypervisor.domains.values().flatten().flat_map(|live| &live.devices);
    let given = world.hypervisor.pieces.values().filter_map(|(_, piece)| match piece {
        Piece::Attach(NewDevice::Disk { node, .. }) => Some(node.as_path()),
        _ => None,
    });
    let theirs = with_guests.filter_map(|device| match &device.kind {
        LiveKind::Disk { source, .. } => source.as_deref(),
        LiveKind::Usb { .. } => None,
    });
    for node in theirs.chain(given) {
        let disk = world.disks.values().find(|disk| disk.node.devnode == node);
        let of_job = |job: &Job| match job {
            Job::Prepare(order) => disk_of(order),
            Job::Eject(disk) => Some(*disk),
            Job::Attach(_) | Job::Unmount(..) | Job::Lock(_) => None,
        };
        let by_jobs = world.jobs.values().filter_map(|(_, job)| of_job(job));
        let mut in_use = world.open.values().filter_map(|open| open.disk).chain(by_jobs);
        let is_both = disk.is_some_and(|disk| in_use.any(|used| used == disk.seq));
        assert!(!is_both, "{} is with a guest or being given to it, and in use on the host", node.display());
    }
}

fn live<'a>(world: &'a World, guest: &str) -> Option<&'a Live> {
    world.hypervisor.domains.get(guest)?.as_ref()
}

/// How what a guest was asked for may end, well first.
fn asked(world: &World, guest: &'static str) -> Vec<Step> {
    let hypervisor = &world.hypervisor;
    let piece = hypervisor.pieces.iter().find(|(name, _)| name.as_str() == guest).map(|(_, piece)| piece);
    match piece {
        Some((Some(_), _)) => {
            let ends = [End::Good, End::OnlySaid, End::DoneAllTheSame, End::Failed, End::Unanswered];
            ends.into_iter().map(|end| Step::Work(guest, end)).collect()
        }
        Some((None, Piece::Look)) if hypervisor.connected => vec![Step::Look(guest)],
        _ if hypervisor.looks.contains(guest) => vec![Step::Look(guest)],
        _ => Vec::new(),
    }
}
