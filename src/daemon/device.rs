//! The daemon's share of the devices: what they may show of the controller, and where the status
//! finds what they say of their parts.
//!
//! Reading and writing them is the scan's work; opening them is asked for by `build.rs` and
//! `reload.rs`.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use tokio::sync::watch;

use crate::driver::export::{Export, Exports, exports};
use crate::driver::{Driver, Monitor, Part};
use crate::scan::Snapshot;

/// Devices that show values of the controller look for others this often at most; it is the longest
/// that a value in SCADA is older than it could be, and a hundredth of a CPU with a full image.
const PACE: Duration = Duration::from_millis(20);

/// See above.
#[derive(Debug)]
pub(super) struct Devices {
    shown: watch::Sender<Arc<Export>>,
    exports: Exports,
    /// Cycle and instant of what is shown.
    last: (u64, Duration),
    monitors: BTreeMap<String, Monitor>,
}

impl Devices {
    pub(super) fn new() -> Self {
        let (shown, exports) = exports();
        Self { shown, exports, last: (0, Duration::ZERO), monitors: BTreeMap::new() }
    }

    /// What devices are opened with.
    pub(super) fn exports(&self) -> &Exports {
        &self.exports
    }

    /// Remembers where the device `name` tells of its parts.
    pub(super) fn add(&mut self, name: &str, driver: &dyn Driver) {
        match driver.monitor() {
            Some(monitor) => self.monitors.insert(name.to_owned(), monitor),
            None => self.monitors.remove(name),
        };
    }

    /// Forgets devices that are gone.
    pub(super) fn retain(&mut self, is_there: impl Fn(&str) -> bool) {
        self.monitors.retain(|name, _| is_there(name));
    }

    /// The parts of a device.
    pub(super) fn parts(&self, name: &str) -> Vec<Part> {
        self.monitors.get(name).map(Monitor::parts).unwrap_or_default()
    }

    /// Lets devices see what is new, if one of them looks.
    pub(super) fn show(&mut self, news: &Snapshot) {
        // One receiver is ours.
        let is_watched = self.shown.receiver_count() > 1;
        if !is_watched || news.cycle == self.last.0 || news.now < self.last.1 + PACE {
            return;
        }
        self.last = (news.cycle, news.now);
        self.shown.send_replace(Arc::new(Export {
            cycle: news.cycle,
            now: news.now,
            wall: SystemTime::now(),
            points: Arc::clone(&news.points),
            inputs: news.inputs.clone(),
            outputs: news.outputs.clone(),
            variables: news.variables.clone(),
        }));
    }
}
