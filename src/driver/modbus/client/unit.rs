//! One unit of a bus: its settings, whether it is present, and what the client knows about it.
//!
//! This file holds what belongs to a unit and not to one of its points. `breaker.rs` decides how
//! its health changes, `diagnostic.rs` counts.

use std::collections::HashSet;
use std::time::Duration;

use super::breaker::{Breaker, Health};
use super::diagnostic::Counters;
use crate::driver::Part;
use crate::driver::modbus::wire::request::{Kind, Request};

/// A unit.
#[derive(Debug)]
pub(super) struct Unit {
    pub(super) name: String,
    /// The unit's address on the bus.
    pub(super) id: u8,
    /// The silence that the unit needs after it has answered.
    pub(super) turnaround: Duration,
    /// The time between two probes, when there is no other reason to ask the unit.
    pub(super) probe: Duration,
    /// The request of a probe, if the unit has no reads.
    pub(super) probe_request: Request,
    pub(super) breaker: Breaker,
    pub(super) counters: Counters,
    /// When the unit was asked last, with any request.
    pub(super) asked_at: Duration,
    /// Whether no read of this unit is planned.
    pub(super) is_unread: bool,
    /// The kinds of request that the unit has answered since the connection was made and the unit
    /// came back. There are no more kinds than it can be asked for.
    pub(super) answered: HashSet<Kind>,
}

impl Unit {
    /// Whether silence to `request` shows that the unit is absent. Many units are silent to
    /// requests for places that they do not have. If the unit never answered this kind but did
    /// answer another, the silence shows nothing.
    pub(super) fn is_missed_by(&self, request: &Request) -> bool {
        self.answered.is_empty() || self.answered.contains(&request.kind())
    }

    /// When the unit is to be probed; `None` if it need not be.
    pub(super) fn probe_at(&self) -> Option<Duration> {
        match self.breaker.health() {
            Health::Offline { probe_at } => Some(probe_at),
            Health::Returning { .. } => self.is_unread.then_some(Duration::ZERO),
            Health::Online { .. } => self.is_unread.then_some(self.asked_at + self.probe),
        }
    }

    /// The unit as the status shows it.
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
