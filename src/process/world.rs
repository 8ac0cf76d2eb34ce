//! The world: the data that a program can read and change during one call, such as images,
//! variables and the time.
//!
//! The scan owns one [`World`]. For the time of a call, the scan lends this world to the called
//! program (`lent.rs`). Between two calls only the scan can use the world. A program that is
//! prepared on another thread gets a separate world with the values of the latest snapshot.
//!
//! The checks of a guest's requests are in `plugin/instance/guest.rs` and `plugin/instance/abi.rs`.
//! Safe values and forces are in `overlay.rs`.

use std::sync::Arc;
use std::time::Duration;

use super::grant::Grant;
use super::image::{Direction, Inputs, PointId, Points, Quality};
use super::line::LogSink;
use super::overlay::{Overlay, make_safe};
use super::seat::Seat;
use super::variable::Variables;

/// The values and tables that all programs share.
#[derive(Debug)]
pub struct World {
    /// The instant at which this cycle began, on the scan's clock. Programs get this instant as
    /// their clock.
    pub now: Duration,
    /// The number of this cycle; the first is 1.
    pub cycle: u64,
    /// The period of the scan.
    pub period: Duration,
    /// All points of the configuration.
    pub points: Arc<Points>,
    /// The input image: the drivers fill it at the start of the cycle, and then the overlay is
    /// applied.
    pub inputs: Inputs,
    /// The output image: the values that programs have committed up to now.
    pub outputs: Vec<u8>,
    /// The output values that the devices got at the end of the last cycle.
    pub driven: Vec<u8>,
    /// Forces, substitutes and safe values, which replace the values of devices and programs.
    pub overlay: Overlay,
    /// The seat that owns each output; the index is the [`PointId`]. `None` if the output has no
    /// owner.
    pub owners: Vec<Option<Seat>>,
    /// All variables.
    pub variables: Variables,
    /// The queue or list that gets the log lines of programs.
    pub log: LogSink,
    /// Whether an instance that is created with this world records its calls on a tape. If the
    /// program traps, the crash report contains the tape.
    pub is_recorded: bool,
}

impl World {
    /// Creates a world as it is before the first cycle: the inputs are unread, and no output has an
    /// owner. Each output has its safe value. If its safe setting is `hold`, it has 0 or, if its
    /// range excludes 0, the nearest value in its range.
    pub fn new(points: Arc<Points>, variables: Variables, period: Duration, log: LogSink) -> Self {
        let mut outputs = vec![0; points.image_bytes(Direction::Out)];
        for (_, point) in points.iter().filter(|(_, point)| point.direction == Direction::Out) {
            make_safe(point, &mut outputs);
            point.move_into_range(&mut outputs);
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

    /// Returns a copy of this world. The copy has an empty overlay, and its log is an empty list.
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

    /// Ends the ownership of all outputs of `seat`, so that other programs may claim these outputs.
    /// Each output becomes safe at once, or after its hold time
    /// ([`Point::hold_for`](super::image::Point::hold_for)). Also deletes the record that the
    /// program on `seat` lacks a required input.
    pub fn release_outputs(&mut self, seat: Seat) {
        self.give_up(seat, &Grant::Only(Vec::new()));
        self.overlay.lacks(seat, None);
    }

    /// Ends the ownership of those outputs of `seat` that `grant` does not contain. Each of these
    /// outputs becomes safe at once, or after its hold time.
    pub fn give_up(&mut self, seat: Seat, grant: &Grant) {
        if let Grant::Only(kept) = grant {
            self.give_up_unless(seat, |id| kept.contains(&id));
        }
    }

    /// Ends the ownership of those outputs of `seat` for which `keeps` returns false. Each of these
    /// outputs becomes safe at once, or after its hold time.
    pub fn give_up_unless(&mut self, seat: Seat, mut keeps: impl FnMut(PointId) -> bool) {
        for (id, point) in self.points.iter() {
            let owner = &mut self.owners[id.index()];
            if *owner == Some(seat) && !keeps(id) {
                *owner = None;
                // The output gets the value that its device got last. `outputs` may have another
                // value, which the program wrote while the output was forced or safe.
                point.put_raw(&mut self.outputs, &point.raw(&self.driven));
                self.overlay.leave(self.now, id, point, &mut self.outputs);
            }
        }
    }

    /// Removes the overlay from the inputs: each input gets the value and quality from its driver
    /// again. The scan calls this function before the drivers read, because a driver continues from
    /// its own earlier values and qualities.
    pub fn remove_overlay(&mut self) {
        self.overlay.remove(&self.points, &mut self.inputs);
    }

    /// Applies the overlay to the inputs. The scan calls this function after the drivers have read.
    pub fn apply_overlay(&mut self) {
        self.overlay.apply(self.now, &self.points, &mut self.inputs);
    }

    /// Computes [`World::driven`]: the values that the devices get at the end of this cycle.
    pub fn drive(&mut self) {
        let Self { now, points, owners, outputs, driven, inputs, overlay, .. } = self;
        overlay.drive(*now, points, owners, (outputs, driven), &mut inputs.quality);
    }

    /// Ends all forces. Also makes outputs without an owner safe at once, without waiting for the
    /// end of their hold time.
    pub fn make_safe_now(&mut self) {
        self.overlay.make_safe_now(&self.points, &mut self.outputs);
        self.overlay.unforce(None);
    }

    /// Ends the ownership of every output that does not exist in the new `points`, and makes this
    /// output safe at once, without a hold time. The caller calls this function before
    /// [`World::take_points`], because between these two calls the device of a removed output gets
    /// one last write.
    pub fn leave_out(&mut self, points: &Points) {
        for (id, point) in self.points.iter().filter(|(id, _)| points.get(*id).is_none()) {
            self.owners[id.index()] = None;
            make_safe(point, &mut self.outputs);
        }
    }

    /// Returns the output image for the last write to a device that the new configuration removes
    /// or restarts. `place` is the index of the device in the device list of the present points.
    /// Outputs that the device does not have in the new `points` are safe in this image.
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

    /// Replaces the points of this world, and returns the old points. A point that is in the old
    /// set and in the new set retains its value and its owner. This point has the same address in
    /// both sets, because a changed address takes effect only after a restart of the daemon
    /// (`config/live.rs`). A new input is unread. An output without an owner becomes safe, unless
    /// its hold time still runs. An output outside of its new range gets the nearest value in it.
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
                // The bytes of this new output belonged to no point before. A program may have
                // written to these bytes, so they are set to zero.
                Direction::Out if is_new => point.clear(&mut self.outputs),
                _ => {}
            }
            // If the hold time of an output still runs, the overlay makes the output safe later.
            if self.owners[id.index()].is_none() && !self.overlay.is_leaving(id) {
                make_safe(point, &mut self.outputs);
            }
            if point.direction == Direction::Out {
                // The point may have a range that it did not have before.
                point.move_into_range(&mut self.outputs);
                point.move_into_range(&mut self.driven);
                if is_new {
                    point.put_raw(&mut self.driven, &point.raw(&self.outputs));
                }
            }
        }
        before
    }
}
