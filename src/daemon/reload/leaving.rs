//! Devices that a reload has removed from the configuration. Each device ends on a thread of its
//! own, because its driver may wait until the device has taken the last outputs.
//!
//! A stop of the daemon waits for these devices too (`stop.rs`), because the next start does not
//! know them and could not make them safe. `scan/reconfigure.rs` decides what the last outputs are;
//! `driver/link.rs` limits how long a device has to take them.

use std::sync::Arc;

use tokio::task::{JoinHandle, spawn_blocking};
use tokio::time::{Instant, timeout_at};

use crate::process::image::Points;
use crate::scan::RemovedDevice;

/// Devices that are leaving: the name and the thread of each. The thread returns what an operator
/// must look after by hand. Each thread ends within 1.5 s, so the list is no longer than the number
/// of devices that reloads remove in that time.
#[derive(Debug, Default)]
pub(in crate::daemon) struct Leaving(Vec<(String, JoinHandle<Option<String>>)>);

impl Leaving {
    /// Lets the removed devices leave. `points` are the points of the configuration that had them.
    pub(super) fn part_with(&mut self, mut removed: Vec<RemovedDevice>, points: &Arc<Points>) {
        // All devices begin to leave now, also those whose thread must wait for a free one.
        removed.iter_mut().for_each(|device| device.driver.leave());
        for device in removed {
            let (name, points) = (points.devices()[device.place].to_string(), Arc::clone(points));
            let of = name.clone();
            self.0.push((of, spawn_blocking(move || part_with(&name, device, &points))));
        }
    }

    /// Forgets the devices that have left. Their threads have logged the outputs that are
    /// unconfirmed.
    pub(super) fn forget_the_ended(&mut self) {
        self.0.retain(|(_, thread)| !thread.is_finished());
    }

    /// Waits until all devices have left, but not beyond `until`. Returns what an operator must
    /// look after by hand.
    pub(in crate::daemon) async fn end(&mut self, until: Instant) -> Vec<String> {
        let mut unconfirmed = Vec::new();
        for (device, thread) in self.0.drain(..) {
            let left = timeout_at(until, thread).await;
            let unknown = |why: &str| Some(trouble(&device, why));
            unconfirmed.extend(match left {
                Ok(Ok(left)) => left,
                Ok(Err(panic)) => unknown(&panic.to_string()),
                Err(_) => unknown("its driver has not ended in time"),
            });
        }
        unconfirmed
    }
}

/// Waits until a removed device has its last outputs, and drops the driver. Returns which outputs
/// the device has not confirmed; `None` if it has confirmed all.
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

/// The line about a device that has left with unconfirmed outputs.
fn trouble(device: &str, why: &str) -> String {
    format!(
        "device {device} was removed by a reload, and its last outputs are UNCONFIRMED: {why}; \
         check them by hand"
    )
}
