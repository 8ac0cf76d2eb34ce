//! The outputs on the units: when the driver writes each output, and which value the unit has
//! confirmed.
//!
//! The driver writes each output once after a new connection, and once when its unit comes back
//! after an absence. After that, the driver writes the output as configured: on a change of its
//! value, with a period, or both. After a failed write, the driver tries again. The driver never
//! writes an output before the scan has set its value. A write sets an absolute value, so the
//! driver may repeat the write. `serve.rs` finds out which output is due, and `exchange.rs` writes
//! it.

use std::time::Duration;

use super::place::DataPlace;
use super::refusal::{BUSY_AGAIN, CONFIG_AGAIN, DEVICE_AGAIN, Refusal, SILENT_AGAIN};
use crate::driver::modbus::wire::error::WireError;
use crate::driver::modbus::wire::register::MAX_REGISTERS;
use crate::driver::modbus::wire::request::{Ask, Reply, UnitRequest};
use crate::logged::OnChange;
use crate::process::image::{PointId, Raw};

const DAY: Duration = Duration::from_secs(24 * 60 * 60);

/// The rule that decides when an output is written after its first write.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Policy {
    /// Whether the output is written when its value changes. If not, the output is written once in
    /// each `refresh` period, and at once when its value changes to the safe value.
    pub(super) on_change: bool,
    /// The time after which the output is written again although its value has not changed.
    pub(super) refresh: Option<Duration>,
    /// The minimum time between two writes. A change to the safe value does not wait for this time.
    pub(super) min_interval: Duration,
}

/// One output, with its settings and the state of its writes.
#[derive(Debug)]
pub(super) struct Write {
    pub(super) id: PointId,
    /// The index of the unit in the list of units.
    pub(super) unit: usize,
    /// The unit's address on the bus.
    pub(super) unit_id: u8,
    pub(super) place: DataPlace,
    pub(super) policy: Policy,
    /// Whether to write with function codes 5 and 6 instead of 15 and 16.
    pub(super) single: bool,
    /// Whether the output is read back after each write that the unit has confirmed.
    pub(super) readback: bool,
    /// The value that the unit has confirmed. `None` while the value in the unit is not known.
    pub(super) acked: Option<Raw>,
    /// The time of the last write, whether it succeeded or failed.
    pub(super) tried_at: Duration,
    /// The output is not written before this time, whatever its value is. `Write::put_off` makes
    /// this time later after a write that has failed without an exception.
    pub(super) not_before: Duration,
    /// The output is not written before this time, because `min_interval` must pass after a write,
    /// whether the write succeeded or failed. The safe value does not wait for this time.
    pub(super) spaced_until: Duration,
    /// The configured safe value of the output, as it is on the wire. `None` if the safe setting of
    /// the output is `hold`.
    pub(super) safe: Option<Raw>,
    /// A value whose write has failed, and the time until which the driver does not write this
    /// value again. After an exception, the driver may write another value sooner, because the
    /// other value may be the safe value.
    pub(super) refused: Option<(Raw, Duration)>,
    /// The number of writes per day above which the driver logs a warning. `None` for no warning.
    pub(super) warn_above: Option<u32>,
    /// The number of writes since the time `day`. With the first write at least 24 hours after
    /// `day`, `day` becomes the time of this write, and the count starts again.
    pub(super) writes: u32,
    pub(super) day: Duration,
    /// The name of the point, for messages.
    pub(super) name: String,
    /// Reason why the last write failed. `None` if the write succeeded, and before the first write.
    pub(super) trouble: OnChange<Option<String>>,
}

impl Write {
    /// Returns the time from which the output must be written if the scan wants the value `wanted`.
    /// Returns `None` if no write is needed.
    pub(super) fn due(&self, wanted: Raw) -> Option<Duration> {
        let Policy { on_change, refresh, .. } = self.policy;
        let is_urgent = self.safe == Some(wanted) && self.acked != Some(wanted);
        let spaced = if is_urgent { Duration::ZERO } else { self.spaced_until };
        let refused = self.refused.filter(|(refused, _)| *refused == wanted);
        let not_before = refused.map_or(self.not_before, |(_, until)| until.max(self.not_before));
        let not_before = not_before.max(spaced);
        let Some(acked) = self.acked else { return Some(not_before) };
        let refresh = refresh.map(|refresh| self.tried_at + refresh);
        let change = ((on_change || is_urgent) && acked != wanted).then_some(not_before);
        let due = change.into_iter().chain(refresh).min()?;
        Some(due.max(not_before))
    }

    /// Records a write. `acked` is the value that the unit has confirmed, or `None` if the write
    /// has failed. Returns whether this write is the first write since the time `day` that exceeds
    /// the limit `warn_above`.
    pub(super) fn tried(&mut self, now: Duration, acked: Option<Raw>) -> bool {
        if now.saturating_sub(self.day) >= DAY {
            (self.day, self.writes) = (now, 0);
        }
        self.writes = self.writes.saturating_add(1);
        self.acked = acked;
        self.tried_at = now;
        (self.not_before, self.spaced_until) = (now, now + self.policy.min_interval);
        self.warn_above.is_some_and(|most| self.writes == most.saturating_add(1))
    }

    /// Records that a write of `raw` has failed. The pause before the next attempt depends on the
    /// reason `why`. `cost` is the time that the failed write has taken, with its repetitions and
    /// its readback.
    pub(super) fn put_off(&mut self, raw: Raw, now: Duration, cost: Duration, why: &WireError) {
        let pause = match why {
            WireError::Exception(code) => match Refusal::of(*code) {
                Refusal::Config => CONFIG_AGAIN,
                Refusal::Busy => BUSY_AGAIN,
                Refusal::Device | Refusal::Absent => DEVICE_AGAIN,
            },
            _ => {
                let pause = (SILENT_AGAIN * cost).max(DEVICE_AGAIN);
                self.not_before = self.not_before.max(now + pause);
                pause
            }
        };
        self.refused = Some((raw, now + pause));
    }

    /// Returns the request that writes this value.
    pub(super) fn request(&self, raw: Raw) -> UnitRequest {
        let DataPlace { address, layout, .. } = self.place;
        let ask = match layout {
            None => Ask::WriteCoil { address, on: raw[0] != 0, single: self.single },
            Some(layout) => {
                let mut registers = [0; MAX_REGISTERS];
                layout.write(raw, &mut registers);
                let values = registers[..layout.registers()].to_vec();
                Ask::WriteRegisters { address, values, single: self.single }
            }
        };
        UnitRequest { unit: self.unit_id, ask }
    }

    /// Returns the request that reads the output back from the unit.
    pub(super) fn read_request(&self) -> UnitRequest {
        let DataPlace { table, address, .. } = self.place;
        let ask = Ask::Read { table, address, count: self.place.count() };
        UnitRequest { unit: self.unit_id, ask }
    }

    /// Whether the reply `read` shows that the unit has the value `raw`.
    pub(super) fn is_there(&self, raw: Raw, read: &Reply) -> bool {
        match (self.request(raw).ask, read) {
            (Ask::WriteCoil { on, .. }, Reply::Bits(bits)) => bits[..] == [on],
            (Ask::WriteRegisters { values, .. }, Reply::Registers(registers)) => {
                values == *registers
            }
            _ => false,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::driver::modbus::wire::table::Table;
    use crate::process::image::{Direction, Point, PointKind, Points};

    const MS: Duration = Duration::from_millis(1);

    fn write(policy: Policy) -> Write {
        let points = Points::new(vec![Point::new("p", Direction::Out, PointKind::Bool)], 0, 1);
        Write {
            id: points.find("p").unwrap(),
            unit: 0,
            unit_id: 1,
            place: DataPlace { table: Table::Coil, address: 0, layout: None },
            policy,
            single: true,
            readback: false,
            acked: None,
            tried_at: Duration::ZERO,
            not_before: Duration::ZERO,
            spaced_until: Duration::ZERO,
            safe: None,
            refused: None,
            warn_above: None,
            writes: 0,
            day: Duration::ZERO,
            name: "p".into(),
            trouble: OnChange::default(),
        }
    }

    #[test]
    fn outputs_are_written_when_they_say() {
        let on = |on: u8| [on, 0, 0, 0, 0, 0, 0, 0];
        // At the time 100 ms, the driver writes the value 1, and the unit confirms this value.
        let check = |policy: Policy, same: Option<u32>, other: Option<u32>| {
            let mut write = write(policy);
            assert_eq!(write.due(on(0)), Some(Duration::ZERO), "the first write is due at once");
            write.tried(100 * MS, Some(on(1)));
            let due = |wanted| write.due(on(wanted));
            assert_eq!(
                (due(1), due(0)),
                (same.map(|d| MS * d), other.map(|d| MS * d)),
                "{policy:?}"
            );
            write.tried(100 * MS, None);
            let again = Some(100 * MS + policy.min_interval);
            assert_eq!(write.due(on(1)), again, "the unit has not confirmed the value: {policy:?}");
        };
        let on_change = Policy { on_change: true, refresh: None, min_interval: Duration::ZERO };
        check(on_change, None, Some(100));
        let refresh = Policy { refresh: Some(50 * MS), ..on_change };
        check(refresh, Some(150), Some(100));
        check(Policy { on_change: false, ..refresh }, Some(150), Some(150));
        check(Policy { min_interval: 20 * MS, ..on_change }, None, Some(120));
        check(Policy { min_interval: 70 * MS, ..refresh }, Some(170), Some(170));
    }

    #[test]
    fn a_refused_value_waits_and_another_does_not() {
        let on = |on: u8| [on, 0, 0, 0, 0, 0, 0, 0];
        fn check(write: &Write, wanted: Raw, expected: Duration) {
            assert_eq!(write.due(wanted), Some(expected), "{wanted:?}");
        }
        let mut write = write(Policy { on_change: true, refresh: None, min_interval: MS });
        write.tried(10 * MS, None);
        write.put_off(on(1), 10 * MS, MS, &WireError::Exception(3));
        check(&write, on(1), 60_010 * MS);
        check(&write, on(0), 11 * MS);
        write.put_off(on(1), 10 * MS, MS, &WireError::Exception(6));
        check(&write, on(1), 110 * MS);
        write.put_off(on(1), 10 * MS, 500 * MS, &WireError::Timeout);
        check(&write, on(1), 2010 * MS);
        check(&write, on(0), 2010 * MS);
    }

    #[test]
    fn the_safe_value_waits_for_no_interval() {
        let on = |on: u8| [on, 0, 0, 0, 0, 0, 0, 0];
        let policy = Policy { on_change: false, refresh: Some(90 * MS), min_interval: 70 * MS };
        let mut write = Write { safe: Some(on(0)), ..write(policy) };
        write.tried(100 * MS, Some(on(1)));
        assert_eq!(write.due(on(0)), Some(100 * MS));
        assert_eq!(write.due(on(2)), Some(190 * MS));
        write.tried(110 * MS, Some(on(0)));
        assert_eq!(write.due(on(0)), Some(200 * MS), "the unit has the safe value");
        // Even the safe value waits after a timeout, so that the driver does not ask a silent unit
        // all the time.
        write.tried(110 * MS, None);
        write.put_off(on(0), 110 * MS, 500 * MS, &WireError::Timeout);
        assert_eq!(write.due(on(0)), Some(2110 * MS));
    }

    #[test]
    fn too_many_writes_in_a_day_are_said_once() {
        let mut write = write(Policy { on_change: true, refresh: None, min_interval: MS });
        write.warn_above = Some(2);
        let mut said = Vec::new();
        for hour in [0, 1, 2, 3, 25, 26, 27, 28] {
            said.push(write.tried(Duration::from_secs(3600 * hour), None));
        }
        assert_eq!(said, [false, false, true, false, false, false, true, false]);
    }
}
