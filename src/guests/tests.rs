//! The whole edge against libvirt's driver for tests: what it reports, and that work ends in one sentence.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use crossbeam_channel::{Receiver, unbounded};

use super::libvirt::{Connection, Power};
use super::{Attach, GuestAction, GuestEvent, Guests, NewDevice, Ticket, attach};
use crate::device::UsbId;

/// Long enough for every machine; a test that waits for it has failed.
const PATIENCE: Duration = Duration::from_secs(60);

fn start(uri: &str, claim: fn() -> Result<(), String>) -> (Guests, Receiver<GuestEvent>) {
    let (told, events) = unbounded();
    let claim = move |_: &Attach| claim().map(|()| Box::new(()) as Box<dyn Send>);
    let report = move |event| drop(told.send(event));
    let guests = Guests::start(uri, Arc::new(claim), Arc::new(report)).unwrap();
    (guests, events)
}

fn device() -> NewDevice {
    NewDevice::Usb {
        bus: 1,
        address: 9,
        id: UsbId { vendor: 0x1209, product: 1 },
        disks: Vec::new(),
        alias: "ua-mydisks-1".into(),
    }
}

fn attach() -> GuestAction {
    GuestAction::Attach { ticket: Ticket(1), guest: "test".parse().unwrap(), device: device() }
}

fn next(events: &Receiver<GuestEvent>) -> GuestEvent {
    events.recv_timeout(PATIENCE).unwrap()
}

#[test]
fn all_domains_are_reported_and_each_look_is_answered() {
    let power = Power::new();
    let (guests, events) = start(&power.uri(), || Ok(()));
    let GuestEvent::Connected(domains) = next(&events) else { panic!("not connected") };
    assert_eq!(domains.len(), 1);
    assert!(domains[0].name == "test" && domains[0].live.is_some());
    guests.act(GuestAction::Look("test".into()));
    assert_eq!(next(&events), GuestEvent::Seen { name: "test".into(), domain: Some(domains[0].clone()) });
    guests.act(GuestAction::Look("no such".into()));
    assert_eq!(next(&events), GuestEvent::Seen { name: "no such".into(), domain: None });
}

#[test]
fn work_ends_with_its_sentence_and_what_is_seen_after_it_was_read_after_it() {
    let power = Power::new();
    let (guests, events) = start(&power.uri(), || Ok(()));
    assert!(matches!(next(&events), GuestEvent::Connected(_)));
    guests.act(attach());
    let GuestEvent::Done { ticket: Ticket(1), result: Err(why) } = next(&events) else { panic!("not done") };
    assert!(
        why.starts_with("libvirt does not attach USB device 1209:0001 (bus 1, device 9) to test: ")
            && !why.contains('\n'),
        "{why}"
    );
    guests.act(GuestAction::Look("test".into()));
    assert!(matches!(next(&events), GuestEvent::Seen { domain: Some(_), .. }));
}

#[test]
fn what_the_host_does_not_give_is_not_attached() {
    let power = Power::new();
    let (guests, events) = start(&power.uri(), || Err("it is another device by now".into()));
    assert!(matches!(next(&events), GuestEvent::Connected(_)));
    guests.act(attach());
    let result = Err("it is another device by now".to_owned());
    assert_eq!(next(&events), GuestEvent::Done { ticket: Ticket(1), result });
}

/// A daemon that is dead by then may have a successor, which would not know of it.
#[test]
fn what_nobody_waits_for_is_not_attached_although_it_has_been_claimed() {
    let power = Power::new();
    let connection = Connection::open(&power.uri()).unwrap();
    let order = Attach { uri: power.uri(), guest: "test".into(), device: device() };
    static CLAIMED: AtomicBool = AtomicBool::new(false);
    let claim = |_: &Attach| {
        CLAIMED.store(true, Ordering::SeqCst);
        Ok(Box::new(()) as Box<dyn Send>)
    };
    let is_wanted = || {
        assert!(CLAIMED.load(Ordering::SeqCst), "asked when nothing can come between");
        false
    };
    let result = attach::attach(&connection, &order, &claim, is_wanted, drop);
    assert_eq!(result, Err("nobody wants it any more".into()), "libvirt was not asked");
}

#[test]
fn without_a_connection_it_is_said_why_and_tried_again_and_work_is_reported_done() {
    let (guests, events) = start("nosuch:///system", || Ok(()));
    for _ in 0..2 {
        let GuestEvent::Disconnected(why) = next(&events) else { panic!("connected") };
        assert!(why.starts_with("nosuch:///system: "), "{why}");
    }
    guests.act(attach());
    let done = events.iter().find(|event| matches!(event, GuestEvent::Done { .. }));
    assert!(matches!(done, Some(GuestEvent::Done { ticket: Ticket(1), result: Err(_) })));
}
