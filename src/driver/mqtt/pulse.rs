//! The watch on a silent broker: when it is asked for a sign of life, and when it is given up.
//!
//! The protocol's own ping is not enough. It is due when *the client* has sent nothing for
//! `keep_alive`. A client that publishes all the time never pings. Its values without
//! acknowledgement (QoS 0) then go into the socket of a dead broker until TCP gives up. That takes
//! a quarter of an hour. Therefore only received packets count here. This file is pure; the
//! connection is in `session.rs`.

use std::borrow::Cow;
use std::time::Duration;

use tokio::time::Instant;

/// The delay of a request after the library's ping. The ping serves as well, and it is due at the
/// same time if the client sends nothing either.
const AFTER_PING: Duration = Duration::from_millis(100);

/// The signs of life of the broker on one connection.
#[derive(Debug, Clone, Copy)]
pub(super) struct Pulse {
    /// The silence after which the broker is asked. After twice this silence it is given up.
    keep_alive: Duration,
    heard_at: Instant,
    /// Whether the broker was asked since it was last heard.
    is_asked: bool,
    /// When the broker must have answered a subscription, if one is under way.
    answer_by: Option<Instant>,
}

/// The action that is due.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Due {
    /// There is nothing to do.
    Nothing,
    /// Send a packet that the broker must answer.
    Ask,
    /// Give the connection up, for this reason.
    Lost(Cow<'static, str>),
}

impl Pulse {
    /// A broker that was heard at `now`.
    pub(super) fn new(keep_alive: Duration, now: Instant) -> Self {
        Self { keep_alive, heard_at: now, is_asked: false, answer_by: None }
    }

    /// Notes that a packet has come.
    pub(super) fn heard(&mut self, now: Instant) {
        (self.heard_at, self.is_asked) = (now, false);
    }

    /// Notes that a packet was sent which the broker must answer.
    pub(super) fn asked(&mut self) {
        self.is_asked = true;
    }

    /// Sets the time until which the broker must answer a subscription; `None` if none is under
    /// way.
    pub(super) fn expect(&mut self, answer_by: Option<Instant>) {
        self.answer_by = answer_by;
    }

    /// When to look again.
    pub(super) fn next(&self) -> Instant {
        let silence = if self.is_asked { self.given_up_at() } else { self.asked_at() };
        self.answer_by.map_or(silence, |answer_by| answer_by.min(silence))
    }

    /// The action that is due at `now`.
    pub(super) fn due(&self, now: Instant) -> Due {
        if self.answer_by.is_some_and(|answer_by| now >= answer_by) {
            return Due::Lost("no answer to a subscription".into());
        }
        if now >= self.given_up_at() {
            let silence = 2 * self.keep_alive;
            return Due::Lost(format!("nothing heard from the broker for {silence:?}").into());
        }
        if now >= self.asked_at() && !self.is_asked { Due::Ask } else { Due::Nothing }
    }

    /// When a silent broker is asked for a sign of life.
    fn asked_at(&self) -> Instant {
        self.heard_at + self.keep_alive + AFTER_PING
    }

    /// When a silent broker is given up.
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
        let lost = "nothing heard from the broker for 20s";
        assert_eq!(pulse.due(at(35_000)), Due::Lost(lost.into()));
    }

    #[test]
    fn a_subscription_is_answered_in_time() {
        let start = Instant::now();
        let at = |s| start + Duration::from_secs(s);
        let mut pulse = Pulse::new(Duration::from_secs(10), start);
        pulse.expect(Some(at(5)));
        // The limit holds whatever else the broker sends.
        pulse.heard(at(4));
        assert_eq!((pulse.due(at(4)), pulse.next()), (Due::Nothing, at(5)));
        assert_eq!(pulse.due(at(5)), Due::Lost("no answer to a subscription".into()));
        pulse.expect(None);
        assert_eq!(pulse.due(at(5)), Due::Nothing);
    }
}
