//! The check that the broker still answers: when the client asks a silent broker for an answer, and
//! when it ends the connection.
//!
//! The ping of MQTT is not enough. A ping is due when *the client* has sent no packet for
//! `keep_alive`. A client that publishes all the time therefore never sends a ping. If the broker
//! is dead, values of QoS 0 fill the socket until TCP reports an error. TCP reports this error only
//! after about 15 minutes. Therefore this file measures the silence from the last received packet:
//!
//! ```text
//! last packet      + keep_alive + 0.1 s          + 2 * keep_alive
//! received         ask the broker                end the connection
//!    |-------------------|-----------------------------|
//! ```
//! This file reads no clock and sends nothing: it only calculates when an action is due.
//! `session.rs` sends the packets.

use std::borrow::Cow;
use std::time::Duration;

use tokio::time::Instant;

/// If the broker is silent for `keep_alive` plus this time, the client sends its request. If the
/// client sends nothing, the library sends a ping before this request. The broker must answer the
/// ping, so the client does not send the request.
const AFTER_PING: Duration = Duration::from_millis(100);

/// The record of received packets and requested answers on one connection.
#[derive(Debug, Clone, Copy)]
pub(super) struct Pulse {
    /// If the client receives no packet for this time plus `AFTER_PING`, the client asks the broker
    /// for an answer. If it receives no packet for twice this time, it ends the connection.
    keep_alive: Duration,
    /// The time at which the last packet was received.
    heard_at: Instant,
    /// Whether the client has asked the broker for an answer after the last received packet.
    is_asked: bool,
    /// The time at which the answer to a subscription must have arrived. `None` if the client waits
    /// for no such answer.
    answer_by: Option<Instant>,
}

/// The action that is due on a connection.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Due {
    /// No action is due.
    Nothing,
    /// Send a packet that the broker must answer.
    Ask,
    /// End the connection, for this reason.
    Lost(Cow<'static, str>),
}

impl Pulse {
    /// Makes the record of a connection on which a packet was received at `now`.
    pub(super) fn new(keep_alive: Duration, now: Instant) -> Self {
        Self { keep_alive, heard_at: now, is_asked: false, answer_by: None }
    }

    /// Records that a packet was received at `now`.
    pub(super) fn heard(&mut self, now: Instant) {
        (self.heard_at, self.is_asked) = (now, false);
    }

    /// Records that the client has sent a packet that the broker must answer.
    pub(super) fn asked(&mut self) {
        self.is_asked = true;
    }

    /// Sets the time at which the answer to a subscription must have arrived. `None` if the client
    /// waits for no such answer.
    pub(super) fn expect(&mut self, answer_by: Option<Instant>) {
        self.answer_by = answer_by;
    }

    /// Returns the time at which [`Pulse::due`] must be called again.
    pub(super) fn next(&self) -> Instant {
        let silence = if self.is_asked { self.given_up_at() } else { self.asked_at() };
        self.answer_by.map_or(silence, |answer_by| answer_by.min(silence))
    }

    /// Returns the action that is due at `now`.
    pub(super) fn due(&self, now: Instant) -> Due {
        if self.answer_by.is_some_and(|answer_by| now >= answer_by) {
            return Due::Lost("no answer from the broker to a subscription".into());
        }
        if now >= self.given_up_at() {
            let silence = 2 * self.keep_alive;
            return Due::Lost(format!("no packet from the broker for {silence:?}").into());
        }
        if now >= self.asked_at() && !self.is_asked { Due::Ask } else { Due::Nothing }
    }

    /// Returns the time at which a silent broker is asked for an answer.
    fn asked_at(&self) -> Instant {
        self.heard_at + self.keep_alive + AFTER_PING
    }

    /// Returns the time at which the connection to a silent broker is ended.
    fn given_up_at(&self) -> Instant {
        self.heard_at + 2 * self.keep_alive
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_silent_broker_is_asked_and_then_given_up() {
        let start = Instant::now();
        let at = |ms| start + Duration::from_millis(ms);
        let mut pulse = Pulse::new(Duration::from_secs(10), start);
        assert_eq!((pulse.due(at(10_099)), pulse.next()), (Due::Nothing, at(10_100)));
        assert_eq!(pulse.due(at(10_100)), Due::Ask);
        pulse.asked();
        assert_eq!((pulse.due(at(10_100)), pulse.next()), (Due::Nothing, at(20_000)));
        pulse.heard(at(15_000));
        assert_eq!((pulse.due(at(25_099)), pulse.next()), (Due::Nothing, at(25_100)));
        pulse.asked();
        assert_eq!(pulse.due(at(34_999)), Due::Nothing);
        let lost = "no packet from the broker for 20s";
        assert_eq!(pulse.due(at(35_000)), Due::Lost(lost.into()));
    }

    #[test]
    fn a_subscription_is_answered_in_time() {
        let start = Instant::now();
        let at = |s| start + Duration::from_secs(s);
        let mut pulse = Pulse::new(Duration::from_secs(10), start);
        pulse.expect(Some(at(5)));
        // Other packets from the broker do not extend this time limit.
        pulse.heard(at(4));
        assert_eq!((pulse.due(at(4)), pulse.next()), (Due::Nothing, at(5)));
        assert_eq!(
            pulse.due(at(5)),
            Due::Lost("no answer from the broker to a subscription".into())
        );
        pulse.expect(None);
        assert_eq!(pulse.due(at(5)), Due::Nothing);
    }
}
