//! The edge of a build without libvirt: says so, and does nothing.

use std::sync::Arc;

use super::{Claim, GuestAction, GuestEvent, Report};

const WHY: &str = "this build has no libvirt";

/// Takes the place of libvirt's edge.
pub struct Guests {
    report: Arc<Report>,
}

impl Guests {
    /// Reports that there is no connection, once.
    ///
    /// # Errors
    /// None: as the edge of other builds.
    pub fn start(_uri: &str, _claim: Arc<Claim>, report: Arc<Report>) -> std::io::Result<Self> {
        report(GuestEvent::Disconnected(WHY.to_owned()));
        Ok(Self { report })
    }

    /// Reports all work done, in vain.
    pub fn act(&self, action: GuestAction) {
        match action {
            GuestAction::Connect | GuestAction::Look(_) => {}
            GuestAction::Attach { ticket, .. } | GuestAction::Detach { ticket, .. } => {
                (self.report)(GuestEvent::Done { ticket, result: Err(WHY.to_owned()) });
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::guests::Ticket;
    use crossbeam_channel::unbounded;

    #[test]
    fn it_is_said_once_that_there_is_no_libvirt_and_work_is_reported_done() {
        let (told, events) = unbounded();
        let report = Arc::new(move |event| drop(told.send(event)));
        let guests = Guests::start("", Arc::new(|_| Ok(Box::new(()))), report).unwrap();
        assert_eq!(events.try_recv().unwrap(), GuestEvent::Disconnected(WHY.into()));
        guests.act(GuestAction::Look("x".into()));
        let (ticket, alias) = (Ticket(3), "ua-mydisks-1".into());
        guests.act(GuestAction::Detach { ticket, guest: "x".parse().unwrap(), alias });
        assert_eq!(events.try_recv().unwrap(), GuestEvent::Done { ticket, result: Err(WHY.into()) });
        assert!(events.try_recv().is_err());
    }
}
