//! The orderly stop: programs out, safe outputs written, and the devices' word that they have them.
//!
//! It is bounded: a scan or a device that hangs keeps nobody waiting, and the exit says so.

use std::sync::atomic::Ordering;
use std::time::Duration;

use tokio::time::{Instant, sleep};

use super::Daemon;
use crate::scan::Order;

/// Safe outputs must be written and confirmed within this time after SIGTERM; `TimeoutStopSec=` of
/// the unit is longer.
const STOP_DEADLINE: Duration = Duration::from_secs(5);

impl Daemon {
    /// Takes every program out, and waits until the devices have their safe outputs.
    pub(super) async fn stop(mut self) -> anyhow::Result<()> {
        self.notifier.stopping("programs out, outputs safe");
        tracing::info!("stopping: programs out, outputs safe");
        let deadline = Instant::now() + STOP_DEADLINE;
        let mut is_told = false;
        self.reins.halting.store(true, Ordering::Relaxed);
        let confirmed = loop {
            is_told = is_told || self.reins.orders.push(Order::Halt).is_ok();
            while self.reins.returns.pop().is_ok() {}
            let news = self.reins.latest.read();
            if news.halted && news.is_confirmed() {
                break true;
            }
            if Instant::now() >= deadline {
                break false;
            }
            sleep(Duration::from_millis(1)).await;
        };
        while let Ok(line) = self.lines.pop() {
            self.say(&line);
        }
        if confirmed {
            tracing::info!("stopped; the devices have confirmed their safe outputs");
            self.scan.take();
            return Ok(());
        }
        // A scan that hangs cannot be waited for; the process ends with it.
        std::mem::forget(self.scan.take());
        anyhow::bail!("stopped, but safe outputs are UNCONFIRMED after {STOP_DEADLINE:?}")
    }
}
