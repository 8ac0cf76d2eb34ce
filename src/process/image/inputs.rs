//! The input image: the bytes of all inputs, with the quality and the age of each input.
//!
//! Drivers write to this image, and programs read from it. This file does not decide which quality
//! a value has: the drivers decide, and `overlay.rs` sets the qualities of forces and substitutes.

use std::time::Duration;

use super::{Class, Direction, PointId, Points, Quality};

/// The input image with the quality of each point. Drivers write to this image, and programs read
/// from it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Inputs {
    /// The bytes of the input image.
    pub bytes: Vec<u8>,
    /// The quality of each point; the index is the [`PointId`], and the length is [`Points::ids`].
    /// The quality of an output is always [`Quality::Forced`] or [`Quality::Good`].
    pub quality: Vec<Quality>,
    /// The time when each input was last good, on the scan's clock; 0 if it was never good. The
    /// index is the [`PointId`].
    pub good_at: Vec<Duration>,
}

impl Inputs {
    /// Creates an image of zeroes. Every input has the quality `Waiting`, because no device has
    /// been read yet.
    pub fn unread(points: &Points) -> Self {
        let mut quality = vec![Quality::Good; points.ids()];
        for (id, _) in points.iter().filter(|(_, point)| point.direction == Direction::In) {
            quality[id.index()] = Quality::Waiting;
        }
        let good_at = vec![Duration::ZERO; points.ids()];
        Self { bytes: vec![0; points.image_bytes(Direction::In)], quality, good_at }
    }

    /// Records the quality of an input at the time `now`. The driver calls this function. If the
    /// quality is good, the driver must put the new value into the image before this call.
    pub fn note(&mut self, id: PointId, quality: Quality, now: Duration) {
        self.quality[id.index()] = quality;
        if quality.class() == Class::Good {
            self.good_at[id.index()] = now;
        }
    }

    /// Lowers the quality of an input to `quality`. A quality that is already worse does not
    /// change.
    pub fn degrade(&mut self, id: PointId, quality: Quality) {
        let worst = self.quality[id.index()].max(quality);
        self.quality[id.index()] = worst;
    }
}
