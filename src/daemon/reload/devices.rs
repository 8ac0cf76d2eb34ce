//! The devices of a new configuration. Unchanged devices stay open, and the daemon opens the new
//! and changed devices.
//!
//! ```text
//!   thread of the reading: plan() ──▶ Planned ──▶ the loop: start() ──▶ DeviceSet ──▶ the scan
//! ```
//! The thread that reads the configuration also plans the new devices, because a plan may wait for
//! files. The main loop only starts the planned devices. The scan takes over all devices together
//! (`scan/reconfigure.rs`). Devices that were removed from the configuration are in
//! `reload/leaving.rs`.

use std::sync::Arc;
use std::time::Instant;

use tokio::task::spawn_blocking;

use super::unread::Unread;
use crate::config::{self, Change, Config, ConfigPlace, Device};
use crate::driver::export::Exports;
use crate::driver::{self, Plan};
use crate::patience::PATIENCE;
use crate::process::image::Points;
use crate::scan::{DeviceSet, Slot};

/// The plans for all devices of a new configuration, in the order of the configuration.
#[derive(Debug)]
pub(super) struct Planned {
    /// The points of the new configuration.
    points: Arc<Points>,
    /// All devices of the new configuration, including the devices that stay.
    devices: Vec<Origin>,
}

/// The origin of a device in the new configuration: the old configuration, or a new plan.
#[derive(Debug)]
enum Origin {
    /// A device that stays. The number is its index in the old configuration.
    Kept(usize),
    /// A device that is new or has other settings: its name, and the plan to open it.
    New(String, Plan),
}

impl Planned {
    /// Plans the devices of `new`. Returns `None` if the devices and their points have not changed
    /// since `before`. All devices together have [`PATIENCE`] to read their files.
    ///
    /// # Errors
    /// A device cannot be opened with its configuration, or the file system of its files gives no
    /// answer.
    pub(super) fn plan(
        before: &Config,
        new: &Config,
        changes: &[Change],
        exports: &Exports,
    ) -> Result<Option<Self>, Unread> {
        if !config::has_other_field(changes) {
            return Ok(None);
        }
        let is_changed = |name: &str| {
            let is_it = |place: &ConfigPlace| match place {
                ConfigPlace::Device(device, _) => device == name,
                _ => false,
            };
            changes.iter().any(|change| change.is_live() && is_it(&change.place))
        };
        let end = Instant::now() + PATIENCE;
        let origin = |(index, device): (usize, &Device)| {
            let place = before.live.devices.iter().position(|other| other.name == device.name);
            if let Some(place) = place.filter(|_| !is_changed(&device.name)) {
                return Ok(Origin::Kept(place));
            }
            let left = end.saturating_duration_since(Instant::now());
            let plan = driver::plan(&device.driver, &new.live.points, index, exports, left);
            let plan = plan.map_err(|error| Unread {
                why: closed(&device.name, &error),
                is_late: error.is_late,
            })?;
            Ok(Origin::New(device.name.to_string(), plan))
        };
        let devices =
            new.live.devices.iter().enumerate().map(origin).collect::<Result<_, Unread>>()?;
        Ok(Some(Self { points: Arc::clone(&new.live.points), devices }))
    }

    /// Starts the devices that have a plan. The call waits for nothing.
    ///
    /// # Errors
    /// The system refuses to start a thread. In that case another thread drops the devices that
    /// were already started.
    pub(super) fn start(self) -> Result<DeviceSet, String> {
        let mut devices = Vec::new();
        for origin in self.devices {
            let slot = match origin {
                Origin::Kept(place) => Slot::Kept(place),
                Origin::New(name, plan) => match plan.start() {
                    Ok(driver) => Slot::Opened(driver),
                    Err(error) => {
                        // The drop of a driver may wait for a request on its bus, so another thread
                        // drops the started devices.
                        spawn_blocking(move || drop(devices));
                        return Err(closed(&name, &error));
                    }
                },
            };
            devices.push(slot);
        }
        Ok(DeviceSet { points: self.points, devices, removed: Vec::new() })
    }
}

/// Returns the text of an error when a device does not open, with the name of the device.
fn closed(device: &str, error: &driver::OpenError) -> String {
    format!("device[{device}] does not open: {error}")
}
