//! The overlay: values that replace the values of devices and programs. The overlay has three kinds
//! of values: forces of an operator, substitutes for bad inputs, and safe values of outputs whose
//! program lacks a required input. A program lacks a required input while this input is bad; after
//! a timeout, the program's outputs become safe.
//!
//! ```text
//! apply   driver ──▶ ages ──▶ substitute, if input is bad ──▶ force ──▶ program
//! drive   program ──▶ deadband ──▶ force, if owned ──▶ safe, if program lacks an input ──▶ driver
//! ```
//!
//! The value of a device or program is not lost while the overlay replaces it. When the force or
//! substitute ends, the value becomes visible again. For an output, a safe value replaces a force,
//! and a force replaces the value of the program. An output without an owner is safe. Therefore a
//! force on an output has no effect while no program owns the output. The deadband of an output
//! (`deadband.rs`) ignores small changes of the program's value, and no others.
//!
//! Only [`Overlay::new`] and [`Overlay::take_points`] allocate memory in this file.
//!
//! The daemon decides which forces are allowed, and for how long. `scan/require.rs` decides whether
//! a program lacks a required input.

use std::time::Duration;

use super::deadband::Deadbands;
use super::image::{
    Class, Direction, Freshness, Inputs, OnBad, Point, PointId, Points, Quality, Raw, Safe,
};
use super::seat::{MAX_PROGRAMS, Seat};

/// Maximum number of forces at one time. The number is limited for two reasons: each force costs
/// time in every cycle, and an operator cannot remember more forces.
pub const MAX_FORCES: usize = 64;

/// A force: a value that an operator sets for a point, in place of the value of the device or
/// program.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Force {
    /// The forced point.
    pub point: PointId,
    /// The forced value, as raw bytes.
    pub raw: Raw,
    /// The time when the force ends, on the scan's clock. With `None`, the force stays as long as
    /// the daemon runs.
    pub until: Option<Duration>,
}

/// All values that replace values of the images.
#[derive(Debug, Default)]
pub struct Overlay {
    /// The forces, in the order in which they were set.
    forces: Vec<Force>,
    /// Inputs for which the configuration limits the age of the value, with these limits.
    aging: Vec<(PointId, Freshness)>,
    /// Inputs for which the configuration has a substitute value, with this value.
    substitutes: Vec<(PointId, Raw)>,
    /// The values and qualities of inputs that the overlay has replaced in this cycle, in the order
    /// of the replacements. An input has several entries if, for example, a substitute and then a
    /// force have replaced its value.
    covered: Vec<(PointId, Raw, Quality)>,
    /// Outputs that have lost their owner but are not safe yet because their hold time runs, each
    /// with the end of its hold time.
    leaving: Vec<(PointId, Duration)>,
    /// Programs that lack a required input, each with the time at which its wait for this input
    /// expires. At this time the program's outputs become safe, or their hold time begins.
    lacking: Vec<(Seat, Duration)>,
    /// The outputs of the programs in `lacking`, with the values that the devices get in this
    /// cycle.
    kept: Vec<(PointId, Raw)>,
    /// The forced outputs of this cycle. The next cycle resets the quality of these outputs to
    /// good.
    forced: Vec<PointId>,
    /// The outputs that have a deadband.
    deadbands: Deadbands,
}

impl Overlay {
    /// Creates an empty overlay. The lists have enough capacity for the greatest number of entries,
    /// so later calls need not allocate.
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

    /// Replaces the points. Entries for points that no longer exist are dropped. Allocates memory.
    pub fn take_points(&mut self, points: &Points) {
        let is_there = |id: PointId| points.get(id).is_some();
        // A force outside of a new range of its point ends.
        self.forces.retain(|force| {
            points.get(force.point).is_some_and(|point| point.is_in_range(&force.raw))
        });
        self.covered.retain(|(id, ..)| is_there(*id));
        self.leaving.retain(|(id, _)| is_there(*id));
        self.forced.retain(|id| is_there(*id));
        let substitute = |(id, point): (PointId, &Point)| match point.on_bad {
            OnBad::Keep => None,
            OnBad::Value(value) => Some((
                id,
                point
                    .raw_of(value)
                    .expect("the configuration check has tested that the value fits"),
            )),
        };
        let limited = |(id, point): (PointId, &Point)| {
            (point.freshness != Freshness::default()).then_some((id, point.freshness))
        };
        self.aging = points.iter().filter_map(limited).collect();
        self.substitutes = points.iter().filter_map(substitute).collect();
        let outputs = points.iter().filter(|(_, point)| point.direction == Direction::Out).count();
        // An input has at most three entries in `covered`: one for its age, one for a substitute
        // and one for a force.
        self.covered.reserve(self.aging.len() + self.substitutes.len() + MAX_FORCES);
        self.leaving.reserve(outputs);
        self.kept.reserve(outputs);
        self.deadbands = Deadbands::new(points);
    }

    /// The forces, in the order in which they were set.
    pub fn forces(&self) -> &[Force] {
        &self.forces
    }

    /// Sets a force. If the point already has a force, the new force replaces the old force.
    ///
    /// # Errors
    /// If there are [`MAX_FORCES`] forces already.
    pub fn force(&mut self, force: Force) -> Result<(), &'static str> {
        self.unforce(Some(force.point));
        if self.forces.len() == MAX_FORCES {
            return Err("64 forces are set, which is the maximum; `camshaft unforce` ends a force");
        }
        self.forces.push(force);
        Ok(())
    }

    /// Ends the force of a point. With `None`, ends all forces.
    pub fn unforce(&mut self, point: Option<PointId>) {
        self.forces.retain(|force| point.is_some_and(|point| force.point != point));
    }

    /// Restores the values and qualities that the drivers gave to the inputs. The scan calls this
    /// function before the drivers read, because a driver continues from its own earlier values and
    /// qualities.
    pub fn remove(&mut self, points: &Points, inputs: &mut Inputs) {
        while let Some((id, raw, quality)) = self.covered.pop() {
            points[id].put_raw(&mut inputs.bytes, &raw);
            inputs.quality[id.index()] = quality;
        }
    }

    /// Applies the overlay to the inputs, in three steps. First, lowers the quality of inputs whose
    /// value is too old. Then replaces bad inputs by their substitutes. Then sets the forced
    /// inputs. Before these steps, each force whose time has expired is removed.
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
            if quality == Quality::Sensor {
                // The device answers that it has no value. It is not silent, however long ago the
                // input was good. If the device becomes silent, its driver says so.
                continue;
            }
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

    /// Records that the program on `seat` lacks a required input. From the time `from` on, the
    /// outputs of the program are safe or in their hold time. If `from` is `None`, records that the
    /// program has all required inputs.
    pub fn lacks(&mut self, seat: Seat, from: Option<Duration>) {
        let known = self.lacking.iter().position(|(other, _)| *other == seat);
        match (known, from) {
            // The time that was set first stays valid, even if a new version of the program is now
            // on the seat.
            (Some(_), Some(_)) | (None, None) => {}
            (Some(at), None) => drop(self.lacking.swap_remove(at)),
            (None, Some(from)) => self.lacking.push((seat, from)),
        }
    }

    /// Whether at least one program lacks a required input.
    pub fn is_lacking(&self) -> bool {
        !self.lacking.is_empty()
    }

    /// Returns the time that [`Overlay::lacks`] recorded for the program on `seat`: since that
    /// time, the outputs of the program are safe or in their hold time. Returns `None` if the
    /// program has all required inputs, or if that time is later than `now`.
    pub fn degraded(&self, seat: Seat, now: Duration) -> Option<Duration> {
        let since = self.lacking.iter().find(|(other, _)| *other == seat)?.1;
        (now >= since).then_some(since)
    }

    /// Makes an output safe after the output has lost its owner. Without a hold time
    /// ([`Point::hold_for`]) the output becomes safe now. With a hold time the output becomes safe
    /// when this time has expired. With the safe setting `Hold`, the output retains its value.
    pub fn leave(&mut self, now: Duration, id: PointId, point: &Point, outputs: &mut [u8]) {
        self.leaving.retain(|(other, _)| *other != id);
        if point.hold_for.is_zero() || point.safe == Safe::Hold {
            make_safe(point, outputs);
        } else {
            self.leaving.push((id, now + point.hold_for));
        }
    }

    /// Whether this output has lost its owner and its hold time still runs.
    pub fn is_leaving(&self, id: PointId) -> bool {
        self.leaving.iter().any(|(leaving, _)| *leaving == id)
    }

    /// Makes outputs without an owner safe now, without waiting for the end of their hold time.
    pub fn make_safe_now(&mut self, points: &Points, outputs: &mut [u8]) {
        self.leaving.drain(..).for_each(|(id, _)| make_safe(&points[id], outputs));
    }

    /// Computes the values for the devices: copies `outputs` to `driven` and applies the overlay to
    /// `driven`. The caller passes `driven` with the values of the last cycle, because an output in
    /// its hold time retains the last value. `quality` has the quality of each point; a forced
    /// output gets [`Quality::Forced`] in this list.
    pub fn drive(
        &mut self,
        now: Duration,
        points: &Points,
        owners: &[Option<Seat>],
        (outputs, driven): (&mut [u8], &mut [u8]),
        quality: &mut [Quality],
    ) {
        self.end_leaving(now, points, owners, outputs);
        self.fill_kept(now, points, owners, driven);
        self.deadbands.remember(points, driven);
        driven.copy_from_slice(outputs);
        self.deadbands.apply(points, owners, driven, quality);
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

    /// Removes an output from `leaving` when its hold time has expired or when a program owns the
    /// output again. If the hold time has expired and no program owns the output, the output
    /// becomes safe.
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

    /// Fills the list `kept` with the outputs of programs that lack a required input. Each output
    /// gets its safe value. An output whose hold time still runs, or whose safe setting is `Hold`,
    /// gets the value that its device has now.
    fn fill_kept(
        &mut self,
        now: Duration,
        points: &Points,
        owners: &[Option<Seat>],
        driven: &[u8],
    ) {
        if self.lacking.is_empty() {
            return;
        }
        for (id, point) in points.iter().filter(|(_, point)| point.direction == Direction::Out) {
            let Some(seat) = owners[id.index()] else { continue };
            let Some(since) = self.degraded(seat, now) else { continue };
            let is_held = now < since + point.hold_for;
            let safe = if is_held { None } else { point.safe_raw() };
            self.kept.push((id, safe.unwrap_or_else(|| point.raw(driven))));
        }
    }
}

/// Writes the safe value of an output into `outputs`. Does nothing if the safe setting is `Hold`,
/// or if the point is an input.
pub(super) fn make_safe(point: &Point, outputs: &mut [u8]) {
    if let (Direction::Out, Some(raw)) = (point.direction, point.safe_raw()) {
        point.put_raw(outputs, &raw);
    }
}
