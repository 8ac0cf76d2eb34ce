//! Devices that a reload has removed from the configuration. A separate thread ends the driver of
//! each device, because the driver may wait until the device has confirmed its last outputs.
//!
//! A stop of the daemon also waits for these devices (`stop.rs`). The next start of the daemon does
//! not know these devices and could not make their outputs safe. The code in `scan/reconfigure.rs`
//! decides the last outputs of a removed device. The code in `driver/link.rs` limits the time that
//! a device has to confirm its last outputs.

use std::sync::Arc;

use tokio::task::{JoinHandle, spawn_blocking};
use tokio::time::{Instant, timeout_at};

use crate::process::image::Points;
use crate::scan::RemovedDevice;

/// The removed devices: the name of each device, and the thread that ends its driver. The thread
/// returns a text about outputs that an operator must check by hand, or `None`. Each thread ends
/// within 1.5 s, so the list is short.
#[derive(Debug, Default)]
pub(in crate::daemon) struct Leaving(Vec<(String, JoinHandle<Option<String>>)>);

impl Leaving {
    /// Starts the end of the removed devices. `points` are the points of the old configuration.
    pub(super) fn part_with(&mut self, mut removed: Vec<RemovedDevice>, points: &Arc<Points>) {
        // All drivers begin to leave now, even if some devices must wait for a free thread.
        removed.iter_mut().for_each(|device| device.driver.leave());
        for device in removed {
            let (name, points) = (points.devices()[device.place].to_string(), Arc::clone(points));
            let of = name.clone();
            self.0.push((of, spawn_blocking(move || part_with(&name, device, &points))));
        }
    }

    /// Removes a device from the list if its thread has ended. This thread has already logged the
    /// unconfirmed outputs of the device.
    pub(super) fn forget_the_ended(&mut self) {
        self.0.retain(|(_, thread)| !thread.is_finished());
    }

    /// Waits until all devices have left, but not longer than `until`. Returns one text for each
    /// device whose outputs an operator must check by hand.
    pub(in crate::daemon) async fn end(&mut self, until: Instant) -> Vec<String> {
        let mut unconfirmed = Vec::new();
        for (device, thread) in self.0.drain(..) {
            let left = timeout_at(until, thread).await;
            let unknown = |why: &str| Some(trouble(&device, why));
            unconfirmed.extend(match left {
                Ok(Ok(left)) => left,
                Ok(Err(panic)) => unknown(&panic.to_string()),
                Err(_) => unknown("the driver of the device has not ended within the time limit"),
            });
        }
        unconfirmed
    }
}

/// Waits until a removed device has confirmed its last outputs, and drops the driver. Returns a
/// text about the fault of the device or its unconfirmed outputs; `None` if the device has no fault
/// and has confirmed all outputs.
fn part_with(name: &str, device: RemovedDevice, points: &Points) -> Option<String> {
    let RemovedDevice { mut driver, fault, .. } = device;
    let unconfirmed = driver.finish();
    if fault.is_none() && unconfirmed.is_empty() {
        return None;
    }
    let names: Vec<_> = unconfirmed.iter().map(|id| &*points[*id].name).collect();
    let why = fault.map_or_else(|| names.join(", "), |fault| fault.to_string());
    let trouble = trouble(name, &why);
    tracing::error!(device = name, "{trouble}");
    Some(trouble)
}

/// Returns the text about a device that has left with unconfirmed outputs.
fn trouble(device: &str, why: &str) -> String {
    format!(
        "device {device} was removed by a reload, and its last outputs are UNCONFIRMED: {why}; \
         check them by hand"
    )
}
