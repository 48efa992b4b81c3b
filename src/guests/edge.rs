//! The threads that talk to libvirt. One keeps the connection and looks at domains, one after another, so that what is
//! reported is in order; each guest has a worker with a connection of its own, so that a guest that does not answer
//! delays no other. Decides nothing.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;

use crossbeam_channel::{Sender, unbounded};

use super::supervisor::{self, Note};
use super::worker::{self, Work};
use super::{Claim, GuestAction, Report};
use crate::device::GuestName;

/// libvirt's edge. Its threads end with the process.
pub struct Guests {
    uri: Arc<str>,
    claim: Arc<Claim>,
    notes: Sender<Note>,
    workers: Mutex<HashMap<GuestName, Sender<Work>>>,
}

impl Guests {
    /// Connects, reports all domains and what happens to them, and connects again whenever the connection is lost.
    ///
    /// # Errors
    /// Out of threads.
    pub fn start(uri: &str, claim: Arc<Claim>, report: Arc<Report>) -> std::io::Result<Self> {
        let uri: Arc<str> = uri.into();
        let notes = supervisor::start(Arc::clone(&uri), report)?;
        Ok(Self { uri, claim, notes, workers: Mutex::default() })
    }

    /// Does it, or has it done; returns at once.
    pub fn act(&self, action: GuestAction) {
        // The supervisor lives as long as this.
        let note = |note| drop(self.notes.send(note));
        match action {
            // It began with its start.
            GuestAction::Connect => {}
            GuestAction::Look(name) => note(Note::Look(name)),
            GuestAction::Attach { ticket, guest, device } => {
                self.work(guest, Work::Attach { ticket, device });
            }
            GuestAction::Detach { ticket, guest, alias } => self.work(guest, Work::Detach { ticket, alias }),
        }
    }

    fn work(&self, guest: GuestName, work: Work) {
        let mut workers = self.workers.lock().unwrap_or_else(PoisonError::into_inner);
        let work = match workers.get(&guest) {
            Some(worker) => match worker.send(work) {
                Ok(()) => return,
                // It has ended, which only a panic makes it do.
                Err(error) => error.into_inner(),
            },
            None => work,
        };
        let (sender, receiver) = unbounded();
        let ticket = work.ticket();
        let (uri, claim, notes) = (Arc::clone(&self.uri), Arc::clone(&self.claim), self.notes.clone());
        let name = guest.clone();
        let spawned = thread::Builder::new()
            .name("guest".into())
            .spawn(move || worker::run(&uri, &name, &receiver, &*claim, &notes));
        match spawned {
            Ok(_) => {
                // Its receiver lives in the thread that has just been started.
                let _ = sender.send(work);
                workers.insert(guest, sender);
            }
            Err(error) => {
                let result = Err(format!("out of threads: {error}"));
                let _ = self.notes.send(Note::Ended { ticket, result });
            }
        }
    }
}
