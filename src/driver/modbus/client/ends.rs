//! What the driver knows about the connections that the other side has ended.
//!
//! The habit of the other side decides how long the driver pauses after a reply, and before a new
//! connection. `reopen.rs` makes the new connections.

use std::time::Duration;

/// If two connections in a row end within this time after a reply, and no request was sent
/// meanwhile, the other side closes connections after replies. The driver then waits for this time
/// after each reply, so that the connection does not end during the next request.
const CLOSING: Duration = Duration::from_millis(5);

/// The maximum number of replies on a connection that the other side closes by habit. After more
/// replies, an end right after a reply is a coincidence.
const MAX_REPLIES: u64 = 16;

/// The shortest and the longest pause before a new connection if the last two or more connections
/// have ended without a reply. The pause doubles with each of them. The longest pause is as long as
/// the first pause after a loss of the connection.
const FRUITLESS: (Duration, Duration) = (Duration::from_millis(4), Duration::from_millis(500));

/// The ends of the connections to one bus.
#[derive(Debug, Default)]
pub(super) struct Ends {
    /// The number of connections in a row that have ended without any reply.
    fruitless: u32,
    /// The number of connections in a row that have ended within [`CLOSING`] after a reply.
    closing: u32,
    /// The number of replies on the last of these connections.
    replies: u64,
    /// Whether the log has a line about the ends.
    is_logged: bool,
}

impl Ends {
    /// Records the end of a connection. `has_answered` says whether a reply has come on it.
    pub(super) fn count(&mut self, has_answered: bool) {
        self.fruitless = if has_answered { 0 } else { self.fruitless + 1 };
    }

    /// Returns the number of connections in a row that have ended without any reply.
    pub(super) fn fruitless(&self) -> usize {
        self.fruitless as usize
    }

    /// Records that the driver has noticed an end while no request was under way. `after` is the
    /// number of replies on the connection and the time from the last reply to the end, or `None`
    /// if no reply has come.
    pub(super) fn noticed_idle(&mut self, after: Option<(u64, Duration)>) {
        match after {
            Some((replies, time)) if replies <= MAX_REPLIES && time < CLOSING => {
                self.closing += 1;
                self.replies = replies;
            }
            _ => self.closing = 0,
        }
    }

    /// Returns the pause after a reply, in which the other side may close the connection. `replies`
    /// is the number of replies on this connection. After more replies than at the last end, the
    /// other side has given up its habit, and the pause is zero.
    pub(super) fn pause_after_reply(&self, replies: u64) -> Duration {
        // One such end can be a coincidence.
        if self.closing > 1 && replies <= self.replies { CLOSING } else { Duration::ZERO }
    }

    /// Returns the pause before the next connection. Returns `None` if the last connection or the
    /// one before it had a reply.
    pub(super) fn pause_before_connection(&self) -> Option<Duration> {
        let doublings = self.fruitless.checked_sub(2)?;
        Some((FRUITLESS.0 * (1 << doublings.min(8))).min(FRUITLESS.1))
    }

    /// Whether the log has no line about the ends yet. From now on it has one.
    pub(super) fn must_be_logged(&mut self) -> bool {
        !std::mem::replace(&mut self.is_logged, true)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MS: Duration = Duration::from_millis(1);

    #[test]
    fn connections_without_a_reply_are_made_less_and_less_often() {
        let mut ends = Ends::default();
        let mut pauses = Vec::new();
        for _ in 0..11 {
            ends.count(false);
            pauses.push(ends.pause_before_connection().map_or(0, |pause| pause.as_millis()));
        }
        assert_eq!(pauses, [0, 4, 8, 16, 32, 64, 128, 256, 500, 500, 500]);
        ends.count(true);
        assert_eq!(ends.pause_before_connection(), None);
    }

    #[test]
    fn two_ends_right_after_a_reply_are_a_habit() {
        fn check(ends: &mut Ends, after: Option<Duration>, expected: Duration) {
            ends.noticed_idle(after.map(|after| (1, after)));
            assert_eq!(ends.pause_after_reply(1), expected, "{after:?}");
        }
        let ends = &mut Ends::default();
        check(ends, Some(MS), Duration::ZERO);
        check(ends, Some(2 * MS), CLOSING);
        check(ends, Some(MS), CLOSING);
        assert_eq!(ends.pause_after_reply(2), Duration::ZERO, "it stays open after more replies");
        check(ends, Some(60 * MS), Duration::ZERO);
        check(ends, Some(MS), Duration::ZERO);
        check(ends, None, Duration::ZERO);
        check(ends, Some(MS), Duration::ZERO);
        ends.noticed_idle(Some((10_000, MS)));
        assert_eq!(ends.pause_after_reply(1), Duration::ZERO, "after so many replies");
    }
}
