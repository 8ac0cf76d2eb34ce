//! The simulated plant. The plant has the true value of every input, and the outputs that have
//! arrived over the wire.
//!
//! ```text
//!   outputs --> tanks, loopbacks --+
//!                                  +--> field (the true inputs) --> wire.rs --> input image
//!   time --> signals, script ------+
//! ```
//! The plant does not know whether the wire has a failure; `wire.rs` does. A point with `invert`
//! has the opposite value in the plant; only `initial` and the orders of an operator have the value
//! as programs see it. The plant reads no clock; the caller passes the time. The models are in
//! `tank.rs`, `signal.rs` and `script.rs`.

use std::sync::Arc;
use std::time::Duration;

use super::config::Config;
use super::script::Script;
use super::signal::Signal;
use super::tank::Tank;
use super::wiring::{Wiring, fits};
use crate::driver::OpenError;
use crate::process::image::{Direction, PointId, Points, Unfit, Value};

/// The models of one device, and the values with which they work.
#[derive(Debug)]
pub(super) struct Plant {
    points: Arc<Points>,
    device: usize,
    /// The outputs that have arrived, at their addresses in the output image.
    pub(super) outputs: Vec<u8>,
    /// The values that the sensors measure, at their addresses in the input image.
    field: Vec<u8>,
    /// The time since the first call of the device.
    elapsed: Duration,
    script: Option<Script>,
    signals: Vec<Signal>,
    loopbacks: Vec<(PointId, PointId)>,
    tanks: Vec<Tank>,
    /// The inputs that a model drives. Of these inputs, an operator can set only the levels of
    /// tanks.
    driven: Vec<PointId>,
}

impl Plant {
    /// Makes the plant of `config`, for device number `device`. Returns an error if a model does
    /// not fit its points, a number is out of range, or the script is not usable.
    pub(super) fn open(
        config: &Config,
        points: &Arc<Points>,
        device: usize,
    ) -> Result<Self, OpenError> {
        let mut wiring = Wiring::new(points, device);
        let mut field = vec![0; points.image_bytes(Direction::In)];
        let mut tanks = Vec::new();
        for (index, tank) in config.tank.iter().enumerate() {
            tanks.push(Tank::open(tank, &format!("tank[{index}]"), &mut wiring)?);
        }
        let mut signals = Vec::new();
        for (index, signal) in config.signal.iter().enumerate() {
            let key = format!("signal[{index}]");
            signals.extend(Signal::open(signal, &key, &mut wiring, &mut field)?);
        }
        let mut loopbacks = Vec::new();
        for (index, wire) in config.loopback.iter().enumerate() {
            let key = format!("loopback[{index}]");
            let (from, out) = wiring.output(&format!("{key}.from"), &wire.from)?;
            let (to, input) = wiring.input(&format!("{key}.to"), &wire.to)?;
            if out.kind != input.kind {
                let (from, to) = (out.kind, input.kind);
                let found = format!("{:?} of type {from}, {:?} of type {to}", out.name, input.name);
                return Err(OpenError::new(key, found, "the same type at `from` and `to`"));
            }
            loopbacks.push((from, to));
        }
        let script = match &config.script {
            Some(script) => Some(Script::open(script, points, &mut wiring)?),
            None => None,
        };
        for (name, value) in &config.initial {
            let key = format!("initial.{name:?}");
            let (_, point) = wiring.undriven_input(&key, name)?;
            let value = fits(&key, point, *value)?;
            point
                .write(&mut field, point.value_for_device(value))
                .expect("the value fits the point, as `fits` has checked");
        }
        let driven = wiring.into_driven();
        Ok(Self {
            points: Arc::clone(points),
            device,
            outputs: vec![0; points.image_bytes(Direction::Out)],
            field,
            elapsed: Duration::ZERO,
            script,
            signals,
            loopbacks,
            tanks,
            driven,
        })
    }

    /// Advances all models to the time `elapsed`. Returns the values that the sensors then measure.
    pub(super) fn pass(&mut self, elapsed: Duration) -> &[u8] {
        let time = elapsed.saturating_sub(self.elapsed);
        self.elapsed = self.elapsed.max(elapsed);
        let (points, field) = (&*self.points, &mut self.field);
        if let Some(script) = &self.script {
            script.show(self.elapsed, points, field);
        }
        for signal in &self.signals {
            signal.show(self.elapsed, points, field);
        }
        for tank in &mut self.tanks {
            tank.pass(time, points, &self.outputs, field);
        }
        for (from, to) in &self.loopbacks {
            let (from, to) = (&points[*from], &points[*to]);
            let (source, mask) = (from.bytes(), to.mask());
            for (byte, raw) in field[to.bytes()].iter_mut().zip(&self.outputs[source]) {
                // Only bools can have different bit positions. For all other types, both shifts are
                // by 0 bits.
                let raw = raw >> from.bit << to.bit;
                *byte = *byte & !mask | raw & mask;
            }
        }
        &self.field
    }

    /// Sets an input to a value that an operator has requested. If the input is the level of a
    /// tank, the tank model continues from this level. The error is the reason for a refusal.
    pub(super) fn set(&mut self, id: PointId, value: Value) -> Result<(), &'static str> {
        let Some(point) = self.points.get(id).filter(|point| point.device == self.device) else {
            return Err("the point does not belong to this device");
        };
        if point.direction == Direction::Out {
            return Err(
                "the point is an output: only control programs write outputs; this command sets \
                 inputs",
            );
        }
        if let Some(tank) = self.tanks.iter_mut().find(|tank| tank.shows(id)) {
            return tank.fill_to(value);
        }
        if self.driven.contains(&id) {
            return Err(
                "a signal, script or loopback drives the point and would replace the value at once",
            );
        }
        // The value may be outside the range of the point: an operator practises a failed sensor.
        let value = point.value_for_device(value);
        point.write(&mut self.field, value).map_err(|unfit| match unfit {
            Unfit::WrongType(_) => {
                "the type is wrong: a bool needs true or false, other types need a number"
            }
            Unfit::OutOfRange(_) | Unfit::OutsideRange(_) => {
                "the value does not fit the type of the point"
            }
        })
    }
}
