//! The reset of variables to their initial values. The order `reset --retain` resets the retained
//! variables. The order `restart --cold` resets all variables.
//!
//! ```text
//!  restart --cold                no program in the scan          obeyed
//!  ─────────────▶ Emptying ───────────────▶ Ready ───▶ Ordered ────────▶ Written
//!                              reset --retain ▲                             │ in the snapshot
//!                              ───────────────┘   the disk is free          ▼
//!                              answer ◀── Saving ◀─────────────────────── Blocked
//! ```
//! Only one reset runs at a time.
//!
//! - A cold restart waits until no program is in the scan, because a program in the scan would
//!   overwrite the initial values.
//! - After a successful cold restart, the programs return only when the initial values are on the
//!   disk. Otherwise a power cut could bring the old values back.
//! - The stages before `Blocked` together have the time limit [`LIMIT`]. `Blocked` and `Saving`
//!   together have the time limit [`PATIENCE`]. When a limit has passed, the reset fails. After a
//!   failed cold restart, the programs return too, except in recovery.
//!
//! If no variable is retained, the answer follows directly after `Written`. The code that writes to
//! the disk is in `retain.rs`.

use std::time::Duration;

use tokio::sync::oneshot;
use tokio::time::Instant;

use super::Field;
use crate::config::Config;
use crate::control::{Code, Failure, Reply, Response};
use crate::daemon::link::ScanLink;
use crate::daemon::plugins::Plugins;
use crate::patience::PATIENCE;
use crate::process::variable::Variable;
use crate::scan::{MAX_ORDERS, Order};
use crate::supervisor::Want;

/// The time limit for all stages before `Blocked` together. The scan removes one program per cycle,
/// so the limit is enough for 190 programs at a period of 100 ms. The server of the control socket
/// waits 30 s for the answer, so this limit must be shorter.
const LIMIT: Duration = Duration::from_secs(20);

/// A reset that is in progress.
#[derive(Debug)]
pub(in crate::daemon) struct Reset {
    /// Whether the reset is a cold restart. A cold restart first takes every program out of the
    /// scan.
    is_cold: bool,
    /// The present stage of the reset.
    stage: Stage,
    /// The time when [`LIMIT`] ends. The limit is for the stages before `Blocked`.
    until: Instant,
    /// The time when the reset began to wait for the disk; `None` before that.
    disk_since: Option<Instant>,
    /// The channel for the answer to the operator.
    reply: oneshot::Sender<Reply>,
}

/// The stages of a reset. The drawing in the header of this file shows their sequence.
#[derive(Debug, Clone, Copy, PartialEq)]
enum Stage {
    /// The programs are leaving the scan. `empty_in` is the first cycle in which no program was in
    /// the scan and no order was in the queue to the scan.
    Emptying { empty_in: Option<u64> },
    /// The order with the initial values can be sent to the scan.
    Ready,
    /// The order was sent to the scan with this ticket. The scan has not answered yet.
    Ordered(u64),
    /// The scan carried out the order in this cycle. The snapshot of this cycle has not arrived
    /// yet.
    Written(u64),
    /// The initial values are in the snapshot. The reset waits for an earlier write to the disk.
    Blocked,
    /// The initial values are being written to the disk.
    Saving,
}

impl Stage {
    /// Whether the stage waits for the disk. The time limit of such a stage is [`PATIENCE`], not
    /// [`LIMIT`].
    fn is_at_the_disk(self) -> bool {
        matches!(self, Self::Blocked | Self::Saving)
    }

    /// Returns the error message for a reset that was abandoned at this stage. `after` is the time
    /// limit that has passed.
    fn words(self, after: Duration) -> String {
        let why = match self {
            Self::Emptying { .. } => "programs are still in the scan",
            Self::Ready => "the scan accepts no orders",
            Self::Ordered(_) | Self::Written(_) => "the scan has not written the values",
            Self::Blocked | Self::Saving => {
                return format!(
                    "the variables have their initial values, but the disk has not stored these \
                     values within {after:?}: until the disk has stored them, a power cut may \
                     bring the old values back; see `camshaft status`"
                );
            }
        };
        format!("the reset was given up after {after:?}: {why}; see `camshaft status`")
    }
}

impl Reset {
    /// Sets the stage of the reset. Returns the time limit if it has passed, and `None` otherwise.
    fn goes_on(&mut self, stage: Stage) -> Option<Duration> {
        let now = Instant::now();
        self.stage = stage;
        if !stage.is_at_the_disk() {
            return (now >= self.until).then_some(LIMIT);
        }
        let since = *self.disk_since.get_or_insert(now);
        (now >= since + PATIENCE).then_some(PATIENCE)
    }
}

impl Field {
    /// Begins a cold restart: takes every program out of the scan. Later stages reset every
    /// variable and start the programs again.
    pub(in crate::daemon) fn restart_cold(
        &mut self,
        reply: oneshot::Sender<Reply>,
        link: &ScanLink,
        plugins: &mut Plugins,
    ) {
        let running = plugins.supervisor.plugins().filter(|(_, view)| view.want == Want::Run);
        let names: Vec<_> = running.map(|(name, _)| name.to_owned()).collect();
        if self.begin(true, Stage::Emptying { empty_in: None }, reply, link) {
            tracing::warn!("cold restart: the programs leave the scan, the outputs become safe");
            names.iter().for_each(|name| plugins.park(name));
        }
    }

    /// Begins a reset of the retained variables. The programs continue to run.
    pub(in crate::daemon) fn reset_retain(
        &mut self,
        reply: oneshot::Sender<Reply>,
        link: &ScanLink,
    ) {
        if self.retain.initial().is_empty() {
            let message = "no variable is marked retain = true, so there is nothing to reset";
            let _ = reply.send(Err(Failure::new(Code::Refused, message)));
        } else if self.begin(false, Stage::Ready, reply, link) {
            tracing::warn!("the retained variables are being reset");
        }
    }

    /// Moves the reset to its next stage if the scan has carried out the order of this reset. If
    /// the scan has refused the order, the function ends the reset. `cycle` is the cycle in which
    /// the scan carried out the order.
    pub(in crate::daemon) fn variables_set(
        &mut self,
        ticket: u64,
        cycle: u64,
        result: Result<(), &'static str>,
        plugins: &mut Plugins,
    ) {
        let is_ours = |reset: &&mut Reset| reset.stage == Stage::Ordered(ticket);
        // If `ticket` is not the ticket of this reset, the answer is for an order of an operator,
        // or for a reset that was abandoned.
        let Some(reset) = self.reset.as_mut().filter(is_ours) else { return };
        match result {
            Ok(()) => reset.stage = Stage::Written(cycle),
            Err(why) => self.end_reset(Err(Failure::new(Code::Internal, why)), plugins),
        }
    }

    /// Moves the reset to its next stage if the present stage is complete. Ends the reset if its
    /// time limit has passed. The main loop calls this at each tick.
    pub(in crate::daemon) fn pursue_reset(
        &mut self,
        config: &Config,
        link: &mut ScanLink,
        plugins: &mut Plugins,
    ) {
        self.retain.collect();
        let Some(Reset { stage, .. }) = self.reset else { return };
        let Some(next) = self.next_stage(stage, config, link) else {
            let saved = match self.retain.cleared() {
                Ok(()) => Ok(Response::Done),
                Err(reason) => Err(Failure::new(
                    Code::Internal,
                    format!(
                        "the variables have their initial values, but the files may still have \
                         the old values: {reason}; the daemon writes them again every {:?}",
                        config.fixed.retain.flush
                    ),
                )),
            };
            return self.end_reset(saved, plugins);
        };
        if let Some(limit) = self.reset.as_mut().and_then(|reset| reset.goes_on(next)) {
            self.end_reset(Err(Failure::new(Code::Busy, next.words(limit))), plugins);
        }
    }

    /// Ends the reset and sends this answer. After a cold restart the programs may run again,
    /// except in recovery.
    fn end_reset(&mut self, answer: Reply, plugins: &mut Plugins) {
        let Some(reset) = self.reset.take() else { return };
        match &answer {
            Ok(_) => {
                self.retain.forget_alarm();
                tracing::info!("the variables have their initial values");
            }
            Err(failure) => tracing::error!("the reset has failed: {failure}"),
        }
        if reset.is_cold && !plugins.recovery.is_on() {
            plugins.unpark();
        }
        // The send fails if the client has closed its connection.
        let _ = reset.reply.send(answer);
    }

    /// Begins a reset at `stage`. Returns true if the reset has begun. If not, `reply` gets the
    /// reason.
    fn begin(
        &mut self,
        is_cold: bool,
        stage: Stage,
        reply: oneshot::Sender<Reply>,
        link: &ScanLink,
    ) -> bool {
        let failure = if self.reset.is_some() {
            let message = "another reset is under way; try again when it is over";
            Some(Failure::new(Code::Refused, message))
        } else {
            link.takes_orders().err()
        };
        if let Some(failure) = failure {
            let _ = reply.send(Err(failure));
            return false;
        }
        let until = Instant::now() + LIMIT;
        self.reset = Some(Reset { is_cold, stage, until, disk_since: None, reply });
        true
    }

    /// Whether programs must stay out of the scan, because a cold restart is in progress.
    pub(in crate::daemon) fn is_emptying(&self) -> bool {
        self.reset.as_ref().is_some_and(|reset| reset.is_cold)
    }

    /// Returns the stage that follows `stage`. Returns `stage` itself if the reset must still wait,
    /// and `None` if the reset is complete.
    fn next_stage(&mut self, stage: Stage, config: &Config, link: &mut ScanLink) -> Option<Stage> {
        let news = link.news();
        let (cycle, is_empty) = (news.cycle, news.programs.is_empty());
        match stage {
            Stage::Emptying { empty_in } => {
                let is_empty = is_empty && link.handle.orders.slots() == MAX_ORDERS;
                match empty_in.filter(|_| is_empty) {
                    // In the cycle `since` or in the next cycle, the scan may have taken a program
                    // from the queue. If so, the program is in the snapshot of the cycle after
                    // these two cycles.
                    Some(since) if cycle > since + 1 => Some(Stage::Ready),
                    Some(since) => Some(Stage::Emptying { empty_in: Some(since) }),
                    None => Some(Stage::Emptying { empty_in: is_empty.then_some(cycle) }),
                }
            }
            Stage::Ready => {
                let (ticket, values) = (link.next_ticket(), self.initial_values(config));
                let order = match self.is_emptying() {
                    true => Order::ResetVariables { ticket, values },
                    false => Order::SetVariables { ticket, values },
                };
                // During a stall the function sends no order, because the scan could carry out the
                // order after this reset was abandoned.
                let takes_orders = link.takes_orders().is_ok();
                let is_ordered = takes_orders && link.handle.orders.push(order).is_ok();
                Some(if is_ordered { Stage::Ordered(ticket) } else { Stage::Ready })
            }
            Stage::Ordered(_) => Some(stage),
            Stage::Written(written) if cycle < written => Some(stage),
            Stage::Written(_) if self.retain.initial().is_empty() => None,
            Stage::Written(_) | Stage::Blocked if self.retain.is_writing() => Some(Stage::Blocked),
            Stage::Written(_) | Stage::Blocked => {
                self.retain.clear();
                Some(Stage::Saving)
            }
            Stage::Saving => self.retain.is_clearing().then_some(stage),
        }
    }

    /// Returns the values for the order to the scan. For `reset --retain`, these are the values of
    /// the retained variables, in the order of the configuration. For a cold restart, these are the
    /// values of all declared variables, sorted by name, and the order deletes the variables that
    /// only programs have created.
    ///
    /// The scan writes either all values or no value. It has no reason to refuse one of these
    /// values: each declared variable exists since the start or a reload, is never removed, and
    /// never changes its type.
    fn initial_values(&mut self, config: &Config) -> Vec<(String, Variable)> {
        if !self.is_emptying() {
            return self.retain.initial().to_vec();
        }
        let mut values = config.live.variables.clone();
        values.sort_by(|(one, _), (other, _)| one.cmp(other));
        values
    }
}
