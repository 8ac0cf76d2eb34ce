//! The load of a serial line: the share of the line's time that the periodic requests need.
//!
//! The load includes the times that are known in advance: the request, the gap after the request,
//! the reply, and the pause after the reply. This pause is the gap or the turnaround of the unit,
//! whichever is longer. The load does not include the time that units need to answer, because this
//! time is not known in advance. The rest of the line's time must be enough for these answer times,
//! for retries, and for outputs that change. `plan.rs` refuses a configuration with a higher load
//! than [`MOST`].

use std::time::Duration;

use super::bus::{Beat, Client};
use super::line::Line;
use crate::driver::modbus::wire::request::UnitRequest;

/// The maximum planned load of a line. Above this load, the line has too little free time to catch
/// up after a lost frame.
pub(super) const MOST: f64 = 0.8;

/// Returns the planned load of the line. 1 means that the line is always busy. Returns `None` for
/// Modbus TCP, and if the speed of the line is not known.
pub(super) fn load(client: &Client) -> Option<f64> {
    client.line.serial?;
    let pause = |unit: usize| client.units[unit].turnaround;
    let share = |request: &UnitRequest, unit, period: Duration| {
        time(&client.line, request, pause(unit)).as_secs_f64() / period.as_secs_f64()
    };
    let reads = client.reads.iter().map(|read| share(&read.request, read.unit, read.period));
    let writes = client.writes.iter().filter_map(|write| {
        let refresh = write.policy.refresh?;
        let read = write.readback.then(|| share(&write.read_request(), write.unit, refresh));
        Some(share(&write.request([0; 8]), write.unit, refresh) + read.unwrap_or(0.0))
    });
    let beat = client.beat.iter().map(|beat: &Beat| share(&beat.request(), beat.unit, beat.period));
    Some(reads.chain(writes).chain(beat).sum())
}

/// Returns the time for which a request occupies the line, with its reply, the gaps and the
/// turnaround.
fn time(line: &Line, request: &UnitRequest, turnaround: Duration) -> Duration {
    line.time(request) + line.gap() + line.gap().max(turnaround)
}
