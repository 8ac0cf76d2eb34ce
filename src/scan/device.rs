//! A device as the scan has it: its driver and that driver's present fault.
//!
//! What a driver is, is in `driver/mod.rs`. How devices are exchanged when the configuration
//! changes is in `reconfigure.rs`.

use std::time::Duration;

use super::DeviceFact;
use crate::driver::{Delivery, Driver, Fault};
use crate::process::image::{Direction, Points};

/// One device: its driver, and what the last calls of it have shown.
pub(super) struct Device {
    pub(super) driver: Box<dyn Driver>,
    /// The driver's present fault, of this cycle's read or write.
    pub(super) fault: Option<Fault>,
}

impl Device {
    /// A device that the scan calls once in every `period`. It makes its outputs safe by itself
    /// when the scan has not called it for `stall`.
    pub(super) fn new(driver: Box<dyn Driver>, period: Duration, stall: Duration) -> Self {
        let mut device = Self { driver, fault: None };
        device.pace(period, stall);
        device
    }

    /// Sets how often the scan calls the device, and after which silence it makes its outputs safe.
    pub(super) fn pace(&mut self, period: Duration, stall: Duration) {
        self.driver.pace(period);
        self.driver.supervise(stall);
    }

    /// The facts about the device for the snapshot.
    pub(super) fn fact(&self) -> DeviceFact {
        DeviceFact { fault: self.fault, confirmed: self.driver.is_confirmed() }
    }
}

/// Fills `notes` with the delivery state of each output at its device; by point id.
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
