//! From names in the configuration to points: each exists, is ours, has the right direction, and no
//! input is driven twice.
//!
//! Used while a device is opened and then dropped; nothing here runs in the scan.

use std::collections::BTreeMap;

use crate::driver::OpenError;
use crate::image::{Direction, Point, PointId, Points, Value};

/// The points of one device, and who drives its inputs.
pub(super) struct Wiring<'a> {
    points: &'a Points,
    device: usize,
    /// The key that drives an input.
    driven: BTreeMap<PointId, String>,
}

impl<'a> Wiring<'a> {
    pub(super) fn new(points: &'a Points, device: usize) -> Self {
        Self { points, device, driven: BTreeMap::new() }
    }

    /// The output `name`, wanted by `key`.
    pub(super) fn output(&self, key: &str, name: &str) -> Result<(PointId, &'a Point), OpenError> {
        self.find(key, name, Direction::Out)
    }

    /// The input `name`, from now on driven by `key`.
    pub(super) fn input(
        &mut self,
        key: &str,
        name: &str,
    ) -> Result<(PointId, &'a Point), OpenError> {
        let (id, point) = self.undriven_input(key, name)?;
        self.driven.insert(id, key.to_owned());
        Ok((id, point))
    }

    /// The input `name`, which nobody drives so far.
    pub(super) fn undriven_input(
        &self,
        key: &str,
        name: &str,
    ) -> Result<(PointId, &'a Point), OpenError> {
        let (id, point) = self.find(key, name, Direction::In)?;
        match self.driven.get(&id) {
            None => Ok((id, point)),
            Some(other) => {
                let found = format!("point {name:?} is driven by {other} already");
                Err(OpenError::new(key, found, "an input has one source: remove one of the two"))
            }
        }
    }

    /// The inputs that somebody drives, in order.
    pub(super) fn into_driven(self) -> Vec<PointId> {
        self.driven.into_keys().collect()
    }

    fn find(
        &self,
        key: &str,
        name: &str,
        direction: Direction,
    ) -> Result<(PointId, &'a Point), OpenError> {
        let word = match direction {
            Direction::In => "input",
            Direction::Out => "output",
        };
        let found = match self.points.find(name).map(|id| (id, &self.points[id])) {
            None => format!("no point is named {name:?}"),
            Some((_, point)) if point.device != self.device => {
                format!("point {name:?} belongs to another device")
            }
            Some((_, point)) if point.direction != direction => {
                format!("point {name:?} is not an {word}")
            }
            Some(found) => return Ok(found),
        };
        let ours = |p: &&Point| p.device == self.device && p.direction == direction;
        let likeness = |p: &&Point| strsim::jaro_winkler(name, &p.name);
        let nearest = self
            .points
            .iter()
            .map(|(_, point)| point)
            .filter(ours)
            .max_by(|a, b| likeness(a).total_cmp(&likeness(b)));
        let wanted = match nearest {
            Some(nearest) => format!("the nearest {word} of this device is {:?}", nearest.name),
            None => format!("this device has no {word}s: give it one"),
        };
        Err(OpenError::new(key, found, wanted))
    }
}

/// Refuses a value that does not fit its point.
pub(super) fn fits(key: &str, point: &Point, value: Value) -> Result<Value, OpenError> {
    match point.encode(value) {
        Ok(_) => Ok(value),
        Err(unfit) => Err(OpenError::new(
            key,
            format!("{value} for point {:?}", point.name),
            unfit.to_string(),
        )),
    }
}

/// Refuses a number outside `low..=high`; not-a-number is outside.
pub(super) fn within(key: &str, number: f64, low: f64, high: f64) -> Result<f64, OpenError> {
    if number >= low && number <= high {
        return Ok(number);
    }
    let wanted = format!("a number from {low} to {high} is wanted");
    Err(OpenError::new(key, format!("found {number}"), wanted))
}
