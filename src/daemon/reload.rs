//! A changed configuration file: what of it counts at once, what waits for a restart, and what is
//! said as long as it is wrong.
//!
//! All of a file is read, checked and made ready before anything changes; what can change live then
//! does so between two cycles. A file that is wrong changes nothing: the last good configuration
//! stays, and the log and the status say so until the file is right. A reload is asked for by
//! SIGHUP, by an operator or by the file itself. How it is read and watched is in
//! `reload/reading.rs`, how its devices come to be in `reload/devices.rs`, how others leave in
//! `reload/leaving.rs`; what can change live is decided in `config/change.rs`, and how the scan
//! does it is in `scan/reconfigure.rs`.

mod devices;
mod leaving;
mod reading;
mod variable;

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::oneshot;
use tokio::time::Instant;

use super::Daemon;
use super::view::writers;
use crate::config::{Change, Config, Place};
use crate::control::{ChangeView, Code, Failure, Reply, Response};
use crate::plugin::Settings;
use crate::process::image::Points;
use crate::process::variable::{Variable, VariableKind};
use crate::scan::{DeviceSet, Order, Reconfiguration, Slot};
use crate::stamp::Stamp;
use leaving::Leaving;
use reading::{New, Read, Reading, Unread};
use variable::variables;

pub(super) use reading::watch_file;

/// How often the log repeats that the file is refused.
const REMINDER: Duration = Duration::from_secs(60);

/// What gave no answer is tried again so long after it was given up, until it has one; a scan that
/// stands is asked again as well. Between two tries people have their turn.
const AGAIN: Duration = Duration::from_secs(10);

/// Who asked for a reload.
#[derive(Debug)]
pub(super) enum Cause {
    /// SIGHUP.
    Signal,
    /// The file is another than before.
    File,
    /// It is refused because a file gave no answer, or because the scan stood; that may be over.
    Again,
    /// Somebody who waits for the outcome.
    Operator(oneshot::Sender<Reply>),
    /// Somebody who only wants to know what a reload would do.
    Comparison(oneshot::Sender<Reply>),
}

/// What there is to know about the file.
#[derive(Debug, Default)]
pub(super) struct Reload {
    /// Its state at the last reload.
    seen: Option<Stamp>,
    /// What is wrong with it; the last good configuration stays meanwhile.
    refused: Option<Refused>,
    /// What it says that waits for a restart.
    waiting: Vec<String>,
    /// The variables among that: their names are kept for them, with their types.
    reserved: Vec<(String, VariableKind)>,
    /// The reading that is under way.
    reading: Option<Reading>,
    /// What the scan has not taken over yet.
    flight: Option<Flight>,
    /// Who asked for another one meanwhile.
    next: Option<Cause>,
    /// Points that were in force once and that somebody still looks at. They are kept until nobody
    /// does, because the scan may not be the one that frees them.
    past: Vec<Arc<Points>>,
    /// Devices that the scan has given back.
    pub(super) leaving: Leaving,
}

/// What is wrong with the file.
#[derive(Debug)]
struct Refused {
    why: String,
    /// When the log was told last.
    said: Instant,
    /// When it is read again by itself, if it is only that there was no answer in time.
    again: Option<Instant>,
}

/// A reload on its way through the scan.
#[derive(Debug)]
struct Flight {
    ticket: u64,
    reply: Option<oneshot::Sender<Reply>>,
    changes: Vec<ChangeView>,
}

impl Reload {
    /// What is wrong with the file, if it is refused.
    pub(super) fn refused(&self) -> Option<&str> {
        self.refused.as_ref().map(|refused| &*refused.why)
    }

    /// Whether nothing is read, taken over or waited for.
    fn is_idle(&self) -> bool {
        self.reading.is_none() && self.flight.is_none() && self.next.is_none()
    }

    /// Whether it is time to read again what gave no answer.
    fn is_due(&self) -> bool {
        let again = self.refused.as_ref().and_then(|refused| refused.again);
        self.is_idle() && again.is_some_and(|again| again <= Instant::now())
    }

    /// Another try has had no answer either; people know that already.
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

    /// Lets somebody wait for the reload that is under way. One that follows it serves all.
    fn wait(&mut self, cause: Cause) {
        match (&self.next, cause) {
            (Some(Cause::Operator(_)), Cause::Operator(reply)) | (_, Cause::Comparison(reply)) => {
                let message = "another reload is under way; try again";
                let _ = reply.send(Err(Failure::new(Code::Busy, message)));
            }
            // The file tells nothing that whoever waits already would not find.
            (Some(Cause::Operator(_)), _) | (Some(_), Cause::File | Cause::Again) => {}
            (_, cause) => self.next = Some(cause),
        }
    }

    /// The scan has taken over what it was ordered. Drivers that were replaced end here.
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

    /// The type of a variable of the file that waits for a restart: its name is kept for it.
    pub(super) fn reserved(&self, name: &str) -> Option<VariableKind> {
        let found = self.reserved.iter().find(|(reserved, _)| reserved == name);
        found.map(|(_, kind)| *kind)
    }

    /// What the file says that waits for a restart.
    pub(super) fn waiting(&self) -> &[String] {
        &self.waiting
    }
}

impl Daemon {
    /// Begins to read the file again.
    pub(super) fn reload(&mut self, cause: Cause) {
        let is_busy = self.reload.reading.is_some() || self.reload.flight.is_some();
        match (cause, self.takes_orders()) {
            (cause, _) if !is_busy => {
                let reading = Reading::begin(cause, &self.config, self.devices.exports());
                self.reload.reading = Some(reading);
            }
            // What the scan has not taken over yet, it does not take over now.
            (Cause::Operator(reply), Err(stands)) => drop(reply.send(Err(stands))),
            (cause, _) => self.reload.wait(cause),
        }
    }

    /// Takes over what the file says. systemd hears READY with the outcome.
    fn have_read(&mut self, cause: Cause, (now, new): Read) {
        let is_asked_for = !matches!(cause, Cause::File | Cause::Again);
        let new = match (&cause, self.takes_orders()) {
            (Cause::Comparison(_), _) | (_, Ok(())) => new,
            // What is wrong with the file is said before that.
            (_, Err(stands)) => new.and(Err(not_now(&stands))),
        };
        let reply = match cause {
            Cause::Comparison(reply) => {
                // Whoever asked may have left.
                let _ = reply.send(self.differences(new));
                return;
            }
            // Somebody else has asked for it since the file was written.
            Cause::File if now.is_some() && now == self.reload.seen => return,
            Cause::Again if self.reload.is_late_again(&new) => return,
            Cause::Operator(reply) => Some(reply),
            Cause::Again => Some(self.audited_reload("tried again")),
            Cause::Signal => Some(self.audited_reload("by a signal")),
            Cause::File => Some(self.audited_reload("the file was saved")),
        };
        self.reload.seen = now;
        self.notifier.reloading();
        let outcome = match new.and_then(|new| self.plan(new)) {
            Ok((new, changes, reconfiguration)) => {
                is_asked_for.then(|| self.folder.accept());
                self.take_over(&new, &changes, reconfiguration, reply)
            }
            Err(unread) => {
                if let Some(reply) = reply {
                    let code = if unread.is_late { Code::Busy } else { Code::Refused };
                    let _ = reply.send(Err(Failure::new(code, unread.why.clone())));
                }
                self.refuse(unread);
                "reload refused, the old configuration stays".to_string()
            }
        };
        self.notifier.ready(&outcome);
    }

    /// What a reload would do now.
    fn differences(&mut self, new: Result<New, Unread>) -> Reply {
        let refused = |why| Failure::new(Code::Refused, why);
        let new = new.map_err(|unread| refused(unread.why))?;
        self.added(&new).map_err(refused)?;
        Ok(Response::Changes(new.changes.iter().map(view).collect()))
    }

    /// The variables that it adds; or why that cannot be.
    fn added(&mut self, new: &New) -> Result<Vec<(String, Variable)>, String> {
        let (news, roster, supervisor) =
            (self.handle.latest.read(), &self.roster, &self.supervisor);
        variables(&new.config, &new.changes, news, |variable, wanted| {
            let mut all: Vec<_> = writers((variable, wanted), news, roster, supervisor).collect();
            all.dedup();
            all
        })
    }

    /// Makes everything ready for what the file says, or finds why that cannot be.
    fn plan(&mut self, new: New) -> Result<(Config, Vec<Change>, Reconfiguration), Unread> {
        let variables = self.added(&new)?;
        let device_set = new.device_set.map(devices::Planned::start).transpose()?;
        Ok((
            new.config,
            new.changes,
            Reconfiguration { device_set, variables, ..Reconfiguration::default() },
        ))
    }

    /// Takes over what can change; says what was done.
    fn take_over(
        &mut self,
        new: &Config,
        changes: &[Change],
        reconfiguration: Reconfiguration,
        reply: Option<oneshot::Sender<Reply>>,
    ) -> String {
        self.reload.refused = None;
        let (live, fixed): (Vec<_>, Vec<_>) = changes.iter().partition(|change| change.is_live());
        for change in &fixed {
            let key = &change.place;
            tracing::warn!(%key, "{change}: that counts after a restart only, until then what was");
        }
        self.reload.waiting = fixed.iter().map(ToString::to_string).collect();
        let outcome = outcome(&live, &fixed);
        tracing::info!("{outcome}");
        let has_reserved = fixed.iter().any(|change| matches!(change.place, Place::Variable(_)));
        let had_reserved = !self.reload.reserved.is_empty();
        if !live.is_empty() || has_reserved || had_reserved {
            self.adopt(new, changes, reconfiguration, reply);
        } else if let Some(reply) = reply {
            let _ = reply.send(Ok(Response::Changes(changes.iter().map(view).collect())));
        }
        outcome
    }

    /// Makes the new configuration the daemon's own, and orders it of the scan.
    fn adopt(
        &mut self,
        new: &Config,
        changes: &[Change],
        mut reconfiguration: Reconfiguration,
        reply: Option<oneshot::Sender<Reply>>,
    ) {
        let names: Vec<String> =
            self.supervisor.plugins().map(|(name, _)| name.to_string()).collect();
        let before: Vec<Settings> = names.iter().map(|name| self.settings(name)).collect();
        self.config.adopt(new, changes);
        let declares = |(name, _): &&(String, Variable)| {
            !self.config.variables.iter().any(|(ours, _)| ours == name)
        };
        let waiting = new.variables.iter().filter(declares);
        reconfiguration.reserved =
            waiting.map(|(name, value)| (name.clone(), value.kind())).collect();
        self.reload.reserved.clone_from(&reconfiguration.reserved);
        self.log.set_level(&self.config.log.level);
        self.supervisor.set_policy(self.config.plugins.restart);
        for (name, before) in names.iter().zip(before) {
            let after = self.settings(name);
            if after.hold != before.hold {
                self.hold_as_configured(name, after.hold);
            }
            if after != before
                && let Some(entry) = self.roster.get(name)
            {
                reconfiguration.settings.push((entry.seat, after));
            }
        }
        if let Some(device_set) = &reconfiguration.device_set {
            for (device, slot) in self.config.devices.iter().zip(&device_set.devices) {
                if let Slot::Opened(driver) = slot {
                    self.devices.add(&device.name, &**driver);
                }
            }
            self.devices.retain(|name| self.config.devices.iter().any(|d| d.name == name));
        }
        self.last_ticket += 1;
        let ticket = self.last_ticket;
        (reconfiguration.ticket, reconfiguration.period) = (ticket, self.config.scan.period);
        reconfiguration.stall = self.config.scan.stall;
        let ordered = self.handle.orders.push(Order::Reconfigure(Box::new(reconfiguration)));
        debug_assert!(ordered.is_ok(), "`pursue_reload` has looked for room");
        let changes = changes.iter().map(view).collect();
        self.reload.flight = Some(Flight { ticket, reply, changes });
    }

    /// Goes on with a reload whose file was read, begins one that had to wait, repeats what is
    /// wrong with the file, and frees points that nobody looks at any more.
    pub(super) fn pursue_reload(&mut self) {
        if let Some(reading) = self.reload.reading.take_if(|reading| {
            // What it orders of the scan needs room in the queue. A comparison orders nothing, and
            // a scan that stands takes no orders.
            reading.is_comparison() || !self.handle.orders.is_full() || self.stall.is_on()
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

    /// The scan has taken over what it was ordered.
    pub(super) fn reconfigured(&mut self, reconfiguration: Reconfiguration) {
        self.roster.follow_refused();
        self.reload.taken_over(reconfiguration);
    }

    fn refuse(&mut self, Unread { why, is_late }: Unread) {
        say_refused(&why);
        let said = Instant::now();
        self.reload.refused = Some(Refused { why, said, again: is_late.then_some(said + AGAIN) });
    }
}

/// The file is read again later, because the scan stands.
fn not_now(stands: &Failure) -> Unread {
    Unread { why: format!("{stands}; the file is read again every {AGAIN:?}"), is_late: true }
}

fn say_refused(why: &str) {
    // A line for each problem: a line end within a line of the log would be escaped.
    for why in why.lines() {
        tracing::error!("the configuration stays as it was: {why}");
    }
}

fn outcome(live: &[&Change], fixed: &[&Change]) -> String {
    let list = |all: &[&Change]| all.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ");
    match (live, fixed) {
        ([], []) => "reloaded, nothing has changed".to_string(),
        (live, []) => format!("reloaded: {}", list(live)),
        ([], fixed) => format!("reloaded, but refused until a restart: {}", list(fixed)),
        (live, fixed) => {
            format!("reloaded: {}; refused until a restart: {}", list(live), list(fixed))
        }
    }
}

fn view(change: &Change) -> ChangeView {
    let Change { place, how, effect } = change;
    ChangeView { key: place.to_string(), how: how.to_string(), effect: effect.to_string() }
}
