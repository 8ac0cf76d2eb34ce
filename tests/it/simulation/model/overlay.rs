//! What stands over the outputs in the model: forces, and safe values.
//!
//! Written from what `process/overlay.rs` promises: safe, then force, then program. Only outputs are
//! forced here, because what a device would have said of a forced input the model cannot know.

use std::collections::BTreeMap;
use std::time::Duration;

use camshaft::process::image::{Class, Direction, PointId, Quality, Raw, Safe};
use camshaft::process::seat::Seat;

use super::{Model, World};
use crate::rig::PERIOD;

/// What stands over the outputs.
#[derive(Debug, Default)]
pub struct Overlay {
    /// In the order in which they came.
    pub forces: Vec<(PointId, Raw, Option<Duration>)>,
    /// Outputs without an owner that keep their value until then.
    pub leaving: BTreeMap<PointId, Duration>,
    /// From when on the outputs of a program are safe.
    pub lacking: BTreeMap<Seat, Duration>,
}

impl World {
    /// Since when the outputs of a program are safe because it lacks something.
    pub fn degraded(&self, seat: Seat) -> Option<Duration> {
        self.overlay.lacking.get(&seat).copied().filter(|from| self.now >= *from)
    }

    /// Nobody owns this output any more.
    pub fn leave(&mut self, id: PointId) {
        let point = self.points[id].clone();
        point.put_raw(&mut self.outputs, &point.raw(&self.before));
        if let Safe::Value(safe) = point.safe {
            if point.hold_for.is_zero() {
                point.write(&mut self.outputs, safe).expect("safe values fit");
            } else {
                self.overlay.leaving.insert(id, self.now + point.hold_for);
            }
        }
    }

    /// What the devices are given.
    pub fn drive(&mut self) {
        let points = std::sync::Arc::clone(&self.points);
        self.overlay.forces.retain(|(id, _, until)| {
            points.get(*id).is_some() && until.is_none_or(|until| self.now < until)
        });
        self.overlay.leaving.retain(|id, _| points.get(*id).is_some());
        for (id, until) in self.overlay.leaving.clone() {
            let is_owned = self.owners[id.index()].is_some();
            if is_owned || self.now >= until {
                self.overlay.leaving.remove(&id);
            }
            if let (Safe::Value(safe), false) = (points[id].safe, is_owned || self.now < until) {
                points[id].write(&mut self.outputs, safe).expect("safe values fit");
            }
        }
        let before = std::mem::replace(&mut self.before, self.outputs.clone());
        for (id, point) in points.iter().filter(|(_, point)| point.direction == Direction::Out) {
            let owner = self.owners[id.index()];
            let degraded = owner.and_then(|seat| self.degraded(seat));
            let mut force = self.overlay.forces.iter().filter(|(forced, ..)| *forced == id);
            let (forced, held) = (force.next(), point.hold_for);
            let mut quality = Quality::Good;
            match (degraded, point.safe, forced) {
                (Some(since), Safe::Value(safe), _) if self.now >= since + held => {
                    point.write(&mut self.before, safe).expect("safe values fit");
                }
                (Some(_), ..) => point.put_raw(&mut self.before, &point.raw(&before)),
                (None, _, Some((_, raw, _))) if owner.is_some() => {
                    point.put_raw(&mut self.before, raw);
                    quality = Quality::Forced;
                }
                _ => {}
            }
            self.inputs.quality[id.index()] = quality;
        }
    }
}

impl Model {
    pub(super) fn unforce(&mut self, point: Option<PointId>) {
        self.world.overlay.forces.retain(|(id, ..)| point.is_some_and(|point| point != *id));
    }

    /// Nothing waits and nothing is forced any more.
    pub(super) fn make_safe_now(&mut self) {
        self.world.overlay.leaving.values_mut().for_each(|until| *until = Duration::ZERO);
        self.unforce(None);
    }

    /// Who lacks something from now on, or no longer?
    pub(super) fn examine(&mut self) {
        for program in &self.seated {
            let quality = |id: &PointId| self.world.inputs.quality[id.index()];
            let mut required = program.settings.requires.iter();
            if required.any(|id| quality(id).class() == Class::Bad) {
                let from = self.world.now + program.settings.requires_timeout;
                self.world.overlay.lacking.entry(program.seat).or_insert(from);
            } else {
                self.world.overlay.lacking.remove(&program.seat);
            }
            let since = self.world.degraded(program.seat);
            if since.is_some_and(|since| self.world.now < since + PERIOD) {
                self.events.push(("degraded", program.name.into()));
            }
        }
    }
}
