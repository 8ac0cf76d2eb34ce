//! The wire between the simulated plant and the images: sound, or failing in one of the ways of
//! [`Injection`].
//!
//! The plant behind it goes on whatever happens here, as a real one would.

use std::ops::Range;
use std::sync::Arc;
use std::time::Duration;

use super::delay::Delay;
use crate::driver::{Fault, Injection};
use crate::image::{Direction, Inputs, Kind, Point, PointId, Points, Quality};

/// Of eight random floats one is not a number or infinite: random bits alone give that too seldom
/// (one in 2048 for f64) to practise with.
const NOT_A_NUMBER_ONE_IN: u32 = 8;

/// What travels between plant and images, and how well.
#[derive(Debug)]
pub(super) struct Wire {
    points: Arc<Points>,
    /// The inputs of this device.
    inputs: Vec<PointId>,
    /// The bytes of the input image from its first input to its last.
    input_bytes: Range<usize>,
    /// The same of its outputs.
    output_bytes: Range<usize>,
    /// The bits of `output_bytes` that are ours.
    output_mask: Vec<u8>,
    failure: Option<Injection>,
    /// What came over the wire, if that is not what the sensors see; addressed as the input image.
    received: Vec<u8>,
    late_inputs: Delay,
    late_outputs: Delay,
    garbage: fastrand::Rng,
    /// The bits of `output_bytes` as the last good write had them.
    sent: Vec<u8>,
    /// Since when `sent` is as it is.
    changed: Duration,
    /// When that was sent which the plant has.
    arrived: Duration,
    /// Whether the last write was taken.
    is_taken: bool,
}

impl Wire {
    /// A sound wire for device number `device`.
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
        for (_, point) in ours(Direction::Out) {
            for byte in point.bytes() {
                output_mask[byte - output_bytes.start] |= point.mask();
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
        }
    }

    /// How it fails at present.
    pub(super) fn failure(&self) -> Option<Injection> {
        self.failure
    }

    /// From now on fails like this, or no longer. Outputs that are on their way arrive at once.
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

    /// Brings what the sensors see, `field`, into the image, as far as the wire lets it.
    pub(super) fn read(
        &mut self,
        now: Duration,
        field: &[u8],
        inputs: &mut Inputs,
    ) -> Result<(), Fault> {
        match self.failure {
            // Who hangs does so before it comes here.
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

    /// Copies our inputs out of `from`; a float that is not a finite number is bad and keeps its
    /// value.
    fn show(&self, now: Duration, from: &[u8], inputs: &mut Inputs) {
        for id in &self.inputs {
            let point = &self.points[*id];
            let raw = point.raw(from);
            if !point.is_finite(&raw) {
                inputs.note(*id, Quality::Sensor, now);
                continue;
            }
            point.put_raw(&mut inputs.bytes, &raw);
            inputs.note(*id, Quality::Good, now);
        }
    }

    /// Makes our inputs this bad, if they are not worse already.
    fn degrade(&self, inputs: &mut Inputs, quality: Quality) {
        self.inputs.iter().for_each(|id| inputs.degrade(*id, quality));
    }

    /// Sends the output image towards the plant.
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
        for ((sent, byte), mask) in self.sent.iter_mut().zip(image).zip(&self.output_mask) {
            if *sent != byte & mask {
                *sent = byte & mask;
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

    /// Lets outputs whose time has come take effect.
    pub(super) fn deliver(&mut self, now: Duration, plant: &mut [u8]) {
        let Some(Injection::Slow { delay }) = self.failure else { return };
        if let Some((sent, frame)) = self.late_outputs.arrived(now, delay) {
            plant[self.output_bytes.clone()].copy_from_slice(frame);
            self.arrived = sent;
        }
    }

    /// Lets the newest outputs take effect at once.
    fn hand_over(&mut self, plant: &mut [u8]) {
        plant[self.output_bytes.clone()].copy_from_slice(&self.sent);
        self.arrived = self.changed;
    }

    /// Whether the plant has the outputs of the last write. Equal values alone would not prove it:
    /// others may still be on their way between them.
    pub(super) fn is_confirmed(&self) -> bool {
        self.is_taken && self.failure != Some(Injection::Disconnect) && self.arrived >= self.changed
    }
}

/// Puts random bits where `point` lies.
fn babble(random: &mut fastrand::Rng, point: &Point, image: &mut [u8]) {
    let is_float = matches!(point.kind, Kind::F32 | Kind::F64);
    let mut bits = random.u64(..).to_le_bytes();
    if is_float && random.u32(..NOT_A_NUMBER_ONE_IN) == 0 {
        let worst = [f64::NAN, f64::INFINITY, f64::NEG_INFINITY][random.usize(..3)];
        match point.kind {
            Kind::F32 => bits[..4].copy_from_slice(&(worst as f32).to_le_bytes()),
            _ => bits = worst.to_le_bytes(),
        }
    }
    let mask = point.mask();
    for (byte, raw) in image[point.bytes()].iter_mut().zip(bits) {
        *byte = *byte & !mask | raw & mask;
    }
}
