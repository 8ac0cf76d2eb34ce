//! What is read with one request, and how points are gathered into such requests.
//!
//! The points of one request become visible together. Places that nobody wants are read only if the
//! configuration allows it: many devices refuse a request that touches what they do not have. When
//! a request is made is decided in `schedule.rs`.

use std::ops::Range;
use std::time::Duration;

use super::register::Layout;
use super::request::{Reply, Request};
use crate::driver::Part;
use crate::driver::link::Side;
use crate::image::{Freshness, PointId, Quality};

/// A request that is made again and again.
#[derive(Debug)]
pub(super) struct Read {
    /// Place of the unit in the list of all.
    pub(super) unit: usize,
    pub(super) request: Request,
    pub(super) period: Duration,
    /// When it is made next.
    pub(super) due: Duration,
    /// Whether it was made since the unit came.
    pub(super) is_made: bool,
    /// How long it has taken lately, at most.
    pub(super) time: Duration,
    /// How often in a row nobody answered it.
    pub(super) silences: u8,
    pub(super) spots: Vec<Spot>,
    /// For people: the group and where it reads.
    pub(super) name: String,
    /// The exception that was answered last.
    pub(super) trouble: Option<u8>,
    /// Whether it is known to people that its unit does not answer it.
    pub(super) is_mute: bool,
}

/// A point in the reply.
#[derive(Debug, Clone, Copy)]
pub(super) struct Spot {
    pub(super) id: PointId,
    /// Its first place, counted from that of the request.
    pub(super) offset: usize,
    /// How it lies in registers; bits need none.
    pub(super) layout: Option<Layout>,
}

impl Read {
    /// Takes the values out of a reply, which is as long as the request wants it.
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
                // A reply is of the sort of its request, and so are the spots.
                _ => {}
            }
        }
    }

    /// It has taken so long. A longer time counts at once, a shorter one little by little.
    pub(super) fn took(&mut self, time: Duration) {
        self.time = time.max(self.time - self.time / 32);
    }

    /// What the status shows of it when its unit does not answer it.
    pub(super) fn part(&self) -> Part {
        let (name, state) = (self.name.clone(), "not answered".into());
        Part { name, ok: false, state, facts: Vec::new() }
    }

    /// Somebody has answered it, or not.
    pub(super) fn heard(&mut self, is_silent: bool) {
        self.silences = if is_silent { self.silences.saturating_add(1) } else { 0 };
    }

    /// Whether that its unit, which is there, does not answer it has just become worth a word, or
    /// is not so any more.
    pub(super) fn is_mute_anew(&mut self, is_online: bool) -> bool {
        let is_mute = match self.silences {
            0 => false,
            // A frame can get lost.
            1 => self.is_mute,
            _ => is_online,
        };
        std::mem::replace(&mut self.is_mute, is_mute) != is_mute
    }

    /// It is due at `due` in its rhythm, or at `pause` if it shall wait because nobody answers.
    pub(super) fn put_off(&mut self, due: Duration, pause: Duration, is_online: bool) {
        self.due = match (self.silences, is_online) {
            // A frame can get lost.
            (0, _) | (1, true) => due,
            // What never comes shall not take the time of the rest.
            (_, true) => due.max(pause),
            // And whoever is waited for shall not be left alone for a long period.
            (1, false) => due.min(pause),
            (_, false) => pause,
        };
    }

    /// All its points are known to be this bad.
    pub(super) fn spoil(&self, quality: Quality, side: &mut Side) {
        self.spots.iter().for_each(|spot| side.spoil(spot.id, quality));
    }

    /// How long its values are believed: three readings and a wait, and ten until they are bad.
    pub(super) fn freshness(&self, timeout: Duration) -> Freshness {
        let bad = (10 * self.period).max(Duration::from_secs(2));
        Freshness { stale_after: Some(3 * self.period + timeout), bad_after: Some(bad) }
    }
}

/// Gathers places, each whole, into as few requests as possible: no more than `gap` places that
/// nobody wants between two, and no more than `max` in one request.
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
