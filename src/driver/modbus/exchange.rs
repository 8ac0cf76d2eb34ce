//! One job on a bus: what is asked, and what follows from the answer or its absence.
//!
//! An answer is a fact, also when it is an exception; its absence says something of the unit, and
//! perhaps of the connection. What follows from an exception depends on its code alone
//! ([`Refusal`]), and never is it a value. When jobs are done is decided in `schedule.rs`.

use std::time::{Duration, Instant};

use super::client::{BACKOFF, Client};
use super::request::{Reply, Request, WireError};
use super::schedule::{Job, again};
use super::transport::Transport;
use crate::driver::link::Side;
use crate::image::Quality;

/// How long what a unit does not understand is left alone: somebody has to change it first.
const CONFIG_AGAIN: Duration = Duration::from_secs(60);

/// How long a unit that says it is busy is left alone.
const BUSY_AGAIN: Duration = Duration::from_millis(100);

/// How long an output that a unit cannot take is left alone.
const DEVICE_AGAIN: Duration = Duration::from_secs(1);

/// What nobody answers, though the unit answers other requests, waits this many times as long as it
/// has cost: the rest of the bus goes on.
const SILENT_AGAIN: u32 = 4;

/// So many requests in a row that nobody answers are the end of a TCP connection.
const DEAF: u32 = 2;

/// The connection is over, and why.
#[derive(Debug)]
pub(super) struct Over(pub(super) String);

/// What an exception means for whoever asked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Refusal {
    /// The unit does not have what is asked for: the configuration is wrong.
    Config,
    /// The unit has failed.
    Device,
    /// Not now.
    Busy,
    /// The gateway does not reach the unit.
    Absent,
}

impl Refusal {
    const fn of(code: u8) -> Self {
        match code {
            1..=3 => Self::Config,
            5 | 6 => Self::Busy,
            10 | 11 => Self::Absent,
            _ => Self::Device,
        }
    }
}

/// Requests in a row that nobody answered, over the whole connection.
#[derive(Debug, Default)]
pub(super) struct Silence {
    requests: u32,
    /// The unit that was asked, or `None` if there were several.
    only: Option<usize>,
}

impl Silence {
    /// Another one.
    fn grows(&mut self, unit: usize) {
        self.only = (self.requests == 0 || self.only == Some(unit)).then_some(unit);
        self.requests += 1;
    }

    /// Whether the connection and not a unit must be the reason. One unit among others may be
    /// absent: then the next answer of another shows it. `others` says whether there is any.
    fn is_of_connection(&self, others: bool) -> bool {
        self.requests >= DEAF && (self.only.is_none() || !others)
    }
}

impl Client {
    /// Does one job.
    pub(super) async fn perform(
        &mut self,
        job: Job,
        transport: &mut Transport,
        side: &mut Side,
    ) -> Result<(), Over> {
        match job {
            Job::Read(n) => self.read(n, transport, side).await,
            Job::Write(n) => self.write(n, transport, side).await,
            Job::Beat => self.beat(transport, side).await,
            Job::Probe(unit) => self.probe(unit, transport, side).await,
        }
    }

    async fn read(
        &mut self,
        n: usize,
        transport: &mut Transport,
        side: &mut Side,
    ) -> Result<(), Over> {
        let (unit, request) = (self.reads[n].unit, self.reads[n].request.clone());
        let started = self.now();
        let outcome = self.ask(unit, &request, self.retries, transport, side).await?;
        let now = self.now();
        let read = &mut self.reads[n];
        read.is_made = true;
        read.due = again(read.due, read.period, now);
        read.silences = if is_silence(&outcome) { read.silences.saturating_add(1) } else { 0 };
        let refusal = match &outcome {
            Ok(reply) => {
                read.take(reply, side);
                None
            }
            Err(WireError::Exception(code)) => Some((Refusal::of(*code), *code)),
            Err(_) => {
                // A frame can get lost; what never comes shall not take the time of the rest.
                if read.silences > 1 {
                    read.due = read.due.max(now + SILENT_AGAIN * (now - started));
                }
                None
            }
        };
        match refusal {
            Some((Refusal::Config, _)) => {
                read.spoil(Quality::Config, side);
                read.due = now + CONFIG_AGAIN;
            }
            Some((Refusal::Device, _)) => read.spoil(Quality::Device, side),
            // The values only age.
            Some((Refusal::Busy, _)) => read.due = now + BUSY_AGAIN,
            Some((Refusal::Absent, _)) | None => {}
        }
        let trouble =
            refusal.filter(|(refusal, _)| matches!(refusal, Refusal::Config | Refusal::Device));
        let trouble = trouble.map(|(_, code)| code);
        // Silence and a busy unit say nothing about what it was.
        if (trouble.is_some() || outcome.is_ok()) && trouble != read.trouble {
            read.trouble = trouble;
            say(&self.name, &self.reads[n].name, outcome.as_ref().err());
        }
        self.settle(unit, side);
        side.publish();
        Ok(())
    }

    async fn write(
        &mut self,
        n: usize,
        transport: &mut Transport,
        side: &mut Side,
    ) -> Result<(), Over> {
        let write = &self.writes[n];
        let (unit, id) = (write.unit, write.id);
        let Some(wanted) = side.wanted(id) else { return Ok(()) };
        let (request, check) = (write.request(wanted), write.read_request());
        let started = self.now();
        let mut outcome = self.ask(unit, &request, self.retries, transport, side).await?;
        if outcome.is_ok() && self.writes[n].readback {
            let read = self.ask(unit, &check, self.retries, transport, side).await?;
            outcome = read.and_then(|reply| match self.writes[n].is_there(wanted, &reply) {
                true => Ok(reply),
                false => Err(WireError::Garbage("it has not become what was written")),
            });
        }
        let now = self.now();
        let write = &mut self.writes[n];
        write.tried(now, outcome.is_ok().then_some(wanted));
        let trouble = outcome.as_ref().err().map(ToString::to_string);
        let pause = match &outcome {
            Ok(_) => Duration::ZERO,
            Err(WireError::Exception(code)) => match Refusal::of(*code) {
                Refusal::Config => CONFIG_AGAIN,
                Refusal::Busy => BUSY_AGAIN,
                Refusal::Device | Refusal::Absent => DEVICE_AGAIN,
            },
            Err(_) => SILENT_AGAIN * (now - started),
        };
        write.not_before = write.not_before.max(now + pause);
        match outcome {
            Ok(_) => side.confirm(id, wanted),
            Err(_) => side.doubt(id),
        }
        if trouble != write.trouble {
            write.trouble = trouble;
            say(&self.name, &self.writes[n].name, outcome.as_ref().err());
        }
        side.publish();
        Ok(())
    }

    /// Toggles the place that shows our life, if the scan has moved since the last time.
    async fn beat(&mut self, transport: &mut Transport, side: &mut Side) -> Result<(), Over> {
        let now = self.now();
        let Some(beat) = &mut self.beat else { return Ok(()) };
        beat.due = again(beat.due, beat.period, now);
        let beats = side.beats();
        if beats == beat.seen {
            return Ok(());
        }
        (beat.seen, beat.on) = (beats, !beat.on);
        let (unit, request) = (beat.unit, beat.request());
        let outcome = self.ask(unit, &request, 0, transport, side).await?;
        let trouble = outcome.as_ref().err().map(ToString::to_string);
        if let Some(beat) = &mut self.beat
            && beat.trouble != trouble
        {
            beat.trouble = trouble;
            say(&self.name, "the heartbeat", outcome.as_ref().err());
        }
        Ok(())
    }

    /// Asks whether a unit is there. What it says does not matter.
    async fn probe(
        &mut self,
        unit: usize,
        transport: &mut Transport,
        side: &mut Side,
    ) -> Result<(), Over> {
        let request = self.units[unit].probe_request.clone();
        // Its outcome has been heeded by `ask`.
        let _ = self.ask(unit, &request, 0, transport, side).await?;
        self.settle(unit, side);
        Ok(())
    }

    /// Asks a unit, again if that is allowed and nobody answers, and heeds what that says of the
    /// unit and of the connection.
    async fn ask(
        &mut self,
        unit: usize,
        request: &Request,
        retries: u8,
        transport: &mut Transport,
        side: &mut Side,
    ) -> Result<Result<Reply, WireError>, Over> {
        let mut retries = retries;
        loop {
            let started = Instant::now();
            let outcome = transport.transact(request).await;
            if let Err(WireError::Closed(why)) = outcome {
                return Err(Over(why));
            }
            let it = &mut self.units[unit];
            it.asked_at = self.epoch.elapsed();
            it.counters.count(&outcome, transport.round_trip(), started.elapsed());
            transport.rest(it.turnaround);
            if is_silence(&outcome) {
                self.heed_silence(unit, &outcome, side);
            } else {
                self.heed_answer(unit, side);
            }
            self.heed_connection(unit, &outcome)?;
            let is_answered = matches!(outcome, Ok(_) | Err(WireError::Exception(_)));
            if retries == 0 || is_answered || self.units[unit].breaker.is_offline() {
                return Ok(outcome);
            }
            retries -= 1;
        }
    }

    fn heed_connection(
        &mut self,
        unit: usize,
        outcome: &Result<Reply, WireError>,
    ) -> Result<(), Over> {
        if !matches!(outcome, Err(WireError::Timeout)) {
            (self.silence, self.backoff) = (Silence::default(), BACKOFF.0);
            return Ok(());
        }
        self.silence.grows(unit);
        let mut others = self.units.iter().enumerate().filter(|(n, _)| *n != unit);
        let others = others.any(|(_, other)| !other.breaker.is_offline());
        match !self.line.is_rtu() && self.silence.is_of_connection(others) {
            true => Err(Over(format!("{DEAF} requests in a row were not answered"))),
            false => Ok(()),
        }
    }

    fn heed_answer(&mut self, unit: usize, side: &mut Side) {
        if self.units[unit].breaker.answered() {
            let (name, unit_name) = (&self.name, &self.units[unit].name);
            tracing::info!(device = name, "device {name}: unit {unit_name} answers again");
            self.start_over(unit, self.now());
            self.show(side);
        }
    }

    fn heed_silence(&mut self, unit: usize, outcome: &Result<Reply, WireError>, side: &mut Side) {
        let now = self.now();
        if !self.units[unit].breaker.silent(now, fastrand::f64()) {
            return;
        }
        let why = outcome.as_ref().err().map(ToString::to_string).unwrap_or_default();
        let (name, it) = (&self.name, &self.units[unit]);
        tracing::warn!(
            device = name,
            "device {name}: unit {} (id {}) is offline: {why}; it is asked again from time to time",
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

    /// Once everything was read of a unit that has come, it is online.
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

/// Whether the unit has not been heard, or not understood.
fn is_silence(outcome: &Result<Reply, WireError>) -> bool {
    match outcome {
        Ok(_) => false,
        Err(WireError::Exception(code)) => Refusal::of(*code) == Refusal::Absent,
        Err(WireError::Doubtful) => false,
        Err(_) => true,
    }
}

/// Tells people that something has begun to fail, or works again.
fn say(device: &str, what: &str, error: Option<&WireError>) {
    match error {
        Some(error) => tracing::warn!(device, "device {device}: {what}: {error}"),
        None => tracing::info!(device, "device {device}: {what}: works again"),
    }
}
