//! Whether the broker lives: when it was heard last, when it is asked, and when it is given up.
//!
//! The protocol's own ping is not enough. It is due when *we* have said nothing for `keep_alive`,
//! so a client that publishes all the time never asks, and values without acknowledgement (QoS 0)
//! go into the socket of a dead broker until TCP gives up, which takes a quarter of an hour. So
//! what counts here is what comes in and nothing else. Pure decisions: the connection itself is in
//! `session.rs`.

use std::borrow::Cow;
use std::time::Duration;

use tokio::time::Instant;

/// The library's ping is as good, and due at the same time if we say nothing either: it goes first.
const AFTER_PING: Duration = Duration::from_millis(100);

/// What is known of the broker's life, on one connection.
#[derive(Debug, Clone, Copy)]
pub(super) struct Pulse {
    /// After so long without a word it is asked, and after as long again it is given up.
    keep_alive: Duration,
    heard_at: Instant,
    /// Whether it has been asked for an answer since.
    is_asked: bool,
    /// When it has to have answered a subscription, if there is one.
    answer_by: Option<Instant>,
}

/// What is to be done.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Due {
    Nothing,
    /// Something that the broker answers is to be said.
    Ask,
    /// The connection is lost.
    Lost(Cow<'static, str>),
}

impl Pulse {
    /// It was heard just now.
    pub(super) fn new(keep_alive: Duration, now: Instant) -> Self {
        Self { keep_alive, heard_at: now, is_asked: false, answer_by: None }
    }

    /// Something has come.
    pub(super) fn heard(&mut self, now: Instant) {
        (self.heard_at, self.is_asked) = (now, false);
    }

    /// Something was said that it has to answer, only to hear that it is there.
    pub(super) fn asked(&mut self) {
        self.is_asked = true;
    }

    /// A subscription was sent, which it has to answer by then; or it has been.
    pub(super) fn expect(&mut self, answer_by: Option<Instant>) {
        self.answer_by = answer_by;
    }

    /// When to look again.
    pub(super) fn next(&self) -> Instant {
        let silence = if self.is_asked { self.given_up_at() } else { self.asked_at() };
        self.answer_by.map_or(silence, |answer_by| answer_by.min(silence))
    }

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

    fn asked_at(&self) -> Instant {
        self.heard_at + self.keep_alive + AFTER_PING
    }

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
        // Whatever else it says.
        pulse.heard(at(4));
        assert_eq!((pulse.due(at(4)), pulse.next()), (Due::Nothing, at(5)));
        assert_eq!(pulse.due(at(5)), Due::Lost("no answer to a subscription".into()));
        pulse.expect(None);
        assert_eq!(pulse.due(at(5)), Due::Nothing);
    }
}
