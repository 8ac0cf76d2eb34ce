//! The world: what a program can see and use during one call, such as images, variables and the
//! time.
//!
//! The scan owns one [`World`] and lends it to each program in turn (`lent.rs`); between calls only
//! the scan has it. A program that is being prepared gets a copy of the latest snapshot instead.
//! How a guest's requests are checked is in `plugin/instance/guest.rs` and
//! `plugin/instance/abi.rs`. Safe values and forces are in `overlay.rs`.

use std::sync::Arc;
use std::time::Duration;

use super::grant::Grant;
use super::image::{Direction, Inputs, PointId, Points, Quality};
use super::line::LogSink;
use super::overlay::{Overlay, make_safe};
use super::seat::Seat;
use super::variable::Variables;

/// The world: the values and tables that all programs share.
#[derive(Debug)]
pub struct World {
    /// The instant of this cycle: the programs' clock.
    pub now: Duration,
    /// The number of this cycle; the first is 1.
    pub cycle: u64,
    /// The period of the scan.
    pub period: Duration,
    /// All points.
    pub points: Arc<Points>,
    /// The inputs as latched at the start of the cycle.
    pub inputs: Inputs,
    /// The outputs as committed so far.
    pub outputs: Vec<u8>,
    /// The outputs as they were given to the devices at the end of the last cycle.
    pub driven: Vec<u8>,
    /// Forces and safe values, which stand over the values of devices and programs.
    pub overlay: Overlay,
    /// The owner of each output, by [`PointId`].
    pub owners: Vec<Option<Seat>>,
    /// All variables.
    pub variables: Variables,
    /// Where log lines go.
    pub log: LogSink,
    /// Whether programs that begin in this world keep a tape, for a report when they trap.
    pub is_recorded: bool,
}

impl World {
    /// A world in which nothing has happened: the inputs are unread, and no output has an owner.
    /// Each output has its safe value, or 0 if its safe setting is hold.
    pub fn new(points: Arc<Points>, variables: Variables, period: Duration, log: LogSink) -> Self {
        let mut outputs = vec![0; points.image_bytes(Direction::Out)];
        for (_, point) in points.iter() {
            make_safe(point, &mut outputs);
        }
        Self {
            now: Duration::ZERO,
            cycle: 0,
            period,
            inputs: Inputs::unread(&points),
            driven: outputs.clone(),
            overlay: Overlay::new(&points),
            outputs,
            owners: vec![None; points.ids()],
            variables,
            log,
            is_recorded: true,
            points,
        }
    }

    /// A copy of the world with an empty overlay, whose log is a list.
    pub fn twin(&self) -> Box<Self> {
        Box::new(Self {
            now: self.now,
            cycle: self.cycle,
            period: self.period,
            points: Arc::clone(&self.points),
            inputs: self.inputs.clone(),
            outputs: self.outputs.clone(),
            driven: self.driven.clone(),
            overlay: Overlay::new(&self.points),
            owners: self.owners.clone(),
            variables: self.variables.clone(),
            log: LogSink::List(Vec::new()),
            is_recorded: self.is_recorded,
        })
    }

    /// Frees every output of `seat` for other programs and makes it safe: at once, or after the
    /// output's hold time.
    pub fn release_outputs(&mut self, seat: Seat) {
        self.give_up(seat, &Grant::Only(Vec::new()));
        self.overlay.lacks(seat, None);
    }

    /// Frees those outputs of `seat` that `grant` does not name, and makes them safe.
    pub fn give_up(&mut self, seat: Seat, grant: &Grant) {
        if let Grant::Only(kept) = grant {
            self.give_up_unless(seat, |id| kept.contains(&id));
        }
    }

    /// Frees those outputs of `seat` for which `keeps` is false, and makes them safe.
    pub fn give_up_unless(&mut self, seat: Seat, mut keeps: impl FnMut(PointId) -> bool) {
        for (id, point) in self.points.iter() {
            let owner = &mut self.owners[id.index()];
            if *owner == Some(seat) && !keeps(id) {
                *owner = None;
                // The output keeps the value that its device got last. The program may have written
                // another value, under a force or while its outputs were safe.
                point.put_raw(&mut self.outputs, &point.raw(&self.driven));
                self.overlay.leave(self.now, id, point, &mut self.outputs);
            }
        }
    }

    /// Restores the inputs as the devices left them, so that the devices can go on from there.
    pub fn remove_overlay(&mut self) {
        self.overlay.remove(&self.points, &mut self.inputs);
    }

    /// Puts the overlay over the inputs.
    pub fn apply_overlay(&mut self) {
        self.overlay.apply(self.now, &self.points, &mut self.inputs);
    }

    /// Computes the values that the devices get in this cycle: [`World::driven`].
    pub fn drive(&mut self) {
        let Self { now, points, owners, outputs, driven, inputs, overlay, .. } = self;
        overlay.drive(*now, points, owners, (outputs, driven), &mut inputs.quality);
    }

    /// Ends all forces, and makes every output safe that has lost its owner and still keeps its
    /// value.
    pub fn make_safe_now(&mut self) {
        self.overlay.make_safe_now(&self.points, &mut self.outputs);
        self.overlay.unforce(None);
    }

    /// Frees and makes safe every output that is no longer in `points`. The caller does this before
    /// the new points take over, because the output's device can still be written before that.
    pub fn leave_out(&mut self, points: &Points) {
        for (id, point) in self.points.iter().filter(|(id, _)| points.get(*id).is_none()) {
            self.owners[id.index()] = None;
            make_safe(point, &mut self.outputs);
        }
    }

    /// The last outputs for the device at this place, before `points` take over. Outputs that
    /// belong to another device under the new points are safe here.
    pub fn without_device(&self, place: usize, points: &Points) -> Vec<u8> {
        let mut outputs = self.driven.clone();
        let name = self.points.devices().get(place);
        for (id, point) in self.points.iter().filter(|(_, point)| point.device == place) {
            let stays = points.get(id).is_some_and(|new| points.devices().get(new.device) == name);
            if !stays {
                make_safe(point, &mut outputs);
            }
        }
        outputs
    }

    /// Takes over other points, and returns the old points. A point that is in both sets has the
    /// same place in both, and keeps its value and its owner. A new input is unread, and a new
    /// output is safe.
    pub fn take_points(&mut self, points: Arc<Points>) -> Arc<Points> {
        let before = std::mem::replace(&mut self.points, points);
        let points = &self.points;
        for (id, point) in before.iter().filter(|(id, _)| points.get(*id).is_none()) {
            match point.direction {
                Direction::In => point.clear(&mut self.inputs.bytes),
                Direction::Out => {
                    point.clear(&mut self.outputs);
                    point.clear(&mut self.driven);
                }
            }
            self.inputs.quality[id.index()] = Quality::Good;
        }
        self.overlay.take_points(points);
        self.owners.resize(points.ids(), None);
        self.inputs.quality.resize(points.ids(), Quality::Good);
        self.inputs.good_at.resize(points.ids(), Duration::ZERO);
        self.inputs.bytes.resize(points.image_bytes(Direction::In), 0);
        self.outputs.resize(points.image_bytes(Direction::Out), 0);
        self.driven.resize(points.image_bytes(Direction::Out), 0);
        for (id, point) in points.iter() {
            let is_new = before.get(id).is_none();
            match point.direction {
                Direction::In if is_new => {
                    point.clear(&mut self.inputs.bytes);
                    self.inputs.quality[id.index()] = Quality::Waiting;
                    self.inputs.good_at[id.index()] = Duration::ZERO;
                }
                // A program may have written to these bytes while no point was there.
                Direction::Out if is_new => point.clear(&mut self.outputs),
                _ => {}
            }
            // The overlay makes an output safe later if the output's hold time still runs.
            if self.owners[id.index()].is_none() && !self.overlay.is_leaving(id) {
                make_safe(point, &mut self.outputs);
            }
            if is_new && point.direction == Direction::Out {
                point.put_raw(&mut self.driven, &point.raw(&self.outputs));
            }
        }
        before
    }
}
