//! The traps of one module: how long the supervisor waits before the next instance, and when it
//! gives the module up.
//!
//! A history counts the traps of one module; new bytes begin a new history. What a quarantine means
//! is in `quarantine.rs`; `plugin/observe.rs` reports each trap to the history.

use std::collections::VecDeque;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::plugin::ModuleHash;

/// The version that runs under a name while the file's module is in quarantine.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum OnQuarantine {
    /// The newest kept version that was good and has not trapped since. This is the default,
    /// because a machine without control is the worse fault.
    #[default]
    LastGood,
    /// No program: the outputs are safe until the operator decides.
    Safe,
}

/// The rules for when a trapped program is started again, and when it is given up.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct RestartPolicy {
    /// The wait before the second restart. It is doubled for each further restart. The first
    /// restart comes at once.
    pub delay: Duration,
    /// The longest wait.
    pub delay_max: Duration,
    /// The number of traps within `window` that puts the module in quarantine; at least 1.
    pub traps: u32,
    /// The window for `traps`. If an instance could run for this time without a trap, the next
    /// restart counts as the first one again.
    pub window: Duration,
    /// What takes the place of a module in quarantine.
    pub on_quarantine: OnQuarantine,
}

impl Default for RestartPolicy {
    /// The default. A single trap, such as after a bit flip in memory, costs one cycle. A broken
    /// module is given up within a second. A module that fails only now and then is restarted for
    /// ever, with waits of at most 30 s.
    fn default() -> Self {
        Self {
            delay: Duration::from_millis(100),
            delay_max: Duration::from_secs(30),
            traps: 5,
            window: Duration::from_secs(60),
            on_quarantine: OnQuarantine::LastGood,
        }
    }
}

/// The recent traps of one module.
#[derive(Debug, Default)]
pub(super) struct History {
    /// The module whose traps are counted; `None` before the first instance is made.
    pub(super) hash: Option<ModuleHash>,
    /// The time before which no new instance is made.
    pub(super) restart_at: Duration,
    /// The times of traps within the window, oldest first; never more than `policy.traps`.
    recent: VecDeque<Duration>,
    /// The number of traps in a row. A quiet window ends the row.
    streak: u32,
}

/// The decision after a trap.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Verdict {
    /// A restart. This was trap number `trap` in the window; the next instance may be made after
    /// `delay`.
    Restart { trap: u32, delay: Duration },
    /// Quarantine. This was trap number `traps` in the window, and the last.
    Quarantine { traps: u32 },
}

impl History {
    /// A history without traps, for this module.
    pub(super) fn of(hash: ModuleHash) -> Self {
        Self { hash: Some(hash), ..Self::default() }
    }

    /// Counts a trap of an instance, and decides what follows from it.
    pub(super) fn trapped(&mut self, now: Duration, policy: &RestartPolicy) -> Verdict {
        self.recent.retain(|trap| now.saturating_sub(*trap) < policy.window);
        self.recent.push_back(now);
        let trap = u32::try_from(self.recent.len()).unwrap_or(u32::MAX);
        if trap >= policy.traps {
            self.recent.clear();
            return Verdict::Quarantine { traps: trap };
        }
        Verdict::Restart { trap, delay: self.postpone(now, policy) }
    }

    /// Sets the earliest time for the next instance, and returns the wait until then.
    fn postpone(&mut self, now: Duration, policy: &RestartPolicy) -> Duration {
        // The wait before the last instance does not count as quiet time, because no instance could
        // trap in it. If that wait counted, a wait as long as the window would make the next wait
        // zero again.
        if now.saturating_sub(self.restart_at) >= policy.window {
            self.streak = 0;
        }
        self.streak = self.streak.saturating_add(1);
        let delay = policy.delay_after(self.streak);
        self.restart_at = now + delay;
        delay
    }
}

impl RestartPolicy {
    /// The wait after trap number `streak` in a row.
    pub(super) fn delay_after(&self, streak: u32) -> Duration {
        match streak {
            0 | 1 => Duration::ZERO,
            // The factor is at most 2^31, because 2^31 times any delay above a nanosecond is longer
            // than any sensible limit.
            n => self.delay.saturating_mul(1 << (n - 2).min(31)).min(self.delay_max),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn waits_double_up_to_the_limit() {
        let check = |streak, expected_ms| {
            let delay = RestartPolicy::default().delay_after(streak);
            assert_eq!(delay, Duration::from_millis(expected_ms), "after trap {streak}");
        };
        check(1, 0);
        check(2, 100);
        check(3, 200);
        check(4, 400);
        check(10, 25_600);
        check(11, 30_000);
        check(u32::MAX, 30_000);
    }

    #[test]
    fn traps_lead_to_a_wait_or_to_quarantine() {
        // `times` are the traps in seconds; `expected` is what the last of them leads to.
        let check = |times: &[u64], expected: Verdict| {
            let mut history = History::default();
            let mut verdict = None;
            for time in times {
                let now = Duration::from_secs(*time);
                verdict = Some(history.trapped(now, &RestartPolicy::default()));
            }
            assert_eq!(verdict, Some(expected), "traps at {times:?}");
        };
        let restart =
            |trap, delay_ms| Verdict::Restart { trap, delay: Duration::from_millis(delay_ms) };
        check(&[7], restart(1, 0));
        check(&[7, 8], restart(2, 100));
        check(&[7, 8, 9, 10], restart(4, 400));
        check(&[7, 8, 9, 10, 11], Verdict::Quarantine { traps: 5 });
        check(&[0, 15, 30, 45, 59], Verdict::Quarantine { traps: 5 });
        check(&[0, 15, 30, 45, 60], restart(4, 800));
        check(&[0, 59], restart(2, 100));
        check(&[0, 60], restart(1, 0));
        check(&[0, 30, 60, 90, 120, 150, 180, 210, 240, 270, 300], restart(2, 30_000));
    }

    #[test]
    fn a_wait_longer_than_the_window_is_no_quiet_time() {
        let policy =
            RestartPolicy { traps: 100, window: Duration::from_secs(10), ..Default::default() };
        let (mut history, mut now) = (History::default(), Duration::ZERO);
        let mut before = Duration::ZERO;
        for trap in 0..40 {
            // The module traps in its first poll, each time.
            let Verdict::Restart { delay, .. } = history.trapped(now, &policy) else {
                panic!("trap {trap} leads to quarantine");
            };
            assert!(delay >= before, "after trap {trap}: {delay:?}, and {before:?} before");
            (before, now) = (delay, now + delay);
        }
        assert_eq!(before, policy.delay_max);
        // A run as long as the window makes the next restart a first one again.
        let verdict = history.trapped(now + policy.window, &policy);
        assert_eq!(verdict, Verdict::Restart { trap: 1, delay: Duration::ZERO });
    }
}
