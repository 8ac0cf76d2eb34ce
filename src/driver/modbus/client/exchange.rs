//! Does one job on a bus: the driver sends the request, and acts on the reply or on its absence.
//!
//! ```text
//!   perform --> read, write, beat, probe --> ask --> Session::transact
//!                                             |--> on_answer, on_silence: the health of the unit
//!                                             |--> on_connection: is the connection dead?
//!                                             +--> missing or damaged reply: a repetition
//! ```
//! An exception is a reply too: it shows that the unit is present. An exception of a gateway that
//! does not reach the unit is different: the driver treats this exception as a missing reply. An
//! invalid reply counts as a missing reply of the unit, but it shows that the connection works.
//! Several consecutive missing replies put the unit offline. If no reply of any kind comes, this
//! can also show that the connection is dead. `refusal.rs` has the meaning of each exception,
//! `schedule.rs` decides when a job is due, and `serve.rs` is the loop that calls `perform`.

use std::time::{Duration, Instant};

use super::bus::{BACKOFF, Client};
use super::line::Target;
use super::read::Read;
use super::refusal::{BUSY_AGAIN, CONFIG_AGAIN, Refusal, SILENT_AGAIN};
use super::schedule::{Cycles, Job, again};
use super::session::{ExchangeResult, Over, Session};
use super::silence::Silence;
use super::unit::Unit;
use crate::driver::link::Side;
use crate::driver::modbus::wire::error::WireError;
use crate::driver::modbus::wire::request::UnitRequest;
use crate::process::image::Quality;

impl Client {
    /// Does one job. The error means that the connection has ended or must be closed.
    pub(super) async fn perform(
        &mut self,
        job: Job,
        session: &mut Session<'_>,
    ) -> Result<(), Over> {
        match job {
            Job::Read(n) => self.read(n, session).await,
            Job::Write(n) => self.write(n, session).await,
            Job::Beat => self.beat(session).await,
            Job::Probe(unit) => self.probe(unit, session).await,
        }
    }

    /// Makes a read, applies its reply to the points, and sets the time when the read is due next.
    async fn read(&mut self, n: usize, session: &mut Session<'_>) -> Result<(), Over> {
        let (unit, request) = (self.reads[n].unit, self.reads[n].request.clone());
        let started = self.now();
        let asked = self.ask(unit, &request, self.retries, session).await;
        let now = self.now();
        let read = &mut self.reads[n];
        read.heard(asked.as_ref().map_or(true, ExchangeResult::is_silence));
        let outcome = asked?;
        let Session { transport, side } = session;
        if outcome.reply().is_some() {
            let pause = self.units[unit].turnaround.max(self.line.gap());
            read.took(transport.round_trip() + pause);
        }
        // A doubtful reply may belong to another request. The driver makes the read again as soon
        // as the reply to this read can be trusted.
        read.is_made = outcome != ExchangeResult::Failed(WireError::Doubtful);
        let is_online = self.units[unit].breaker.is_online();
        if read.is_made {
            let (due, missed) = again(read.due, read.period, now);
            self.units[unit].counters.miss(missed);
            let due = self.ahead(n, due, side);
            let cost = self.cost(&request, &outcome, now - started);
            self.reads[n].put_off(due, now + SILENT_AGAIN * cost, is_online);
        }
        if !self.halve(n, &outcome, now) {
            let read = &mut self.reads[n];
            let is_mute_anew = read.is_mute_anew(is_online);
            if on_reply(read, &outcome, now, side) || is_mute_anew {
                log_result(&self.name, &read.name(), &request, outcome.error());
            }
            if outcome.reply().is_some() {
                self.join(n, now);
            }
        }
        self.settle(unit, side);
        side.publish();
        Ok(())
    }

    /// Returns the time that a request with this outcome has cost. `taken` is the time from its
    /// start to its end. A request at which the connection has ended may have been sent twice. It
    /// counts as if it had twice occupied the bus for the whole timeout, because each new
    /// connection costs the other units time too.
    fn cost(&self, request: &UnitRequest, outcome: &ExchangeResult, taken: Duration) -> Duration {
        match outcome.is_closed() {
            true => taken.max(2 * self.line.cost_of_silence(request)),
            false => taken,
        }
    }

    /// Returns the best time to begin read number `n`, which is due at `due`. A read that begins at
    /// this time ends just before a cycle of the scan. Other reads with an equal or shorter period
    /// may be sent first, so the time for these reads is included. If the cycle time is not known,
    /// or if the period is not a multiple of it, returns `due`.
    fn ahead(&self, n: usize, due: Duration, side: &Side) -> Duration {
        let Some((wait, every)) = side.next_cycle() else { return due };
        let (one, period) = (self.now() + wait, self.reads[n].period);
        let is_beside =
            |read: &&Read| read.period <= period && self.units[read.unit].breaker.is_online();
        let time = self.reads.iter().filter(is_beside).map(|read| read.time).sum();
        Cycles { one, every }.ahead(due, period, time)
    }

    /// Writes an output, and reads the output back if the key `readback` is true. Records whether
    /// the unit has confirmed the value.
    async fn write(&mut self, n: usize, session: &mut Session<'_>) -> Result<(), Over> {
        let write = &self.writes[n];
        let (unit, id) = (write.unit, write.id);
        let Some(wanted) = session.side.wanted(id) else { return Ok(()) };
        let (request, check) = (write.request(wanted), write.read_request());
        if !session.side.has(id, wanted) {
            // The unit may have the new value as soon as the first byte is sent. Therefore the
            // driver marks the output as unconfirmed before it sends the request.
            session.side.doubt(id);
            session.side.publish();
        }
        let started = self.now();
        let mut outcome = self.ask(unit, &request, self.retries, session).await?;
        if outcome.reply().is_some() && self.writes[n].readback {
            outcome = self.ask(unit, &check, self.retries, session).await?;
            if outcome.reply().is_some_and(|read| !self.writes[n].is_there(wanted, read)) {
                outcome = ExchangeResult::Failed(WireError::Differs);
            }
        }
        let side = &mut *session.side;
        let now = self.now();
        let cost = self.cost(&request, &outcome, now - started);
        let write = &mut self.writes[n];
        if write.tried(now, outcome.reply().map(|_| wanted)) {
            let (name, point, writes) = (&self.name, &write.name, write.writes);
            tracing::warn!(
                device = name,
                "device {name}: {point} was written {writes} times within a day, \
                 more often than `warn_writes_per_day` allows; the writes continue"
            );
        }
        match &outcome {
            ExchangeResult::Reply(_) => side.confirm(id, wanted),
            ExchangeResult::Failed(error) => {
                write.put_off(wanted, now, cost, error);
                side.doubt(id);
            }
        }
        let trouble = outcome.error().map(ToString::to_string);
        if write.trouble.changes_to(trouble) {
            log_result(&self.name, &self.writes[n].name, &request, outcome.error());
        }
        side.publish();
        Ok(())
    }

    /// Toggles the heartbeat if the scan has made a cycle since the last heartbeat and is not
    /// stalled.
    async fn beat(&mut self, session: &mut Session<'_>) -> Result<(), Over> {
        let now = self.now();
        let Some(beat) = &mut self.beat else { return Ok(()) };
        (beat.due, _) = again(beat.due, beat.period, now);
        let beats = session.side.beats();
        if beats == beat.seen || session.side.is_stalled() {
            return Ok(());
        }
        (beat.seen, beat.on) = (beats, !beat.on);
        let (unit, request) = (beat.unit, beat.request());
        let outcome = self.ask(unit, &request, 0, session).await?;
        let after = self.now();
        let pause = after + SILENT_AGAIN * self.cost(&request, &outcome, after - now);
        let trouble = outcome.error().map(ToString::to_string);
        let Some(beat) = &mut self.beat else { return Ok(()) };
        // One missing reply proves nothing, and a pause of the heartbeat could trip the watchdog of
        // the unit.
        if outcome.is_silence() && beat.trouble.last().is_some() {
            beat.due = beat.due.max(pause);
        }
        if beat.trouble.changes_to(trouble) {
            log_result(&self.name, "the heartbeat", &request, outcome.error());
        }
        Ok(())
    }

    /// Asks a unit whether it is present. Any reply of the unit shows that it is present. The probe
    /// uses the read of this unit with the fewest consecutive missing replies, or `probe_request`
    /// if the unit has no reads. Therefore the probes use all reads in turn, even if the unit never
    /// answers some of these reads.
    async fn probe(&mut self, unit: usize, session: &mut Session<'_>) -> Result<(), Over> {
        let ours = self.reads.iter().enumerate().filter(|(_, read)| read.unit == unit);
        let n = ours.min_by_key(|(_, read)| read.silences).map(|(n, _)| n);
        let request = n.map_or(&self.units[unit].probe_request, |n| &self.reads[n].request).clone();
        let asked = self.ask(unit, &request, 0, session).await;
        if let Some(n) = n {
            self.reads[n].heard(asked.as_ref().map_or(true, ExchangeResult::is_silence));
        }
        // `ask` has already updated the health of the unit, so the outcome is not needed here.
        let _ = asked?;
        self.settle(unit, session.side);
        Ok(())
    }

    /// Sends a request to a unit, and repeats the request up to `retries` times if the reply is
    /// missing or damaged. If the unit is offline, the request is not repeated. Updates the health
    /// of the unit and the state of the connection after each attempt.
    async fn ask(
        &mut self,
        unit: usize,
        request: &UnitRequest,
        retries: u8,
        session: &mut Session<'_>,
    ) -> Result<ExchangeResult, Over> {
        let mut retries = retries;
        loop {
            let started = Instant::now();
            let outcome = self.transact(unit, request, session).await?;
            let Session { transport, side } = &mut *session;
            let it = &mut self.units[unit];
            it.asked_at = self.epoch.elapsed();
            it.counters.count(&outcome, transport.round_trip(), started.elapsed());
            transport.rest(it.turnaround.max(self.ends.pause_after_reply(transport.replies())));
            let is_silent = outcome.is_silence();
            let is_missed = is_silent && it.is_missed_by(request);
            if matches!(outcome.error(), None | Some(WireError::Exception(_))) && !is_silent {
                it.answered.insert(request.kind());
            }
            if is_missed {
                self.on_silence(unit, &outcome.why(), side);
            } else if !is_silent {
                self.on_answer(unit, side);
            }
            if self.echo_logged.changes_to(transport.has_echo()) && transport.has_echo() {
                let (name, target) = (&self.name, &self.line.target);
                tracing::info!(
                    device = name,
                    "device {name}: the line {target} gives back each request as an echo; the \
                     driver skips the echo"
                );
            }
            self.on_connection(unit, is_missed, &outcome)?;
            if retries == 0 || !outcome.is_unclear() || self.units[unit].breaker.is_offline() {
                return Ok(outcome);
            }
            retries -= 1;
        }
    }

    /// Updates the state of the connection after a request. The error means that the connection
    /// must be closed.
    fn on_connection(
        &mut self,
        unit: usize,
        is_missed: bool,
        outcome: &ExchangeResult,
    ) -> Result<(), Over> {
        if outcome.is_closed() {
            return Ok(());
        }
        if !matches!(outcome.error(), Some(WireError::Timeout | WireError::OnlyEcho)) {
            (self.silence, self.backoff) = (Silence::default(), BACKOFF.0);
            self.log_connected();
            return Ok(());
        }
        if !is_missed {
            return Ok(());
        }
        self.silence.grows(unit);
        let is_other =
            |(n, it): &(usize, &Unit)| !it.breaker.is_offline() && !self.silence.units.contains(n);
        let is_over = match self.line.target {
            Target::Tcp(..) => {
                let others = self.units.iter().enumerate().filter(is_other).count();
                self.silence.is_of_connection(others)
            }
            // Missing replies are common on a serial line, and a new connection would lose the list
            // of outstanding replies. Therefore the driver connects again only if all units are
            // offline, because then the TCP server before the serial line may have failed.
            Target::RtuOverTcp(..) => self.units.iter().all(|unit| unit.breaker.is_offline()),
            Target::Rtu(..) => false,
        };
        let why = || match self.silence.requests {
            1 => Over("a request was not answered".into()),
            requests => Over(format!("{requests} requests in a row were not answered")),
        };
        if is_over { Err(why()) } else { Ok(()) }
    }

    /// Records that a unit has answered. If the unit was offline, `start_over` makes all its reads
    /// due, and its writes follow after these reads.
    fn on_answer(&mut self, unit: usize, side: &mut Side) {
        if self.units[unit].breaker.answered() {
            let (name, unit_name) = (&self.name, &self.units[unit].name);
            tracing::info!(device = name, "device {name}: unit {unit_name} answers again");
            self.start_over(unit, self.now());
            self.show(side);
        }
    }

    /// Records that a unit has sent no valid reply, that a gateway does not reach the unit, or that
    /// an attempt to connect has failed. If the unit goes offline now, the inputs of its reads
    /// become bad and its outputs become unconfirmed.
    pub(super) fn on_silence(&mut self, unit: usize, why: &str, side: &mut Side) {
        let now = self.now();
        if !self.units[unit].breaker.silent(now, fastrand::f64()) {
            return;
        }
        self.units[unit].answered.clear();
        let (name, it) = (&self.name, &self.units[unit]);
        tracing::warn!(
            device = name,
            "device {name}: unit {} (id {}) is offline: {why}; the driver tests from time to time \
             whether the unit answers",
            it.name,
            it.id
        );
        for read in self.reads.iter().filter(|read| read.unit == unit) {
            read.spoil(Quality::NoComm, side);
        }
        for write in self.writes.iter_mut().filter(|write| write.unit == unit) {
            write.acked = None;
            side.doubt(write.id);
        }
        self.show(side);
    }

    /// Puts a unit online if the driver has made all reads of the unit since the unit came back,
    /// and if the unit has answered its last request.
    fn settle(&mut self, unit: usize, side: &mut Side) {
        let all_made = self.reads.iter().filter(|read| read.unit == unit).all(|read| read.is_made);
        let breaker = &mut self.units[unit].breaker;
        let was_online = breaker.is_online();
        if all_made {
            breaker.all_read();
        }
        if breaker.is_online() && !was_online {
            self.show(side);
        }
    }
}

/// Applies a reply to the points of a read. If the reply is missing, invalid or doubtful, if the
/// unit is busy, or if a gateway does not reach the unit, the points do not change, so their values
/// age. Some exceptions also change the time when the read is due next. Returns whether the
/// exception code of this read has changed; the caller then logs this change.
fn on_reply(read: &mut Read, outcome: &ExchangeResult, now: Duration, side: &mut Side) -> bool {
    let trouble = match outcome {
        ExchangeResult::Reply(reply) => {
            read.take(reply, side);
            None
        }
        ExchangeResult::Failed(WireError::Exception(code)) => match Refusal::of(*code) {
            Refusal::Config => {
                read.spoil(Quality::Config, side);
                read.due = now + CONFIG_AGAIN;
                Some(*code)
            }
            Refusal::Device => {
                read.spoil(Quality::Device, side);
                Some(*code)
            }
            Refusal::Busy => {
                read.due = now + BUSY_AGAIN;
                return false;
            }
            Refusal::Absent => return false,
        },
        ExchangeResult::Failed(_) => return false,
    };
    read.trouble.changes_to(trouble)
}

/// Logs that a read, a write or the heartbeat has failed with `error`. If `error` is `None`, logs
/// that it works again.
fn log_result(device: &str, what: &str, request: &UnitRequest, error: Option<&WireError>) {
    match error {
        Some(error) => {
            let hint = request.hint(error);
            tracing::warn!(device, "device {device}: {what}: {error}, after {request}{hint}");
        }
        None => tracing::info!(device, "device {device}: {what}: works again"),
    }
}
