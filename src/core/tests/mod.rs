//! The core against a simulated world: scenarios that must come out one way, and random sequences of events after
//! each of which the rules at the end of the design must hold.

mod configs;
pub(super) mod explore;
mod guest_random;
mod guests;
mod hands;
mod hangs;
mod hypervisor;
mod jobs;
mod leaving;
mod loss;
mod outside;
mod random;
mod reloads;
mod restarts;
mod rules;
mod scenarios;
mod world;
