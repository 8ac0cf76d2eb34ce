//! The thread of one device. The thread runs the driver code, starts that code again after it has
//! returned or panicked, and ends when the scan's side of the link has called `leave` or is
//! dropped.
//!
//! ```text
//!         +--------- one second later ----------+
//!         v                                     |
//!      serve --returns or panics--> all points bad, error logged
//!         |
//!         +--link dropped--> waits for the last outputs, at most LEAVE_TIME --> end
//! ```
//! This file does not know the protocol of a device; the driver that implements [`Serve`] does.
//! `watchdog.rs` decides when outputs become safe because the scan has stalled. `link.rs` decides
//! how long the caller waits for the end of this thread.

use std::io;
use std::os::fd::OwnedFd;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::thread::JoinHandle;
use std::time::Duration;

use super::{Serve, Shared, Side, ring};
use crate::thread::{named, runtime};

/// The time that a leaving device has to acknowledge its last outputs. An operator accepts that a
/// reload takes longer by this time.
pub(super) const LEAVE_TIME: Duration = Duration::from_secs(1);

/// The pause between the end or panic of the driver code and its next start.
const AGAIN: Duration = Duration::from_secs(1);

/// Starts the thread that serves a device. After the call of `leave` or the drop of the link, the
/// thread continues until the device has acknowledged its last outputs, but at most for
/// [`LEAVE_TIME`]. If the driver code does not run at the moment of that call or drop, the thread
/// ends immediately.
///
/// # Errors
/// When the operating system cannot create a thread, or the async runtime cannot be built.
pub(super) fn start(
    name: String,
    mut side: Side,
    mut worker: impl Serve,
    shared: Arc<Shared>,
    bell: OwnedFd,
) -> io::Result<JoinHandle<()>> {
    let holds = side.holds();
    let runtime = runtime(tokio::runtime::Builder::new_current_thread())?;
    named(format!("dev {name}")).spawn(move || {
        while !shared.ended.load(Ordering::Relaxed) {
            let life = async {
                tokio::select! {
                    () = worker.serve(&mut side) => {}
                    () = leave_time_is_over(&shared) => {}
                    () = shared.watchdog.watch(&holds, || ring(&bell)) => {}
                }
            };
            let panicked = catch_unwind(AssertUnwindSafe(|| runtime.block_on(life))).is_err();
            if shared.ended.load(Ordering::Relaxed) {
                break;
            }
            shared.is_down.store(true, Ordering::Relaxed);
            side.lose_all();
            let how =
                if panicked { "has panicked because of a defect in Camshaft" } else { "has ended" };
            tracing::error!(
                device = name,
                "device {name}: the driver {how}; the daemon starts the driver again"
            );
            // The pause ends early if `leave` is called or the link is dropped.
            runtime.block_on(async {
                let _ = tokio::time::timeout(AGAIN, shared.end.notified()).await;
            });
            shared.is_down.store(false, Ordering::Relaxed);
        }
        // Blocking calls on other threads of the runtime may continue. The device's thread does not
        // wait until these calls end.
        runtime.shutdown_background();
    })
}

/// Waits until `leave` is called or the link is dropped. Then returns as soon as the device has
/// acknowledged its last outputs, but at the latest after [`LEAVE_TIME`].
async fn leave_time_is_over(shared: &Shared) {
    shared.end.notified().await;
    let is_there = || {
        let is_heard = shared.heard.load(Ordering::Acquire) == shared.turn.load(Ordering::Acquire);
        is_heard && shared.watchdog.missing() == 0
    };
    let all_there = async {
        while !is_there() {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    let _ = tokio::time::timeout(LEAVE_TIME, all_there).await;
}
