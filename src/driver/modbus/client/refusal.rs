//! What a Modbus exception means, and how long the client waits after a failure before it tries
//! again.
//!
//! The meaning depends on the exception code alone (Modbus application protocol 1.1b3, 7). An
//! exception is never a value. `exchange.rs` and `write.rs` decide what else follows.

use std::time::Duration;

/// The pause after a request that the unit does not understand. The configuration must be changed
/// first.
pub(super) const CONFIG_AGAIN: Duration = Duration::from_secs(60);

/// The pause after a reply that says the unit is busy.
pub(super) const BUSY_AGAIN: Duration = Duration::from_millis(100);

/// The pause of an output whose value the unit cannot take.
pub(super) const DEVICE_AGAIN: Duration = Duration::from_secs(1);

/// The pause of a request without a reply, if the unit answers others: this many times the time
/// that it has cost. The rest of the bus goes on meanwhile.
pub(super) const SILENT_AGAIN: u32 = 4;

/// What an exception means.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Refusal {
    /// The unit does not have what was asked for: the configuration is wrong.
    Config,
    /// The unit has failed.
    Device,
    /// The unit is busy now.
    Busy,
    /// The gateway does not reach the unit.
    Absent,
}

impl Refusal {
    /// The meaning of an exception code.
    pub(super) const fn of(code: u8) -> Self {
        match code {
            1..=3 => Self::Config,
            5 | 6 => Self::Busy,
            10 | 11 => Self::Absent,
            _ => Self::Device,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn exceptions_mean_what_the_specification_says() {
        fn check(codes: &[u8], expected: Refusal) {
            codes.iter().for_each(|code| assert_eq!(Refusal::of(*code), expected, "{code}"));
        }
        check(&[1, 2, 3], Refusal::Config);
        check(&[0, 4, 7, 8, 9, 12, 255], Refusal::Device);
        check(&[5, 6], Refusal::Busy);
        check(&[10, 11], Refusal::Absent);
    }
}
