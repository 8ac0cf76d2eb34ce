//! A new configuration takes the place of the one before, between two cycles.
//!
//! All that it brings was made ready elsewhere and counts from the same cycle on: no program sees
//! half of it. What a device or a program without a change does is not touched, and neither are the
//! points that stay, variables and the memories of programs. What can change so is decided in
//! `config/change.rs`; opening a new device and freeing an old one is the daemon's work.

use std::sync::Arc;
use std::time::Duration;

use super::{Device, DeviceSet, Reconfiguration, RemovedDevice, Return, Scan, Slot};
use crate::plugin::Settings;
use crate::plugin::world::Seat;

impl Scan {
    pub(super) fn reconfigure(&mut self, mut reconfiguration: Box<Reconfiguration>, now: Duration) {
        let (period, stall) = (reconfiguration.period, reconfiguration.stall);
        self.stall = stall;
        let world = self.world();
        world.period = period;
        for (name, value) in &reconfiguration.variables {
            if world.variables.read(name).is_none() {
                // Who ordered it has looked for room, and its values are valid.
                let _ = world.variables.write(name, *value);
            }
            world.variables.take_over(name);
        }
        world.variables.commit();
        let reserved = std::mem::take(&mut reconfiguration.reserved);
        let has_names = reconfiguration.device_set.is_some()
            || !reconfiguration.variables.is_empty()
            || world.variables.reserved() != reserved;
        reconfiguration.reserved = world.variables.reserve(reserved);
        if has_names {
            self.programs.iter_mut().for_each(|seated| seated.forget_refusals());
        }
        if let Some(device_set) = &mut reconfiguration.device_set {
            self.world().leave_out(&device_set.points);
            self.exchange_devices(device_set, now);
            self.exchange_points(device_set, &reconfiguration.settings);
        }
        self.devices.iter_mut().for_each(|device| device.pace(period, stall));
        for (seat, settings) in &reconfiguration.settings {
            let Some(index) = self.index(*seat) else { continue };
            let mut seated = self.programs.remove(index);
            let world = self.world();
            seated.configure(settings, world);
            world.give_up(*seat, &settings.outputs);
            self.insert(seated);
        }
        self.give_back(Return::Reconfigured(reconfiguration));
    }

    /// Puts the devices in their new places. The last that one hears which leaves or begins anew is
    /// that the outputs which it has no more are safe.
    fn exchange_devices(&mut self, device_set: &mut DeviceSet, now: Duration) {
        let (period, stall) = (self.period(), self.stall);
        let before = std::mem::take(&mut self.devices);
        let mut before: Vec<_> = before.into_iter().map(Some).collect();
        for slot in device_set.devices.drain(..) {
            let device = match slot {
                Slot::Kept(place) => before.get_mut(place).and_then(Option::take),
                Slot::Opened(driver) => Some(Device::new(driver, period, stall)),
            };
            debug_assert!(device.is_some(), "whoever keeps a device knows where it is");
            self.devices.extend(device);
        }
        let world = self.world.as_ref().expect("the world is here between polls");
        for (place, device) in before.into_iter().enumerate() {
            let Some(Device { mut driver, .. }) = device else { continue };
            let outputs = world.without_device(place, &device_set.points);
            let fault = driver.write(now, &outputs).err();
            // It was the last time, and that is no stall.
            driver.supervise(Duration::ZERO);
            device_set.removed.push(RemovedDevice { place, driver, fault });
        }
    }

    /// Lets the world and every program have the new points; who gets new `settings` is left to
    /// these.
    fn exchange_points(&mut self, device_set: &mut DeviceSet, settings: &[(Seat, Settings)]) {
        let world = self.world.as_mut().expect("the world is here between polls");
        let points = Arc::clone(&device_set.points);
        device_set.points = world.take_points(points);
        for seated in &mut self.programs {
            if settings.iter().all(|(seat, _)| *seat != seated.program.seat) {
                let settings = seated.program.settings.clone();
                seated.configure(&settings, world);
            }
        }
    }
}
