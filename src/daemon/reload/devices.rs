//! The devices of a new configuration: those that stay, and those that begin anew.
//!
//! The thread that reads the configuration plans them, because a plan may wait for files. The loop
//! only starts what is planned. The scan takes all of them over at once (`scan/reconfigure.rs`).

use std::sync::Arc;
use std::time::Instant;

use tokio::task::spawn_blocking;

use super::unread::Unread;
use crate::config::{self, Change, Config, Device, Place};
use crate::driver::export::Exports;
use crate::driver::{self, Plan};
use crate::patience::PATIENCE;
use crate::process::image::Points;
use crate::scan::{DeviceSet, Slot};

/// All devices of a configuration whose devices differ from those before, in their order.
#[derive(Debug)]
pub(super) struct Planned {
    points: Arc<Points>,
    devices: Vec<Origin>,
}

/// Where a device comes from.
#[derive(Debug)]
enum Origin {
    /// A device that stays; the number is its index before.
    Kept(usize),
    /// A device that begins anew, with its name.
    New(String, Plan),
}

impl Planned {
    /// The devices of `new`, if they differ from those before. All of them together have
    /// [`PATIENCE`] to read their files.
    ///
    /// # Errors
    /// When a device cannot be what its configuration says, or its files give no answer.
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
            let is_it = |place: &Place| matches!(place, Place::Device(device, _) if device == name);
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

    /// Starts the devices that begin anew. It waits for nothing.
    ///
    /// # Errors
    /// When the system refuses to start a thread; then none of them is used.
    pub(super) fn start(self) -> Result<DeviceSet, String> {
        let mut devices = Vec::new();
        for origin in self.devices {
            let slot = match origin {
                Origin::Kept(place) => Slot::Kept(place),
                Origin::New(name, plan) => match plan.start() {
                    Ok(driver) => Slot::Opened(driver),
                    Err(error) => {
                        // Their drop may wait for what they have begun on their wires.
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

fn closed(device: &str, error: &driver::OpenError) -> String {
    format!("device[{device}] does not open: {error}")
}
