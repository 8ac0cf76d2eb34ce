//! Shadow runs: which versions need a shadow run before they take over, and what is logged.
//!
//! ```text
//!   loader ── Feed ──▶ the loop ── Order::Shadow ──▶ the scan ── frames ──▶ the loader's thread
//!                                                                               │ Report
//!                              log, receipt ◀── the loop ◀── Event::Loaded ◀────┘
//! ```
//! `is_to_be_tried` decides whether a version needs a shadow run. `order_feeds` orders the input
//! data (frames) for the run from the scan. `plugin/shadow.rs` makes the run, and `loader.rs`
//! starts its thread.

use super::Plugins;
use super::loader::Loaded;
use crate::config::Config;
use crate::daemon::link::ScanLink;
use crate::plugin::ModuleHash;
use crate::plugin::shadow::Feed;
use crate::scan::Order;
use crate::supervisor::State;

impl Plugins {
    /// Takes a shadow run that is ready, and orders its frames from the scan.
    pub(in crate::daemon) fn take_feed(&mut self, feed: Feed, link: &mut ScanLink) {
        self.feeds.push(feed);
        self.order_feeds(link);
    }

    /// Whether this version must poll in the shadow of another version: another version runs, and
    /// `swap.shadow` in the settings is above 0.
    pub(in crate::daemon) fn is_to_be_tried(
        &self,
        name: &str,
        hash: ModuleHash,
        config: &Config,
    ) -> bool {
        config.settings(name).swap.shadow > 0
            && self.supervisor.plugin(name).is_some_and(|view| {
                let is_other = view.running.is_some_and(|running| running.hash != hash);
                view.state == State::Running && is_other
            })
    }

    /// Orders frames from the scan. If the queue is full, the next call tries again.
    pub(in crate::daemon) fn order_feeds(&mut self, link: &mut ScanLink) {
        while let Some(feed) = self.feeds.pop() {
            if let Err(rtrb::PushError::Full(Order::Shadow(feed))) =
                link.handle.orders.push(Order::Shadow(feed))
            {
                return self.feeds.push(feed);
            }
        }
    }

    /// Logs the report of a shadow run, and stores the report for the receipt of the swap or
    /// refusal.
    pub(in crate::daemon) fn log_shadow(&mut self, loaded: &Loaded) {
        let (Some(report), name) = (&loaded.shadow, &*loaded.name) else { return };
        match report.differing > 0 || report.dropped > 0 || report.cut_short.is_some() {
            true => tracing::warn!(plugin = name, "{name}: {report}"),
            false => tracing::info!(plugin = name, "{name}: {report}"),
        }
        self.record.tried(name, loaded.hash, report.clone());
    }
}
