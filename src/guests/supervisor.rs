//! Keeps the connection: opens it, loses it, opens it again, and looks at domains. All reports come from this one
//! thread, so that what is told later was true later.

use std::collections::VecDeque;
use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};

use crossbeam_channel::{Receiver, RecvTimeoutError, Sender, unbounded};

use super::libvirt::{Connection, Error, Notice, Watched};
use super::worker::sentence;
use super::{Domain, GuestEvent, Report, Ticket, xml};

/// How long a daemon may take to answer before that is told. It is waited for further.
const PATIENCE: Duration = Duration::from_secs(10);

/// Between two attempts to connect, doubled after each up to the longest.
const PAUSE: Duration = Duration::from_millis(200);
const LONGEST_PAUSE: Duration = Duration::from_secs(10);

/// What the supervisor is told.
pub(super) enum Note {
    /// An attempt to connect has ended.
    Opened { attempt: u64, result: Result<Opened, Error> },
    /// By a connection.
    Noticed { attempt: u64, notice: Notice },
    /// Look at this domain.
    Look(String),
    /// A worker has ended a piece of work.
    Ended { ticket: Ticket, result: Result<(), String> },
}

/// A connection that tells, and all domains as they were after it began to.
pub(super) struct Opened {
    watched: Watched,
    domains: Vec<Domain>,
}

/// Where the connection stands.
enum State {
    /// A thread is opening it, and may hang at that.
    Opening { since: Instant, is_told: bool },
    /// It stands.
    Up(Watched),
    /// Tried again then.
    Down(Instant),
}

struct Supervisor {
    uri: Arc<str>,
    report: Arc<Report>,
    sender: Sender<Note>,
    state: State,
    /// Numbers the attempts: a late notice of an earlier connection is told apart.
    attempt: u64,
    pause: Duration,
    /// The domains that are to be looked at, in order.
    looks: VecDeque<String>,
}

/// Starts it.
pub(super) fn start(uri: Arc<str>, report: Arc<Report>) -> std::io::Result<Sender<Note>> {
    let (sender, notes) = unbounded();
    let mut supervisor = Supervisor {
        uri,
        report,
        sender: sender.clone(),
        state: State::Down(Instant::now()),
        attempt: 0,
        pause: PAUSE,
        looks: VecDeque::new(),
    };
    thread::Builder::new().name("libvirt".into()).spawn(move || supervisor.run(&notes))?;
    Ok(sender)
}

impl Supervisor {
    fn run(&mut self, notes: &Receiver<Note>) {
        loop {
            let note = match self.deadline() {
                Some(deadline) => match notes.recv_deadline(deadline) {
                    Ok(note) => Some(note),
                    Err(RecvTimeoutError::Timeout) => None,
                    Err(RecvTimeoutError::Disconnected) => return,
                },
                None => match notes.recv() {
                    Ok(note) => Some(note),
                    Err(_) => return,
                },
            };
            match note {
                Some(note) => self.take(note),
                None => self.on_time(),
            }
            // All that has come meanwhile first: ten events of one domain are one look.
            while let Ok(note) = notes.try_recv() {
                self.take(note);
            }
            self.look_at_one();
        }
    }

    fn deadline(&self) -> Option<Instant> {
        match &self.state {
            State::Up(_) if !self.looks.is_empty() => Some(Instant::now()),
            State::Opening { since, is_told: false } => Some(*since + PATIENCE),
            State::Opening { .. } | State::Up(_) => None,
            State::Down(until) => Some(*until),
        }
    }

    fn on_time(&mut self) {
        let now = Instant::now();
        match &mut self.state {
            State::Down(until) if *until <= now => self.open(),
            State::Opening { since, is_told } if !*is_told && *since + PATIENCE <= now => {
                *is_told = true;
                self.tell(GuestEvent::Disconnected(format!("{} does not answer", self.uri)));
            }
            _ => {}
        }
    }

    /// On a thread of its own: virConnectOpen waits without end for a daemon that stands still.
    fn open(&mut self) {
        self.attempt += 1;
        let (attempt, uri, sender) = (self.attempt, Arc::clone(&self.uri), self.sender.clone());
        let spawned = thread::Builder::new().name("libvirt-open".into()).spawn(move || {
            let result = open(&uri, attempt, &sender);
            let _ = sender.send(Note::Opened { attempt, result });
        });
        self.state = State::Opening { since: Instant::now(), is_told: false };
        if let Err(error) = spawned {
            self.down(&format!("out of threads: {error}"));
        }
    }

    fn take(&mut self, note: Note) {
        match note {
            // Of an earlier attempt, or it has ended before it was handed over.
            Note::Opened { attempt, .. }
                if attempt != self.attempt || !matches!(self.state, State::Opening { .. }) => {}
            Note::Opened { result: Ok(Opened { watched, domains }), .. } => {
                self.pause = PAUSE;
                self.state = State::Up(watched);
                self.tell(GuestEvent::Connected(domains));
            }
            Note::Opened { result: Err(error), .. } => {
                self.down(&format!("{}: {}", self.uri, sentence(&error)));
            }
            Note::Noticed { attempt, .. } if attempt != self.attempt => {}
            Note::Noticed { notice: Notice::Closed(why), .. } => self.down(why),
            Note::Noticed { notice: Notice::Changed(name), .. } | Note::Look(name) => self.look_later(name),
            // Looks that wait are of the domain as it is after the work; whoever hears of its end asks for one.
            Note::Ended { ticket, result } => self.tell(GuestEvent::Done { ticket, result }),
        }
    }

    fn look_later(&mut self, name: String) {
        // Without a connection there is nothing to look by, and with the next one all are looked at.
        if !matches!(self.state, State::Down(_)) && !self.looks.contains(&name) {
            self.looks.push_back(name);
        }
    }

    /// One domain: others may be told of meanwhile. Looks wait for the connection that is being opened.
    fn look_at_one(&mut self) {
        let State::Up(watched) = &self.state else { return };
        let Some(name) = self.looks.pop_front() else { return };
        match look(watched.connection(), &name) {
            Ok(domain) => self.tell(GuestEvent::Seen { name, domain }),
            // A connection that has failed is told by itself; until then nothing is known.
            Err(why) if !watched.connection().is_alive() => tracing::debug!("{why}"),
            Err(why) => tracing::warn!("cannot look at guest {}: {why}", crate::device::printable(&name)),
        }
    }

    fn down(&mut self, why: &str) {
        let was = std::mem::replace(&mut self.state, State::Down(Instant::now() + self.pause));
        self.pause = (self.pause * 2).min(LONGEST_PAUSE);
        self.looks.clear();
        if let State::Up(watched) = was {
            // To end a connection may ask its daemon.
            let ended = thread::Builder::new().name("libvirt-close".into()).spawn(move || drop(watched));
            if let Err(error) = ended {
                tracing::warn!("out of threads: {error}");
            }
        }
        self.tell(GuestEvent::Disconnected(why.to_owned()));
    }

    fn tell(&self, event: GuestEvent) {
        (self.report)(event);
    }
}

/// Events first, then the list: what happens in between is told and looked at again.
fn open(uri: &str, attempt: u64, sender: &Sender<Note>) -> Result<Opened, Error> {
    let connection = Connection::open(uri)?;
    let sender = sender.clone();
    let watched = Watched::new(
        connection,
        Arc::new(move |notice| {
            let _ = sender.send(Note::Noticed { attempt, notice });
        }),
    )?;
    let mut domains = Vec::new();
    for domain in watched.connection().domains()? {
        // One that has gone since is in no list.
        if let Ok(xml) = domain.xml() {
            match xml::domain(&xml) {
                Ok(domain) => domains.push(domain),
                Err(error) => tracing::warn!("{error}"),
            }
        }
    }
    Ok(Opened { watched, domains })
}

fn look(connection: &Connection, name: &str) -> Result<Option<Domain>, String> {
    let Some(domain) = connection.domain(name).map_err(|error| sentence(&error))? else { return Ok(None) };
    match domain.xml() {
        Ok(xml) => xml::domain(&xml).map(Some).map_err(|error| error.to_string()),
        // It may have gone between the two calls.
        Err(error) => match connection.domain(name) {
            Ok(None) => Ok(None),
            _ => Err(sentence(&error)),
        },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn supervisor() -> (Supervisor, Receiver<GuestEvent>, Receiver<Note>) {
        let (told, events) = unbounded();
        let (sender, notes) = unbounded();
        let report: Arc<Report> = Arc::new(move |event| drop(told.send(event)));
        let uri: Arc<str> = "test:///default".into();
        let state = State::Down(Instant::now());
        let supervisor =
            Supervisor { uri, report, sender, state, attempt: 0, pause: PAUSE, looks: VecDeque::new() };
        (supervisor, events, notes)
    }

    /// Connected, with everything that the connection told meanwhile taken.
    fn up(supervisor: &mut Supervisor, events: &Receiver<GuestEvent>, notes: &Receiver<Note>) {
        supervisor.open();
        while !matches!(supervisor.state, State::Up(_)) {
            supervisor.take(notes.recv().unwrap());
        }
        assert!(
            matches!(events.recv().unwrap(), GuestEvent::Connected(domains) if domains[0].name == "test")
        );
    }

    #[test]
    fn a_late_notice_of_an_earlier_connection_changes_nothing() {
        let (mut supervisor, events, notes) = supervisor();
        up(&mut supervisor, &events, &notes);
        supervisor.take(Note::Noticed { attempt: 1, notice: Notice::Closed("its daemon has ended") });
        assert_eq!(events.try_recv().unwrap(), GuestEvent::Disconnected("its daemon has ended".into()));
        up(&mut supervisor, &events, &notes);
        supervisor.take(Note::Noticed { attempt: 1, notice: Notice::Closed("its daemon has ended") });
        supervisor.take(Note::Noticed { attempt: 1, notice: Notice::Changed("test".into()) });
        assert!(matches!(supervisor.state, State::Up(_)));
        assert!(events.try_recv().is_err() && supervisor.looks.is_empty());
    }

    #[test]
    fn a_connection_that_ended_before_it_was_handed_over_is_not_taken() {
        let (mut supervisor, events, notes) = supervisor();
        supervisor.open();
        supervisor.take(Note::Noticed { attempt: 1, notice: Notice::Closed("its daemon has ended") });
        supervisor.take(notes.recv().unwrap());
        assert!(matches!(supervisor.state, State::Down(_)));
        assert_eq!(events.try_iter().count(), 1);
    }

    #[test]
    fn many_changes_of_a_domain_are_one_look_which_waits_for_the_connection() {
        let (mut supervisor, events, notes) = supervisor();
        supervisor.open();
        for _ in 0..10 {
            supervisor.take(Note::Noticed { attempt: 1, notice: Notice::Changed("test".into()) });
        }
        supervisor.look_at_one();
        assert!(events.try_recv().is_err(), "not connected yet");
        supervisor.take(notes.recv().unwrap());
        assert!(matches!(events.try_recv().unwrap(), GuestEvent::Connected(_)));
        while !supervisor.looks.is_empty() {
            supervisor.look_at_one();
        }
        let seen: Vec<_> = events.try_iter().collect();
        assert!(
            matches!(&seen[..], [GuestEvent::Seen { name, domain: Some(_) }] if name == "test"),
            "{seen:?}"
        );
    }

    #[test]
    fn work_that_ends_without_a_connection_is_reported_done() {
        let (mut supervisor, events, _notes) = supervisor();
        let failed = Err("no".to_owned());
        supervisor.take(Note::Ended { ticket: Ticket(7), result: failed.clone() });
        assert_eq!(events.try_recv().unwrap(), GuestEvent::Done { ticket: Ticket(7), result: failed });
    }

    #[test]
    fn the_pause_between_attempts_grows_and_has_an_end() {
        let (mut supervisor, events, _notes) = supervisor();
        for _ in 0..20 {
            supervisor.down("no");
        }
        assert_eq!((supervisor.pause, events.try_iter().count()), (LONGEST_PAUSE, 20));
    }
}
