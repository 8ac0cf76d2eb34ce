//! A device as the scan has it: its driver and how that failed last.
//!
//! What a driver is, `driver/mod.rs` says; what becomes of devices when others are configured,
//! `refit.rs`.

use std::time::Duration;

use super::DeviceFact;
use crate::driver::{Driver, Fault};
use crate::image::{Direction, Points};

pub(super) struct Device {
    pub(super) driver: Box<dyn Driver>,
    pub(super) fault: Option<Fault>,
}

impl Device {
    /// One that is called once in every `period`.
    pub(super) fn new(mut driver: Box<dyn Driver>, period: Duration) -> Self {
        driver.pace(period);
        Self { driver, fault: None }
    }

    pub(super) fn fact(&self) -> DeviceFact {
        DeviceFact { fault: self.fault, confirmed: self.driver.is_confirmed() }
    }
}

/// Marks the outputs that a device is not known to have.
pub(super) fn mark_unconfirmed(devices: &[Device], points: &Points, marks: &mut Vec<bool>) {
    marks.clear();
    marks.resize(points.ids(), false);
    if devices.iter().all(|device| device.driver.is_confirmed()) {
        return;
    }
    for (id, point) in points.iter().filter(|(_, point)| point.direction == Direction::Out) {
        let driver = &devices[point.device].driver;
        marks[id.index()] = !driver.is_confirmed() && !driver.is_confirmed_at(id);
    }
}
