//! A device as the scan has it: its driver, and the driver's present fault.
//!
//! `driver/mod.rs` says what a driver is. `reconfigure.rs` exchanges devices when the configuration
//! changes.

use std::time::Duration;

use super::DeviceFact;
use crate::driver::{Delivery, Driver, Fault};
use crate::process::image::{Direction, Points};

/// One device: its driver, and the result of the driver's last call.
pub(super) struct Device {
    pub(super) driver: Box<dyn Driver>,
    /// The fault of the driver's read or write in this cycle; `None` if the driver works.
    pub(super) fault: Option<Fault>,
}

impl Device {
    /// A device that the scan calls once in every `period`. If the scan has not called the device
    /// for the time `stall`, the device makes its outputs safe by itself.
    pub(super) fn new(driver: Box<dyn Driver>, period: Duration, stall: Duration) -> Self {
        let mut device = Self { driver, fault: None };
        device.pace(period, stall);
        device
    }

    /// Sets the period in which the scan calls the device, and the time without a call after which
    /// the device makes its outputs safe.
    pub(super) fn pace(&mut self, period: Duration, stall: Duration) {
        self.driver.pace(period);
        self.driver.supervise(stall);
    }

    /// The facts about the device for the snapshot.
    pub(super) fn fact(&self) -> DeviceFact {
        DeviceFact { fault: self.fault, confirmed: self.driver.is_confirmed() }
    }
}

/// Fills `notes` with the delivery state of each output, in the order of point ids.
pub(super) fn note_deliveries(devices: &[Device], points: &Points, notes: &mut Vec<Delivery>) {
    notes.clear();
    notes.resize(points.ids(), Delivery::Confirmed);
    if devices.iter().all(|device| device.driver.is_confirmed()) {
        return;
    }
    for (id, point) in points.iter().filter(|(_, point)| point.direction == Direction::Out) {
        notes[id.index()] = devices[point.device].driver.delivery(id);
    }
}
