//! The health of a unit: whether it counts as present, so that an absent unit costs the others
//! almost nothing.
//!
//! ```text
//!              all was read                  silent `offline_after` times
//!   Returning --------------> Online ------------------> Offline
//!     ^   |                                               ^   |
//!     |   +------- silent `offline_after` times ----------+   |
//!     +---------------------- answered a probe ---------------+
//! ```
//! The caller says what happened and when; this file asks nothing and reads no clock.
//! `serve.rs` decides what is read and written in each state.

use std::time::Duration;

/// How many times the cost of a probe must lie between two probes of an absent unit. Probes come
/// earlier by up to a fifth, because of the jitter. Even then a unit gets at most 1 part in 20 of
/// the bus, however long the others wait for a probe.
const SHARE: u32 = 24;

/// The health of a unit.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Health {
    /// The unit is present, or that is not known yet. First everything is read, then outputs are
    /// written.
    Returning {
        /// The number of times in a row that it did not answer.
        silences: u8,
    },
    /// The unit answers.
    Online {
        /// The number of times in a row that it did not answer.
        silences: u8,
    },
    /// The unit does not answer. It gets probes only.
    Offline {
        /// When the next probe is due.
        probe_at: Duration,
    },
}

/// The health of a unit, and the events that change it.
#[derive(Debug, Clone)]
pub(super) struct Breaker {
    health: Health,
    offline_after: u8,
    probe: Duration,
}

impl Breaker {
    /// The breaker of a unit about which nothing is known yet. `cost` is the time of the bus that
    /// one probe without a reply takes.
    pub(super) fn new(offline_after: u8, probe: Duration, cost: Duration) -> Self {
        let health = Health::Returning { silences: 0 };
        Self { health, offline_after, probe: probe.max(cost * SHARE) }
    }

    pub(super) const fn health(&self) -> Health {
        self.health
    }

    pub(super) const fn is_online(&self) -> bool {
        matches!(self.health, Health::Online { .. })
    }

    pub(super) const fn is_offline(&self) -> bool {
        matches!(self.health, Health::Offline { .. })
    }

    /// Notes that the unit has answered, with anything. Returns whether it has come back by that.
    pub(super) fn answered(&mut self) -> bool {
        match &mut self.health {
            Health::Returning { silences } | Health::Online { silences } => {
                *silences = 0;
                false
            }
            Health::Offline { .. } => {
                self.health = Health::Returning { silences: 0 };
                true
            }
        }
    }

    /// Notes that the unit has not answered, or with nothing that makes sense. Returns whether it
    /// has gone offline by that. `jitter` is from 0 to 1, so that units which failed together are
    /// not probed together for ever.
    pub(super) fn silent(&mut self, now: Duration, jitter: f64) -> bool {
        let was_offline = self.is_offline();
        if let Health::Returning { silences } | Health::Online { silences } = &mut self.health {
            *silences += 1;
            if *silences < self.offline_after {
                return false;
            }
        }
        let probe_at = now + self.probe.mul_f64(0.8 + 0.4 * jitter);
        self.health = Health::Offline { probe_at };
        !was_offline
    }

    /// Notes that everything was read since the unit came back. The unit goes online only if its
    /// last request was answered.
    pub(super) fn all_read(&mut self) {
        if let Health::Returning { silences: 0 } = self.health {
            self.health = Health::Online { silences: 0 };
        }
    }

    /// Notes a new connection: what was known about the unit is old. Silences still count. A unit
    /// that is offline may come back, so it is probed at once.
    pub(super) fn reconnected(&mut self, now: Duration) {
        match &mut self.health {
            Health::Online { silences } => {
                self.health = Health::Returning { silences: *silences };
            }
            Health::Offline { probe_at } => *probe_at = now,
            Health::Returning { .. } => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const S: Duration = Duration::from_secs(1);

    /// Each letter of `events` is an event, and `expected` is the health after all of them. `a` is
    /// an answer, `s` a silence, `r` the end of all reads, `c` a new connection.
    fn check(events: &str, expected: Health) {
        let mut breaker = Breaker::new(3, 10 * S, S / 4);
        for (event, at) in events.chars().zip(0..) {
            let now = S * at;
            match event {
                'a' => drop(breaker.answered()),
                's' => drop(breaker.silent(now, 0.5)),
                'r' => breaker.all_read(),
                'c' => breaker.reconnected(now),
                other => panic!("{other}"),
            }
        }
        assert_eq!(breaker.health(), expected, "{events}");
    }

    #[test]
    fn three_silences_are_absence_and_an_answer_ends_it() {
        check("", Health::Returning { silences: 0 });
        check("ar", Health::Online { silences: 0 });
        check("arss", Health::Online { silences: 2 });
        check("arssas", Health::Online { silences: 1 });
        check("arsss", Health::Offline { probe_at: 14 * S });
        check("sss", Health::Offline { probe_at: 12 * S });
        check("ssss", Health::Offline { probe_at: 13 * S });
        check("sssr", Health::Offline { probe_at: 12 * S });
        check("sr", Health::Returning { silences: 1 });
        check("sssa", Health::Returning { silences: 0 });
        check("sssar", Health::Online { silences: 0 });
        check("arsc", Health::Returning { silences: 1 });
        check("sssc", Health::Offline { probe_at: 3 * S });
    }

    #[test]
    fn a_probe_takes_no_more_than_its_share() {
        fn check(probe: Duration, cost: Duration, jitter: f64, expected: Duration) {
            let mut breaker = Breaker::new(1, probe, cost);
            assert!(breaker.silent(S, jitter), "it is lost");
            assert_eq!(breaker.health(), Health::Offline { probe_at: S + expected });
            assert!(!breaker.silent(2 * S, jitter), "it was lost already");
        }
        check(10 * S, S / 4, 0.5, 10 * S);
        check(10 * S, S / 4, 0.0, 8 * S);
        check(10 * S, S / 4, 1.0, 12 * S);
        check(10 * S, 2 * S, 0.5, 48 * S);
    }
}
