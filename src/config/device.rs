//! The entries `[[device]]`: the name and the driver of each device, and the checks by the drivers.
//!
//! A device is first read without its points (`devices`). When all points have addresses, each
//! driver checks its device (`try_devices`). The keys of a driver are read in `driver.rs`. Points
//! are in `points.rs`, and their addresses in `layout.rs`. No device is opened here.
//!
//! An entry in a file:
//!
//! ```toml
//! [[device]]
//! name = "plant"
//! driver = "sim"
//! input_start = 0               # the window: 16 bytes of the input image, from byte 0
//! input_bytes = 16
//! tank = { level = "tank.level", inflow = "tank.inflow" }     # a key of the driver
//! ```

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Instant;

use super::check::once;
use super::driver::{offset_of, understand};
use super::file::{DeviceFile, PointFile};
use super::problem::ProblemReport;
use super::surroundings::Surroundings;
use crate::driver::{self, MAX_DEVICES};
use crate::name::DeviceName;
use crate::patience::PATIENCE;
use crate::process::image::Points;

/// A device in the field, as the configuration describes it.
#[derive(Debug, Clone, PartialEq)]
pub struct Device {
    /// The name, unique among devices.
    pub name: DeviceName,
    /// The driver and its settings.
    pub driver: driver::Config,
}

/// Returns the devices with the settings of their drivers. Reports names that occur twice, and too
/// many devices.
pub(super) fn devices(
    files: &[DeviceFile<'_>],
    here: &Surroundings<'_>,
    report: &ProblemReport<'_>,
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

/// Lets each driver check its device, and reports the mistakes. Only the driver can find out
/// whether, for example, a script file exists. All drivers together must read their files within
/// [`PATIENCE`]. If two devices use the same connection, this function reports the later device.
pub(super) fn try_devices(
    files: &[DeviceFile<'_>],
    devices: &[Device],
    points: &Arc<Points>,
    report: &ProblemReport<'_>,
) {
    let mut wires = HashMap::new();
    let end = Instant::now() + PATIENCE;
    for (index, (file, device)) in files.iter().zip(devices).enumerate() {
        if let Some(wire) = device.driver.settings().wire()
            && let Some(other) = wires.insert(wire.clone(), &device.name)
        {
            let found = format!("{wire}, which device {other} uses already");
            let right = "a connection that no other device uses, or one device with the units of \
                         both devices";
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
