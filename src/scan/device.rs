//! A device as the scan has it: its driver and how that failed last.
//!
//! What a driver is, `driver/mod.rs` says; what becomes of devices when others are configured,
//! `reconfigure.rs`.

use std::time::Duration;

use super::DeviceFact;
use crate::driver::{Delivery, Driver, Fault};
use crate::image::{Direction, Points};

pub(super) struct Device {
    pub(super) driver: Box<dyn Driver>,
    pub(super) fault: Option<Fault>,
}

impl Device {
    /// One that is called once in every `period`, and makes its outputs safe by itself when it was
    /// not for `stall`.
    pub(super) fn new(driver: Box<dyn Driver>, period: Duration, stall: Duration) -> Self {
        let mut device = Self { driver, fault: None };
        device.pace(period, stall);
        device
    }

    pub(super) fn pace(&mut self, period: Duration, stall: Duration) {
        self.driver.pace(period);
        self.driver.supervise(stall);
    }

    pub(super) fn fact(&self) -> DeviceFact {
        DeviceFact { fault: self.fault, confirmed: self.driver.is_confirmed() }
    }
}

/// Notes of each output what is known of it at its device.
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
