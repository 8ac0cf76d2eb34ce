//! Devices that a reload has taken out of the field: each ends on a thread of its own, because it
//! may wait for its device to take the last outputs.
//!
//! A stop waits for them, too (`stop.rs`): the next start does not know a device that is gone, so
//! nothing would make it safe. What the last outputs are is decided in `scan/reconfigure.rs`, how
//! long a device has for them in `driver/link.rs`.

use std::sync::Arc;

use tokio::task::{JoinHandle, spawn_blocking};
use tokio::time::{Instant, timeout_at};

use crate::process::image::Points;
use crate::scan::RemovedDevice;

/// Devices that are leaving, by name. The thread of each gives what people must look after. That
/// ends by itself, so there are no more than reloads remove within 1.5 s.
#[derive(Debug, Default)]
pub(in crate::daemon) struct Leaving(Vec<(String, JoinHandle<Option<String>>)>);

impl Leaving {
    /// Lets these devices leave, whose points are among `points`.
    pub(super) fn part_with(&mut self, mut removed: Vec<RemovedDevice>, points: &Arc<Points>) {
        // All of them begin now, also when there is no thread yet that waits for them.
        removed.iter_mut().for_each(|device| device.driver.leave());
        for device in removed {
            let (name, points) = (points.devices()[device.place].to_string(), Arc::clone(points));
            let of = name.clone();
            self.0.push((of, spawn_blocking(move || part_with(&name, device, &points))));
        }
    }

    /// Forgets those that have left. What is unconfirmed of them was logged.
    pub(super) fn forget_the_ended(&mut self) {
        self.0.retain(|(_, thread)| !thread.is_finished());
    }

    /// Waits until all have left, but not beyond `until`; gives what people must look after.
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

/// Lets go of a device that is not in the field any more; says which outputs it is not known to
/// have as they are to stay.
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

fn trouble(device: &str, why: &str) -> String {
    format!(
        "device {device} has left, and its last outputs are UNCONFIRMED: {why}; look after them by \
         hand"
    )
}
