//! Reads: what one request reads, and how points are combined into such requests.
//!
//! The points of one request become visible together. Places between points are read only if the
//! configuration allows it, because many devices refuse a request that touches places they do not
//! have. When a read is made is decided in `schedule.rs`.

use std::ops::Range;
use std::time::Duration;

use crate::driver::Part;
use crate::driver::link::Side;
use crate::driver::modbus::wire::register::Layout;
use crate::driver::modbus::wire::request::{Reply, Request};
use crate::logged::OnChange;
use crate::process::image::{Freshness, PointId, Quality};

/// A request that is repeated with a period.
#[derive(Debug)]
pub(super) struct Read {
    /// The index of the unit in the list of units.
    pub(super) unit: usize,
    pub(super) request: Request,
    pub(super) period: Duration,
    /// When the read is due next.
    pub(super) due: Duration,
    /// Whether the read was made since the unit came back.
    pub(super) is_made: bool,
    /// The longest time that the read has taken recently.
    pub(super) time: Duration,
    /// The number of times in a row that it had no reply.
    pub(super) silences: u8,
    pub(super) spots: Vec<Spot>,
    /// The name for people: the group and the places.
    pub(super) name: String,
    /// The exception code of the last reply, if it was an exception.
    pub(super) trouble: OnChange<Option<u8>>,
    /// Whether it was logged that the unit does not answer this read.
    pub(super) is_mute: OnChange<bool>,
}

/// A point in the reply.
#[derive(Debug, Clone, Copy)]
pub(super) struct Spot {
    pub(super) id: PointId,
    /// The first place of the point, counted from that of the request.
    pub(super) offset: usize,
    /// The layout of the point in registers; `None` for a bit.
    pub(super) layout: Option<Layout>,
}

impl Read {
    /// Takes the points' values out of a reply. The reply is as long as the request asked for.
    pub(super) fn take(&self, reply: &Reply, side: &mut Side) {
        for spot in &self.spots {
            match (reply, spot.layout) {
                (Reply::Registers(registers), Some(layout)) => {
                    match layout.read(&registers[spot.offset..]) {
                        Ok(raw) => side.put(spot.id, raw),
                        Err(_) => side.spoil(spot.id, Quality::Sensor),
                    }
                }
                (Reply::Bits(bits), None) => {
                    side.put(spot.id, [u8::from(bits[spot.offset]), 0, 0, 0, 0, 0, 0, 0]);
                }
                // A reply has the kind of its request, and so have the spots.
                _ => {}
            }
        }
    }

    /// Notes how long the read has taken. A longer time counts at once, a shorter one step by step.
    pub(super) fn took(&mut self, time: Duration) {
        self.time = time.max(self.time - self.time / 32);
    }

    /// The read as the status shows it while the unit does not answer it.
    pub(super) fn part(&self) -> Part {
        let (name, state) = (self.name.clone(), "not answered".into());
        Part { name, ok: false, state, facts: Vec::new() }
    }

    /// Notes whether the read had no reply.
    pub(super) fn heard(&mut self, is_silent: bool) {
        self.silences = if is_silent { self.silences.saturating_add(1) } else { 0 };
    }

    /// Notes whether the unit is present but does not answer this read. Returns whether that has
    /// changed and is to be logged.
    pub(super) fn is_mute_anew(&mut self, is_online: bool) -> bool {
        let is_mute = match self.silences {
            0 => false,
            // One silence proves nothing, because a frame can get lost.
            1 => *self.is_mute.last(),
            _ => is_online,
        };
        self.is_mute.changes_to(is_mute)
    }

    /// Sets the next time: `due` in the rhythm of the period, or `pause` to wait after silences.
    pub(super) fn put_off(&mut self, due: Duration, pause: Duration, is_online: bool) {
        self.due = match (self.silences, is_online) {
            // One silence proves nothing, because a frame can get lost.
            (0, _) | (1, true) => due,
            // A read without replies must not take the time of the other reads.
            (_, true) => due.max(pause),
            // A unit that comes back is asked soon, also if the period is long.
            (1, false) => due.min(pause),
            (_, false) => pause,
        };
    }

    /// Sets all points of the read to this bad quality.
    pub(super) fn spoil(&self, quality: Quality, side: &mut Side) {
        self.spots.iter().for_each(|spot| side.spoil(spot.id, quality));
    }

    /// How long the values are trusted: three periods and a timeout until they are stale, ten
    /// periods until they are bad.
    pub(super) fn freshness(&self, timeout: Duration) -> Freshness {
        let bad = (10 * self.period).max(Duration::from_secs(2));
        Freshness { stale_after: Some(3 * self.period + timeout), bad_after: Some(bad) }
    }
}

/// Combines ranges of places into as few requests as possible, and splits none of them. Between two
/// ranges a request has at most `gap` places without a point. It has at most `max` places in all.
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
