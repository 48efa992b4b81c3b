//! What of the guests decides what happens next, for the searches of the core, which ask whether two states are the same.
//! Every field is listed, so that a new one has to be dealt with here; what is left out is named with `_`, and why.

use std::collections::BTreeMap;
use std::time::Instant;

use super::by_hand::Waiting;
use super::plug::{Alias, Plug};
use super::worker::{Attempts, Busy, DEADLINE, Given, PAUSES, SETTLED, Work, Worker};
use super::{Connection, Guests, Hand};
use crate::core::event::CommandId;
use crate::core::inventory::Inventory;
use crate::core::tests::explore::canonical::Writer;
use crate::guests::{Domain, Live, LiveDevice, LiveKind, Ticket};

impl Guests {
    /// Writes all of it that matters.
    pub(in crate::core) fn write(&self, inventory: &Inventory, key: &mut Writer) {
        let Self {
            connection,
            connecting,
            domains,
            workers,
            hands,
            commands,
            // Only the next number.
            last_ticket: _,
            look_again,
            revision,
            wakeup,
            slow,
        } = self;
        key.put(match connection {
            Connection::Unknown => 0,
            Connection::Up => 1,
            // Why is for people.
            Connection::Down(_) => 2,
        });
        key.flag(*connecting);
        key.put(domains.len());
        for Domain { name, live } in domains.values() {
            key.name(name);
            key.flag(live.is_some());
            live.iter().for_each(|live| write_live(live, key));
        }
        key.put(workers.len());
        for (guest, worker) in workers {
            key.name(guest.as_str());
            worker.write(key);
        }
        key.put(hands.len());
        for (plug, hand) in hands {
            write_plug(*plug, key);
            key.name(match hand {
                Hand::Off => "",
                Hand::To(guest) => guest.as_str(),
            });
        }
        key.put(commands.len());
        // Which command it is, and how the person called it, is for people.
        for Waiting { command: _, plug, name: _, to, deadline } in commands {
            write_plug(*plug, key);
            key.name(to.as_ref().map_or("", |guest| guest.as_str()));
            key.moment(Some(*deadline));
        }
        key.flag(*look_again);
        key.flag(*revision == inventory.revision());
        key.moment(*wakeup);
        key.moment(*slow);
    }

    /// The guests that have been asked for something, with the ticket until it is reported done.
    pub(in crate::core) fn tickets(&self) -> BTreeMap<&str, Option<Ticket>> {
        let busy = self.workers.iter().filter_map(|(guest, worker)| Some((guest, worker.busy.as_ref()?)));
        busy.map(|(guest, busy)| (guest.as_str(), busy.ticket)).collect()
    }

    /// The commands that wait for what comes of them, and until when.
    pub(in crate::core) fn commands(&self) -> impl Iterator<Item = (CommandId, Instant)> {
        self.commands.iter().map(|waiting| (waiting.command, waiting.deadline))
    }
}

impl Worker {
    fn write(&self, key: &mut Writer) {
        let Self { busy, attaching, detaching, given } = self;
        key.flag(busy.is_some());
        // Its ticket is that of the hypervisor's piece of work.
        if let Some(Busy { work, ticket, since, told }) = busy {
            let (kind, alias) = match work {
                Work::Attach(alias) => (0, alias),
                Work::Detach(alias) => (1, alias),
            };
            key.put(kind);
            write_alias(*alias, key);
            key.flag(ticket.is_some());
            key.moment(Some(*since + DEADLINE));
            key.flag(*told);
        }
        key.put(attaching.len());
        for (alias, attempts) in attaching {
            write_attempts(*alias, attempts, key);
            key.moment(Some(attempts.since + SETTLED));
        }
        key.put(detaching.len());
        for (alias, attempts) in detaching {
            // Since when is for people.
            write_attempts(*alias, attempts, key);
        }
        key.put(given.len());
        // Kind and target are for people.
        for (alias, Given { id, kind: _, target: _ }) in given {
            write_alias(*alias, key);
            key.name(id);
        }
    }
}

fn write_attempts(alias: Alias, attempts: &Attempts, key: &mut Writer) {
    let Attempts { times, since: _, not_before, error } = attempts;
    write_alias(alias, key);
    key.put((*times).min(PAUSES) as usize);
    key.moment(Some(*not_before));
    // Which one is for people.
    key.flag(error.is_some());
}

/// What a guest has.
pub(in crate::core) fn write_live(live: &Live, key: &mut Writer) {
    let Live { run, devices, has_scsi } = live;
    key.number(u64::from(*run));
    key.flag(*has_scsi);
    key.put(devices.len());
    for LiveDevice { alias, kind } in devices {
        key.name(alias.as_deref().unwrap_or_default());
        let LiveKind::Disk { target, source } = kind else { panic!("a search has no USB devices") };
        key.name(target);
        key.name(&source.as_deref().map_or_else(Default::default, |source| source.to_string_lossy()));
    }
}

fn write_alias(alias: Alias, key: &mut Writer) {
    let Alias { plug, id, by_hand } = alias;
    assert_eq!(id, None, "a search has no USB devices");
    write_plug(plug, key);
    key.flag(by_hand);
}

fn write_plug(plug: Plug, key: &mut Writer) {
    let Plug::Disk(seq) = plug else { panic!("a search has no USB devices") };
    key.number(seq.0);
}
