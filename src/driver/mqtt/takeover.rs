//! The right to use an identity at a broker: two devices of this process with the same identity
//! connect one after the other.
//!
//! When a reload changes a device, the daemon starts the new device before the scan gives up the
//! old one. A broker allows one connection for each `client_id`. So the broker would disconnect the
//! old device in favour of the new one, and the old device would log that another client has
//! connected. Therefore the new device waits here until the old device has ended. If the reload
//! fails, the old device continues undisturbed.
//!
//! A configuration cannot contain two devices with the same identity, because the check of the
//! configuration refuses this. This file does not know about other processes: if one of them has
//! the same identity, the broker throws out the first of the two.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::sync::OwnedMutexGuard;
use tokio::time::timeout;

/// The longest time for which a new device waits. It exceeds the time that the link gives an old
/// device to leave. An old device that hangs longer must not keep the plant offline.
const LONGEST: Duration = Duration::from_secs(5);

/// The lock of each identity in use. The device that is connected, or tries to connect, holds the
/// lock of its identity. Locks that no device uses are removed, so the map stays small.
static IDENTITIES: Mutex<BTreeMap<String, Arc<tokio::sync::Mutex<()>>>> =
    Mutex::new(BTreeMap::new());

/// The right of one device to use its identity. The right ends when the device is dropped.
#[derive(Debug, Default)]
pub(super) struct Turn(Option<OwnedMutexGuard<()>>);

impl Turn {
    /// Waits until no other device of this process uses the identity, but at most [`LONGEST`].
    /// Returns at once if this device has the right already.
    pub(super) async fn wait(&mut self, identity: &str) {
        if self.0.is_none() {
            self.0 = timeout(LONGEST, lock(identity).lock_owned()).await.ok();
        }
    }
}

/// Returns the lock of an identity.
fn lock(identity: &str) -> Arc<tokio::sync::Mutex<()>> {
    let mut all = IDENTITIES.lock().unwrap_or_else(PoisonError::into_inner);
    all.retain(|_, lock| Arc::strong_count(lock) > 1);
    Arc::clone(all.entry(identity.to_owned()).or_default())
}

#[cfg(test)]
mod tests {
    use tokio::time::Instant;

    use super::*;

    #[test]
    fn the_second_waits_for_the_end_of_the_first() {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async {
            let [mut first, mut other, mut second] = [(); 3].map(|()| Turn::default());
            first.wait("one").await;
            first.wait("one").await;
            other.wait("other").await;
            let soon = timeout(Duration::from_millis(50), second.wait("one")).await;
            assert!(soon.is_err() && second.0.is_none(), "the first is not at its end");
            drop(first);
            second.wait("one").await;
            assert!(second.0.is_some());
            drop((second, other));
            drop(lock("third"));
            let all = IDENTITIES.lock().unwrap();
            assert!(!all.contains_key("one") && !all.contains_key("other"), "{all:?}");
        });
    }

    #[test]
    fn a_device_that_hangs_is_not_waited_for() {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async {
            let [mut first, mut second] = [(); 2].map(|()| Turn::default());
            first.wait("hangs").await;
            let began = Instant::now();
            second.wait("hangs").await;
            assert!(second.0.is_none() && began.elapsed() >= LONGEST);
            drop(first);
        });
    }
}
