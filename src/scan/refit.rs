//! A new configuration takes the place of the one before, between two cycles.
//!
//! All that it brings was made ready elsewhere and counts from the same cycle on: no program sees
//! half of it. What a device or a program without a change does is not touched, and neither are
//! outputs, variables and the memories of programs. What can change so is decided in
//! `config/change.rs`; opening a new device and freeing an old one is the daemon's work.

use super::{Refit, Return, Scan};

impl Scan {
    pub(super) fn refit(&mut self, mut refit: Box<Refit>) {
        let world = self.world();
        world.period = refit.period;
        for (name, value) in &refit.variables {
            if world.variables.read(name).is_none() {
                // Who ordered it has looked for room, and its values are valid.
                let _ = world.variables.write(name, *value);
            }
        }
        world.variables.commit();
        for (index, driver) in &mut refit.devices {
            if let Some(device) = self.devices.get_mut(*index) {
                std::mem::swap(&mut device.driver, driver);
                device.fault = None;
            }
        }
        for (seat, settings) in &refit.settings {
            let Some(index) = self.index(*seat) else { continue };
            let mut seated = self.programs.remove(index);
            let world = self.world();
            seated.configure(settings, world);
            world.give_up(*seat, &settings.outputs);
            self.insert(seated);
        }
        self.give_back(Return::Refitted(refit));
    }
}
