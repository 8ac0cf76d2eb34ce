//! The loop that serves the lines of one device.
//!
//! The loop runs once in a period, at each edge that the kernel reports, and when the scan wants
//! other output values. One pass of the loop:
//!
//! ```text
//!   write outputs that differ --> request missing lines --> read edges and levels of all inputs
//!         ^                                                              |
//!         +---- wait: period, edge, or other outputs <---- publish <-----+
//! ```
//! Outputs are written before inputs are read. Therefore inputs on a chip that hangs do not delay
//! the outputs. `claim.rs` requests lines, `notice.rs` decides what is logged, and `line.rs`
//! converts levels and edges to values.

use std::future::poll_fn;
use std::task::Poll;
use std::time::{Duration, Instant};

use tokio::time::{MissedTickBehavior, interval, sleep_until};

use super::board::Board;
use super::held;
use super::line::Line;
use super::notice::News;
use crate::driver::Fault;
use crate::driver::link::{Serve, Side};
use crate::process::image::Direction;

/// If one pass of the loop reads at least this number of edges, the loop treats them as a storm.
/// After a storm, the loop does not react to new edges for a short time. Therefore a line with
/// contact bounce uses only a limited part of a CPU. Counters lose no edges, because the kernel
/// counts the edges during this time.
const STORM: usize = 256;

/// The maximum time for which the loop does not react to edges after a storm. An operator does not
/// notice such a short delay. The edges that arrive in this time can be read in far less than 10
/// ms.
const CALM: Duration = Duration::from_millis(10);

/// The minimum time between two updates of the status. Only people read the status, so faster
/// updates are not useful.
const SHOWN_EVERY: Duration = Duration::from_millis(200);

impl Serve for Board {
    async fn serve(&mut self, side: &mut Side) {
        let mut readings = interval(self.period);
        readings.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut calm_at: Option<tokio::time::Instant> = None;
        loop {
            self.write(side);
            self.claim(side);
            if self.read(side) >= STORM {
                calm_at = Some(tokio::time::Instant::now() + self.period.min(CALM));
            }
            self.publish(side);
            calm_at.take_if(|calm_at| tokio::time::Instant::now() >= *calm_at);
            let held = &self.held;
            let edges = poll_fn(|context| {
                let mut rings = held.iter().map(|held| held.poll_edges(context));
                if rings.any(|rings| rings) { Poll::Ready(()) } else { Poll::Pending }
            });
            let edges = async {
                if let Some(calm_at) = calm_at {
                    sleep_until(calm_at).await;
                }
                edges.await;
            };
            tokio::select! {
                _ = readings.tick() => {}
                () = edges => {}
                () = side.changed() => {}
            }
        }
    }
}

impl Board {
    /// Reads the edges and levels of all inputs, and passes the values to `side`. Returns the
    /// number of edges.
    fn read(&mut self, side: &mut Side) -> usize {
        let (Self { lines, held, .. }, beats) = (self, side.beats());
        let mut edges = 0;
        held.retain_mut(|held| {
            if held.direction == Direction::Out {
                return true;
            }
            let read = held.edges(lines).and_then(|count| {
                edges += count;
                held.levels()
            });
            for seat in &held.seats {
                let line = &mut lines[seat.line];
                match &read {
                    Ok(levels) => {
                        let level = levels.get(seat.offset).is_some_and(bool::from);
                        side.put(line.id, line.sense(level, beats));
                    }
                    Err(error) => side.spoil(line.id, held::quality(error)),
                }
            }
            held.survives(read.err(), lines)
        });
        edges
    }

    /// For each request: if at least one output of the request does not have its wanted value,
    /// writes all outputs of the request in one call.
    fn write(&mut self, side: &mut Side) {
        let Self { lines, held, .. } = self;
        held.retain(|held| {
            if held.direction == Direction::In {
                return true;
            }
            let outputs = || held.seats.iter().map(|seat| lines[seat.line].id);
            let wanted = side.wanted_together(outputs());
            if outputs().zip(&wanted).all(|(id, raw)| side.has(id, *raw)) {
                return true;
            }
            let written = held.write(&wanted);
            for (seat, raw) in held.seats.iter().zip(wanted) {
                match &written {
                    Ok(()) => side.confirm(lines[seat.line].id, raw),
                    Err(_) => side.doubt(lines[seat.line].id),
                }
            }
            held.survives(written.err(), lines)
        });
    }

    /// Checks that the chips of the outputs still exist. A write would detect a removed chip, but
    /// the loop writes only values that have changed. Older kernels do not wake a task when a chip
    /// is removed, so the loop makes this check.
    fn probe(&mut self, side: &mut Side) {
        let Self { lines, held, .. } = self;
        held.retain(|held| {
            let error = match held.direction {
                Direction::Out => held.levels().err().filter(held::is_gone),
                Direction::In => return true,
            };
            if error.is_some() {
                held.seats.iter().for_each(|seat| side.doubt(lines[seat.line].id));
            }
            error.is_none() || held.survives(error, lines)
        });
    }

    /// Publishes the values to the scan. The device counts as disconnected if the kernel has
    /// granted no line and at least one line does not work. If the last update of the status was
    /// [`SHOWN_EVERY`] ago or earlier, also checks the chips of the outputs and updates the status.
    fn publish(&mut self, side: &mut Side) {
        let is_shown_again = self.shown_at.is_none_or(|at| at.elapsed() >= SHOWN_EVERY);
        if is_shown_again {
            self.probe(side);
        }
        let in_trouble = self.lines.iter().filter(|line| line.trouble.is_some()).count();
        let is_dead = self.held.is_empty() && in_trouble > 0;
        side.fault(is_dead.then_some(Fault::Disconnected));
        side.publish();
        let beats = side.beats();
        self.lines.iter_mut().for_each(|line| line.published(beats));
        self.log_trouble();
        if is_shown_again {
            self.shown_at = Some(Instant::now());
            side.show(self.lines.iter().map(Line::part).collect());
        }
    }

    /// Logs the trouble of the GPIO lines, or that all lines work, if `notice.rs` allows a log line
    /// now.
    fn log_trouble(&mut self) {
        let device = &self.device;
        let all = self.lines.len();
        let count = |is_held: bool, what: &str| {
            let is_meant = |line: &&Line| line.is_held == is_held && line.trouble.is_some();
            let first = self.lines.iter().find(is_meant)?;
            let (number, why) =
                (self.lines.iter().filter(is_meant).count(), first.trouble.as_ref()?);
            Some(format!("{what} {number} of {all} GPIO lines; {}: {why}", first.name))
        };
        let troubles = [count(false, "not available:"), count(true, "requested, but faulty:")];
        let trouble = troubles.into_iter().flatten().reduce(|both, one| both + "; " + &one);
        match self.notice.hear(trouble, Instant::now()) {
            Some(News::Trouble(what)) => tracing::warn!(device, "device {device}: {what}"),
            Some(News::Over) => tracing::info!(device, "device {device}: all GPIO lines work"),
            None => {}
        }
    }
}
