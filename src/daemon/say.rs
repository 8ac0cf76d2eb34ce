//! The log lines and the status for the service manager: guests' own lines, what happens to plugins
//! and devices, and the state of the scan.
//!
//! Each line makes sense by its message alone; its fields repeat the facts for machines. Lines
//! about the supervisor's notes are in `say/verdict.rs`, lines about lost lines in `say/unread.rs`.

mod noted;
mod unread;
mod verdict;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use tokio::time::Instant;

use super::Daemon;
use super::stop::outputs_that_are;
use super::view::is_polled;
use crate::control::SwapView;
use crate::driver::{Delivery, Fault};
use crate::plugin::Refusal;
use crate::process::image::{Direction, Point, PointId, Safe};
use crate::process::line::{Level, Line, Message};
use crate::process::refused::{Keeper, MAX_ENTRIES, RefusedCall, Why};
use crate::scan::Snapshot;
use crate::text::{counted, legible, nearest};
use unread::{Unread, Unwritten};
pub(super) use verdict::tell;

/// The time in which there is at most one line about overruns: a plant under load must not fill its
/// log.
const OVERRUN_PAUSE: Duration = Duration::from_secs(10);

/// What was last logged, so that only changes are logged.
#[derive(Debug, Default)]
pub(super) struct Told {
    /// The faults as last logged, by device; only of devices that have one.
    faults: BTreeMap<String, Fault>,
    /// Since when outputs are not confirmed, and whether that was logged.
    doubt: Option<(Instant, bool)>,
    /// The counts as last logged: overruns, missed cycles, and lost lines of guests.
    overruns: u64,
    missed: u64,
    lines_lost: u64,
    /// When the line about overruns was last logged.
    overruns_at: Option<Instant>,
    unread: Unread,
    unwritten: Unwritten,
    /// Programs whose outputs are safe because they lack a required input, as last logged.
    pub(super) degraded: BTreeSet<Arc<str>>,
    /// The last owner of each point, by id.
    owners: Vec<Option<Arc<str>>>,
    /// Whether the log says of a point that it has no owner any more, by id.
    lost: Vec<bool>,
    /// When lines about owners were last logged.
    owners_at: Option<Instant>,
}

/// The time without a confirmation after which outputs get a log line: longer than any healthy bus
/// takes, shorter than an operator waits.
const DOUBT: Duration = Duration::from_secs(2);

impl Told {
    /// The last owner of this point.
    pub(super) fn owner(&self, id: PointId) -> Option<&str> {
        self.owners.get(id.index())?.as_deref()
    }

    /// Logs when devices take no values of outputs any more, and when they take them again.
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

/// The largest number of lines about owners in [`OWNERS_PAUSE`]: two programs may pass all outputs
/// to and fro for ever. A change without a line is logged later, if it still holds then.
const OWNERS_LINES: usize = 10;

/// What happens to an output that has no owner any more.
fn without_owner(point: &Point) -> String {
    match (point.safe, point.hold_for) {
        (Safe::Hold, _) => "it keeps its value, because its `safe` is \"hold\"".into(),
        (_, Duration::ZERO) => "it is safe".into(),
        (_, time) => format!("it is safe after {} (hold_for)", humantime::format_duration(time)),
    }
}

/// The time in which at most [`OWNERS_LINES`] lines about owners are logged.
const OWNERS_PAUSE: Duration = Duration::from_secs(1);

impl Daemon {
    /// Logs what has changed about devices, overruns and lost log lines.
    pub(super) fn tell_the_operator(&mut self) {
        let (news, told) = (self.handle.latest.read(), &mut self.told);
        told.unread.tell(
            Instant::now(),
            || self.log.lost(),
            |lost| {
                let lines = counted(lost, "line");
                tracing::warn!(lost, "lost {lines} of this log: nobody read it");
            },
        );
        let unwritten = self.log.unwritten();
        told.unwritten.tell(unwritten.map(|all| all.lines), |lost| {
            let why = unwritten.map(|all| all.to_string()).unwrap_or_default();
            let lines = counted(lost, "line");
            tracing::warn!(lost, "lost {lines} of this log that could not be written: {why}");
        });
        for (name, fact) in news.points.devices().iter().zip(news.devices.iter()) {
            let before = match fact.fault {
                Some(fault) => told.faults.insert(name.clone(), fault),
                None => told.faults.remove(name),
            };
            match fact.fault {
                same if same == before => {}
                Some(fault) => tracing::error!(device = name, %fault, "device {name}: {fault}"),
                None => tracing::info!(device = name, "device {name} answers again"),
            }
        }
        told.tell_of_doubt(news);
        told.faults.retain(|name, _| news.points.devices().contains(name));
        let quiet = told.overruns_at.is_none_or(|at| at.elapsed() >= OVERRUN_PAUSE);
        if quiet && (news.overruns, news.lines_lost) != (told.overruns, told.lines_lost) {
            let overruns = news.overruns - told.overruns;
            let missed = news.missed - told.missed;
            let lost = news.lines_lost - told.lines_lost;
            if overruns > 0 {
                tracing::warn!(
                    overruns,
                    missed,
                    "{}, {} missed",
                    counted(overruns, "overrun"),
                    counted(missed, "cycle")
                );
            }
            if lost > 0 {
                tracing::warn!(lost, "too many log lines of programs at once, {lost} of them lost");
            }
            told.overruns_at = Some(Instant::now());
            (told.overruns, told.missed) = (news.overruns, news.missed);
            told.lines_lost = news.lines_lost;
        }
    }

    /// Logs which outputs have another owner than their last one.
    pub(super) fn tell_of_owners(&mut self) {
        let (news, told) = (self.handle.latest.read(), &mut self.told);
        if told.owners_at.is_some_and(|at| at.elapsed() < OWNERS_PAUSE) {
            return;
        }
        told.owners.resize(news.owners.len(), None);
        told.lost.resize(news.owners.len(), false);
        // A point that is gone may come back, and has no last owner then.
        for (id, owner) in (0..).map(PointId).zip(&mut told.owners) {
            if news.points.get(id).is_none_or(|point| point.direction == Direction::In) {
                (*owner, told.lost[id.index()]) = (None, false);
            }
        }
        let mut lines = 0;
        for (id, point) in news.points.iter() {
            let (seat, last) = (news.owners[id.index()], &mut told.owners[id.index()]);
            let (point, is_lost) = (&*point.name, &mut told.lost[id.index()]);
            let Some(owner) = seat.and_then(|seat| self.roster.name(seat)) else {
                let loser = last.as_deref().filter(|last| is_polled(last, &self.roster, news));
                if let (Some(last), false, true) = (loser, *is_lost, lines < OWNERS_LINES) {
                    (lines, *is_lost) = (lines + 1, true);
                    let verb = if self.config.may_write(last, id) { "does" } else { "may" };
                    let fate = without_owner(&news.points[id]);
                    tracing::warn!(
                        plugin = last,
                        point,
                        "{point} belongs to nobody now, and to {last} before, which {verb} not \
                         write it any more; {fate}"
                    );
                }
                continue;
            };
            *is_lost = false;
            match last {
                Some(last) if last == owner => continue,
                Some(_) if lines == OWNERS_LINES => continue,
                Some(last) => {
                    lines += 1;
                    tracing::warn!(
                        plugin = &**owner,
                        point,
                        before = &**last,
                        "{point} belongs to {owner} now, and to {last} before"
                    );
                }
                None => {}
            }
            *last = Some(Arc::clone(owner));
        }
        if lines > 0 {
            told.owners_at = Some(Instant::now());
        }
    }

    /// Sends readiness, the status line and the watchdog's signal to systemd.
    pub(super) fn tell_the_manager(&mut self) {
        let news = self.handle.latest.read();
        let cycle = news.cycle;
        let running = news.programs.iter().filter(|fact| fact.trap.is_none()).count();
        let runs = if running == 1 { "runs" } else { "run" };
        let (programs, overruns) = (counted(running, "program"), counted(news.overruns, "overrun"));
        let mut status = format!("{programs} {runs}, {overruns}");
        if !news.forces.is_empty() {
            status = format!("{} FORCED, {status}", news.forces.len());
        }
        if let Some(reason) = self.recovery.reason() {
            status = format!("RECOVERY, `camshaft recover` ends it: {reason}; {status}");
        }
        if let Some(reason) = self.retain.failure() {
            status = format!("{status}, retained values CANNOT BE WRITTEN: {reason}");
        }
        if let Some(trouble) = self.folder_trouble() {
            status = format!("{status}, the plugin folder {trouble}");
        }
        if let Some(stall) = self.stall.doing() {
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

    /// Logs a line of a guest, or a line about what a guest was refused.
    pub(super) fn say(&self, line: &Line) {
        let Some(name) = self.roster.name(line.seat) else { return };
        let cycle = line.cycle;
        match &line.message {
            Message::Said { level, file, line, text } => {
                let (text, file) = (legible(text.as_str()), legible(file.as_str()));
                macro_rules! event {
                    ($level:ident) => {
                        tracing::$level!(plugin = &**name, cycle, file, line, "{name}: {text}")
                    };
                }
                match level {
                    Level::Error => event!(error),
                    Level::Warn => event!(warn),
                    Level::Info => event!(info),
                    Level::Debug => event!(debug),
                    Level::Trace => event!(trace),
                }
            }
            Message::Dropped(lines) => {
                tracing::warn!(
                    plugin = &**name,
                    cycle,
                    lines,
                    "{name}: {} dropped, over plugins.log_rate",
                    counted(*lines, "log line")
                );
            }
            Message::Refused(call) => self.say_refused(name, cycle, call),
            Message::OthersRefused { is_denial: true } => tracing::warn!(
                plugin = &**name,
                cycle,
                "{name}: more than {MAX_ENTRIES} kinds and names of calls were refused; further \
                 ones are only counted"
            ),
            Message::OthersRefused { is_denial: false } => tracing::info!(
                plugin = &**name,
                cycle,
                "{name}: more than {MAX_ENTRIES} variables that it asked for are not there yet; \
                 further ones are only counted"
            ),
        }
    }

    /// Logs the first call of a kind that a guest was refused, with the code that it got.
    fn say_refused(&self, name: &str, cycle: u64, refused: &RefusedCall) {
        let (call, code) = (refused.call, refused.code());
        let name_of = |seat| self.roster.name(seat).map(|owner| &**owner);
        let owner = refused.owner().and_then(name_of);
        let keeper = match owner {
            Some(owner) => Keeper::Program(owner),
            None => self.keeper(name, refused, self.handle.latest.seen()),
        };
        let about = Some(legible(refused.name.as_str())).filter(|about| !about.is_empty());
        let (point, variable) = match refused.why.is_about_variable() {
            true => (None, about.as_deref()),
            false => (about.as_deref(), None),
        };
        let words = legible(&refused.words(keeper));
        let words = match refused.why {
            Why::NoPoint => format!("{words}; {}", self.remedy_of_no_point(refused.name.as_str())),
            _ => words,
        };
        macro_rules! event {
            ($level:ident) => {
                tracing::$level!(
                    plugin = name,
                    cycle,
                    call,
                    code,
                    point,
                    variable,
                    owner,
                    "{name}: {words}"
                )
            };
        }
        match refused.is_denial() {
            true => event!(warn),
            false => event!(info),
        }
    }

    /// The advice for a point that does not exist.
    fn remedy_of_no_point(&self, name: &str) -> String {
        match nearest(name, self.config.live.points.iter().map(|(_, point)| &*point.name)) {
            Some(near) => format!("did you mean {near:?}?"),
            None => "`camshaft points` lists them".into(),
        }
    }
}

/// Logs the line of a swap, with its five times.
pub(super) fn took_over(name: &str, swap: SwapView, cycle: u64) {
    let SwapView { detect_us, compile_us, prepare_us, boundary_us, .. } = swap;
    let SwapView { missed_cycles, cached, .. } = swap;
    tracing::info!(
        plugin = name,
        detect_us,
        compile_us,
        prepare_us,
        boundary_us,
        missed_cycles,
        cached,
        cycle,
        "{name} took over in cycle {cycle}: detect {}, compile {}{}, prepare {}, \
         boundary {}, missed cycles {missed_cycles}",
        ms(detect_us),
        ms(compile_us),
        if cached { " (cached)" } else { "" },
        ms(prepare_us),
        ms(boundary_us),
    );
}

/// Logs that a file is not taken as a plugin, with reason and remedy.
pub(super) fn refused(name: &str, path: &dyn std::fmt::Display, refusal: &Refusal) {
    let Refusal { reason, remedy, .. } = refusal;
    tracing::warn!(plugin = name, %path, reason, "{path} is not taken: {reason}; {remedy}");
}

/// Microseconds as text in milliseconds.
fn ms(micros: u64) -> String {
    format!("{:.1} ms", micros as f64 / 1000.0)
}
