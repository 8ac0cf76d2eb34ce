//! The loop that works on one bus: it connects, chooses the next job and does the job. When the
//! connection is lost, it connects again.
//!
//! ```text
//!   connect --> begin --> work: next job, perform, next job, ...
//!      ^                    |
//!      +----- wait <----- lost, when the connection has ended and `reopen.rs` cannot replace it
//! ```
//! Only one request is under way at a time, so the code is a plain sequence. `exchange.rs` does one
//! job and updates the state of the bus. `schedule.rs`, `breaker.rs` and `write.rs` make the
//! decisions that do not need the connection.

use std::time::Duration;

use tokio::time::sleep;

use super::bus::{BACKOFF, Client};
use super::read::Read;
use super::schedule::{Due, Job, Next};
use super::session::Session;
use super::silence::Silence;
use super::transport::Transport;
use crate::driver::link::{Serve, Side};
use crate::driver::modbus::wire::request::UnitRequest;

impl Serve for Client {
    async fn serve(&mut self, side: &mut Side) {
        let mut silent_at = None;
        loop {
            let mut session = Session { transport: self.connect(side).await, side };
            if let Some(until) = silent_at.filter(|_| self.line.is_rtu()) {
                // The new connection uses the same serial line as the old connection. A late reply
                // on this line does not show which request it answers. Therefore the driver sends
                // nothing until no late reply can come.
                session.transport.quiet_until(until);
            }
            self.begin(session.side);
            let why = self.work(&mut session).await;
            silent_at = session.transport.silent_at();
            drop(session);
            self.lost(why, side);
            self.wait().await;
        }
    }
}

impl Client {
    /// Tries to connect until a connection exists.
    async fn connect(&mut self, side: &mut Side) -> Transport {
        loop {
            match Transport::open(&self.line).await {
                Ok(transport) => return transport,
                Err(error) => {
                    let why = error.to_string();
                    for unit in 0..self.units.len() {
                        self.on_silence(unit, &why, side);
                    }
                    self.lost(why, side);
                }
            }
            self.wait().await;
        }
    }

    /// Waits before the next attempt to connect. The pause doubles with each attempt, up to the
    /// limit in [`BACKOFF`]. A random factor then makes each pause up to a fifth shorter or longer.
    /// After a reply, valid or not, the next pause is the shortest pause again.
    async fn wait(&mut self) {
        let jitter = 0.8 + 0.4 * fastrand::f64();
        sleep(self.backoff.mul_f64(jitter)).await;
        self.backoff = (2 * self.backoff).min(BACKOFF.1);
    }

    /// Begins the work on a new connection. For each present unit, the driver first makes all reads
    /// and then writes all outputs. An offline unit is probed.
    fn begin(&mut self, side: &mut Side) {
        let now = self.now();
        self.connections += 1;
        self.unconnected = None;
        self.silence = Silence::default();
        for unit in 0..self.units.len() {
            self.units[unit].breaker.reconnected(now);
            self.units[unit].answered.clear();
            self.start_over(unit, now);
        }
        if let Some(beat) = &mut self.beat {
            beat.due = now;
        }
        self.show(side);
    }

    /// Records that the connection is lost, or that an attempt to connect has failed. All outputs
    /// become unconfirmed.
    fn lost(&mut self, why: String, side: &mut Side) {
        if self.trouble_logged.changes_to(Some(why.clone())) {
            let (name, target) = (&self.name, &self.line.target);
            tracing::warn!(device = name, "device {name}: no connection to {target}: {why}");
        }
        self.unconnected = Some(why);
        for output in side.outputs().to_vec() {
            side.doubt(output);
        }
        self.show(side);
    }

    /// Does jobs until the connection is lost. Returns the reason why it is lost.
    async fn work(&mut self, session: &mut Session<'_>) -> String {
        loop {
            if self.show_at <= self.now() {
                self.show(session.side);
            }
            let done = match self.next(session) {
                Next::Now(job) => self.perform(job, session).await,
                Next::At(at) => self.idle(at, session).await,
            };
            if let Err(over) = done {
                return over.0;
            }
        }
    }

    /// Returns the job to do now, or the time when the next job is due.
    fn next(&mut self, session: &mut Session<'_>) -> Next {
        let Session { transport, side } = session;
        let now = self.now();
        // A read or a write waits as long as its reply could be confused with a late reply. The
        // other jobs do not wait for this job.
        let free = |at: Duration, request: &dyn Fn() -> UnitRequest| {
            let busy =
                if transport.is_busy() { transport.busy_for(&request()) } else { Duration::ZERO };
            if busy.is_zero() { at } else { at.max(now + busy) }
        };
        let Self { units, reads, writes, beat, schedule, .. } = self;
        let is_online = |unit: usize| units[unit].breaker.is_online();
        let beat = beat.iter().filter(|beat| is_online(beat.unit));
        let beat = beat.map(|beat| Due { at: beat.due, unit: beat.unit, job: Job::Beat });
        let writes = writes.iter().enumerate().filter(|(_, write)| is_online(write.unit));
        let writes = writes.filter_map(|(n, write)| {
            let wanted = side.wanted(write.id)?;
            let at = free(write.due(wanted)?, &|| write.request(wanted));
            Some(Due { at, unit: write.unit, job: Job::Write(n) })
        });
        let present = |read: &Read| !units[read.unit].breaker.is_offline();
        let reads = reads.iter().enumerate().filter(|(_, read)| present(read));
        let reads = reads.map(|(n, read)| {
            let at = free(read.due, &|| read.request.clone());
            Due { at, unit: read.unit, job: Job::Read(n) }
        });
        let probes = units
            .iter()
            .enumerate()
            .filter_map(|(unit, it)| Some(Due { at: it.probe_at()?, unit, job: Job::Probe(unit) }));
        schedule.next(now, writes.chain(beat), reads.chain(probes))
    }
}
