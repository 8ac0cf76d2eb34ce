//! Outputs on a unit: when an output is to be written, and what the unit is known to have.
//!
//! An output is written once whenever the unit appears or comes back, and then as the configuration
//! says. It is never written before the scan has wanted a value. A write sets an absolute value, so
//! it may be repeated. `serve.rs` and `exchange.rs` do the writing.

use std::time::Duration;

use super::place::Place;
use super::refusal::{BUSY_AGAIN, CONFIG_AGAIN, DEVICE_AGAIN, Refusal, SILENT_AGAIN};
use crate::driver::modbus::wire::register::MAX_REGISTERS;
use crate::driver::modbus::wire::request::{Ask, Reply, Request, WireError};
use crate::logged::OnChange;
use crate::process::image::{PointId, Raw};

const DAY: Duration = Duration::from_secs(24 * 60 * 60);

/// When an output is written, apart from the first time.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Policy {
    /// Whether the output is written when it changes, and not only at `refresh`.
    pub(super) on_change: bool,
    /// The time after which the output is written again though it has not changed.
    pub(super) refresh: Option<Duration>,
    /// The shortest time between two writes.
    pub(super) min_interval: Duration,
}

/// An output and the state of its writes.
#[derive(Debug)]
pub(super) struct Write {
    pub(super) id: PointId,
    /// The index of the unit in the list of units.
    pub(super) unit: usize,
    /// The unit's address on the bus.
    pub(super) unit_id: u8,
    pub(super) place: Place,
    pub(super) policy: Policy,
    /// Whether to write with function codes 5 and 6.
    pub(super) single: bool,
    /// Whether the output is read back after each write.
    pub(super) readback: bool,
    /// The value that the unit has acknowledged; `None` when it is not known what the unit has.
    pub(super) acked: Option<Raw>,
    /// When a write was acknowledged, or tried, last.
    pub(super) tried_at: Duration,
    /// The time before which the output is not written.
    pub(super) not_before: Duration,
    /// The time before which the output is not written because of the shortest time between two
    /// writes. A safe value need not wait for it.
    pub(super) spaced_until: Duration,
    /// The safe value of the output, if it has one.
    pub(super) safe: Option<Raw>,
    /// A value that the unit has not taken, and the time until which it is not tried again. Another
    /// value may be tried sooner, because it may be the safe one.
    pub(super) refused: Option<(Raw, Duration)>,
    /// The number of writes in a day above which the log warns, if it is set.
    pub(super) warn_above: Option<u32>,
    /// The writes since `day`, which is at most a day ago.
    pub(super) writes: u32,
    pub(super) day: Duration,
    /// The name of the point, for messages.
    pub(super) name: String,
    /// Why the last write failed, if it did.
    pub(super) trouble: OnChange<Option<String>>,
}

impl Write {
    /// The time from which the output is to be written, if the scan wants this value. `None` if
    /// there is nothing to write.
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

    /// Notes a write and what the unit has acknowledged, if anything. Returns whether the writes of
    /// this day have just become too many.
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

    /// Notes that a write failed for this reason, after a time of `cost`, so that it is not
    /// repeated too soon.
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

    /// The request that writes this value.
    pub(super) fn request(&self, raw: Raw) -> Request {
        let Place { address, layout, .. } = self.place;
        let ask = match layout {
            None => Ask::WriteCoil { address, on: raw[0] != 0, single: self.single },
            Some(layout) => {
                let mut registers = [0; MAX_REGISTERS];
                layout.write(raw, &mut registers);
                let values = registers[..layout.registers()].to_vec();
                Ask::WriteRegisters { address, values, single: self.single }
            }
        };
        Request { unit: self.unit_id, ask }
    }

    /// The request that reads back what the unit has.
    pub(super) fn read_request(&self) -> Request {
        let Place { table, address, .. } = self.place;
        let ask = Ask::Read { table, address, count: self.place.count() };
        Request { unit: self.unit_id, ask }
    }

    /// Whether the reply to the read shows the value that was written.
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
    use crate::process::image::{Direction, Kind, Point, Points};

    const MS: Duration = Duration::from_millis(1);

    fn write(policy: Policy) -> Write {
        let points = Points::new(vec![Point::new("p", Direction::Out, Kind::Bool)], 0, 1);
        Write {
            id: points.find("p").unwrap(),
            unit: 0,
            unit_id: 1,
            place: Place { table: Table::Coil, address: 0, layout: None },
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
        // The output was written as 1 and acknowledged after 100 ms.
        let check = |policy: Policy, same: Option<u32>, other: Option<u32>| {
            let mut write = write(policy);
            assert_eq!(write.due(on(0)), Some(Duration::ZERO), "once in any case");
            write.tried(100 * MS, Some(on(1)));
            let due = |wanted| write.due(on(wanted));
            assert_eq!(
                (due(1), due(0)),
                (same.map(|d| MS * d), other.map(|d| MS * d)),
                "{policy:?}"
            );
            write.tried(100 * MS, None);
            let again = Some(100 * MS + policy.min_interval);
            assert_eq!(write.due(on(1)), again, "it was not taken: {policy:?}");
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
        assert_eq!(write.due(on(0)), Some(200 * MS), "it is there");
        // A unit that does not answer is not asked all the time because of that.
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
