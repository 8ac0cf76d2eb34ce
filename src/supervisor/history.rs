//! The type [`History`]. It counts the traps of one module, computes the wait before the next
//! instance, and decides when the supervisor puts the module in quarantine.
//!
//! New bytes in the plugin's file are a new module and get a new history. `quarantine.rs` explains
//! the effect of a quarantine; `plugin/observe.rs` reports each trap to the history.

use std::collections::VecDeque;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::plugin::ModuleHash;

/// The version that runs under a name while the file's module is in quarantine.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum OnQuarantine {
    /// The newest stored version that was good and has not trapped since then. `LastGood` is the
    /// default, because a machine without its control program is usually worse than an old program.
    #[default]
    LastGood,
    /// No stored version runs. If no other version runs either, the output points are safe until
    /// the operator decides.
    Safe,
}

/// The rules for a program that trapped: when it is restarted, and when it is quarantined.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct RestartPolicy {
    /// The wait before the second restart. Each further restart doubles the wait. The first restart
    /// has no wait.
    pub delay: Duration,
    /// The upper limit of the wait.
    pub delay_max: Duration,
    /// The number of traps within `window` that puts the module in quarantine; at least 1.
    pub traps: u32,
    /// The time window in which traps are counted. If an instance runs for this time without a
    /// trap, the next restart is treated as the first restart.
    pub window: Duration,
    /// The version that runs in place of a module in quarantine.
    pub on_quarantine: OnQuarantine,
}

impl Default for RestartPolicy {
    /// Returns the default rules. With these rules, a single trap, for example after a bit flip in
    /// memory, costs one cycle. A module that traps in each poll is in quarantine within a second.
    /// A module that traps rarely is always restarted, with waits of at most 30 s.
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
    /// The module whose traps are counted; `None` before the first instance runs, and after a
    /// release.
    pub(super) hash: Option<ModuleHash>,
    /// The earliest time at which the supervisor may order the next instance. Each trap that leads
    /// to a restart sets this time. The operator's order to restart sets it to 0.
    pub(super) restart_at: Duration,
    /// The moments of the traps within the window, oldest first; at most `policy.traps` entries.
    recent: VecDeque<Duration>,
    /// The number of traps in a row. The next trap after a whole window without a trap is number 1.
    streak: u32,
}

/// The decision of the history after a trap.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Verdict {
    /// Restart the module. This trap is number `trap` in the window. The supervisor may order the
    /// next instance after `delay`.
    Restart { trap: u32, delay: Duration },
    /// Put the module in quarantine. The window contains `traps` traps.
    Quarantine { traps: u32 },
}

impl History {
    /// Returns a history without traps for this module.
    pub(super) fn of(hash: ModuleHash) -> Self {
        Self { hash: Some(hash), ..Self::default() }
    }

    /// Counts a trap of an instance, and returns the decision: restart or quarantine.
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

    /// Sets the earliest time for the next instance, and returns the wait until that time.
    fn postpone(&mut self, now: Duration, policy: &RestartPolicy) -> Duration {
        // The time without a trap begins at `restart_at`, because no instance exists during the
        // wait. If the wait were included, a wait as long as the window would reset the next wait
        // to zero.
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
    /// Returns the wait after a number of traps in a row; `streak` is this number.
    pub(super) fn delay_after(&self, streak: u32) -> Duration {
        match streak {
            0 | 1 => Duration::ZERO,
            // 2^31 is the largest power of two in a `u32`. With a `delay` of 1 ms, this factor
            // means 24 days, which is far above any useful `delay_max`.
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
        // `times` has the moment of each trap, in seconds. `expected` is the decision after the
        // last trap.
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
            // The module traps in the first poll of each instance.
            let Verdict::Restart { delay, .. } = history.trapped(now, &policy) else {
                panic!("trap {trap} leads to quarantine");
            };
            assert!(delay >= before, "after trap {trap}: {delay:?}, and {before:?} before");
            (before, now) = (delay, now + delay);
        }
        assert_eq!(before, policy.delay_max);
        // After a run as long as the window, the next restart is treated as the first restart.
        let verdict = history.trapped(now + policy.window, &policy);
        assert_eq!(verdict, Verdict::Restart { trap: 1, delay: Duration::ZERO });
    }
}
