//! The reload of the configuration file. SIGHUP, an operator or a change of the file starts a
//! reload. Live changes become active at once; other changes wait for a restart of the daemon.
//!
//! ```text
//!   cause ──▶ Reading (a thread) ──▶ plan ──▶ adopt ──▶ Flight (the scan) ──▶ answer
//!     │                               │
//!     └─▶ `next`, if one is           └──▶ Refused; if it was late, again after 10 s
//!         under way
//! ```
//! The daemon reads, checks and prepares the whole file before it changes anything. After that, the
//! scan makes the live changes between two cycles. If the file has an error, nothing changes, and
//! the log and `camshaft status` report the error until the file is correct. If a reload by SIGHUP
//! or by an operator succeeds, the daemon also accepts the plugin folder as it is now, even if the
//! folder is empty or has replaced the watched folder (`accept` in `plugins/folder.rs`).
//!
//! Next: `reload/reading.rs` (reading the file), `reload/devices.rs` (devices of the new
//! configuration), `reload/variable.rs` (variables of the new configuration), `reload/adopt.rs`
//! (the changes in the daemon), `reload/leaving.rs` (removed devices), `config/change.rs` (which
//! changes can be live), `scan/reconfigure.rs` (the changes in the scan).

mod adopt;
mod devices;
mod leaving;
mod reading;
mod unread;
mod variable;

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::oneshot;
use tokio::time::Instant;

use super::Daemon;
use super::plugins::writers;
use crate::config::{Change, Config};
use crate::control::{ChangeView, Code, Failure, Reply, Response};
use crate::process::image::Points;
use crate::process::variable::Variable;
use crate::scan::{DeviceSet, Reconfiguration};
use crate::stamp::Stamp;
use leaving::Leaving;
use reading::{New, Read, Reading};
use unread::Unread;
use variable::variables;

pub(super) use reading::watch_file;

/// The time between two log lines that repeat why the file is refused.
const REMINDER: Duration = Duration::from_secs(60);

/// The pause before the daemon repeats a failed reload. The daemon repeats a reload if the file
/// system of a file gave no answer, or if the scan was stalled. SIGHUP, a change of the file or an
/// order of an operator starts a reload without this pause.
const AGAIN: Duration = Duration::from_secs(10);

/// The cause of a reload. An operator's order or question includes the channel for the answer.
#[derive(Debug)]
pub(super) enum Cause {
    /// The process received SIGHUP.
    Signal,
    /// The configuration file has changed.
    File,
    /// The pause [`AGAIN`] after a failed reload has ended.
    Again,
    /// An operator ordered the reload and waits for the outcome.
    Operator(oneshot::Sender<Reply>),
    /// An operator asked what a reload would change. Nothing is changed.
    Comparison(oneshot::Sender<Reply>),
}

/// The state of reloads: the refusal of the last file, and the reload in progress.
#[derive(Debug, Default)]
pub(super) struct Reload {
    /// The stamp of the file that the last reload took over or refused. `None` before the first
    /// reload, or if the file did not exist or could not be examined.
    seen: Option<Stamp>,
    /// The reason why the last reload refused the file; `None` if it took the file over. While the
    /// file is refused, the last correct configuration stays in force.
    refused: Option<Refused>,
    /// The changes in the file that wait for a restart of the daemon, as text.
    waiting: Vec<String>,
    /// The present reading of the file; `None` if no reading is in progress.
    reading: Option<Reading>,
    /// The reload that the daemon has sent to the scan; `None` after the scan has carried out the
    /// reload.
    flight: Option<Flight>,
    /// The cause of the next reload, which starts after the present reload has ended.
    next: Option<Cause>,
    /// The points of earlier configurations. The points of a configuration stay here until no other
    /// part of the process uses them, not even the scan. Then the main loop frees their memory,
    /// because the scan must not free memory.
    past: Vec<Arc<Points>>,
    /// Removed devices that the scan has returned. Each device stays here until its driver has
    /// ended.
    pub(super) leaving: Leaving,
}

/// The refusal of a file: the reason, the time of its last log line, and the time of the next try.
#[derive(Debug)]
struct Refused {
    /// The problems with their remedies, one problem per line.
    why: String,
    /// The time when the refusal was last logged.
    said: Instant,
    /// The time when the daemon tries again; `None` if only a change of the file can help.
    again: Option<Instant>,
}

/// A reload that was sent to the scan as an order. The scan has not carried it out yet.
#[derive(Debug)]
struct Flight {
    /// The ticket of the order to the scan.
    ticket: u64,
    /// The reply channel; `None` if no caller waits for an answer.
    reply: Option<oneshot::Sender<Reply>>,
    /// All changes in the file, for the answer to the caller.
    changes: Vec<ChangeView>,
}

impl Reload {
    /// Returns the error in the file; `None` if the file is not refused.
    pub(super) fn refused(&self) -> Option<&str> {
        self.refused.as_ref().map(|refused| &*refused.why)
    }

    /// Whether no reload is in progress and no reload waits in `next`.
    fn is_idle(&self) -> bool {
        self.reading.is_none() && self.flight.is_none() && self.next.is_none()
    }

    /// Whether the daemon must repeat a failed reload now, because the pause [`AGAIN`] has ended.
    fn is_due(&self) -> bool {
        let again = self.refused.as_ref().and_then(|refused| refused.again);
        self.is_idle() && again.is_some_and(|again| again <= Instant::now())
    }

    /// Whether a repeated reload has failed for a passing reason again: a file system gave no
    /// answer, or the scan was stalled. If so, the function stores the new reason, sets the time of
    /// the next try, and logs nothing.
    fn is_late_again(&mut self, new: &Result<New, Unread>) -> bool {
        match (new, &mut self.refused) {
            (Err(Unread { why, is_late: true }), Some(refused)) => {
                refused.why.clone_from(why);
                refused.again = Some(Instant::now() + AGAIN);
                true
            }
            _ => false,
        }
    }

    /// Stores a cause until the reload in progress has ended. Only one cause is stored, because one
    /// reload serves all causes. A comparison is refused. If an operator's order is already stored,
    /// the function refuses a second order.
    fn wait(&mut self, cause: Cause) {
        // A comparison does not wait for another reload, and one reload can answer only one
        // operator.
        match (&self.next, cause) {
            (Some(Cause::Operator(_)), Cause::Operator(reply)) | (_, Cause::Comparison(reply)) => {
                let message = "another reload is under way; try again";
                let _ = reply.send(Err(Failure::new(Code::Busy, message)));
            }
            // The stored cause already leads to a reload, so the new cause needs no second reload.
            (Some(Cause::Operator(_)), _) | (Some(_), Cause::File | Cause::Again) => {}
            (_, cause) => self.next = Some(cause),
        }
    }

    /// Ends a reload that the scan has carried out. The caller gets its answer, and removed devices
    /// begin to leave.
    pub(super) fn taken_over(&mut self, reconfiguration: Reconfiguration) {
        if let Some(DeviceSet { points, removed, .. }) = reconfiguration.device_set {
            self.leaving.part_with(removed, &points);
            self.past.push(points);
        }
        let is_it = |flight: &mut Flight| flight.ticket == reconfiguration.ticket;
        let Some(flight) = self.flight.take_if(is_it) else { return };
        if let Some(reply) = flight.reply {
            let _ = reply.send(Ok(Response::Changes(flight.changes)));
        }
    }

    /// Returns the changes in the file that wait for a restart of the daemon.
    pub(super) fn waiting(&self) -> &[String] {
        &self.waiting
    }
}

impl Daemon {
    /// Starts to read the file. If a reload is in progress, the function passes the cause to
    /// [`Reload::wait`]. Exception: during a stall of the scan, the function then refuses an
    /// operator's order.
    pub(super) fn reload(&mut self, cause: Cause) {
        let is_busy = self.reload.reading.is_some() || self.reload.flight.is_some();
        match (cause, self.link.takes_orders()) {
            (cause, _) if !is_busy => {
                let reading = Reading::begin(cause, &self.config, self.field.devices.exports());
                self.reload.reading = Some(reading);
            }
            // During a stall the scan cannot complete the reload in progress. The operator would
            // wait for a long time, so the order is refused.
            (Cause::Operator(reply), Err(stands)) => drop(reply.send(Err(stands))),
            (cause, _) => self.reload.wait(cause),
        }
    }

    /// Continues after a thread has read the file. For a comparison, the function only sends the
    /// answer. For a reload, the function sends RELOADING to systemd, takes over or refuses the
    /// file, and sends READY. If the cause is [`Cause::File`] and the stamp is the stamp of the
    /// last reload, the function does nothing. If a repeated reload has failed for a passing reason
    /// again, the function only stores this reason.
    fn have_read(&mut self, cause: Cause, (now, new): Read) {
        let is_asked_for = !matches!(cause, Cause::File | Cause::Again);
        let new = match (&cause, self.link.takes_orders()) {
            (Cause::Comparison(_), _) | (_, Ok(())) => new,
            // If the file has an error, the answer reports the error and not the stall, because the
            // error is more useful to the operator.
            (_, Err(stands)) => new.and(Err(not_now(&stands))),
        };
        let reply = match cause {
            Cause::Comparison(reply) => {
                // The send fails if the client has closed its connection.
                let _ = reply.send(self.differences(new));
                return;
            }
            // An earlier reload has already taken over or refused this content of the file.
            Cause::File if now.is_some() && now == self.reload.seen => return,
            Cause::Again if self.reload.is_late_again(&new) => return,
            Cause::Operator(reply) => Some(reply),
            Cause::Again => Some(self.audited_reload("retry after a failure")),
            Cause::Signal => Some(self.audited_reload("by a signal")),
            Cause::File => Some(self.audited_reload("the file was saved")),
        };
        self.reload.seen = now;
        self.service.notifier.reloading();
        let outcome = match new.and_then(|new| self.plan(new)) {
            Ok((new, changes, reconfiguration)) => {
                is_asked_for.then(|| self.plugins.folder.accept());
                self.take_over(&new, &changes, reconfiguration, reply)
            }
            Err(unread) => {
                if let Some(reply) = reply {
                    let code = if unread.is_late { Code::Busy } else { Code::Refused };
                    let _ = reply.send(Err(Failure::new(code, unread.why.clone())));
                }
                self.reload.refuse(unread);
                "reload refused, the old configuration stays".to_string()
            }
        };
        self.service.notifier.ready(&outcome);
    }

    /// Returns the answer to a comparison: the changes that a reload would make now.
    fn differences(&mut self, new: Result<New, Unread>) -> Reply {
        let refused = |why| Failure::new(Code::Refused, why);
        let new = new.map_err(|unread| refused(unread.why))?;
        self.added(&new).map_err(refused)?;
        Ok(Response::Changes(new.changes.iter().map(view).collect()))
    }

    /// Returns the variables that the new configuration adds, or the reason why a variable cannot
    /// be added.
    fn added(&mut self, new: &New) -> Result<Vec<(String, Variable)>, String> {
        let (news, roster, supervisor) =
            (self.link.news(), &self.plugins.roster, &self.plugins.supervisor);
        variables(&new.config, &new.changes, news, |variable, wanted| {
            let mut all: Vec<_> = writers((variable, wanted), news, roster, supervisor).collect();
            all.dedup();
            all
        })
    }

    /// Prepares the order to the scan and starts new devices. Other parts of the daemon change only
    /// after `plan` has succeeded. The function fails if a variable cannot be added, or if a device
    /// cannot be started.
    fn plan(&mut self, new: New) -> Result<(Config, Vec<Change>, Reconfiguration), Unread> {
        let variables = self.added(&new)?;
        let device_set = new.device_set.map(devices::Planned::start).transpose()?;
        Ok((
            new.config,
            new.changes,
            Reconfiguration { device_set, variables, ..Reconfiguration::default() },
        ))
    }

    /// Continues reloads at each tick. The function takes the result of a reading that has ended,
    /// and starts the reload that waits in `next`. It repeats a failed reload after the pause
    /// [`AGAIN`], and the log line about a refused file after [`REMINDER`]. It frees points that no
    /// other part of the process uses, and forgets removed devices whose threads have ended.
    pub(super) fn pursue_reload(&mut self) {
        if let Some(reading) = self.reload.reading.take_if(|reading| {
            // An order to the scan needs room in the queue. If the queue is full, the result waits
            // for the next tick. A comparison sends no order to the scan, and during a stall the
            // daemon sends no order.
            reading.is_comparison() || !self.link.handle.orders.is_full() || self.link.stall.is_on()
        }) {
            match reading.end() {
                Ok((cause, read)) => self.have_read(cause, read),
                Err(reading) => self.reload.reading = Some(reading),
            }
        }
        if self.reload.reading.is_none()
            && self.reload.flight.is_none()
            && let Some(cause) = self.reload.next.take()
        {
            self.reload(cause);
        }
        if self.reload.is_due() {
            self.reload(Cause::Again);
        }
        if let Some(refused) = &mut self.reload.refused
            && refused.said.elapsed() >= REMINDER
        {
            refused.said = Instant::now();
            log_refused(&refused.why);
        }
        self.reload.past.retain(|points| Arc::strong_count(points) > 1);
        self.reload.leaving.forget_the_ended();
    }

    /// Completes a reload that the scan has carried out.
    pub(super) fn reconfigured(&mut self, reconfiguration: Reconfiguration) {
        self.plugins.roster.follow_refused();
        // The monitors of removed devices are dropped only now. Until now the scan had these
        // devices, so a stall or a stop had to make their outputs safe.
        self.field.devices.retain(|name| self.config.live.devices.iter().any(|d| d.name == name));
        self.reload.taken_over(reconfiguration);
    }
}

impl Reload {
    /// Refuses a file and logs the reason. If a later try may succeed (`is_late`), the function
    /// also sets the time of the next try.
    fn refuse(&mut self, Unread { why, is_late }: Unread) {
        log_refused(&why);
        let said = Instant::now();
        self.refused = Some(Refused { why, said, again: is_late.then_some(said + AGAIN) });
    }
}

/// Returns the refusal of a file during a stall. The daemon tries again after [`AGAIN`].
fn not_now(stands: &Failure) -> Unread {
    Unread { why: format!("{stands}; the file is read again every {AGAIN:?}"), is_late: true }
}

/// Logs that the file is refused.
fn log_refused(why: &str) {
    // Each problem gets a separate log line, because the log would escape a line break inside a
    // line.
    for why in why.lines() {
        tracing::error!("the configuration stays as it was: {why}");
    }
}

/// Returns the view of a change, for `camshaft diff` and for the answer to a reload.
fn view(change: &Change) -> ChangeView {
    let Change { place, how, effect } = change;
    ChangeView { key: place.to_string(), how: how.to_string(), effect: effect.to_string() }
}
