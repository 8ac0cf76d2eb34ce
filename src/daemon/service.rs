//! The daemon as a service: its log lines about devices and the scan, and its messages to systemd.
//!
//! The message of each log line makes sense alone; the fields repeat the facts for machines. Only
//! changes are logged. Lines about lost lines are in `service/unread.rs`. Lines about plugins are
//! in `plugins/line.rs` and the files beside it. How messages reach systemd is in `systemd.rs`.

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

/// What the daemon has told the log and systemd, and how it reaches them.
pub(super) struct Service {
    /// The log: its level, and its counts of lost lines.
    pub(super) log: log::Handle,
    /// The messages to systemd.
    pub(super) notifier: Notifier,
    /// The watchdog of systemd, if the unit has one.
    pub(super) watchdog: Option<Watchdog>,
    /// When the parts were assembled, just before the loop began.
    pub(super) started: Instant,
    /// What was last logged, so that only changes are logged.
    pub(super) told: Told,
    /// Whether systemd was told that the daemon is ready, which is after the first cycle.
    pub(super) is_ready: bool,
}

/// The shortest time between two lines about overruns, because a plant under load must not fill its
/// log.
const OVERRUN_PAUSE: Duration = Duration::from_secs(10);

/// What was last logged, so that only changes are logged.
#[derive(Debug, Default)]
pub(super) struct Told {
    /// The faults as last logged, by device; only of devices that have one.
    faults: BTreeMap<String, Fault>,
    /// Since when outputs are not confirmed, and whether a line about them was logged.
    doubt: Option<(Instant, bool)>,
    counts: OnChange<Counts>,
    /// Lines of this log that had no reader.
    unread: Unread,
    /// Lines of this log that could not be written.
    unwritten: Unwritten,
}

/// What the scan counts and the log tells.
#[derive(Debug, Default, Clone, Copy, PartialEq)]
struct Counts {
    overruns: u64,
    missed: u64,
    /// Lines of guests for which the queue had no room.
    lines_lost: u64,
}

/// The time without a confirmation after which the log says that outputs are not confirmed. It is
/// longer than any healthy bus takes, and shorter than an operator waits.
const DOUBT: Duration = Duration::from_secs(2);

impl Told {
    /// Logs how many lines of this log were lost, as soon as the log works again.
    fn tell_of_this_log(&mut self, log: &log::Handle) {
        self.unread.tell(
            Instant::now(),
            || log.lost(),
            |lost| {
                let lines = counted(lost, "line");
                tracing::warn!(lost, "lost {lines} of this log, which had no reader");
            },
        );
        let unwritten = log.unwritten();
        self.unwritten.tell(unwritten.map(|all| all.lines), |lost| {
            let why = unwritten.map(|all| all.to_string()).unwrap_or_default();
            let lines = counted(lost, "line");
            tracing::warn!(lost, "lost {lines} of this log that could not be written: {why}");
        });
    }

    /// Logs when the fault of a device has changed, or has ended.
    fn tell_of_faults(&mut self, news: &Snapshot) {
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
        self.faults.retain(|name, _| news.points.devices().contains(name));
    }

    /// Logs how many overruns and lost lines of guests there were since the last line about them.
    fn tell_of_overruns(&mut self, news: &Snapshot) {
        let before = *self.counts.last();
        let Snapshot { overruns, missed, lines_lost, .. } = *news;
        let counts = Counts { overruns, missed, lines_lost };
        if !self.counts.changes_after(OVERRUN_PAUSE, Instant::now().into_std(), counts) {
            return;
        }
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
            tracing::warn!(lost, "too many log lines of programs at once, {lost} of them lost");
        }
    }

    /// Logs when devices do not confirm outputs any more, and when they confirm them again.
    fn tell_of_doubt(&mut self, news: &Snapshot) {
        let is_fine = !news.deliveries.contains(&Delivery::Unconfirmed);
        match (is_fine, self.doubt) {
            (true, Some((_, true))) => {
                tracing::info!("every device takes its outputs again");
                self.doubt = None;
            }
            (true, _) => self.doubt = None,
            (false, None) => self.doubt = Some((Instant::now(), false)),
            (false, Some((since, false))) if since.elapsed() >= DOUBT => {
                let outputs = outputs_that_are(|it| it == Delivery::Unconfirmed, news);
                tracing::error!(
                    outputs,
                    "outputs are UNCONFIRMED, their devices may not have them: {outputs}"
                );
                self.doubt = Some((since, true));
            }
            (false, Some(_)) => {}
        }
    }
}

impl Service {
    /// Logs what has changed about the log itself, the devices and the scan.
    pub(super) fn tell_the_operator(&mut self, link: &mut ScanLink) {
        let (news, told) = (link.news(), &mut self.told);
        told.tell_of_this_log(&self.log);
        told.tell_of_faults(news);
        told.tell_of_doubt(news);
        told.tell_of_overruns(news);
    }

    /// Sends readiness, the status line and the watchdog's signal to systemd.
    pub(super) fn tell_the_manager(
        &mut self,
        plugins: &Plugins,
        field: &Field,
        link: &mut ScanLink,
    ) {
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
            status = format!("the scan STANDS, {stall}; outputs are made safe; {status}");
        }
        if !self.is_ready && cycle > 0 {
            self.is_ready = true;
            self.notifier.ready(&status);
        }
        if self.is_ready {
            self.notifier.status(&status);
        }
        if let Some(watchdog) = &mut self.watchdog {
            watchdog.feed(cycle, &mut self.notifier);
        }
    }
}

/// The outputs for whose delivery `is_it` holds, as text: the names and devices of the first few.
/// If there is no such output, the text says that the scan does not answer.
pub(super) fn outputs_that_are(is_it: impl Fn(Delivery) -> bool, news: &Snapshot) -> String {
    /// The largest number of outputs that are named: a line of the log has no room for more.
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
