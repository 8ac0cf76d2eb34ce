//! The meaning of each Modbus exception, and the pauses after failures before the client tries
//! again.
//!
//! The meaning depends only on the exception code (Modbus application protocol 1.1b3, 7). The value
//! of a point never comes from an exception. `exchange.rs` and `write.rs` decide what the driver
//! does after an exception.

use std::ops::Range;
use std::time::Duration;

use crate::driver::modbus::wire::table::Table;

/// The pause after an exception that reports that the request is wrong for this unit. The pause is
/// long, because the request fails until the configuration is changed.
pub(super) const CONFIG_AGAIN: Duration = Duration::from_secs(60);

/// The pause after an exception that reports that the unit is busy.
pub(super) const BUSY_AGAIN: Duration = Duration::from_millis(100);

/// The pause after a failed write, before the driver writes the same value of the output again. The
/// driver uses this pause after an exception with the meaning `Device` or `Absent`. After a write
/// that has failed without an exception, the pause is at least this long.
pub(super) const DEVICE_AGAIN: Duration = Duration::from_secs(1);

/// The pause after a read or a write without a valid reply, as a multiple of the time that this
/// read or write has taken with its repetitions. During the pause, the driver does other jobs on
/// the bus.
pub(super) const SILENT_AGAIN: u32 = 4;

/// The meaning of an exception.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Refusal {
    /// The unit does not support the function, the address or the value of the request. The
    /// configuration is wrong.
    Config,
    /// The unit reports that it has failed, or it sends an exception code that belongs to no other
    /// variant of this enum.
    Device,
    /// The unit reports that it is busy.
    Busy,
    /// The gateway reports that it does not reach the unit.
    Absent,
}

/// A range of addresses that a unit has refused. `split.rs` keeps the list of them.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct RefusedRange {
    /// The index of the unit in the list of units.
    pub(super) unit: usize,
    pub(super) table: Table,
    pub(super) range: Range<u32>,
    /// The time of the last refusal.
    pub(super) at: Duration,
}

impl Refusal {
    /// Returns the meaning of an exception code.
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
