//! The orderly stop: programs out, outputs safe and confirmed, the last values kept.
//!
//! ```text
//!   SIGTERM ---- 5 s at most ----> outputs safe ---- 4 s at most ----> exit ---- 1 s ----> SIGKILL
//!                                  recorded, values kept, parts ended        if even that hangs
//! ```
//! The stop also waits for devices that a reload has just removed. It has a deadline: if outputs
//! are not confirmed by then, the daemon names them and the process ends. As soon as the outputs
//! are safe, `plugins/recovery.rs` records an orderly end, because a disk that hangs in a later
//! step is no defect of a program. `field/retain.rs` keeps the values. The end after a stall is in
//! `stall.rs`.

use std::sync::atomic::Ordering;
use std::thread;
use std::time::Duration;

use tokio::time::{Instant, sleep};

use super::Daemon;
use super::service::outputs_that_are;
use crate::driver::Delivery;
use crate::scan::{Order, Return, ScanHandle, Snapshot};

/// The time after SIGTERM in which devices must confirm their safe outputs. It is shorter than
/// `TimeoutStopSec=` of the unit.
const STOP_DEADLINE: Duration = Duration::from_secs(5);

/// The longest time from safe outputs to the exit, whatever the threads do. Together with
/// [`STOP_DEADLINE`] it is less than the 10 s of `TimeoutStopSec=`. Each part has a limit of its
/// own, at most 1.5 s, so this limit counts only if several parts hang.
const LEAVE: Duration = Duration::from_secs(4);

/// The beginning of the sentence that names outputs which are not known to be safe.
pub(super) const STOPPED_BUT: &str = "stopped, but";

impl Daemon {
    /// Takes every program out of the scan, waits until the devices have their safe outputs, and
    /// ends all parts.
    ///
    /// # Errors
    /// If a device has not confirmed its safe outputs; the message names the outputs.
    pub(super) async fn stop(mut self) -> anyhow::Result<()> {
        self.service.notifier.stopping("programs out, outputs safe");
        tracing::info!("stopping: programs out, outputs safe");
        // The stop has its own deadline, so a stall no longer ends the process.
        self.link.stall.disarm();
        // The devices need this call only if the scan stands, but the scan may also come to stand
        // during the stop.
        self.field.devices.make_safe_now();
        let deadline = Instant::now() + STOP_DEADLINE;
        let confirmed = halt(&mut self.link.handle, |thing| {
            // All other things that the scan returns end with the process.
            if let Return::Reconfigured(reconfiguration) = thing {
                self.reload.taken_over(*reconfiguration);
            }
        });
        let confirmed = confirmed.await;
        let left = self.reload.leaving.end(deadline).await;
        let trouble = self.trouble_at_the_stop(confirmed, left);
        // The steps from here on may hang, so two threads limit them: one ends the process with
        // its exit code after `LEAVE`, and the other kills the process a second later.
        self.link.stall.begin_exit();
        leave_in_time(trouble.clone());
        self.plugins.recovery.end();
        self.say_lines();
        self.close_audit();
        self.end_forces();
        self.field.keep_last(&mut self.link).await;
        self.plugins.record.save_last().await;
        if !confirmed {
            // A scan that hangs never ends its thread, so the end of the process ends it.
            self.link.scan.iter_mut().for_each(|scan| scan.give_up());
        }
        if let Some(trouble) = trouble {
            anyhow::bail!(trouble);
        }
        tracing::info!("stopped; the devices have confirmed their safe outputs");
        self.link.scan.take();
        Ok(())
    }

    /// The message if safe outputs are not confirmed: by devices of the scan, or by removed devices
    /// (`left`). `None` if all are confirmed.
    fn trouble_at_the_stop(&mut self, confirmed: bool, left: Vec<String>) -> Option<String> {
        let in_the_field = (!confirmed).then(|| match self.link.stall.doing() {
            Some(doing) => format!("the scan stands, {doing}; {}", self.field.devices.safety()),
            None => unconfirmed(self.link.news()),
        });
        let all: Vec<_> = in_the_field.into_iter().chain(left).collect();
        (!all.is_empty()).then(|| format!("{STOPPED_BUT} {}", all.join("; ")))
    }
}

/// Takes every program out of the scan, and waits until the devices have their safe outputs.
/// Returns whether all devices have confirmed them within [`STOP_DEADLINE`]. `back` gets each thing
/// that the scan returns meanwhile.
pub(super) async fn halt(handle: &mut ScanHandle, mut back: impl FnMut(Return)) -> bool {
    let deadline = Instant::now() + STOP_DEADLINE;
    let mut is_told = false;
    handle.halting.store(true, Ordering::Relaxed);
    loop {
        // If the queue is full, the order is given again in the next round.
        is_told = is_told || handle.orders.push(Order::Halt).is_ok();
        while let Ok(thing) = handle.returns.pop() {
            back(thing);
        }
        let news = handle.latest.read();
        if news.halted && news.is_confirmed() {
            return true;
        }
        if Instant::now() >= deadline {
            return false;
        }
        sleep(Duration::from_millis(1)).await;
    }
}

/// The message if devices have not confirmed their safe outputs; it follows [`STOPPED_BUT`].
pub(super) fn unconfirmed(news: &Snapshot) -> String {
    let outputs = outputs_that_are(|delivery| delivery != Delivery::Confirmed, news);
    format!("safe outputs are UNCONFIRMED after {STOP_DEADLINE:?}: {outputs}; check them by hand")
}

/// Starts a thread that ends the process after [`LEAVE`], if the process still runs then. If there
/// is `trouble`, the log repeats it and the exit code is 1; without trouble the exit code is 0.
pub(super) fn leave_in_time(trouble: Option<String>) {
    let leave = move || {
        thread::sleep(LEAVE);
        if let Some(trouble) = &trouble {
            tracing::error!("{trouble}");
        }
        tracing::warn!("the process ends by force: a part of it has not ended within {LEAVE:?}");
        crate::log::last_words();
        std::process::exit(trouble.is_some().into());
    };
    if let Err(error) = thread::Builder::new().name("leave".into()).spawn(leave) {
        tracing::warn!(%error, "the thread that ends the process in time cannot start ({error})");
    }
}
