//! What stands over the values of devices and programs: forces of an operator, substitutes for bad
//! inputs, and safe values of outputs whose program lacks what it requires.
//!
//! What is below is not lost: it shows again as soon as nothing stands over it. Precedence of
//! outputs: safe, then force, then program, so a force waits while nobody owns its output. Nothing
//! here allocates but [`Overlay::take_points`]. Who may force what, for how long and why is the
//! daemon's business; what a program requires is looked at in `scan/require.rs`.

use std::time::Duration;

use super::world::{MAX_PROGRAMS, Seat};
use crate::image::{
    Class, Direction, Freshness, Inputs, OnBad, Point, PointId, Points, Quality, Raw, Safe,
};

/// The most forces at one time: each costs every cycle, and more nobody keeps in mind.
pub const MAX_FORCES: usize = 64;

/// A point that has a value because somebody says so.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Force {
    /// Which.
    pub point: PointId,
    /// The value.
    pub raw: Raw,
    /// Until when, on the scan's clock; `None` for as long as the daemon runs.
    pub until: Option<Duration>,
}

/// All that stands over the images.
#[derive(Debug, Default)]
pub struct Overlay {
    forces: Vec<Force>,
    /// Inputs whose age the configuration limits.
    aging: Vec<(PointId, Freshness)>,
    /// Inputs that have something to stand in for them.
    substitutes: Vec<(PointId, Raw)>,
    /// What is below, of each input that has something over it; in the order in which it was laid.
    covered: Vec<(PointId, Raw, Quality)>,
    /// Outputs that nobody owns any more and that keep their value until then.
    leaving: Vec<(PointId, Duration)>,
    /// Programs that lack something, and from when on their outputs are safe.
    lacking: Vec<(Seat, Duration)>,
    /// What the outputs of programs that lack something are in this cycle.
    kept: Vec<(PointId, Raw)>,
    /// Outputs that are forced in this cycle.
    forced: Vec<PointId>,
}

impl Overlay {
    /// Nothing yet, with room for all that may come.
    pub fn new(points: &Points) -> Self {
        let mut overlay = Self {
            forces: Vec::with_capacity(MAX_FORCES),
            lacking: Vec::with_capacity(MAX_PROGRAMS),
            forced: Vec::with_capacity(MAX_FORCES),
            ..Self::default()
        };
        overlay.take_points(points);
        overlay
    }

    /// From now on these points: what stood over others is gone.
    pub fn take_points(&mut self, points: &Points) {
        let is_there = |id: PointId| points.get(id).is_some();
        self.forces.retain(|force| is_there(force.point));
        self.covered.retain(|(id, ..)| is_there(*id));
        self.leaving.retain(|(id, _)| is_there(*id));
        self.forced.retain(|id| is_there(*id));
        let substitute = |(id, point): (PointId, &Point)| match point.on_bad {
            OnBad::Keep => None,
            OnBad::Value(value) => {
                Some((id, point.raw_of(value).expect("the configuration has tried the value")))
            }
        };
        let limited = |(id, point): (PointId, &Point)| {
            (point.freshness != Freshness::default()).then_some((id, point.freshness))
        };
        self.aging = points.iter().filter_map(limited).collect();
        self.substitutes = points.iter().filter_map(substitute).collect();
        let outputs = points.iter().filter(|(_, point)| point.direction == Direction::Out).count();
        // An input has at most its age, a substitute and a force.
        self.covered.reserve(self.aging.len() + self.substitutes.len() + MAX_FORCES);
        self.leaving.reserve(outputs);
        self.kept.reserve(outputs);
    }

    /// The forces, in the order in which they came.
    pub fn forces(&self) -> &[Force] {
        &self.forces
    }

    /// Forces a point, in place of the force that it may have.
    ///
    /// # Errors
    /// When there are too many.
    pub fn force(&mut self, force: Force) -> Result<(), &'static str> {
        self.unforce(Some(force.point));
        if self.forces.len() == MAX_FORCES {
            return Err("there are 64 forces already; `camshaft unforce` ends one");
        }
        self.forces.push(force);
        Ok(())
    }

    /// Ends the force of a point, or all of them.
    pub fn unforce(&mut self, point: Option<PointId>) {
        self.forces.retain(|force| point.is_some_and(|point| force.point != point));
    }

    /// Shows the inputs as the devices gave them, so that these find what they left.
    pub fn remove(&mut self, points: &Points, inputs: &mut Inputs) {
        while let Some((id, raw, quality)) = self.covered.pop() {
            points[id].put_raw(&mut inputs.bytes, &raw);
            inputs.quality[id.index()] = quality;
        }
    }

    /// Lets inputs age, and lays substitutes over those that are bad, and forces over any.
    pub fn apply(&mut self, now: Duration, points: &Points, inputs: &mut Inputs) {
        let Self { forces, aging, substitutes, covered, .. } = self;
        forces.retain(|force| force.until.is_none_or(|until| now < until));
        let mut lay = |inputs: &mut Inputs, id: PointId, raw: &Raw, quality| {
            let point = &points[id];
            covered.push((id, point.raw(&inputs.bytes), inputs.quality[id.index()]));
            point.put_raw(&mut inputs.bytes, raw);
            inputs.quality[id.index()] = quality;
        };
        for (id, freshness) in aging {
            let (quality, good_at) = (inputs.quality[id.index()], inputs.good_at[id.index()]);
            let judged = freshness.judge(quality, now.saturating_sub(good_at));
            if judged != quality {
                let raw = points[*id].raw(&inputs.bytes);
                lay(inputs, *id, &raw, judged);
            }
        }
        for (id, raw) in substitutes {
            if inputs.quality[id.index()].class() == Class::Bad {
                lay(inputs, *id, raw, Quality::Substitute);
            }
        }
        for force in forces.iter().filter(|f| points[f.point].direction == Direction::In) {
            lay(inputs, force.point, &force.raw, Quality::Forced);
        }
    }

    /// From `from` on the outputs of this program are safe; or it has what it requires again.
    pub fn lacks(&mut self, seat: Seat, from: Option<Duration>) {
        let known = self.lacking.iter().position(|(other, _)| *other == seat);
        match (known, from) {
            // The first moment counts, whichever version runs.
            (Some(_), Some(_)) | (None, None) => {}
            (Some(at), None) => drop(self.lacking.swap_remove(at)),
            (None, Some(from)) => self.lacking.push((seat, from)),
        }
    }

    /// Whether any program lacks something, or will soon.
    pub fn is_lacking(&self) -> bool {
        !self.lacking.is_empty()
    }

    /// Since when the outputs of this program are safe because it lacks something.
    pub fn degraded(&self, seat: Seat, now: Duration) -> Option<Duration> {
        let since = self.lacking.iter().find(|(other, _)| *other == seat)?.1;
        (now >= since).then_some(since)
    }

    /// An output that nobody owns any more: it is safe now, or keeps its value for a while.
    pub fn leave(&mut self, now: Duration, id: PointId, point: &Point, outputs: &mut [u8]) {
        self.leaving.retain(|(other, _)| *other != id);
        if point.hold_for.is_zero() || point.safe == Safe::Hold {
            make_safe(point, outputs);
        } else {
            self.leaving.push((id, now + point.hold_for));
        }
    }

    /// Whether this output keeps its value for a while although nobody owns it.
    pub fn is_leaving(&self, id: PointId) -> bool {
        self.leaving.iter().any(|(leaving, _)| *leaving == id)
    }

    /// Makes those outputs safe that were left, without waiting any longer.
    pub fn make_safe_now(&mut self, points: &Points, outputs: &mut [u8]) {
        self.leaving.drain(..).for_each(|(id, _)| make_safe(&points[id], outputs));
    }

    /// What the devices are given: `outputs` and what stands over them. `driven` is that of the
    /// cycle before, `quality` that of all points.
    pub fn drive(
        &mut self,
        now: Duration,
        points: &Points,
        owners: &[Option<Seat>],
        (outputs, driven): (&mut [u8], &mut [u8]),
        quality: &mut [Quality],
    ) {
        self.end_leaving(now, points, owners, outputs);
        self.keep(now, points, owners, driven);
        driven.copy_from_slice(outputs);
        self.forced.drain(..).for_each(|id| quality[id.index()] = Quality::Good);
        for at in 0..self.forces.len() {
            let Force { point: id, raw, .. } = self.forces[at];
            let is_output = points[id].direction == Direction::Out;
            let owner = owners[id.index()].filter(|_| is_output);
            if owner.is_some_and(|seat| self.degraded(seat, now).is_none()) {
                points[id].put_raw(driven, &raw);
                quality[id.index()] = Quality::Forced;
                self.forced.push(id);
            }
        }
        for (id, raw) in self.kept.drain(..) {
            points[id].put_raw(driven, &raw);
        }
    }

    fn end_leaving(
        &mut self,
        now: Duration,
        points: &Points,
        owners: &[Option<Seat>],
        outputs: &mut [u8],
    ) {
        self.leaving.retain(|(id, until)| {
            let is_owned = owners[id.index()].is_some();
            let is_over = now >= *until;
            if is_over && !is_owned {
                make_safe(&points[*id], outputs);
            }
            !is_owned && !is_over
        });
    }

    /// Notes what the outputs of degraded programs are: safe, or still as the devices have them.
    fn keep(&mut self, now: Duration, points: &Points, owners: &[Option<Seat>], driven: &[u8]) {
        if self.lacking.is_empty() {
            return;
        }
        for (id, point) in points.iter().filter(|(_, point)| point.direction == Direction::Out) {
            let Some(seat) = owners[id.index()] else { continue };
            let Some(since) = self.degraded(seat, now) else { continue };
            let is_held = now < since + point.hold_for;
            let raw = match point.safe {
                Safe::Value(safe) if !is_held => {
                    point.raw_of(safe).expect("the configuration has tried every safe value")
                }
                _ => point.raw(driven),
            };
            self.kept.push((id, raw));
        }
    }
}

/// Gives an output its safe value, if it has one.
pub(super) fn make_safe(point: &Point, outputs: &mut [u8]) {
    if let (Direction::Out, Safe::Value(value)) = (point.direction, point.safe) {
        point.write(outputs, value).expect("the configuration has tried every safe value");
    }
}
