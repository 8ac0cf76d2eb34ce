//! A device from the point of view of the scan: its driver, and the fault of the driver in the
//! present cycle.
//!
//! `driver/mod.rs` explains what a driver does. `reconfigure.rs` replaces devices when the
//! configuration changes.

use std::time::Duration;

use super::DeviceFact;
use crate::driver::{Delivery, Driver, Fault};
use crate::process::image::{Direction, Points};

/// One device: its driver, and the fault of the driver in the present cycle.
pub(super) struct Device {
    pub(super) driver: Box<dyn Driver>,
    /// The fault of the driver's read or write in this cycle. `None` means that the driver works.
    pub(super) fault: Option<Fault>,
}

impl Device {
    /// Makes a device that the scan calls once in every `period`. If the scan does not call the
    /// device for the time `stall`, the device makes its outputs safe without the scan. Zero means
    /// that the device never does this.
    pub(super) fn new(driver: Box<dyn Driver>, period: Duration, stall: Duration) -> Self {
        let mut device = Self { driver, fault: None };
        device.pace(period, stall);
        device
    }

    /// Sets the period in which the scan calls the device. Also sets the time without a call after
    /// which the device makes its outputs safe.
    pub(super) fn pace(&mut self, period: Duration, stall: Duration) {
        self.driver.pace(period);
        self.driver.supervise(stall);
    }

    /// Returns the facts about the device for the snapshot.
    pub(super) fn fact(&self) -> DeviceFact {
        DeviceFact { fault: self.fault, confirmed: self.driver.is_confirmed() }
    }
}

/// Writes the delivery state of each output into the list `notes`, in the order of point ids.
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
