//! The state that was logged last. With it the caller logs a state when it changes, and not while
//! it stays the same.
//!
//! The daemon asks a unit that does not answer again every few seconds, and a full disk stays full
//! for long. One line when the trouble begins and one when it is over say everything; a line for
//! each attempt would hide all other lines. The caller chooses the words of the line and writes it;
//! this file does neither. This file is not for lines that only have a rate limit, whatever their
//! text is.

use std::time::{Duration, Instant};

/// The state that was logged last. At first it is the default of its type, which must be the state
/// that needs no line: no trouble, nothing lost.
#[derive(Debug, Clone, Default)]
pub struct OnChange<T> {
    last: T,
    /// When the last change was logged by [`OnChange::changes_after`].
    at: Option<Instant>,
}

impl<T: PartialEq> OnChange<T> {
    /// Takes the state that holds now. Returns whether the state has changed; the caller logs a
    /// change.
    pub fn changes_to(&mut self, state: T) -> bool {
        let has_changed = self.last != state;
        (self.last, self.at) = (state, None);
        has_changed
    }

    /// Takes the state that holds at `now`, unless this function reported a change less than
    /// `pause` ago. Returns whether the state has changed; the caller logs a change. A change
    /// within the pause is ignored. If the new state still holds after the pause, the next call
    /// reports it.
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
