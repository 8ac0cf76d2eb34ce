//! What an exception means for whoever asked, and how long what failed is left alone.
//!
//! It depends on the code alone (Modbus application protocol 1.1b3, 7), and never is it a value.
//! Whoever reads or writes decides what else follows.

use std::time::Duration;

/// How long what a unit does not understand is left alone: somebody has to change it first.
pub(super) const CONFIG_AGAIN: Duration = Duration::from_secs(60);

/// How long a unit that says it is busy is left alone.
pub(super) const BUSY_AGAIN: Duration = Duration::from_millis(100);

/// How long an output that a unit cannot take is left alone.
pub(super) const DEVICE_AGAIN: Duration = Duration::from_secs(1);

/// What nobody answers, though the unit answers other requests, waits this many times as long as it
/// has cost: the rest of the bus goes on.
pub(super) const SILENT_AGAIN: u32 = 4;

/// What an exception means.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Refusal {
    /// The unit does not have what is asked for: the configuration is wrong.
    Config,
    /// The unit has failed.
    Device,
    /// Not now.
    Busy,
    /// The gateway does not reach the unit.
    Absent,
}

impl Refusal {
    /// What this code means.
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
