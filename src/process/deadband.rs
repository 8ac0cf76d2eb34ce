//! The deadband of outputs: a small change of a program's value is not passed to the device.
//!
//! ```text
//! deadband = 0.5     program  10.0  10.3  10.5  10.6  10.2
//!                    device   10.0  10.0  10.0  10.6  10.6
//! ```
//!
//! The deadband applies only to the value of the program that owns the output. Three values are
//! always passed to the device: the safe value, a forced value, and the first value of the program
//! after a force.
//!
//! `overlay.rs` calls the functions here in each cycle. The deadband of inputs is in
//! `image/wire.rs`. Only [`Deadbands::new`] allocates memory.

use super::image::{Direction, Point, PointId, Points, Quality, Raw};
use super::seat::Seat;

/// The outputs that have a deadband.
#[derive(Debug, Default)]
pub(super) struct Deadbands(Vec<Deadband>);

/// An output that has a deadband.
#[derive(Debug)]
struct Deadband {
    id: PointId,
    /// The raw bytes of the safe value; `None` if the safe setting is `hold`.
    safe: Option<Raw>,
    /// The value that the device got in the last cycle.
    last: Raw,
}

impl Deadbands {
    /// Finds the outputs that have a deadband. Most configurations have none.
    pub(super) fn new(points: &Points) -> Self {
        let has_deadband = |(_, point): &(PointId, &Point)| {
            point.direction == Direction::Out && point.deadband > 0.0
        };
        let deadband =
            |(id, point): (_, &Point)| Deadband { id, safe: point.safe_raw(), last: [0; 8] };
        Self(points.iter().filter(has_deadband).map(deadband).collect())
    }

    /// Stores the values that the devices got in the last cycle.
    pub(super) fn remember(&mut self, points: &Points, driven: &[u8]) {
        self.0.iter_mut().for_each(|of| of.last = points[of.id].raw(driven));
    }

    /// Replaces each value of a program in `driven` that differs too little from the last value.
    /// `quality` says which outputs were forced in the last cycle.
    pub(super) fn apply(
        &self,
        points: &Points,
        owners: &[Option<Seat>],
        driven: &mut [u8],
        quality: &[Quality],
    ) {
        for Deadband { id, safe, last } in &self.0 {
            let point = &points[*id];
            let raw = point.raw(driven);
            let is_of_program = owners[id.index()].is_some();
            let was_forced = quality[id.index()] == Quality::Forced;
            let is_safe = *safe == Some(raw);
            if is_of_program && !was_forced && !is_safe && point.is_within_deadband(last, &raw) {
                point.put_raw(driven, last);
            }
        }
    }
}
