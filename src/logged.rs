//! The state that was logged last, so that a state is logged when it changes and not while it
//! stays.
//!
//! A unit that does not answer is asked again every few seconds, and a disk that is full stays
//! full. One line when it begins and one when it is over tell all; a line for each attempt would
//! hide every other line. The caller words the line and writes it; this file knows neither. Lines
//! that only have a rate limit, whatever they say, do not belong here.

use std::time::{Duration, Instant};

/// The state that was logged last. It begins with the default of its type, which is the state that
/// needs no line: no trouble, nothing lost.
#[derive(Debug, Clone, Default)]
pub struct OnChange<T> {
    last: T,
    /// When the last change was logged by [`OnChange::changes_after`].
    at: Option<Instant>,
}

impl<T: PartialEq> OnChange<T> {
    /// Takes the state that holds now. Returns whether that is a change, which is to be logged.
    pub fn changes_to(&mut self, state: T) -> bool {
        let has_changed = self.last != state;
        (self.last, self.at) = (state, None);
        has_changed
    }

    /// Takes the state that holds `now`, if the last change that this function reported is `pause`
    /// ago. Returns whether that is a change, which is to be logged. A change within the pause is
    /// forgotten: if the state still holds after the pause, it is taken then.
    pub fn changes_after(&mut self, pause: Duration, now: Instant, state: T) -> bool {
        let is_early = self.at.is_some_and(|at| now.saturating_duration_since(at) < pause);
        let has_changed = !is_early && self.last != state;
        if has_changed {
            (self.last, self.at) = (state, Some(now));
        }
        has_changed
    }

    /// The state that was taken last.
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
        // A state that was logged before the pause is no change after it.
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
