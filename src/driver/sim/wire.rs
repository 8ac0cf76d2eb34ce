//! The wire between the simulated plant and the images. The wire works, or it fails in one of the
//! ways of [`Injection`].
//!
//! A failure of the wire does not change the plant. The plant continues to run, as a real plant
//! would. `sim.rs` decides when the wire fails. `delay.rs` stores values that a slow wire transfers
//! later.

use std::ops::Range;
use std::sync::Arc;
use std::time::Duration;

use super::delay::Delay;
use crate::driver::{Fault, Injection};
use crate::process::image::{Direction, Inputs, Point, PointId, PointKind, Points, Quality};

/// Of this number of random floats, one on average is NaN or infinite. With random bits alone, such
/// floats would be too rare for practice (one in 2048 for f64).
const NOT_A_NUMBER_ONE_IN: u32 = 8;

/// The wire of one device, with all values that are on their way.
#[derive(Debug)]
pub(super) struct Wire {
    points: Arc<Points>,
    /// The inputs of this device.
    inputs: Vec<PointId>,
    /// The bytes of the input image from the device's first input to its last input.
    input_bytes: Range<usize>,
    /// The bytes of the output image from the device's first output to its last output.
    output_bytes: Range<usize>,
    /// The bits in `output_bytes` that belong to this device.
    output_mask: Vec<u8>,
    /// The bits in `output_bytes` of the outputs that the plant has inverted.
    inverted: Vec<u8>,
    failure: Option<Injection>,
    /// The values that the wire gives to the image instead of the true values: delayed values or
    /// garbage. The values are at their addresses in the input image.
    received: Vec<u8>,
    late_inputs: Delay,
    late_outputs: Delay,
    garbage: fastrand::Rng,
    /// The bits of `output_bytes` at the last successful write.
    sent: Vec<u8>,
    /// The time of the last change of `sent`.
    changed: Duration,
    /// The time of the write whose outputs the plant has now. If the outputs arrived without a
    /// delay, it is the time of the last change of `sent`.
    arrived: Duration,
    /// Whether the last write succeeded; false before the first write.
    is_taken: bool,
}

impl Wire {
    /// Makes a wire without failure for device number `device`.
    pub(super) fn new(points: &Arc<Points>, device: usize) -> Self {
        let ours = |direction| {
            let is_ours = move |p: &Point| p.device == device && p.direction == direction;
            points.iter().filter(move |(_, point)| is_ours(point))
        };
        let span = |direction| {
            let start = ours(direction).map(|(_, point)| point.bytes().start).min();
            let end = ours(direction).map(|(_, point)| point.bytes().end).max();
            start.unwrap_or(0)..end.unwrap_or(0)
        };
        let (input_bytes, output_bytes) = (span(Direction::In), span(Direction::Out));
        let mut output_mask = vec![0; output_bytes.len()];
        let mut inverted = vec![0; output_bytes.len()];
        for (_, point) in ours(Direction::Out) {
            for byte in point.bytes() {
                output_mask[byte - output_bytes.start] |= point.mask();
            }
            if point.is_inverted {
                inverted[point.byte as usize - output_bytes.start] |= point.mask();
            }
        }
        Self {
            points: Arc::clone(points),
            inputs: ours(Direction::In).map(|(id, _)| id).collect(),
            failure: None,
            received: vec![0; points.image_bytes(Direction::In)],
            late_inputs: Delay::new(input_bytes.len()),
            late_outputs: Delay::new(output_bytes.len()),
            garbage: fastrand::Rng::with_seed(0),
            sent: vec![0; output_bytes.len()],
            changed: Duration::ZERO,
            arrived: Duration::ZERO,
            is_taken: false,
            input_bytes,
            output_bytes,
            output_mask,
            inverted,
        }
    }

    /// The active failure, if there is one.
    pub(super) fn failure(&self) -> Option<Injection> {
        self.failure
    }

    /// Starts `failure`, or ends the active failure if `failure` is `None`. Outputs that are on
    /// their way arrive at once.
    pub(super) fn fail(&mut self, failure: Option<Injection>, plant: &mut [u8]) {
        if let Some(Injection::Slow { .. }) = self.failure {
            self.hand_over(plant);
        }
        if let Some(Injection::Garbage { seed }) = failure {
            self.garbage = fastrand::Rng::with_seed(seed);
        }
        self.late_inputs.clear();
        self.late_outputs.clear();
        self.failure = failure;
    }

    /// Transfers the true values in `field` to the image. A failure of the wire may change, delay
    /// or stop the values.
    pub(super) fn read(
        &mut self,
        now: Duration,
        field: &[u8],
        inputs: &mut Inputs,
    ) -> Result<(), Fault> {
        match self.failure {
            // A hang happens in `sim.rs` before this call, so the wire works normally.
            None | Some(Injection::Hang { .. }) => self.show(now, field, inputs),
            Some(Injection::Disconnect) => {
                self.degrade(inputs, Quality::NoComm);
                return Err(Fault::Disconnected);
            }
            Some(Injection::Freeze) => self.degrade(inputs, Quality::Stale),
            Some(Injection::Slow { delay }) => {
                self.late_inputs.send(now, delay, &field[self.input_bytes.clone()]);
                if let Some((_, frame)) = self.late_inputs.arrived(now, delay) {
                    self.received[self.input_bytes.clone()].copy_from_slice(frame);
                }
                match self.late_inputs.has_delivered() {
                    true => self.show(now, &self.received, inputs),
                    false => self.degrade(inputs, Quality::Stale),
                }
            }
            Some(Injection::Garbage { .. }) => {
                for id in &self.inputs {
                    babble(&mut self.garbage, &self.points[*id], &mut self.received);
                }
                self.show(now, &self.received, inputs);
            }
        }
        Ok(())
    }

    /// Copies the inputs of this device from `from` to the image. A value that is no measurement
    /// (`process/image/wire.rs`) makes its input bad, and the last value stays.
    fn show(&self, now: Duration, from: &[u8], inputs: &mut Inputs) {
        for id in &self.inputs {
            let point = &self.points[*id];
            let last = point.raw(&inputs.bytes);
            let last = (!inputs.good_at[id.index()].is_zero()).then_some(&last);
            let Some(raw) = point.from_device(&point.raw(from), last) else {
                inputs.note(*id, Quality::Sensor, now);
                continue;
            };
            point.put_raw(&mut inputs.bytes, &raw);
            inputs.note(*id, Quality::Good, now);
        }
    }

    /// Sets the quality of all inputs of this device to `quality`, except inputs whose quality is
    /// worse.
    fn degrade(&self, inputs: &mut Inputs, quality: Quality) {
        self.inputs.iter().for_each(|id| inputs.degrade(*id, quality));
    }

    /// Sends the outputs of this device from the image to the plant. The outputs arrive at once or,
    /// on a slow wire, after the delay. A disconnected wire returns an error.
    pub(super) fn write(
        &mut self,
        now: Duration,
        image: &[u8],
        plant: &mut [u8],
    ) -> Result<(), Fault> {
        self.is_taken = self.failure != Some(Injection::Disconnect);
        if !self.is_taken {
            return Err(Fault::Disconnected);
        }
        let image = &image[self.output_bytes.clone()];
        let masks = self.output_mask.iter().zip(&self.inverted);
        for ((sent, byte), (mask, inverted)) in self.sent.iter_mut().zip(image).zip(masks) {
            let wanted = (byte ^ inverted) & mask;
            if *sent != wanted {
                *sent = wanted;
                self.changed = now;
            }
        }
        match self.failure {
            Some(Injection::Slow { delay }) => {
                self.late_outputs.send(now, delay, &self.sent);
                self.deliver(now, plant);
            }
            _ => self.hand_over(plant),
        }
        Ok(())
    }

    /// Transfers delayed outputs to the plant after their delay has passed.
    pub(super) fn deliver(&mut self, now: Duration, plant: &mut [u8]) {
        let Some(Injection::Slow { delay }) = self.failure else { return };
        if let Some((sent, frame)) = self.late_outputs.arrived(now, delay) {
            plant[self.output_bytes.clone()].copy_from_slice(frame);
            self.arrived = sent;
        }
    }

    /// Transfers the newest outputs to the plant at once.
    fn hand_over(&mut self, plant: &mut [u8]) {
        plant[self.output_bytes.clone()].copy_from_slice(&self.sent);
        self.arrived = self.changed;
    }

    /// Whether the plant has the outputs of the last write. A comparison of the values is not
    /// enough, because an older, different value may still be on its way to the plant.
    pub(super) fn is_confirmed(&self) -> bool {
        self.is_taken && self.failure != Some(Injection::Disconnect) && self.arrived >= self.changed
    }
}

/// Fills the bytes or the bit of `point` with random data.
fn babble(random: &mut fastrand::Rng, point: &Point, image: &mut [u8]) {
    let is_float = matches!(point.kind, PointKind::F32 | PointKind::F64);
    let mut bits = random.u64(..).to_le_bytes();
    if is_float && random.u32(..NOT_A_NUMBER_ONE_IN) == 0 {
        let worst = [f64::NAN, f64::INFINITY, f64::NEG_INFINITY][random.usize(..3)];
        match point.kind {
            PointKind::F32 => bits[..4].copy_from_slice(&(worst as f32).to_le_bytes()),
            _ => bits = worst.to_le_bytes(),
        }
    }
    let mask = point.mask();
    for (byte, raw) in image[point.bytes()].iter_mut().zip(bits) {
        *byte = *byte & !mask | raw & mask;
    }
}
