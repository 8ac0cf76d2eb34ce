//! The entries `[[device]]`: their names and drivers, and what the drivers say of them.
//!
//! The keys of a driver are read in `driver.rs`. Points are in `points.rs`, and their places in
//! `layout.rs`.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Instant;

use super::check::once;
use super::driver::{offset_of, understand};
use super::file::{DeviceFile, PointFile};
use super::problem::Report;
use super::surroundings::Surroundings;
use crate::driver::{self, MAX_DEVICES};
use crate::name::DeviceName;
use crate::patience::PATIENCE;
use crate::process::image::Points;

/// A device in the field.
#[derive(Debug, Clone, PartialEq)]
pub struct Device {
    /// Its name, unique among devices.
    pub name: DeviceName,
    /// Its driver, with the settings of that driver.
    pub driver: driver::Config,
}

/// The devices, each with the settings of its driver.
pub(super) fn devices(
    files: &[DeviceFile<'_>],
    here: &Surroundings<'_>,
    report: &Report<'_>,
) -> Vec<Device> {
    let mut lines = HashMap::new();
    let mut all = Vec::new();
    if let Some(device) = files.get(MAX_DEVICES) {
        let found = format!("device {}", MAX_DEVICES + 1);
        report.wrong(device.rest.line, "device", found, format!("at most {MAX_DEVICES} devices"));
    }
    for device in files {
        let driver = understand(device, &here.folder, report);
        if let Some(name) = &device.name {
            once(name, &mut lines, "device", report);
            all.extend(driver.map(|driver| Device { name: name.value.clone(), driver }));
        }
    }
    all
}

/// Asks each driver to check its device, because only the driver can tell whether what the device
/// names exists. All drivers together have [`PATIENCE`] to read their files.
pub(super) fn try_devices(
    files: &[DeviceFile<'_>],
    devices: &[Device],
    points: &Arc<Points>,
    report: &Report<'_>,
) {
    let mut wires = HashMap::new();
    let end = Instant::now() + PATIENCE;
    for (index, (file, device)) in files.iter().zip(devices).enumerate() {
        if let Some(wire) = device.driver.settings().wire()
            && let Some(other) = wires.insert(wire.clone(), &device.name)
        {
            let found = format!("{wire}, where device {other} is");
            let right = "one device with the units of both, which then share its connection";
            report.wrong(file.rest.line, &format!("{}.connect", file.rest.key), found, right);
        }
        let left = end.saturating_duration_since(Instant::now());
        let checked = driver::check(&device.driver, points, index, left);
        let Err(error) = checked else { continue };
        let offset = offset_of(&file.rest.value, &error.place);
        let mut line = offset.map_or(file.rest.line, |offset| report.line(offset));
        let mut key = file.rest.key.clone();
        let is_it = |point: &&PointFile<'_>| {
            point.name.as_ref().is_some_and(|said| error.point.as_deref() == Some(&*said.value))
        };
        if let Some(point) = file.points.iter().find(is_it) {
            line = point.at.as_ref().map_or(point.place.line, |said| said.line);
            key = format!("{}.at", point.place.key);
        }
        if !error.place.is_empty() {
            key = format!("{key}.{}", error.place);
        }
        if error.is_late {
            report.late();
        }
        report.wrong(line, &key, error.found, error.wanted);
    }
}
