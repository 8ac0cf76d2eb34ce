//! Programs that lack a required input: the scan still polls them, but their outputs are safe.
//!
//! A program names the inputs that it needs for its work. If one of them has been bad for longer
//! than the program allows, the program is degraded: nothing that it writes reaches a device. A
//! program can ask whether it is degraded. It stays the owner of its outputs. `process/overlay.rs`
//! makes the outputs safe.

use std::time::Duration;

use super::Scan;
use crate::process::image::Class;

impl Scan {
    /// Finds the programs that lack a required input in this cycle.
    pub(super) fn examine(&mut self, now: Duration) {
        let world = &mut *self.world;
        if !self.is_demanding && !world.overlay.is_lacking() {
            // Usually no program requires an input. The early return saves time, because checking
            // each program costs as much as a poll.
            return;
        }
        for seated in &mut self.programs {
            let settings = &seated.program.settings;
            let qualities = &world.inputs.quality;
            // A point that has left the configuration counts as bad too.
            let is_bad = |quality: Option<&_>| {
                quality.is_none_or(|q: &crate::process::image::Quality| q.class() == Class::Bad)
            };
            let lacks = settings.requires.iter().any(|id| is_bad(qualities.get(id.index())));
            let seat = seated.program.seat;
            world.overlay.lacks(seat, lacks.then(|| now + settings.requires_timeout));
            seated.degraded = world.overlay.degraded(seat, now).is_some();
        }
    }
}
