//! The thread of one device: it serves the device, begins anew after a panic, and ends with the
//! link.
//!
//! What the device needs is in the driver that implements [`Serve`]; when the outputs become safe
//! because the scan stands, in `watchdog.rs`. How long the link waits for the end is in `link.rs`.

use std::io;
use std::os::fd::OwnedFd;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::thread::JoinHandle;
use std::time::Duration;

use super::{Serve, Shared, Side, ring};

/// How long a device that leaves has to take its last outputs: as long as an operator waits for a
/// reload without concern.
pub(super) const LEAVE_TIME: Duration = Duration::from_secs(1);

/// The thread's stack: four times what a TLS handshake needs. With `lock_memory` all is in RAM.
const STACK_BYTES: usize = 512 * 1024;

/// The pause before a thread whose work has ended or panicked tries again.
const AGAIN: Duration = Duration::from_secs(1);

/// Starts the thread of a device, which serves it until the link is dropped and the device has its
/// last outputs.
///
/// # Errors
/// When the system has no thread or no runtime to give.
pub(super) fn start(
    name: String,
    mut side: Side,
    mut worker: impl Serve,
    shared: Arc<Shared>,
    bell: OwnedFd,
) -> io::Result<JoinHandle<()>> {
    let holds = side.holds();
    let runtime = tokio::runtime::Builder::new_current_thread()
        .thread_stack_size(STACK_BYTES)
        .enable_all()
        .build()?;
    // Linux shows 15 bytes of a thread's name.
    let thread = std::thread::Builder::new().name(format!("dev {name}")).stack_size(STACK_BYTES);
    thread.spawn(move || {
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
            let how = if panicked { "has panicked, which is a defect" } else { "has ended" };
            tracing::error!(device = name, "device {name}: its driver {how}; it begins anew");
            // The pause ends early when the link is dropped.
            runtime.block_on(async {
                let _ = tokio::time::timeout(AGAIN, shared.end.notified()).await;
            });
            shared.is_down.store(false, Ordering::Relaxed);
        }
        // Blocking work goes on until it ends by itself; the thread does not wait for it.
        runtime.shutdown_background();
    })
}

/// Returns when the link was dropped and the device has its last outputs, or [`LEAVE_TIME`] later.
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
