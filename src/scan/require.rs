//! Programs that lack what they require: polled as ever, but with safe outputs.
//!
//! A program names the inputs without which it cannot do its work. While one of them is bad for
//! longer than it says, nothing that it writes reaches a device, and it can ask whether that is so.
//! The outputs themselves are made safe in `plugin/overlay.rs`; ownership stays as it is.

use std::time::Duration;

use super::Scan;
use crate::image::Class;

impl Scan {
    /// Finds out who lacks something in this cycle.
    pub(super) fn examine(&mut self, now: Duration) {
        let world = self.world.as_mut().expect("the world is here between polls");
        if !self.is_demanding && !world.overlay.is_lacking() {
            // Mostly nobody requires anything, and a look at each program costs as much as a poll.
            return;
        }
        for seated in &mut self.programs {
            let settings = &seated.program.settings;
            let qualities = &world.inputs.quality;
            // A point that has just gone is missing too.
            let is_bad = |quality: Option<&_>| {
                quality.is_none_or(|q: &crate::image::Quality| q.class() == Class::Bad)
            };
            let lacks = settings.requires.iter().any(|id| is_bad(qualities.get(id.index())));
            let seat = seated.program.seat;
            world.overlay.lacks(seat, lacks.then(|| now + settings.requires_timeout));
            seated.degraded = world.overlay.degraded(seat, now).is_some();
        }
    }
}
