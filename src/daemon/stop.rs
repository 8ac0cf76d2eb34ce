//! The orderly stop: the daemon removes all programs, makes the outputs safe, waits until the
//! devices have confirmed them, and saves the last values of the retained variables.
//!
//! ```text
//!   SIGTERM ---- 5 s at most ----> outputs safe ---- 4 s at most ----> exit ---- 1 s ----> SIGKILL
//!                                  recorded, values kept, parts ended        if even that hangs
//! ```
//! The stop also waits for devices that a reload has just removed. If a device has not confirmed
//! its safe outputs before the deadline, the daemon lists these outputs and ends the process with
//! an error.
//!
//! As soon as the outputs are safe, `plugins/recovery.rs` records an orderly end. If a disk hangs
//! in a later step, the next start must not count the end as a defect of a program.
//! `field/retain.rs` saves the retained variables. The end after a stall is in `stall.rs`.

use std::sync::atomic::Ordering;
use std::thread;
use std::time::Duration;

use tokio::time::{Instant, sleep};

use super::Daemon;
use super::service::outputs_that_are;
use crate::driver::Delivery;
use crate::scan::{Order, Return, ScanHandle, Snapshot};
use crate::thread::named;

/// The time from the begin of the stop in which devices must confirm their safe outputs. This time
/// is shorter than `TimeoutStopSec=` in the systemd unit.
const STOP_DEADLINE: Duration = Duration::from_secs(5);

/// The longest time from safe outputs to the exit of the process. Together with [`STOP_DEADLINE`]
/// it is less than the 10 s of `TimeoutStopSec=`. Each step has its own limit of at most 1.5 s, so
/// this limit takes effect only if several steps hang.
const LEAVE: Duration = Duration::from_secs(4);

/// The beginning of the message that lists the outputs that are not confirmed as safe.
pub(super) const STOPPED_BUT: &str = "stopped, but";

impl Daemon {
    /// Takes every program out of the scan, waits until the devices have confirmed safe outputs,
    /// and ends all parts.
    ///
    /// # Errors
    /// A device has not confirmed its safe outputs. The message lists the outputs.
    pub(super) async fn stop(mut self) -> anyhow::Result<()> {
        self.service.notifier.stopping("the programs leave the scan, the outputs become safe");
        tracing::info!("stopping: the programs leave the scan, the outputs become safe");
        // The stop has its own deadline, so from here on a stall does not end the process.
        self.link.stall.disarm();
        // This call has an effect only during a stall. A stall may also begin during the stop, so
        // the function always makes the call.
        self.field.devices.make_safe_now();
        let deadline = Instant::now() + STOP_DEADLINE;
        let confirmed = halt(&mut self.link.handle, |thing| {
            // All other things that the scan returns, such as programs, end with the process.
            if let Return::Reconfigured(reconfiguration) = thing {
                self.reload.taken_over(*reconfiguration);
            }
        });
        let confirmed = confirmed.await;
        let left = self.reload.leaving.end(deadline).await;
        let trouble = self.trouble_at_the_stop(confirmed, left);
        // The following steps may hang, so two threads limit their time. One thread ends the
        // process with its exit code after [`LEAVE`]. The other thread kills the process one second
        // later.
        self.link.stall.begin_exit();
        leave_in_time(trouble.clone());
        self.plugins.recovery.end();
        self.log_lines();
        self.close_audit();
        self.end_forces();
        self.field.write_last(&mut self.link).await;
        self.plugins.record.save_last().await;
        if !confirmed {
            // The thread of a scan that hangs never ends. The exit of the process ends it.
            self.link.scan.iter_mut().for_each(|scan| scan.give_up());
        }
        if let Some(trouble) = trouble {
            anyhow::bail!(trouble);
        }
        tracing::info!("stopped; the devices have confirmed their safe outputs");
        self.link.scan.take();
        Ok(())
    }

    /// Returns the message about outputs that are not confirmed as safe; `None` if all outputs are
    /// confirmed. `confirmed` says whether all devices of the scan have confirmed their outputs.
    /// `left` has the texts about removed devices.
    fn trouble_at_the_stop(&mut self, confirmed: bool, left: Vec<String>) -> Option<String> {
        let in_the_field = (!confirmed).then(|| match self.link.stall.doing() {
            Some(doing) => format!("the scan is stalled, {doing}; {}", self.field.devices.safety()),
            None => unconfirmed(self.link.news()),
        });
        let all: Vec<_> = in_the_field.into_iter().chain(left).collect();
        (!all.is_empty()).then(|| format!("{STOPPED_BUT} {}", all.join("; ")))
    }
}

/// Takes every program out of the scan, and waits until the devices have confirmed safe outputs.
/// Returns whether all devices have confirmed their outputs within [`STOP_DEADLINE`]. The function
/// calls `back` with each thing that the scan returns during this time.
pub(super) async fn halt(handle: &mut ScanHandle, mut back: impl FnMut(Return)) -> bool {
    let deadline = Instant::now() + STOP_DEADLINE;
    let mut is_told = false;
    handle.halting.store(true, Ordering::Relaxed);
    loop {
        // If the queue is full, the next round of this loop sends the order again.
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

/// Returns the message about outputs that are not confirmed as safe. The message follows the words
/// of [`STOPPED_BUT`].
pub(super) fn unconfirmed(news: &Snapshot) -> String {
    let outputs = outputs_that_are(|delivery| delivery != Delivery::Confirmed, news);
    format!("safe outputs are UNCONFIRMED after {STOP_DEADLINE:?}: {outputs}; check them by hand")
}

/// Starts a thread that ends the process after [`LEAVE`], if the process has not ended before. If
/// `trouble` is a text, the thread logs this text and the exit code is 1. If `trouble` is `None`,
/// the exit code is 0.
pub(super) fn leave_in_time(trouble: Option<String>) {
    let leave = move || {
        thread::sleep(LEAVE);
        if let Some(trouble) = &trouble {
            tracing::error!("{trouble}");
        }
        tracing::warn!(
            "the process ends by force: a part of the daemon has not ended within {LEAVE:?}"
        );
        crate::log::last_words();
        std::process::exit(trouble.is_some().into());
    };
    if let Err(error) = named("leave").spawn(leave) {
        tracing::warn!(%error, "the thread that ends the process after {LEAVE:?} cannot start \
                                ({error}); if a part of the daemon hangs, the process does not end \
                                by itself");
    }
}
