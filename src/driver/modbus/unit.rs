//! One unit of a bus: who it is, whether it is there, and what is known of it.
//!
//! What belongs to a unit and not to one of its points. How its health changes is in `breaker.rs`,
//! what is counted in `diagnostic.rs`.

use std::collections::HashSet;
use std::time::Duration;

use super::breaker::{Breaker, Health};
use super::diagnostic::Counters;
use super::request::{Kind, Request};
use crate::driver::Part;

/// A unit.
#[derive(Debug)]
pub(super) struct Unit {
    pub(super) name: String,
    /// Its address on the bus.
    pub(super) id: u8,
    /// The silence that it needs after it has answered.
    pub(super) turnaround: Duration,
    /// How often it is asked whether it is there when there is no other reason to ask.
    pub(super) probe: Duration,
    /// What it is asked then.
    pub(super) probe_request: Request,
    pub(super) breaker: Breaker,
    pub(super) counters: Counters,
    /// When it was asked last, whatever.
    pub(super) asked_at: Duration,
    /// Whether nothing is read from it regularly.
    pub(super) is_unread: bool,
    /// What it has answered since there is a connection and it is there: no more than it can be
    /// asked for.
    pub(super) answered: HashSet<Kind>,
}

impl Unit {
    /// Whether silence to this says that the unit is not there. Many units do not answer at all
    /// what they do not have: if this was never answered and something else was, it says nothing.
    pub(super) fn is_missed_by(&self, request: &Request) -> bool {
        self.answered.is_empty() || self.answered.contains(&request.kind())
    }

    /// When it is to be asked whether it is there.
    pub(super) fn probe_at(&self) -> Option<Duration> {
        match self.breaker.health() {
            Health::Offline { probe_at } => Some(probe_at),
            Health::Returning { .. } => self.is_unread.then_some(Duration::ZERO),
            Health::Online { .. } => self.is_unread.then_some(self.asked_at + self.probe),
        }
    }

    /// What the status shows.
    pub(super) fn part(&self, is_connected: bool) -> Part {
        let state = match self.breaker.health() {
            Health::Offline { .. } => "offline",
            _ if !is_connected => "unknown",
            Health::Returning { .. } => "returning",
            Health::Online { .. } => "online",
        };
        let ok = is_connected && self.breaker.is_online();
        Part { name: self.name.clone(), ok, state: state.into(), facts: self.counters.facts() }
    }
}
