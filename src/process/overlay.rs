//! The overlay: values that stand over those of devices and programs. These are forces of an
//! operator, substitutes for bad inputs, and safe values of outputs whose program lacks a required
//! input.
//!
//! The value of a device or program under the overlay is not lost: it shows again as soon as no
//! other value stands over it. Precedence of outputs: safe, then force, then program. So a force
//! has no effect while no program owns its output, because the output is safe. Only
//! [`Overlay::new`] and [`Overlay::take_points`] allocate in this file.
//!
//! Which forces are allowed, for how long and why, is decided in the daemon. Whether a program
//! lacks a required input is decided in `scan/require.rs`.

use std::time::Duration;

use super::image::{
    Class, Direction, Freshness, Inputs, OnBad, Point, PointId, Points, Quality, Raw, Safe,
};
use super::seat::{MAX_PROGRAMS, Seat};

/// Most forces at one time, because each force costs time in every cycle, and because an operator
/// cannot remember more.
pub const MAX_FORCES: usize = 64;

/// A value that an operator gives to a point.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Force {
    /// The forced point.
    pub point: PointId,
    /// The value.
    pub raw: Raw,
    /// The end of the force, on the scan's clock; `None` means that the force stays as long as the
    /// daemon runs.
    pub until: Option<Duration>,
}

/// All values that stand over the images.
#[derive(Debug, Default)]
pub struct Overlay {
    /// The forces, in the order in which they were made.
    forces: Vec<Force>,
    /// Inputs whose age the configuration limits.
    aging: Vec<(PointId, Freshness)>,
    /// Inputs that have a substitute value.
    substitutes: Vec<(PointId, Raw)>,
    /// For each input that has a value of the overlay, the value and quality that the overlay has
    /// replaced. The entries are in the order in which they were replaced.
    covered: Vec<(PointId, Raw, Quality)>,
    /// Outputs without an owner that keep their value until the given time.
    leaving: Vec<(PointId, Duration)>,
    /// Programs that lack a required input, and the time from which their outputs are safe.
    lacking: Vec<(Seat, Duration)>,
    /// The outputs of the programs in `lacking`, with the values that the outputs have in this
    /// cycle.
    kept: Vec<(PointId, Raw)>,
    /// Outputs that are forced in this cycle.
    forced: Vec<PointId>,
}

impl Overlay {
    /// An empty overlay, with room for everything that may be added.
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

    /// Takes over these points. Values over points that are gone are dropped.
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
        // At most three values stand over an input: one for its age, a substitute and a force.
        self.covered.reserve(self.aging.len() + self.substitutes.len() + MAX_FORCES);
        self.leaving.reserve(outputs);
        self.kept.reserve(outputs);
    }

    /// The forces, in the order in which they were made.
    pub fn forces(&self) -> &[Force] {
        &self.forces
    }

    /// Forces a point. This replaces a force that the point already has.
    ///
    /// # Errors
    /// When there are [`MAX_FORCES`] forces already.
    pub fn force(&mut self, force: Force) -> Result<(), &'static str> {
        self.unforce(Some(force.point));
        if self.forces.len() == MAX_FORCES {
            return Err("there are 64 forces already; `camshaft unforce` ends one");
        }
        self.forces.push(force);
        Ok(())
    }

    /// Ends the force of a point; with `None`, all forces.
    pub fn unforce(&mut self, point: Option<PointId>) {
        self.forces.retain(|force| point.is_some_and(|point| force.point != point));
    }

    /// Restores the inputs as the devices gave them, because each device goes on from the values
    /// that it has written.
    pub fn remove(&mut self, points: &Points, inputs: &mut Inputs) {
        while let Some((id, raw, quality)) = self.covered.pop() {
            points[id].put_raw(&mut inputs.bytes, &raw);
            inputs.quality[id.index()] = quality;
        }
    }

    /// Lets inputs age. Afterwards puts substitutes over bad inputs, and forces over any inputs.
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

    /// Sets from when on the outputs of this program are safe. `None` means that the program has
    /// all required inputs again.
    pub fn lacks(&mut self, seat: Seat, from: Option<Duration>) {
        let known = self.lacking.iter().position(|(other, _)| *other == seat);
        match (known, from) {
            // The moment that was set first stays, even if another version runs by now.
            (Some(_), Some(_)) | (None, None) => {}
            (Some(at), None) => drop(self.lacking.swap_remove(at)),
            (None, Some(from)) => self.lacking.push((seat, from)),
        }
    }

    /// Whether any program lacks a required input, or its outputs will soon be safe for that
    /// reason.
    pub fn is_lacking(&self) -> bool {
        !self.lacking.is_empty()
    }

    /// Since when the outputs of this program are safe because it lacks a required input; `None` if
    /// they are not.
    pub fn degraded(&self, seat: Seat, now: Duration) -> Option<Duration> {
        let since = self.lacking.iter().find(|(other, _)| *other == seat)?.1;
        (now >= since).then_some(since)
    }

    /// Handles an output that has lost its owner: the output becomes safe now, or keeps its value
    /// for [`Point::hold_for`].
    pub fn leave(&mut self, now: Duration, id: PointId, point: &Point, outputs: &mut [u8]) {
        self.leaving.retain(|(other, _)| *other != id);
        if point.hold_for.is_zero() || point.safe == Safe::Hold {
            make_safe(point, outputs);
        } else {
            self.leaving.push((id, now + point.hold_for));
        }
    }

    /// Whether this output has no owner and still keeps its value until its hold time is over.
    pub fn is_leaving(&self, id: PointId) -> bool {
        self.leaving.iter().any(|(leaving, _)| *leaving == id)
    }

    /// Makes all outputs safe now that have lost their owner and still keep their value.
    pub fn make_safe_now(&mut self, points: &Points, outputs: &mut [u8]) {
        self.leaving.drain(..).for_each(|(id, _)| make_safe(&points[id], outputs));
    }

    /// Writes to `driven` the values for the devices: `outputs`, and over them the values of the
    /// overlay. Before the call, `driven` has the values of the cycle before. `quality` has the
    /// quality of each point.
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

    /// Makes the outputs safe whose hold time without an owner is over. Removes from the list the
    /// outputs that have an owner again.
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

    /// Notes the outputs of programs that lack a required input. Each output is noted with its safe
    /// value or, until its hold time is over, with the value that its device has now.
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
