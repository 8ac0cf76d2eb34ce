//! The search for points by the names in the configuration of a simulated device. Each point must
//! exist, belong to this device and have the right direction. Each input may be driven by only one
//! model.
//!
//! A [`Wiring`] exists only while a device is opened. The scan uses no function of this file.

use std::collections::BTreeMap;

use crate::driver::OpenError;
use crate::process::image::{Direction, Point, PointId, Points, Value};

/// The points of one device, and the keys that drive its inputs.
pub(super) struct Wiring<'a> {
    points: &'a Points,
    device: usize,
    /// For each input that a model drives, the key of this model in the configuration.
    driven: BTreeMap<PointId, String>,
}

impl<'a> Wiring<'a> {
    pub(super) fn new(points: &'a Points, device: usize) -> Self {
        Self { points, device, driven: BTreeMap::new() }
    }

    /// Finds the output `name` for the configuration key `key`.
    pub(super) fn output(&self, key: &str, name: &str) -> Result<(PointId, &'a Point), OpenError> {
        self.find(key, name, Direction::Out)
    }

    /// Finds the input `name` and records that `key` drives the input. Returns an error if another
    /// key drives the input already.
    pub(super) fn input(
        &mut self,
        key: &str,
        name: &str,
    ) -> Result<(PointId, &'a Point), OpenError> {
        let (id, point) = self.undriven_input(key, name)?;
        self.driven.insert(id, key.to_owned());
        Ok((id, point))
    }

    /// Finds the input `name`. Returns an error if a key drives the input already.
    pub(super) fn undriven_input(
        &self,
        key: &str,
        name: &str,
    ) -> Result<(PointId, &'a Point), OpenError> {
        let (id, point) = self.find(key, name, Direction::In)?;
        match self.driven.get(&id) {
            None => Ok((id, point)),
            Some(other) => {
                let found = format!("{name:?}, which {other} drives already");
                Err(OpenError::new(key, found, "an input that no other key drives"))
            }
        }
    }

    /// Returns the inputs that a key drives, in the order of their ids.
    pub(super) fn into_driven(self) -> Vec<PointId> {
        self.driven.into_keys().collect()
    }

    /// Finds the point `name` of this device with this direction. The error names the point of this
    /// device and direction that has the most similar name.
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
            None => format!("{name:?}, which is not the name of a point"),
            Some((_, point)) if point.device != self.device => {
                format!("{name:?}, which belongs to another device")
            }
            Some((_, point)) if point.direction != direction => {
                format!("{name:?}, which is not an {word}")
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
            Some(nearest) => format!("an {word} of this device, for example {:?}", nearest.name),
            None => format!("an {word} of this device, but this device has no {word}"),
        };
        Err(OpenError::new(key, found, wanted))
    }
}

/// Returns `value`, or an error if the value does not fit the point.
pub(super) fn fits(key: &str, point: &Point, value: Value) -> Result<Value, OpenError> {
    match point.encode(value) {
        Ok(_) => Ok(value),
        Err(_) => Err(OpenError::new(
            key,
            format!("{value} for point {:?}", point.name),
            format!("a value that fits type {}", point.kind),
        )),
    }
}

/// Returns `number`, or an error if the number is outside of `low..=high`. NaN is always an error.
pub(super) fn within(key: &str, number: f64, low: f64, high: f64) -> Result<f64, OpenError> {
    if number >= low && number <= high {
        return Ok(number);
    }
    let wanted = format!("a number from {low} to {high}");
    Err(OpenError::new(key, number.to_string(), wanted))
}

#[cfg(test)]
mod tests {
    use crate::driver::sim::tests::{LOOP, TANK, points};

    #[test]
    fn mistakes_name_the_key() {
        /// Checks that `toml` is refused with a message that contains `expected`.
        fn check(toml: &str, expected: &str) {
            let config = crate::driver::Config::Sim(toml::from_str(toml).unwrap());
            let message =
                match crate::driver::check(&config, &points(), 0, crate::patience::PATIENCE) {
                    Ok(_) => panic!("accepted: {toml}"),
                    Err(error) => error.to_string(),
                };
            assert!(message.contains(expected), "{toml}\nsays: {message}\nnot: {expected}");
        }
        let tank = |from: &str, to: &str| TANK.replace(from, to);
        check(
            &tank("f64.in", "f46.in"),
            "tank[0].level: \"f46.in\", which is not the name of a point",
        );
        check(&tank("f64.in", "f46.in"), "an input of this device, for example \"f64.in\"");
        check(&tank("f64.in", "foreign.in"), "belongs to another device");
        check(
            &tank("f64.in", "bool.in"),
            "level: 0 for point \"bool.in\"; a value that fits type bool",
        );
        check(&tank("f64.out", "int.in"), "tank[0].inflow: \"int.in\", which is not an output");
        check(&tank("40.0", "140"), "tank[0].initial: 140; a number from 0 to 100");
        check(&tank("2.0", "nan"), "tank[0].drain_percent_per_s: NaN");
        check(&tank("6.0", "-1"), "tank[0].inflow_percent_per_s: -1");
        let both = format!("{TANK}{LOOP}");
        check(&both, "loopback[2].to: \"f64.in\", which tank[0].level drives already");
        check(
            &format!("{TANK}initial = {{ \"f64.in\" = 1 }}"),
            "initial.\"f64.in\": \"f64.in\", which tank[0]",
        );
        check(
            "initial = { \"int.in\" = 40000 }",
            "40000 for point \"int.in\"; a value that fits type i16",
        );
        let wire = "loopback = [{ from = \"int.out\", to = \"f32.in\" }]";
        check(wire, "\"int.out\" of type i16, \"f32.in\" of type f32; the same type");
        let signal = |rest: &str| format!("signal = [{{ point = \"int.in\", {rest} }}]");
        check(&signal("shape = \"constant\", value = true"), "signal[0].value: true for point");
        check(
            &signal("shape = \"ramp\", period = \"0s\""),
            "signal[0].period: 0s; a period above 0s",
        );
        check(&signal("shape = \"noise\", high = 40000"), "signal[0].high: 40000 for point");
        check(
            &signal("shape = \"noise\", low = 2"),
            "signal[0].low: 2; at most 1, the value of `high`",
        );
        check(&signal("shape = \"noise\", low = -inf"), "signal[0].low: -inf; a number");
        check(
            &signal("shape = \"square\", period = \"1s\", duty = 2"),
            "signal[0].duty: 2; a number",
        );
    }
}
