//! Whether a unit is believed to be there, so that one which is not costs the others next to
//! nothing.
//!
//! ```text
//!              all was read                  silent `offline_after` times
//!   Returning --------------> Online ------------------> Offline
//!     ^   |                                               ^   |
//!     |   +------- silent `offline_after` times ----------+   |
//!     +---------------------- answered a probe ---------------+
//! ```
//! It is told what happened and when, and asks nobody. What is read and written in which state is
//! decided in `client.rs`.

use std::time::Duration;

/// A unit that is absent gets at most this part of the bus for its probes, however long it makes
/// others wait: 1 in 20.
const SHARE: u32 = 20;

/// What is known of a unit.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Health {
    /// It is there, or nobody knows yet; first everything is read, then outputs are written.
    Returning {
        /// How often in a row it did not answer.
        silences: u8,
    },
    /// It answers.
    Online {
        /// How often in a row it did not.
        silences: u8,
    },
    /// It does not, and is left alone but for a probe.
    Offline {
        /// When it is asked again, once.
        probe_at: Duration,
    },
}

/// The health of a unit and what changes it.
#[derive(Debug, Clone)]
pub(super) struct Breaker {
    health: Health,
    offline_after: u8,
    probe: Duration,
}

impl Breaker {
    /// Of a unit of which nothing is known yet. `cost` is what one probe without an answer takes of
    /// the bus.
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

    /// It has answered, whatever. Says whether it has come back by that.
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

    /// It has not answered, or not with anything that makes sense. Says whether it is lost by that.
    /// `jitter` is from 0 to 1: units that went together shall not be probed together for ever.
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

    /// Everything has been asked for since it came back. It counts only if it answers just now.
    pub(super) fn all_read(&mut self) {
        if let Health::Returning { silences: 0 } = self.health {
            self.health = Health::Online { silences: 0 };
        }
    }

    /// There is a new connection: what was known of the unit is old. Silences still count, and one
    /// that is absent may come back with it.
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

    /// What happens in each letter, and the health after it. `a` is an answer, `s` a silence, `r`
    /// that all is read, `c` a new connection.
    fn check(events: &str, expected: Health) {
        let mut breaker = Breaker::new(3, 10 * S, S / 2);
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
        check(10 * S, S / 2, 0.5, 10 * S);
        check(10 * S, S / 2, 0.0, 8 * S);
        check(10 * S, S / 2, 1.0, 12 * S);
        check(10 * S, 2 * S, 0.5, 40 * S);
    }
}
