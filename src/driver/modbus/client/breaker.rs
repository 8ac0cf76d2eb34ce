//! The health of a unit: whether the driver treats the unit as present. An absent unit gets only a
//! few probes, so that the other units lose almost no bus time.
//!
//! ```text
//!               all reads made              no reply `offline_after` times
//!   Returning ------------------> Online ----------------------------------> Offline
//!     ^   |                                                                   ^   |
//!     |   +------------------ no reply `offline_after` times -----------------+   |
//!     +------------------------ any reply to a probe -----------------------------+
//! ```
//! The drawing does not show one more change: a new connection changes Online to Returning. The
//! caller of a `Breaker` passes each event, with the time if the time is needed. This file sends no
//! request and reads no clock. `serve.rs` decides what is read and written at each [`Health`].

use std::time::Duration;

/// The minimum time between two probes of an absent unit, as a multiple of the cost of one probe.
/// The cost is the time that a probe without a reply occupies the bus. A random factor then makes
/// this time up to a fifth shorter or longer. Even with the shortest time, the probes of one unit
/// take at most 1/20 of the bus time.
const SHARE: u32 = 24;

/// The health of a unit.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Health {
    /// The unit answers again after an absence, the connection is new, or nothing is known about
    /// the unit yet. The driver makes all reads of the unit once. Then the unit goes online, and
    /// its outputs are written.
    Returning {
        /// The number of consecutive failures, as [`Breaker::silent`] counts them.
        silences: u8,
    },
    /// The unit answers. Its inputs are read and its outputs are written.
    Online {
        /// The number of consecutive failures, as [`Breaker::silent`] counts them.
        silences: u8,
    },
    /// The unit does not answer. It gets only probes.
    Offline {
        /// The time when the next probe is due.
        probe_at: Duration,
    },
}

/// The health of a unit, with one function for each event that changes it.
#[derive(Debug, Clone)]
pub(super) struct Breaker {
    health: Health,
    offline_after: u8,
    probe: Duration,
}

impl Breaker {
    /// Makes the breaker of a unit about which nothing is known yet. `cost` is the time that one
    /// probe without a reply occupies the bus.
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

    /// Records that the unit has answered; an exception of the unit is an answer. Returns whether
    /// the unit was offline before this answer.
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

    /// Records that the unit has not answered, that its answer was invalid, that a gateway does not
    /// reach the unit, or that an attempt to connect has failed. Returns whether this event has put
    /// the unit offline. `jitter` is a random number from 0 to 1, which varies the time of the next
    /// probe. Without this variation, units that failed at the same time would always be probed at
    /// the same time.
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

    /// Records that the driver has made all reads of the unit since the unit came back. The unit
    /// goes online only if its last request was answered.
    pub(super) fn all_read(&mut self) {
        if let Health::Returning { silences: 0 } = self.health {
            self.health = Health::Online { silences: 0 };
        }
    }

    /// Records a new connection. The driver must read an online unit completely again, because the
    /// known values may be old. The count of requests without a reply does not change. An offline
    /// unit is probed at once, because the unit may answer on the new connection.
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

    /// Applies the events one after the other. Afterwards the health must be `expected`. The
    /// letters are: `a` an answer, `s` a request without a reply, `r` the end of all reads, `c` a
    /// new connection.
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
            assert!(breaker.silent(S, jitter), "the unit goes offline now");
            assert_eq!(breaker.health(), Health::Offline { probe_at: S + expected });
            assert!(!breaker.silent(2 * S, jitter), "the unit was offline before");
        }
        check(10 * S, S / 4, 0.5, 10 * S);
        check(10 * S, S / 4, 0.0, 8 * S);
        check(10 * S, S / 4, 1.0, 12 * S);
        check(10 * S, 2 * S, 0.5, 48 * S);
    }
}
