//! The reset of variables to their initial values. The operator orders it as `reset --retain` for
//! the retained variables, or as `restart --cold` for all variables.
//!
//! ```text
//!  restart --cold                no program in the scan          obeyed
//!  ─────────────▶ Emptying ───────────────▶ Ready ───▶ Ordered ────────▶ Written
//!                              reset --retain ▲                             │ in the snapshot
//!                              ───────────────┘   the disk is free          ▼
//!                              answer ◀── Saving ◀─────────────────────── Blocked
//! ```
//! One reset runs at a time. A cold restart waits until no program is in the scan, because a
//! program that is still polled would write its values again. Programs come back only when the
//! initial values are on the disk, because a power cut must not bring the old values back. The
//! stages before the disk together end within [`LIMIT`]. A disk that gives no answer keeps programs
//! out no longer than [`PATIENCE`]. How values are written is in `retain.rs`.

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

/// The time for all stages before the disk together. The scan removes one program in a cycle, so
/// the time is enough for a full folder at a period of 100 ms. The client waits 30 s for the
/// answer.
const LIMIT: Duration = Duration::from_secs(20);

/// A reset that is under way.
#[derive(Debug)]
pub(in crate::daemon) struct Reset {
    /// Whether the reset is a cold restart, which first takes every program out of the scan.
    is_cold: bool,
    /// The stage that the reset has reached.
    stage: Stage,
    /// The end of the time for all stages before the disk.
    until: Instant,
    /// When the reset began to wait for the disk; `None` before that.
    disk_since: Option<Instant>,
    /// The sender of the answer.
    reply: oneshot::Sender<Reply>,
}

/// A stage of a reset; the drawing is in the header of the file.
#[derive(Debug, Clone, Copy, PartialEq)]
enum Stage {
    /// Programs are leaving the scan. `empty_in` is the cycle in which no program was in the scan
    /// or on its way into the scan.
    Emptying { empty_in: Option<u64> },
    /// The order can be sent to the scan.
    Ready,
    /// The order was sent to the scan with this ticket.
    Ordered(u64),
    /// The scan obeyed the order in this cycle.
    Written(u64),
    /// The values are in the snapshot. The reset waits for an earlier write to the disk.
    Blocked,
    /// The values are being written to the disk.
    Saving,
}

impl Stage {
    /// Whether the stage waits for the disk. Such a stage has [`PATIENCE`] instead of [`LIMIT`].
    fn is_at_the_disk(self) -> bool {
        matches!(self, Self::Blocked | Self::Saving)
    }

    /// The message for a reset that was given up at this stage, `after` its limit.
    fn words(self, after: Duration) -> String {
        let why = match self {
            Self::Emptying { .. } => "programs are still in the scan",
            Self::Ready => "the scan takes no orders",
            Self::Ordered(_) | Self::Written(_) => "the scan has not written the values",
            Self::Blocked | Self::Saving => {
                return format!(
                    "the variables have their initial values, but the disk has not taken them for \
                     {after:?}: until it does, a power cut may bring the old ones back; see \
                     `camshaft status`"
                );
            }
        };
        format!("given up after {after:?}: {why}; see `camshaft status`")
    }
}

impl Reset {
    /// Goes on at `stage`. If the time of the stage is over, the limit is returned.
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
    /// Takes every program out of the scan, resets every variable, and starts the programs anew.
    pub(in crate::daemon) fn restart_cold(
        &mut self,
        reply: oneshot::Sender<Reply>,
        link: &ScanLink,
        plugins: &mut Plugins,
    ) {
        let running = plugins.supervisor.plugins().filter(|(_, view)| view.want == Want::Run);
        let names: Vec<_> = running.map(|(name, _)| name.to_owned()).collect();
        if self.begin(true, Stage::Emptying { empty_in: None }, reply, link) {
            tracing::warn!("cold restart: programs leave, outputs go safe");
            names.iter().for_each(|name| plugins.park(name));
        }
    }

    /// Resets the retained variables while their programs run.
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

    /// Takes in the scan's answer to an order to set variables. `cycle` is the cycle in which the
    /// scan obeyed it.
    pub(in crate::daemon) fn variables_set(
        &mut self,
        ticket: u64,
        cycle: u64,
        result: Result<(), &'static str>,
        plugins: &mut Plugins,
    ) {
        let is_ours = |reset: &&mut Reset| reset.stage == Stage::Ordered(ticket);
        // Any other ticket belongs to an order of another sender, or to a reset that was given up.
        let Some(reset) = self.reset.as_mut().filter(is_ours) else { return };
        match result {
            Ok(()) => reset.stage = Stage::Written(cycle),
            Err(why) => self.end_reset(Err(Failure::new(Code::Internal, why)), plugins),
        }
    }

    /// Moves the reset on to the next stage, if what the present stage waits for has happened.
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
                         the old ones: {reason}; it is tried again every {:?}",
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

    /// Ends the reset with this answer. After a cold restart the programs come back.
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
        // The sender may have left.
        let _ = reset.reply.send(answer);
    }

    /// Begins a reset at `stage`; returns whether it has begun. If not, `reply` gets the reason.
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

    /// Whether programs must stay out of the scan until a cold restart has ended.
    pub(in crate::daemon) fn is_emptying(&self) -> bool {
        self.reset.as_ref().is_some_and(|reset| reset.is_cold)
    }

    /// The stage that follows `stage`, or `stage` itself if the reset must still wait. `None` means
    /// that the reset has ended.
    fn next_stage(&mut self, stage: Stage, config: &Config, link: &mut ScanLink) -> Option<Stage> {
        let news = link.news();
        let (cycle, is_empty) = (news.cycle, news.programs.is_empty());
        match stage {
            Stage::Emptying { empty_in } => {
                let is_empty = is_empty && link.handle.orders.slots() == MAX_ORDERS;
                match empty_in.filter(|_| is_empty) {
                    // Two cycles later, the snapshot shows every program that the scan took from
                    // the queue in that cycle or the next.
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
                // A scan that stands gets no order: it would obey later, after this reset was given
                // up.
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

    /// The values that the order is to write, in order of name. A `reset --retain` writes the
    /// retained variables. A cold restart writes every declared variable. It also forgets variables
    /// that only programs have made, with their types.
    ///
    /// The scan writes all values or none, and it refuses none of these. Every declared variable
    /// was made at the start or by a reload. No declared variable is ever removed, and its type
    /// never changes.
    fn initial_values(&mut self, config: &Config) -> Vec<(String, Variable)> {
        if !self.is_emptying() {
            return self.retain.initial().to_vec();
        }
        let mut values = config.live.variables.clone();
        values.sort_by(|(one, _), (other, _)| one.cmp(other));
        values
    }
}
