//! Stores the state that was logged last. With this stored state, a caller logs a state only when
//! the state changes, and not again while the state is unchanged.
//!
//! Two examples: a device that does not answer is polled again every few seconds, and a full disk
//! may stay full for hours. One log line at the beginning of the trouble and one at the end are
//! enough. A line for each attempt would hide all other lines.
//!
//! This file writes no log lines: the caller makes the text and logs it. If the state changes
//! often, the caller may log many lines: only [`OnChange::changes_after`] limits their rate.

use std::time::{Duration, Instant};

/// The state that was logged last. The first state is the default of the type `T`. The default must
/// be the normal state, which needs no log line, for example "no trouble".
#[derive(Debug, Clone, Default)]
pub struct OnChange<T> {
    last: T,
    /// The time at which [`OnChange::changes_after`] last reported a change; `None` before that,
    /// and after a call of [`OnChange::changes_to`].
    at: Option<Instant>,
}

impl<T: PartialEq> OnChange<T> {
    /// Stores `state` as the present state. Returns whether the state has changed; in that case the
    /// caller logs the new state.
    pub fn changes_to(&mut self, state: T) -> bool {
        let has_changed = self.last != state;
        (self.last, self.at) = (state, None);
        has_changed
    }

    /// Stores `state` as the present state at the time `now`. Returns whether the state has
    /// changed; in that case the caller logs the new state. If this function reported a change less
    /// than `pause` ago, the call has no effect and returns false. If the state is still different
    /// after the pause, the next call reports the change.
    pub fn changes_after(&mut self, pause: Duration, now: Instant, state: T) -> bool {
        let is_early = self.at.is_some_and(|at| now.saturating_duration_since(at) < pause);
        let has_changed = !is_early && self.last != state;
        if has_changed {
            (self.last, self.at) = (state, Some(now));
        }
        has_changed
    }

    /// Returns the state that was stored last.
    pub fn last(&self) -> &T {
        &self.last
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_state_is_logged_when_it_changes() {
        let mut trouble = OnChange::default();
        let mut check = |state: Option<&'static str>, expected| {
            assert_eq!(trouble.changes_to(state), expected, "{state:?}");
            assert_eq!(*trouble.last(), state);
        };
        check(None, false);
        check(Some("no answer"), true);
        check(Some("no answer"), false);
        check(Some("refused"), true);
        check(None, true);
        check(None, false);
    }

    #[test]
    fn a_state_that_flutters_is_logged_once_in_a_pause() {
        let (mut level, start) = (OnChange::default(), Instant::now());
        let pause = Duration::from_secs(10);
        let mut check = |second: u64, state: u32, expected| {
            let now = start + Duration::from_secs(second);
            assert_eq!(level.changes_after(pause, now, state), expected, "{state} at {second} s");
        };
        check(0, 0, false);
        check(1, 1, true);
        check(2, 0, false);
        check(3, 2, false);
        check(10, 2, false);
        check(11, 2, true);
        // If the state returns to the logged state within the pause, no change is reported after
        // the pause.
        check(12, 1, false);
        check(30, 2, false);
        check(31, 1, true);
    }

    #[test]
    fn a_change_that_needs_no_pause_ends_one() {
        let (mut level, now) = (OnChange::default(), Instant::now());
        let pause = Duration::from_secs(10);
        assert!(level.changes_after(pause, now, 1));
        assert!(level.changes_to(0));
        assert!(level.changes_after(pause, now, 1));
    }
}
