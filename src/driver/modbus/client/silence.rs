//! The requests in a row that had no reply, and when they show that the connection is dead.
//!
//! One silence is a unit's own; only together they say something about the connection. What
//! follows is decided in `exchange.rs`; whether a unit counts as present, in `breaker.rs`.

use std::collections::BTreeSet;

/// After this number of requests in a row without a reply, a TCP connection is closed. This limit
/// counts if no other unit is left to ask, or if [`DEAF_UNITS`] units were silent.
const DEAF: u32 = 2;

/// The number of silent units that shows a dead connection, because so many units do not fail at
/// once. If fewer are silent, the reply of another unit shows that the connection is sound. A new
/// connection would then only cut off the others.
const DEAF_UNITS: usize = 3;

/// The requests in a row without a reply, over the whole connection.
#[derive(Debug, Default)]
pub(super) struct Silence {
    pub(super) requests: u32,
    /// The units that these requests went to.
    pub(super) units: BTreeSet<usize>,
}

impl Silence {
    /// Adds a request to `unit` that had no reply.
    pub(super) fn grows(&mut self, unit: usize) {
        self.requests += 1;
        self.units.insert(unit);
    }

    /// Whether the connection and not a unit must be the reason. `others` is the number of units
    /// that count as present and have not been asked since the last reply.
    pub(super) fn is_of_connection(&self, others: usize) -> bool {
        self.requests >= DEAF && (others == 0 || self.units.len() >= DEAF_UNITS)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn silence_is_of_the_connection_when_nobody_else_could_answer() {
        fn check(units: &[usize], others: usize, expected: bool) {
            let mut silence = Silence::default();
            units.iter().for_each(|unit| silence.grows(*unit));
            assert_eq!(silence.is_of_connection(others), expected, "{units:?}, {others} others");
        }
        check(&[0], 0, false);
        check(&[0, 0], 0, true);
        check(&[0, 1], 0, true);
        check(&[0, 0, 0, 0], 1, false);
        check(&[0, 1, 0, 1], 1, false);
        check(&[0, 1, 2], 9, true);
    }
}
