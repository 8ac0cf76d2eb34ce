//! The reload of the configuration file: which changes count at once, and which wait for a restart.
//! SIGHUP, an operator or a change of the file begins a reload.
//!
//! ```text
//!   cause ──▶ Reading (a thread) ──▶ plan ──▶ adopt ──▶ Flight (the scan) ──▶ answer
//!     │                               │
//!     └─▶ `next`, if one is           └──▶ Refused; if it was late, again after 10 s
//!         under way
//! ```
//! The daemon reads, checks and prepares the whole file before anything changes. Then the scan
//! makes the live changes between two cycles. A wrong file changes nothing, and the log and the
//! status say so until the file is right.
//!
//! Next: `reload/reading.rs` (the file), `reload/devices.rs` (devices of the new configuration),
//! `reload/variable.rs` (its variables), `reload/adopt.rs` (what changes in the daemon),
//! `reload/leaving.rs` (devices that the reload removes), `config/change.rs` (what can change
//! live), `scan/reconfigure.rs` (the change in the scan).

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

/// The time between two log lines that say that the file is refused.
const REMINDER: Duration = Duration::from_secs(60);

/// The pause before the daemon tries a reload again after a file gave no answer, or after the scan
/// stood. A reload that an operator asks for does not wait for the end of the pause.
const AGAIN: Duration = Duration::from_secs(10);

/// What began a reload, with the sender of the answer if a caller waits for an answer.
#[derive(Debug)]
pub(super) enum Cause {
    /// SIGHUP.
    Signal,
    /// A change of the file.
    File,
    /// The end of the pause [`AGAIN`].
    Again,
    /// An operator's order; the caller waits for the outcome.
    Operator(oneshot::Sender<Reply>),
    /// The question what a reload would change; nothing is taken over.
    Comparison(oneshot::Sender<Reply>),
}

/// The state of reloading: the refusal of the last file, and the reload that is under way.
#[derive(Debug, Default)]
pub(super) struct Reload {
    /// The stamp of the file at the last reload; `None` before the first reload, or if there was no
    /// file.
    seen: Option<Stamp>,
    /// Why the file is refused, if it is wrong. The last good configuration stays in force
    /// meanwhile.
    refused: Option<Refused>,
    /// Changes in the file that wait for a restart, as text.
    waiting: Vec<String>,
    /// The reading of the file that is under way.
    reading: Option<Reading>,
    /// The reload that the scan has been ordered to take over.
    flight: Option<Flight>,
    /// The cause of the reload that follows the reload under way.
    next: Option<Cause>,
    /// Points of earlier configurations, kept until no other part uses them. The daemon frees them,
    /// because the scan frees no memory.
    past: Vec<Arc<Points>>,
    /// Devices that the scan has given back, until each driver has ended.
    pub(super) leaving: Leaving,
}

/// Why a file is refused, and when the daemon logs the refusal and tries again.
#[derive(Debug)]
struct Refused {
    /// The problem, with its remedy; one problem a line.
    why: String,
    /// When the log last told of the refusal.
    said: Instant,
    /// When the daemon tries again; `None` if only a change of the file can help.
    again: Option<Instant>,
}

/// A reload that the scan is ordered to take over and has not taken over yet.
#[derive(Debug)]
struct Flight {
    /// The number of the order to the scan.
    ticket: u64,
    /// The sender of the answer, if a caller waits for an answer.
    reply: Option<oneshot::Sender<Reply>>,
    /// All changes in the file, for the answer.
    changes: Vec<ChangeView>,
}

impl Reload {
    /// What is wrong with the file, if it is refused.
    pub(super) fn refused(&self) -> Option<&str> {
        self.refused.as_ref().map(|refused| &*refused.why)
    }

    /// Whether no reload is under way, and no reload waits in `next`.
    fn is_idle(&self) -> bool {
        self.reading.is_none() && self.flight.is_none() && self.next.is_none()
    }

    /// Whether the pause [`AGAIN`] is over.
    fn is_due(&self) -> bool {
        let again = self.refused.as_ref().and_then(|refused| refused.again);
        self.is_idle() && again.is_some_and(|again| again <= Instant::now())
    }

    /// Whether a try after the pause [`AGAIN`] was late too. If so, the next try is set, and
    /// nothing is logged.
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

    /// Puts a cause off until the reload under way has ended. Only one cause waits, because one
    /// reload serves all causes. A second order of an operator is refused.
    fn wait(&mut self, cause: Cause) {
        // A comparison cannot share a reload, and two operators cannot share one answer.
        match (&self.next, cause) {
            (Some(Cause::Operator(_)), Cause::Operator(reply)) | (_, Cause::Comparison(reply)) => {
                let message = "another reload is under way; try again";
                let _ = reply.send(Err(Failure::new(Code::Busy, message)));
            }
            // The reload that waits in `next` will read the same file.
            (Some(Cause::Operator(_)), _) | (Some(_), Cause::File | Cause::Again) => {}
            (_, cause) => self.next = Some(cause),
        }
    }

    /// Ends a reload that the scan has taken over: the caller gets its answer, and removed devices
    /// leave.
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

    /// The changes in the file that wait for a restart.
    pub(super) fn waiting(&self) -> &[String] {
        &self.waiting
    }
}

impl Daemon {
    /// Begins to read the file. If a reload is under way, the new one waits until that has ended.
    pub(super) fn reload(&mut self, cause: Cause) {
        let is_busy = self.reload.reading.is_some() || self.reload.flight.is_some();
        match (cause, self.link.takes_orders()) {
            (cause, _) if !is_busy => {
                let reading = Reading::begin(cause, &self.config, self.field.devices.exports());
                self.reload.reading = Some(reading);
            }
            // A scan that stands cannot end the reload that is under way, so the operator would
            // wait for long.
            (Cause::Operator(reply), Err(stands)) => drop(reply.send(Err(stands))),
            (cause, _) => self.reload.wait(cause),
        }
    }

    /// Takes in a file that was read: answers a comparison, or takes the file over, or refuses it.
    /// After a take-over or a refusal, systemd gets READY.
    fn have_read(&mut self, cause: Cause, (now, new): Read) {
        let is_asked_for = !matches!(cause, Cause::File | Cause::Again);
        let new = match (&cause, self.link.takes_orders()) {
            (Cause::Comparison(_), _) | (_, Ok(())) => new,
            // If the file has a mistake, the answer tells the mistake: it is more useful than the
            // stall.
            (_, Err(stands)) => new.and(Err(not_now(&stands))),
        };
        let reply = match cause {
            Cause::Comparison(reply) => {
                // The caller may have left.
                let _ = reply.send(self.differences(new));
                return;
            }
            // Another cause has already reloaded the file in this state.
            Cause::File if now.is_some() && now == self.reload.seen => return,
            Cause::Again if self.reload.is_late_again(&new) => return,
            Cause::Operator(reply) => Some(reply),
            Cause::Again => Some(self.audited_reload("tried again")),
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

    /// The answer to a comparison: the changes that a reload would make now.
    fn differences(&mut self, new: Result<New, Unread>) -> Reply {
        let refused = |why| Failure::new(Code::Refused, why);
        let new = new.map_err(|unread| refused(unread.why))?;
        self.added(&new).map_err(refused)?;
        Ok(Response::Changes(new.changes.iter().map(view).collect()))
    }

    /// The variables that the new configuration adds, or why one of them cannot be added.
    fn added(&mut self, new: &New) -> Result<Vec<(String, Variable)>, String> {
        let (news, roster, supervisor) =
            (self.link.news(), &self.plugins.roster, &self.plugins.supervisor);
        variables(&new.config, &new.changes, news, |variable, wanted| {
            let mut all: Vec<_> = writers((variable, wanted), news, roster, supervisor).collect();
            all.dedup();
            all
        })
    }

    /// Prepares the reconfiguration and starts new devices. Other parts of the daemon change only
    /// after `plan` has succeeded. Fails if a variable cannot be added, or a device cannot be
    /// started.
    fn plan(&mut self, new: New) -> Result<(Config, Vec<Change>, Reconfiguration), Unread> {
        let variables = self.added(&new)?;
        let device_set = new.device_set.map(devices::Planned::start).transpose()?;
        Ok((
            new.config,
            new.changes,
            Reconfiguration { device_set, variables, ..Reconfiguration::default() },
        ))
    }

    /// Goes on with reloading: takes in a file that was read, begins a reload that waited, repeats
    /// the refusal of the file in the log, and frees points that no other part uses any more.
    pub(super) fn pursue_reload(&mut self) {
        if let Some(reading) = self.reload.reading.take_if(|reading| {
            // The order to the scan needs room in the queue. A comparison gives no order, and a
            // scan that stands takes no order: neither needs room.
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
            say_refused(&refused.why);
        }
        self.reload.past.retain(|points| Arc::strong_count(points) > 1);
        self.reload.leaving.forget_the_ended();
    }

    /// Takes in that the scan has taken over a reconfiguration.
    pub(super) fn reconfigured(&mut self, reconfiguration: Reconfiguration) {
        self.plugins.roster.follow_refused();
        // Up to here the scan had the removed device, and a stall or a stop would have made it
        // safe.
        self.field.devices.retain(|name| self.config.live.devices.iter().any(|d| d.name == name));
        self.reload.taken_over(reconfiguration);
    }
}

impl Reload {
    /// Refuses a file: logs the problem, and sets the next try if a file gave no answer in time.
    fn refuse(&mut self, Unread { why, is_late }: Unread) {
        say_refused(&why);
        let said = Instant::now();
        self.refused = Some(Refused { why, said, again: is_late.then_some(said + AGAIN) });
    }
}

/// The refusal of a file while the scan stands. The daemon tries again after [`AGAIN`].
fn not_now(stands: &Failure) -> Unread {
    Unread { why: format!("{stands}; the file is read again every {AGAIN:?}"), is_late: true }
}

/// Logs that the file is refused.
fn say_refused(why: &str) {
    // Each problem has its own log line, because the log would escape a line end.
    for why in why.lines() {
        tracing::error!("the configuration stays as it was: {why}");
    }
}

/// A change as `camshaft diff` and the answer to a reload show it.
fn view(change: &Change) -> ChangeView {
    let Change { place, how, effect } = change;
    ChangeView { key: place.to_string(), how: how.to_string(), effect: effect.to_string() }
}
