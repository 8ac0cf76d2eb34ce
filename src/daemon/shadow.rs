//! Shadow runs: who is to be tried before it takes over, and what is said about it.
//!
//! The run itself is in `plugin/shadow.rs`, its thread is started by `loader.rs`; here the scan is
//! asked for frames.

use super::Daemon;
use super::loader::Loaded;
use crate::plugin::ModuleHash;
use crate::plugin::shadow::Feed;
use crate::scan::Order;
use crate::supervisor::State;

impl Daemon {
    /// A shadow run wants to be fed.
    pub(super) fn take_feed(&mut self, feed: Feed) {
        self.feeds.push(feed);
        self.order_feeds();
    }

    /// Whether this version is to poll in the shadow of another that runs.
    pub(super) fn is_to_be_tried(&self, name: &str, hash: ModuleHash) -> bool {
        self.settings(name).swap.shadow > 0
            && self.supervisor.plugin(name).is_some_and(|view| {
                let is_other = view.running.is_some_and(|running| running.hash != hash);
                view.state == State::Running && is_other
            })
    }

    /// Asks the scan for frames. When the queue is full, the next look goes on.
    pub(super) fn order_feeds(&mut self) {
        while let Some(feed) = self.feeds.pop() {
            if let Err(rtrb::PushError::Full(Order::Shadow(feed))) =
                self.handle.orders.push(Order::Shadow(feed))
            {
                return self.feeds.push(feed);
            }
        }
    }

    /// Says what a shadow run has found, and keeps it for the receipt.
    pub(super) fn tell_of_shadow(&mut self, loaded: &Loaded) {
        let (Some(report), name) = (&loaded.shadow, &*loaded.name) else { return };
        match report.differing > 0 || report.dropped > 0 || report.cut_short.is_some() {
            true => tracing::warn!(plugin = name, "{name}: {report}"),
            false => tracing::info!(plugin = name, "{name}: {report}"),
        }
        self.record.tried(name, loaded.hash, report.clone());
    }
}
