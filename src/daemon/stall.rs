//! The daemon's reaction to a stalled scan. The daemon logs the stall and still answers requests.
//! If the stall lasts for `scan.stall_exit`, the daemon ends its process, so that systemd starts
//! the daemon again.
//!
//! ```text
//!              no cycle for `scan.stall`              none for `scan.stall_exit`
//!   moving -----------------------------> stalled --------------------------------> exit code 70
//!       ^                                     |
//!       +-------------------------------------+  a late cycle
//! ```
//! This file does not make outputs safe: the thread of each device does that
//! (`driver/watchdog.rs`). The end after a stall is not an orderly end, so the next start counts it
//! as an abnormal end (`plugins/recovery.rs`). Before the end, the daemon puts the version that the
//! scan was calling in quarantine. Every wait in this file has a time limit, and no code here waits
//! for the scan's thread. The duration of a stall is measured in `link/stall.rs`.

use std::time::Duration;

use tokio::time::{Instant, sleep};

use super::Daemon;
use super::plugins::{Plugins, Record};
use crate::config::Live;
use crate::journal::Journal;
use crate::plugin::ModuleHash;
use crate::process::image::Points;
use crate::scan::position::Doing;
use crate::scan::thread::EXIT_PANIC;

/// The time that devices have to confirm their safe outputs before the process ends. Most outputs
/// have become safe during the stall. Only outputs that are configured to retain their values for
/// longer than the stall become safe now, and need this time.
const CONFIRM: Duration = Duration::from_millis(500);

impl Daemon {
    /// Checks whether the scan has moved. Logs the begin and the end of a stall, and which devices
    /// make their outputs safe because of it.
    pub(super) fn watch_the_scan(&mut self) {
        let cycle = self.link.news().cycle;
        let Live { scan, points, .. } = &self.config.live;
        let words = |doing| words(doing, points, &self.plugins);
        self.link.stall.update(cycle, (scan.stall, scan.stall_exit), words);
        self.field.devices.log_stalls();
    }

    /// Returns the version that caused the stall: the scan called this version when the stall was
    /// detected, and the call has not returned. If a new version takes over from an old version,
    /// the result is the new version, because the old version has run without a stall. `None` if
    /// the scan was not calling a program.
    fn guilty(&self) -> Option<(String, ModuleHash)> {
        match self.link.stall.cause() {
            Doing::Own | Doing::Driver(_) => None,
            Doing::Poll(seat, generation)
            | Doing::Save(seat, generation)
            | Doing::HandOver(seat, generation) => {
                let (name, hash) = self.plugins.version_at(seat, generation);
                Some((name, hash?))
            }
        }
    }

    /// Ends the process if the stall has lasted for `scan.stall_exit`. The function does not wait
    /// for the scan's thread. The exit code is 70. After this code, systemd starts the daemon
    /// again.
    pub(super) async fn leave_the_scan(&mut self) {
        if !self.link.stall.is_over(self.config.live.scan.stall_exit) {
            return;
        }
        self.link.stall.begin_exit();
        self.field.devices.make_safe_now();
        let doing = words(self.link.stall.at(), &self.config.live.points, &self.plugins);
        if let Some((name, hash)) = self.guilty() {
            let reason =
                format!("the scan was stalled for {:?}, {doing}", self.config.live.scan.stall_exit);
            let file = self.plugins.supervisor.plugin(&name).and_then(|view| view.file);
            let what = if file == Some(hash) { ".wasm:" } else { ": version" };
            tracing::error!(plugin = name, "{name}{what} {hash} is in quarantine: {reason}");
            self.plugins.record.quarantined(&name, hash, reason);
        }
        self.service.notifier.stopping(
            "the scan is stalled; outputs are made safe, the process ends with exit code 70",
        );
        let deadline = Instant::now() + CONFIRM;
        while !self.field.devices.are_safe() && Instant::now() < deadline {
            sleep(Duration::from_millis(5)).await;
        }
        let outputs = self.field.devices.safety();
        let still = self.link.stall.still();
        tracing::error!(
            "the scan has been stalled for {still:?}, {doing}; {outputs}; the process ends"
        );
        self.close_audit();
        self.end_forces();
        // `save_last` writes the file with the record of versions. If the history could not be
        // opened, only this file records what happened to versions.
        self.plugins.record.save_last().await;
        // The drop of the journal writes the remaining receipts. The journal limits the time of
        // this write.
        let gone = Record::new(Journal::in_memory("the process ends"), None);
        drop(std::mem::replace(&mut self.plugins.record, gone));
        crate::log::last_words();
        std::process::exit(EXIT_PANIC)
    }
}

/// Returns the step `doing` of the scan as text.
fn words(doing: Doing, points: &Points, plugins: &Plugins) -> String {
    let who = |seat, generation| match plugins.version_at(seat, generation) {
        (name, Some(hash)) => format!("{name} ({hash})"),
        (name, None) => name,
    };
    match doing {
        Doing::Own => "in its own code".into(),
        Doing::Poll(seat, generation) => format!("polling {}", who(seat, generation)),
        Doing::Save(seat, generation) => format!("in `save` of {}", who(seat, generation)),
        Doing::HandOver(seat, generation) => format!("handing over to {}", who(seat, generation)),
        Doing::Driver(place) => {
            let device = points.devices().get(usize::from(place));
            match device {
                Some(name) => format!("in the driver of device {name}"),
                None => "in the driver of a removed device".into(),
            }
        }
    }
}
