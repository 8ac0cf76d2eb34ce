//! The reads of a bus. A read is one request that is repeated with a period, together with the
//! points in its reply.
//!
//! The scan gets the new values of all points of one read in the same cycle. A read includes
//! addresses between the points only if the key `merge_gap` allows that, because many units refuse
//! a read that includes addresses that do not exist. `schedule.rs` decides when the driver makes a
//! read.

use std::ops::Range;
use std::time::Duration;

use crate::driver::Part;
use crate::driver::link::Side;
use crate::driver::modbus::wire::error::WireError;
use crate::driver::modbus::wire::register::Layout;
use crate::driver::modbus::wire::request::{Reply, UnitRequest};
use crate::driver::modbus::wire::table::Table;
use crate::logged::OnChange;
use crate::process::image::{Freshness, PointId, Quality};

/// One read: a request that is repeated with a period, and the points in its reply.
#[derive(Debug)]
pub(super) struct Read {
    /// The index of the unit in the list of units.
    pub(super) unit: usize,
    pub(super) request: UnitRequest,
    pub(super) period: Duration,
    /// The time when the read is due next.
    pub(super) due: Duration,
    /// Whether the last read had an outcome other than a doubtful reply. `Client::start_over` sets
    /// this field to false, after a new connection and when the unit comes back. The unit can go
    /// online only when this field is true for all its reads.
    pub(super) is_made: bool,
    /// The longest time that the read has recently taken. From this time, `Client::ahead` computes
    /// when a read must begin, so that it ends just before a cycle of the scan.
    pub(super) time: Duration,
    /// The number of consecutive times that the read had no valid reply, including the probes that
    /// use this read.
    pub(super) silences: u8,
    pub(super) spots: Vec<Spot>,
    /// The name of the group, and the table that the group reads.
    pub(super) group: String,
    pub(super) table: Table,
    /// The number of the planned read to which this read belongs, and whether this read is only a
    /// part of it. `split.rs` makes parts of a read that the unit has refused.
    pub(super) planned: usize,
    pub(super) is_part: bool,
    /// The exception code that was logged last, or `None` after a normal reply and at the start.
    /// The exceptions of a busy unit, and of a gateway that does not reach the unit, do not change
    /// this field.
    pub(super) trouble: OnChange<Option<u8>>,
    /// Whether the unit is present but does not answer this read. `Read::is_mute_anew` sets this
    /// field, and each change is logged.
    pub(super) is_mute: OnChange<bool>,
}

/// One point in the reply of a read.
#[derive(Debug, Clone, Copy)]
pub(super) struct Spot {
    pub(super) id: PointId,
    /// The first address of the point.
    pub(super) address: u16,
    /// The layout of the point in its registers. `None` for a bit.
    pub(super) layout: Option<Layout>,
}

impl Read {
    /// Copies the values of the points from the reply to `side`, which passes them to the scan. A
    /// point whose float is NaN or infinite gets the quality `Sensor` instead.
    /// [`UnitRequest::reply`] has already checked that the reply has exactly the length that the
    /// request asked for.
    pub(super) fn take(&self, reply: &Reply, side: &mut Side) {
        let first = self.range().start;
        for spot in &self.spots {
            let offset = (u32::from(spot.address) - first) as usize;
            match (reply, spot.layout) {
                (Reply::Registers(registers), Some(layout)) => {
                    match layout.read(&registers[offset..]) {
                        Ok(raw) => side.put(spot.id, raw),
                        Err(_) => side.spoil(spot.id, Quality::Sensor),
                    }
                }
                (Reply::Bits(bits), None) => {
                    side.put(spot.id, [u8::from(bits[offset]), 0, 0, 0, 0, 0, 0, 0]);
                }
                // This case does not occur: a request for bits gets a reply with bits, and all its
                // points are bits. A request for registers gets registers.
                _ => {}
            }
        }
    }

    /// Records how long the read has taken. `self.time` rises to a longer time at once, and falls
    /// towards a shorter time by at most 1/32 with each read.
    pub(super) fn took(&mut self, time: Duration) {
        self.time = time.max(self.time - self.time / 32);
    }

    /// Returns the name of the read for messages: the group, the table and the first address.
    pub(super) fn name(&self) -> String {
        let (group, table) = (&self.group, self.table.word());
        format!("group {group}, table {table} from address {}", self.range().start)
    }

    /// Whether the unit has answered this read with values the last time.
    pub(super) fn is_answered(&self) -> bool {
        self.is_made && self.silences == 0 && self.trouble.last().is_none()
    }

    /// Returns the part of the device status that shows this read. Returns `None` while the unit
    /// answers the read with values, and after a single missing reply.
    pub(super) fn part(&self) -> Option<Part> {
        let range = self.range();
        let state = match (*self.is_mute.last(), *self.trouble.last()) {
            (true, _) => "not answered".to_owned(),
            (false, Some(code)) => {
                let (first, last, why) = (range.start, range.end - 1, WireError::Exception(code));
                match first == last {
                    true => format!("address {first}: {why}"),
                    false => format!("addresses {first} to {last}: {why}"),
                }
            }
            (false, None) => return None,
        };
        Some(Part { name: self.name(), ok: false, state, facts: Vec::new() })
    }

    /// Records whether the read had no valid reply.
    pub(super) fn heard(&mut self, is_silent: bool) {
        self.silences = if is_silent { self.silences.saturating_add(1) } else { 0 };
    }

    /// Records whether the unit is present but does not answer this read. Returns whether this
    /// state has changed; the caller logs a change.
    pub(super) fn is_mute_anew(&mut self, is_online: bool) -> bool {
        let is_mute = match self.silences {
            0 => false,
            // One missing reply proves nothing, because a frame can get lost.
            1 => *self.is_mute.last(),
            _ => is_online,
        };
        self.is_mute.changes_to(is_mute)
    }

    /// Sets the time when the read is due next. `due` is the next time in the rhythm of the period.
    /// `pause` is the end of the pause that follows missing replies.
    pub(super) fn put_off(&mut self, due: Duration, pause: Duration, is_online: bool) {
        self.due = match (self.silences, is_online) {
            // One missing reply proves nothing, because a frame can get lost.
            (0, _) | (1, true) => due,
            // A read without replies must wait, because its timeouts take bus time from the other
            // reads.
            (_, true) => due.max(pause),
            // A unit that comes back is asked again soon, even if the period of the read is long.
            (1, false) => due.min(pause),
            (_, false) => pause,
        };
    }

    /// Sets all points of the read to this bad quality.
    pub(super) fn spoil(&self, quality: Quality, side: &mut Side) {
        self.spots.iter().for_each(|spot| side.spoil(spot.id, quality));
    }

    /// Returns how long the scan trusts the values of this read. A value is stale when its age
    /// reaches three periods plus `timeout`. A value is bad when its age reaches ten periods, but
    /// not before 2 s.
    pub(super) fn freshness(&self, timeout: Duration) -> Freshness {
        let bad = (10 * self.period).max(Duration::from_secs(2));
        Freshness { stale_after: Some(3 * self.period + timeout), bad_after: Some(bad) }
    }
}

/// Combines ranges of addresses into as few requests as possible. No range is split between two
/// requests. Between two ranges, a request may include at most `gap` addresses without a point. In
/// total, a request may have at most `max` addresses.
pub(super) fn gather(mut places: Vec<Range<u32>>, gap: u32, max: u32) -> Vec<Range<u32>> {
    places.sort_by_key(|place| (place.start, place.end));
    let mut requests: Vec<Range<u32>> = Vec::new();
    for place in places {
        match requests.last_mut() {
            Some(last)
                if place.start <= last.end + gap && place.end.max(last.end) - last.start <= max =>
            {
                last.end = last.end.max(place.end);
            }
            _ => requests.push(place),
        }
    }
    requests
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn places_are_gathered_as_far_as_that_is_allowed() {
        fn check(places: &[(u32, u32)], gap: u32, max: u32, expected: &[(u32, u32)]) {
            let ranges = places.iter().map(|(start, end)| *start..*end).collect();
            let requests = gather(ranges, gap, max);
            let found: Vec<_> = requests.iter().map(|r| (r.start, r.end)).collect();
            assert_eq!(found, expected, "{places:?}, gap {gap}, max {max}");
        }
        check(&[], 0, 125, &[]);
        check(&[(0, 2), (2, 4)], 0, 125, &[(0, 4)]);
        check(&[(4, 5), (0, 2), (2, 4)], 0, 125, &[(0, 5)]);
        check(&[(0, 2), (3, 4)], 0, 125, &[(0, 2), (3, 4)]);
        check(&[(0, 2), (3, 4)], 1, 125, &[(0, 4)]);
        check(&[(0, 2), (4, 6)], 1, 125, &[(0, 2), (4, 6)]);
        check(&[(0, 2), (2, 4), (4, 6)], 0, 4, &[(0, 4), (4, 6)]);
        check(&[(0, 2), (2, 4), (4, 6)], 9, 5, &[(0, 4), (4, 6)]);
        check(&[(0, 4), (1, 2), (1, 2)], 0, 4, &[(0, 4)]);
        check(&[(0, 1), (0, 4)], 0, 125, &[(0, 4)]);
        check(&[(65535, 65536)], 100, 125, &[(65535, 65536)]);
    }
}
