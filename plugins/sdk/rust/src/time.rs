//! The clock and the scan. Both stand still during a poll.

use core::time::Duration;

use crate::{check, raw, Error};

/// The monotonic clock: the same instant during a whole poll. Its zero means nothing.
pub fn now() -> Duration {
    let (mut secs, mut nanos) = (0u64, 0u32);
    // SAFETY: the host writes one u64 and one u32, to two locals. They lie in memory, so it cannot
    // fail.
    unsafe { raw::wasm_current_time(&mut secs, &mut nanos) };
    // The host keeps nanos below a second; saying so spares the panic that `new` has for the rest.
    Duration::new(secs, nanos % 1_000_000_000)
}

/// Where the scan is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Cycle {
    /// The number of this cycle.
    pub count: u64,
    /// The scan period in microseconds.
    pub period_us: u32,
}

/// The cycle that is running.
pub fn cycle() -> Result<Cycle, Error> {
    let (mut count, mut period_us) = (0u64, 0u32);
    // SAFETY: the host writes one u64 and one u32, to two locals.
    check(unsafe { raw::wasm_cycle(&mut count, &mut period_us) })?;
    Ok(Cycle { count, period_us })
}
