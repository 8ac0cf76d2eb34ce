//! The exchange of the configuration in a running scan, between two cycles.
//!
//! The daemon prepares all parts of the new configuration, and opens the new devices. The scan puts
//! these parts in place in one cycle, so no program sees half of a configuration. The scan then
//! returns the old parts, and the daemon frees them. Devices and programs without a change run on
//! undisturbed. Variables, the memories of programs, and points that are in both configurations
//! keep their values. `config/change.rs` decides which parts of a configuration may change while
//! the daemon runs.
//!
//! ```text
//! daemon ── Order::Reconfigure (new parts) ───▶ scan
//! daemon ◀── Return::Reconfigured (old parts) ── scan
//! ```

use std::sync::Arc;
use std::time::Duration;

use super::{Device, DeviceSet, Reconfiguration, RemovedDevice, Return, Scan, Slot};
use crate::plugin::Settings;
use crate::process::seat::Seat;

impl Scan {
    /// Activates a new configuration in this cycle, and returns the replaced parts to the daemon.
    pub(super) fn reconfigure(&mut self, mut reconfiguration: Box<Reconfiguration>, now: Duration) {
        let (period, stall) = (reconfiguration.period, reconfiguration.stall);
        self.stall = stall;
        let world = &mut *self.world;
        world.period = period;
        for (name, value) in &reconfiguration.variables {
            if world.variables.read(name).is_none() {
                // This write cannot fail: the daemon has checked the number of variables, their
                // names and their values.
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
            self.world.leave_out(&device_set.points);
            self.exchange_devices(device_set, now);
            self.exchange_points(device_set, &reconfiguration.settings);
        }
        self.devices.iter_mut().for_each(|device| device.pace(period, stall));
        for (seat, settings) in &reconfiguration.settings {
            let Some(index) = self.index(*seat) else { continue };
            let mut seated = self.programs.remove(index);
            let world = &mut *self.world;
            seated.configure(settings, world);
            world.give_up(*seat, &settings.outputs);
            self.insert(seated);
        }
        self.give_back(Return::Reconfigured(reconfiguration));
    }

    /// Makes the list of devices of the new configuration. A device that was removed or replaced
    /// gets one last write. In this write, the outputs that the device no longer has are safe.
    fn exchange_devices(&mut self, device_set: &mut DeviceSet, now: Duration) {
        let (period, stall) = (self.period(), self.stall);
        let before = std::mem::take(&mut self.devices);
        let mut before: Vec<_> = before.into_iter().map(Some).collect();
        for slot in device_set.devices.drain(..) {
            let device = match slot {
                Slot::Kept(place) => before.get_mut(place).and_then(Option::take),
                Slot::Opened(driver) => Some(Device::new(driver, period, stall)),
            };
            debug_assert!(device.is_some(), "each unchanged device has an index in the old list");
            self.devices.extend(device);
        }
        let world = &*self.world;
        for (place, device) in before.into_iter().enumerate() {
            let Some(Device { mut driver, .. }) = device else { continue };
            let outputs = world.without_device(place, &device_set.points);
            let fault = driver.write(now, &outputs).err();
            // This was the last write to the device. Zero disables the stall reaction, because from
            // now on no cycle calls this device.
            driver.supervise(Duration::ZERO);
            device_set.removed.push(RemovedDevice { place, driver, fault });
        }
    }

    /// Passes the new points to the process image, and to each program without new settings. If
    /// `settings` has an entry for a program, [`Scan::reconfigure`] passes the points to this
    /// program later, together with the new settings.
    fn exchange_points(&mut self, device_set: &mut DeviceSet, settings: &[(Seat, Settings)]) {
        let world = &mut *self.world;
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
