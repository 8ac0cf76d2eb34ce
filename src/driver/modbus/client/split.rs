//! Finds the addresses that a unit refuses within a read of several points.
//!
//! One read has many points, and the unit refuses the whole read if one of its addresses does not
//! exist, or if the read is too long. So that the other points have values, the driver halves the
//! read until only the refused addresses are left, and then joins the parts that were answered:
//!
//! ```text
//!   100..110 refused --> 100..105 refused, 105..110 --> ... --> 104 refused, 100..104, 105..110
//! ```
//! The driver stores every refused range and never joins parts to a range that contains it. So each
//! refusal makes the ranges smaller, and the search ends. A refused read that cannot be halved is
//! repeated after `CONFIG_AGAIN`; if the unit then answers, the stored ranges with its addresses
//! are dropped. `exchange.rs` calls these functions after each reply to a read.

use std::ops::Range;
use std::time::Duration;

use super::bus::Client;
use super::read::{Read, Spot};
use super::refusal::RefusedRange;
use super::session::ExchangeResult;
use crate::driver::modbus::wire::error::WireError;
use crate::driver::modbus::wire::request::{Ask, UnitRequest};
use crate::logged::OnChange;

/// The time after which a refused range is read as a whole again, if none of its parts is refused.
/// A device may refuse a read while it starts. A device that does not accept so long a read refuses
/// it once in this time.
const TRIED_AGAIN: Duration = Duration::from_secs(600);

impl Client {
    /// Halves read `n` if the unit has refused its addresses or its length, and if the read has at
    /// least two points with different addresses. Both halves are due at once. Returns whether the
    /// read was halved.
    pub(super) fn halve(&mut self, n: usize, outcome: &ExchangeResult, now: Duration) -> bool {
        // Exception 2 is an illegal address. Some units use 3, an illegal value, for a read that is
        // too long.
        let is_refused = matches!(outcome, ExchangeResult::Failed(WireError::Exception(2 | 3)));
        if !is_refused {
            return false;
        }
        let read = &self.reads[n];
        let (unit, table, range) = (read.unit, read.table, read.range());
        let is_it = |known: &&mut RefusedRange| is_of(known, read) && known.range == range;
        match self.refused.iter_mut().find(is_it) {
            Some(known) => known.at = now,
            None => self.refused.push(RefusedRange { unit, table, range, at: now }),
        }
        let Some((first, second)) = read.halves() else { return false };
        let name = &self.name;
        tracing::debug!(
            device = name,
            "device {name}: {}: refused; the driver reads addresses {} to {} and {} to {} instead",
            read.name(),
            first.start,
            first.end - 1,
            second.start,
            second.end - 1
        );
        let (first, second) = (read.part_of(first), read.part_of(second));
        self.reads[n] = Read { due: now, ..first };
        self.reads.push(Read { due: now, ..second });
        true
    }

    /// Joins read `n`, which was just answered, with the answered parts of the same planned read
    /// beside it.
    pub(super) fn join(&mut self, n: usize, now: Duration) {
        if !self.reads[n].is_part {
            return;
        }
        self.forget_refusals(n, now);
        if let Some(other) = (0..self.reads.len()).find(|&other| self.may_join(n, other)) {
            self.reads[n] = self.reads[n].joined(&self.reads[other]);
            self.reads.swap_remove(other);
        }
    }

    /// Drops the refused ranges that contain the addresses of read `n`, if the unit had refused
    /// exactly these addresses before. Also drops each old range in which no read is refused now:
    /// the unit may have refused it for a passing reason.
    fn forget_refusals(&mut self, n: usize, now: Duration) {
        let (read, own) = (&self.reads[n], self.reads[n].range());
        let refused = &mut self.refused;
        let has_hole = |range: &RefusedRange| {
            let inside = |it: &&Read| is_of(range, it) && contains(&range.range, &it.range());
            self.reads.iter().filter(inside).any(|it| it.trouble.last().is_some())
        };
        refused.retain(|range| {
            !is_of(range, read) || now.saturating_sub(range.at) < TRIED_AGAIN || has_hole(range)
        });
        if refused.iter().any(|refused| is_of(refused, read) && refused.range == own) {
            refused.retain(|refused| !(is_of(refused, read) && contains(&refused.range, &own)));
        }
    }

    /// Whether the reads `n` and `other` can be one read: they are parts of the same planned read,
    /// both were answered, and no other part and no refused range is between them.
    fn may_join(&self, n: usize, other: usize) -> bool {
        let (read, beside) = (&self.reads[n], &self.reads[other]);
        let all = union(&read.range(), &beside.range());
        let parts = self.reads.iter().filter(|part| part.planned == read.planned);
        let is_refused = |it: &RefusedRange| is_of(it, read) && contains(&all, &it.range);
        other != n
            && beside.planned == read.planned
            && beside.is_answered()
            && parts.filter(|part| contains(&all, &part.range())).count() == 2
            && !self.refused.iter().any(is_refused)
    }
}

impl Read {
    /// Returns the addresses of the read.
    pub(super) fn range(&self) -> Range<u32> {
        let Ask::Read { address, count, .. } = self.request.ask else { return 0..0 };
        let start = u32::from(address);
        start..start + u32::from(count)
    }

    /// Returns the addresses of each point, sorted.
    fn places(&self) -> Vec<Range<u32>> {
        let mut places: Vec<_> = self.spots.iter().map(Spot::range).collect();
        places.sort_by_key(|place| (place.start, place.end));
        places
    }

    /// Returns two ranges that together contain all points of the read, none of them in part. The
    /// cut is as near to the middle as possible. Returns `None` if there is no such cut.
    fn halves(&self) -> Option<(Range<u32>, Range<u32>)> {
        let (places, range) = (self.places(), self.range());
        let (mut end, mut cuts) = (range.start, Vec::new());
        for place in &places {
            if place.start >= end && end > range.start {
                cuts.push((end, place.start));
            }
            end = end.max(place.end);
        }
        let middle = range.start + (range.end - range.start) / 2;
        let (before, after) = cuts.into_iter().min_by_key(|(_, start)| start.abs_diff(middle))?;
        Some((places[0].start..before, after..end))
    }

    /// Returns the part of this read with the points in `range`. It is due when this read was due.
    fn part_of(&self, range: Range<u32>) -> Self {
        let inside = |spot: &&Spot| contains(&range, &spot.range());
        let spots = self.spots.iter().filter(inside).copied().collect();
        self.with(range, spots)
    }

    /// Returns one read with the points of this read and of `other`.
    fn joined(&self, other: &Self) -> Self {
        let spots = self.spots.iter().chain(&other.spots).copied().collect();
        Self { is_made: true, ..self.with(union(&self.range(), &other.range()), spots) }
    }

    /// Returns a part of the same planned read with this range and these points.
    fn with(&self, range: Range<u32>, spots: Vec<Spot>) -> Self {
        // A part is within a planned read, so its address and its length fit into 16 bits.
        let (address, count) = (range.start as u16, range.len() as u16);
        let ask = Ask::Read { table: self.table, address, count };
        Self {
            unit: self.unit,
            table: self.table,
            group: self.group.clone(),
            planned: self.planned,
            is_part: true,
            request: UnitRequest { unit: self.request.unit, ask },
            period: self.period,
            due: self.due,
            is_made: false,
            time: self.time,
            silences: 0,
            spots,
            trouble: OnChange::default(),
            is_mute: OnChange::default(),
        }
    }
}

impl Spot {
    /// Returns the addresses of the point.
    fn range(&self) -> Range<u32> {
        let first = u32::from(self.address);
        first..first + self.layout.map_or(1, |layout| layout.registers() as u32)
    }
}

/// Whether the refused range is in the table that the read reads, and of its unit.
fn is_of(refused: &RefusedRange, read: &Read) -> bool {
    (refused.unit, refused.table) == (read.unit, read.table)
}

/// Whether `outer` contains all addresses of `inner`.
fn contains(outer: &Range<u32>, inner: &Range<u32>) -> bool {
    outer.start <= inner.start && inner.end <= outer.end
}

/// Returns the smallest range that contains both ranges.
fn union(one: &Range<u32>, other: &Range<u32>) -> Range<u32> {
    one.start.min(other.start)..one.end.max(other.end)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::driver::modbus::client::Config;
    use crate::process::image::{Direction, Point, PointKind, Points};

    /// Plans a bus with one group of points at these addresses.
    fn plan(addresses: &[u32], kind: PointKind) -> Client {
        let place = |address| format!("p{address} = {{ group = \"g\", address = {address} }}\n");
        let text = format!(
            "connect = \"tcp://h\"\nunit = [{{ name = \"u\", id = 1 }}]\n\
             group = [{{ name = \"g\", unit = \"u\", table = \"holding\", period = \"1s\", \
             merge_gap = 3 }}]\n[at]\n{}",
            addresses.iter().map(place).collect::<String>()
        );
        let config: Config = toml::from_str(&text).unwrap();
        let point = |address| Point::new(format!("p{address}"), Direction::In, kind);
        let points = Points::new(addresses.iter().map(point).collect(), 8, 0);
        Client::plan(&config, &points, 0).unwrap()
    }

    #[test]
    fn a_cut_divides_no_point() {
        fn check(addresses: &[u32], kind: PointKind, expected: Option<(Range<u32>, Range<u32>)>) {
            let client = plan(addresses, kind);
            assert_eq!(client.reads[0].halves(), expected, "{addresses:?}, {kind}");
        }
        check(&[10], PointKind::U16, None);
        check(&[10], PointKind::U32, None);
        check(&[10, 11], PointKind::U16, Some((10..11, 11..12)));
        check(&[10, 11, 12, 13], PointKind::U16, Some((10..12, 12..14)));
        check(&[10, 12, 14], PointKind::U32, Some((10..12, 12..16)));
        check(&[10, 13], PointKind::U16, Some((10..11, 13..14)));
    }

    /// Plays the replies of a unit whose read of `hole` is refused, until nothing changes.
    #[test]
    fn parts_are_halved_and_joined_until_only_the_hole_is_left() {
        for hole in 100..110 {
            let mut client = plan(&(100..110).collect::<Vec<_>>(), PointKind::U16);
            let refused = || ExchangeResult::Failed(WireError::Exception(2));
            for n in 0..60 {
                let n = n % client.reads.len();
                if client.reads[n].range().contains(&hole) {
                    client.halve(n, &refused(), Duration::ZERO);
                    client.reads[n].trouble.changes_to(Some(2));
                } else {
                    client.reads[n].is_made = true;
                    client.reads[n].trouble.changes_to(None);
                    client.join(n, Duration::ZERO);
                }
            }
            let mut ranges: Vec<_> = client.reads.iter().map(Read::range).collect();
            ranges.sort_by_key(|range| range.start);
            let whole = [100..hole, hole..hole + 1, hole + 1..110];
            let expected: Vec<_> = whole.into_iter().filter(|range| !range.is_empty()).collect();
            assert_eq!(ranges, expected);
            for read in &client.reads {
                let range = read.range();
                assert_eq!(read.spots.len(), range.len(), "{range:?}");
                assert!(read.spots.iter().all(|spot| range.contains(&spot.address.into())));
            }
            // The hole is filled: all is one read again.
            for n in 0..60 {
                let n = n % client.reads.len();
                client.reads[n].is_made = true;
                client.reads[n].trouble.changes_to(None);
                client.join(n, Duration::ZERO);
            }
            assert_eq!(client.reads.len(), 1);
            assert_eq!(client.reads[0].range(), 100..110);
        }
    }
}
