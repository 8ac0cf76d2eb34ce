//! Required inputs: a program that lacks a required input for too long is polled, but its outputs
//! are safe.
//!
//! The configuration names the inputs that a program requires. If at least one of these inputs is
//! bad in every cycle of the configured timeout, the program is degraded. The scan still polls a
//! degraded program, but the devices do not get the values that the program writes. Each output of
//! the program keeps its value for its hold time (`hold_for`), and then has its safe value. With
//! the safe setting `hold`, it keeps its value. The program still owns its outputs, and the program
//! can ask the host whether it is degraded. `process/overlay.rs` makes the outputs safe.

use std::time::Duration;

use super::Scan;
use crate::process::image::Class;

impl Scan {
    /// Finds the programs that lack a required input in this cycle. Updates the flag `degraded` of
    /// every program: the flag is true if the program has lacked a required input for longer than
    /// the timeout. The scan calls this function once in each cycle, before the polls.
    pub(super) fn examine(&mut self, now: Duration) {
        let world = &mut *self.world;
        if !self.is_demanding && !world.overlay.is_lacking() {
            // No program requires an input. The check of one program takes as long as a poll, so
            // the scan returns here and saves that time.
            return;
        }
        for seated in &mut self.programs {
            let settings = &seated.program.settings;
            let qualities = &world.inputs.quality;
            // A required point that is not in the configuration any more has no quality. The scan
            // treats this point as bad.
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
