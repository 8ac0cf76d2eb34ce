//! The clock and the cycle number. Neither of them changes during a poll.

use core::time::Duration;

use crate::{check, raw, Error};

/// Reads the monotonic clock. The time does not change during a poll. Its zero has no meaning.
pub fn now() -> Duration {
    let (mut secs, mut nanos) = (0u64, 0u32);
    // SAFETY: the host writes one u64 and one u32, to two local variables. The call cannot fail,
    // because both variables are in valid memory.
    unsafe { raw::wasm_current_time(&mut secs, &mut nanos) };
    // The host keeps `nanos` below a second. The `%` removes the code for a panic in `new`.
    Duration::new(secs, nanos % 1_000_000_000)
}

/// The cycle number and the period of the scan.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Cycle {
    /// The number of this cycle.
    pub count: u64,
    /// The scan period in microseconds.
    pub period_us: u32,
}

/// Reads the number and the period of the present cycle.
pub fn cycle() -> Result<Cycle, Error> {
    let (mut count, mut period_us) = (0u64, 0u32);
    // SAFETY: the host writes one u64 and one u32, to two locals.
    check(unsafe { raw::wasm_cycle(&mut count, &mut period_us) })?;
    Ok(Cycle { count, period_us })
}
