//! The count of consecutive requests without a reply, which shows when a connection is dead.
//!
//! One request without a reply can mean that the unit of this request does not work. Several
//! requests in a row without a reply can mean that the connection is dead. `exchange.rs` decides
//! what the driver then does. `breaker.rs` decides whether the driver treats a unit as present.

use std::collections::BTreeSet;

/// The number of consecutive requests without a reply after which a Modbus TCP connection is
/// closed. The connection is closed only in two cases: all present units were silent, or at least
/// [`DEAF_UNITS`] units were silent.
const DEAF: u32 = 2;

/// If at least this number of units is silent, the connection is dead, because so many units do not
/// fail at the same time. If fewer units are silent, the driver first asks the other units. If one
/// of them replies, the connection works, and a new connection would only interrupt the other
/// units.
const DEAF_UNITS: usize = 3;

/// The consecutive requests without a reply, counted over all units of the connection. Any reply,
/// valid or not, starts the count again, and so does a new connection.
#[derive(Debug, Default)]
pub(super) struct Silence {
    pub(super) requests: u32,
    /// The units to which these requests were sent.
    pub(super) units: BTreeSet<usize>,
}

impl Silence {
    /// Adds a request to `unit` that had no reply.
    pub(super) fn grows(&mut self, unit: usize) {
        self.requests += 1;
        self.units.insert(unit);
    }

    /// Whether the connection, and not a unit, must be the cause of the silence. `others` is the
    /// number of units that the driver treats as present and that are not in `units`.
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
