//! One unit of a bus: its settings, its health, and the facts that the client knows about the unit.
//!
//! This file has the data that belongs to the unit as a whole and not to one of its points.
//! `breaker.rs` decides how the health changes, and `diagnostic.rs` counts requests and failures.

use std::collections::HashSet;
use std::time::Duration;

use super::breaker::{Breaker, Health};
use super::diagnostic::Counters;
use crate::driver::Part;
use crate::driver::modbus::wire::request::{RequestKind, UnitRequest};

/// One unit of a bus.
#[derive(Debug)]
pub(super) struct Unit {
    pub(super) name: String,
    /// The unit's address on the bus.
    pub(super) id: u8,
    /// The pause that the unit needs after each of its answers.
    pub(super) turnaround: Duration,
    /// The time without any request after which a present unit without reads is probed.
    pub(super) probe: Duration,
    /// The request that a probe sends if the unit has no reads.
    pub(super) probe_request: UnitRequest,
    pub(super) breaker: Breaker,
    pub(super) counters: Counters,
    /// The time at which the last request to the unit ended. The request may be a read, a write, a
    /// heartbeat or a probe.
    pub(super) asked_at: Duration,
    /// Whether the unit has no planned reads.
    pub(super) is_unread: bool,
    /// The kinds of request that the unit has answered with a valid reply or with an exception. The
    /// set is cleared when a connection is made and when the unit goes offline. The set cannot grow
    /// without limit, because the client has a fixed number of requests for the unit.
    pub(super) answered: HashSet<RequestKind>,
}

impl Unit {
    /// Whether a missing reply to `request` counts as a sign that the unit is absent. Many units do
    /// not answer requests for addresses that do not exist. If `answered` has other kinds of
    /// request but not the kind of `request`, the missing reply does not count.
    pub(super) fn is_missed_by(&self, request: &UnitRequest) -> bool {
        self.answered.is_empty() || self.answered.contains(&request.kind())
    }

    /// Returns the time when the driver must probe the unit. Returns `None` if no probe is needed.
    /// A present unit is probed only if it has no reads.
    pub(super) fn probe_at(&self) -> Option<Duration> {
        match self.breaker.health() {
            Health::Offline { probe_at } => Some(probe_at),
            Health::Returning { .. } => self.is_unread.then_some(Duration::ZERO),
            Health::Online { .. } => self.is_unread.then_some(self.asked_at + self.probe),
        }
    }

    /// Returns the unit as one part of the device status.
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
