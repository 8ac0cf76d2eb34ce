//! The daemon as a system service: its log lines about devices and the scan, and its messages to
//! systemd.
//!
//! Each log line has a message for people, and fields with the same facts for log tools. The daemon
//! logs only changes. Lines about lost log lines are in `service/unread.rs`. Lines about plugins
//! are in `plugins/line.rs` and the files beside it. The protocol to systemd is in `systemd.rs`.

mod unread;

use std::collections::BTreeMap;
use std::time::Duration;

use tokio::time::Instant;

use super::field::Field;
use super::link::ScanLink;
use super::plugins::Plugins;
use crate::driver::{Delivery, Fault};
use crate::log;
use crate::logged::OnChange;
use crate::process::image::Point;
use crate::scan::Snapshot;
use crate::systemd::{Notifier, Watchdog};
use crate::text::{counted, first_of};
use unread::{Unread, Unwritten};

/// The access to the log and to systemd, and the facts that were logged last.
pub(super) struct Service {
    /// The handle to the log. With it the daemon sets the log level and reads the number of lost
    /// lines.
    pub(super) log: log::Handle,
    /// The sender of messages to systemd.
    pub(super) notifier: Notifier,
    /// The sender of watchdog messages to systemd; `None` if the systemd unit has no watchdog.
    pub(super) watchdog: Option<Watchdog>,
    /// The time when the parts of the daemon were put together, directly before the start of the
    /// main loop.
    pub(super) started: Instant,
    /// The facts that were last logged. The daemon compares new facts with these facts and logs
    /// only changes.
    pub(super) logged: Logged,
    /// Whether systemd got the message that the daemon is ready. The daemon sends this message
    /// after the first cycle.
    pub(super) is_ready: bool,
}

/// The shortest time between two log lines about overruns. Without this limit, an overloaded
/// controller would fill its log.
const OVERRUN_PAUSE: Duration = Duration::from_secs(10);

/// The facts that were last logged. The daemon compares new facts with these facts and logs only
/// changes.
#[derive(Debug, Default)]
pub(super) struct Logged {
    /// The last logged fault of each device; devices without a fault are not in the map.
    faults: BTreeMap<String, Fault>,
    /// The time since which some outputs are not confirmed, and whether a line about them was
    /// logged. `None` while all outputs are confirmed.
    doubt: Option<(Instant, bool)>,
    /// The last logged counters of the scan.
    counts: OnChange<Counts>,
    /// The count of log lines that were dropped because no process read the log.
    unread: Unread,
    /// The count of log lines that could not be written.
    unwritten: Unwritten,
}

/// The counters of the scan that are logged when they rise.
#[derive(Debug, Default, Clone, Copy, PartialEq)]
struct Counts {
    /// The number of overruns: cycles that ended after the planned start of the next cycle.
    overruns: u64,
    /// The number of cycles that the scan skipped because of overruns.
    missed: u64,
    /// The number of programs' log lines that were lost because the queue was full.
    lines_lost: u64,
}

/// The time after which the daemon logs unconfirmed outputs. A working bus confirms outputs faster.
/// An operator who looks at the log need not wait long for the line.
const DOUBT: Duration = Duration::from_secs(2);

impl Logged {
    /// Logs how many lines of this log were lost, as soon as the log works again.
    fn log_lost_lines(&mut self, log: &log::Handle) {
        self.unread.report(
            Instant::now(),
            || log.lost(),
            |lost| {
                let lines = counted(lost, "line");
                tracing::warn!(lost, "{lines} of this log were lost: no process read the log");
            },
        );
        let unwritten = log.unwritten();
        self.unwritten.report(unwritten.map(|all| all.lines), |lost| {
            let why = unwritten.map(|all| all.to_string()).unwrap_or_default();
            let lines = counted(lost, "line");
            tracing::warn!(lost, "lost {lines} of this log that could not be written: {why}");
        });
    }

    /// Logs each new fault of a device, each change of a fault, and the end of a fault.
    fn log_faults(&mut self, news: &Snapshot) {
        // The map has the fault as it was last logged. A line is logged only if the fault has
        // changed.
        for (name, fact) in news.points.devices().iter().zip(news.devices.iter()) {
            let before = match fact.fault {
                Some(fault) => self.faults.insert(name.clone(), fault),
                None => self.faults.remove(name),
            };
            match fact.fault {
                same if same == before => {}
                Some(fault) => tracing::error!(device = name, %fault, "device {name}: {fault}"),
                None => tracing::info!(device = name, "device {name} answers again"),
            }
        }
        // A reload may have removed devices. Their entries are dropped.
        self.faults.retain(|name, _| news.points.devices().contains(name));
    }

    /// Logs the number of overruns and of programs' lost log lines since the last such report, but
    /// not more often than once in [`OVERRUN_PAUSE`].
    fn log_overruns(&mut self, news: &Snapshot) {
        let before = *self.counts.last();
        let Snapshot { overruns, missed, lines_lost, .. } = *news;
        let counts = Counts { overruns, missed, lines_lost };
        if !self.counts.changes_after(OVERRUN_PAUSE, Instant::now().into_std(), counts) {
            return;
        }
        // The counters only rise, so the differences are the numbers since the last log line.
        let (overruns, missed) = (overruns - before.overruns, missed - before.missed);
        if overruns > 0 {
            tracing::warn!(
                overruns,
                missed,
                "{}, {} missed",
                counted(overruns, "overrun"),
                counted(missed, "cycle")
            );
        }
        let lost = lines_lost - before.lines_lost;
        if lost > 0 {
            tracing::warn!(
                lost,
                "programs wrote too many log lines at one time; {lost} of these lines are lost"
            );
        }
    }

    /// Logs when outputs are not confirmed any more, and when all outputs are confirmed again.
    fn log_unconfirmed(&mut self, news: &Snapshot) {
        let is_fine = !news.deliveries.contains(&Delivery::Unconfirmed);
        // The first check that finds an unconfirmed output only stores the time. The function logs
        // the line after the time `DOUBT`.
        match (is_fine, self.doubt) {
            (true, Some((_, true))) => {
                tracing::info!("every device confirms its outputs again");
                self.doubt = None;
            }
            (true, _) => self.doubt = None,
            (false, None) => self.doubt = Some((Instant::now(), false)),
            (false, Some((since, false))) if since.elapsed() >= DOUBT => {
                let outputs = outputs_that_are(|it| it == Delivery::Unconfirmed, news);
                tracing::error!(
                    outputs,
                    "outputs are UNCONFIRMED, the devices may not have these values: {outputs}"
                );
                self.doubt = Some((since, true));
            }
            (false, Some(_)) => {}
        }
    }
}

impl Service {
    /// Logs the number of lost log lines, and the changes of faults, confirmations and overruns.
    pub(super) fn log_changes(&mut self, link: &mut ScanLink) {
        let (news, logged) = (link.news(), &mut self.logged);
        logged.log_lost_lines(&self.log);
        logged.log_faults(news);
        logged.log_unconfirmed(news);
        logged.log_overruns(news);
    }

    /// Sends messages to systemd: the ready message once, after the first cycle; after that the
    /// status line; and the watchdog message if the cycle count has increased.
    pub(super) fn notify_systemd(&mut self, plugins: &Plugins, field: &Field, link: &mut ScanLink) {
        // The status line begins with the most important facts: a stall, recovery, forces.
        let news = link.news();
        let cycle = news.cycle;
        let running = news.programs.iter().filter(|fact| fact.trap.is_none()).count();
        let runs = if running == 1 { "runs" } else { "run" };
        let (programs, overruns) = (counted(running, "program"), counted(news.overruns, "overrun"));
        let mut status = format!("{programs} {runs}, {overruns}");
        if !news.forces.is_empty() {
            status = format!("{} FORCED, {status}", news.forces.len());
        }
        if let Some(reason) = plugins.recovery.reason() {
            status = format!("RECOVERY, `camshaft recover` ends it: {reason}; {status}");
        }
        if let Some(reason) = field.retain.failure() {
            status = format!("{status}, retained values CANNOT BE WRITTEN: {reason}");
        }
        if let Some(trouble) = plugins.folder_trouble() {
            status = format!("{status}, the plugin folder {trouble}");
        }
        if let Some(stall) = link.stall.doing() {
            status = format!("the scan is STALLED, {stall}; outputs are made safe; {status}");
        }
        // The daemon is ready when the scan has completed its first cycle.
        if !self.is_ready && cycle > 0 {
            self.is_ready = true;
            self.notifier.ready(&status);
        }
        if self.is_ready {
            self.notifier.status(&status);
        }
        // The daemon sends the watchdog message only if the cycle count has increased. So systemd
        // restarts a daemon whose scan hangs.
        if let Some(watchdog) = &mut self.watchdog {
            watchdog.feed(cycle, &mut self.notifier);
        }
    }
}

/// Returns a text with the names and devices of the outputs for whose delivery `is_it` returns
/// true. The text has at most the first ten outputs, and the number of the other outputs. If
/// `is_it` returns true for no output, the text is "the scan does not answer".
pub(super) fn outputs_that_are(is_it: impl Fn(Delivery) -> bool, news: &Snapshot) -> String {
    /// The largest number of outputs in the text, so that the text fits in one log line.
    const NAMED: usize = 10;
    let points = news.points.iter().filter(|(id, _)| is_it(news.deliveries[id.index()]));
    let devices = news.points.devices();
    let device = |point: &Point| devices.get(point.device).map_or("?", |name| name);
    let names: Vec<_> =
        points.map(|(_, point)| format!("{} of {}", point.name, device(point))).collect();
    match names.is_empty() {
        true => "the scan does not answer".into(),
        false => first_of(&names, NAMED),
    }
}
