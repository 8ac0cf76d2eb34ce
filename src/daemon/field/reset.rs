//! Variables back to their initial values: `reset --retain`, and `restart --cold` for the machine.
//!
//! ```text
//!  restart --cold                no program in the scan          obeyed
//!  ─────────────▶ Emptying ───────────────▶ Ready ───▶ Ordered ────────▶ Written
//!                              reset --retain ▲                             │ in the snapshot
//!                              ───────────────┘   the disk is free          ▼
//!                              answer ◀── Saving ◀─────────────────────── Blocked
//! ```
//! One reset runs at a time. The order waits until the scan is empty, because a program that is
//! still polled would write its values again. Programs come back only when the values are on disk,
//! because a power cut must not bring the old ones back. All stages together end within [`LIMIT`];
//! a disk that gives no answer keeps programs out no longer than [`PATIENCE`].

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

/// The time for all stages together. The scan removes one program in a cycle, so this is enough for
/// a full folder at a period of 100 ms. The client waits 30 s for the answer.
const LIMIT: Duration = Duration::from_secs(20);

/// A reset under way.
#[derive(Debug)]
pub(in crate::daemon) struct Reset {
    /// Whether it is a cold restart, which takes every program out first.
    is_cold: bool,
    /// How far it is.
    stage: Stage,
    /// When all stages before the disk must be over.
    until: Instant,
    /// Since when it waits for the disk.
    disk_since: Option<Instant>,
    /// Where the answer goes at the end.
    reply: oneshot::Sender<Reply>,
}

/// A stage of a reset; the drawing is at the head of the file.
#[derive(Debug, Clone, Copy, PartialEq)]
enum Stage {
    /// Programs are leaving. In the cycle `empty_in` no program was in the scan or on its way
    /// there.
    Emptying { empty_in: Option<u64> },
    /// The order can be given.
    Ready,
    /// The order was given with this ticket.
    Ordered(u64),
    /// The scan obeyed it in this cycle.
    Written(u64),
    /// The values are in the snapshot. An earlier write is still under way.
    Blocked,
    /// The values are being written to the disk.
    Saving,
}

impl Stage {
    /// Whether this stage waits for the disk, and so has [`PATIENCE`] instead of [`LIMIT`].
    fn is_at_the_disk(self) -> bool {
        matches!(self, Self::Blocked | Self::Saving)
    }

    /// Why the reset is given up after this time.
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
    /// Goes on at this stage; returns the limit if the stage has taken all of its time.
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
    /// Takes every program out, resets every variable, and starts the programs anew.
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

    /// Takes in the scan's answer to an order to set variables, and the cycle in which it was
    /// obeyed.
    pub(in crate::daemon) fn variables_set(
        &mut self,
        ticket: u64,
        cycle: u64,
        result: Result<(), &'static str>,
        plugins: &mut Plugins,
    ) {
        let is_ours = |reset: &&mut Reset| reset.stage == Stage::Ordered(ticket);
        // Otherwise it is the order of another sender, or of a reset that was given up.
        let Some(reset) = self.reset.as_mut().filter(is_ours) else { return };
        match result {
            Ok(()) => reset.stage = Stage::Written(cycle),
            Err(why) => self.end_reset(Err(Failure::new(Code::Internal, why)), plugins),
        }
    }

    /// Goes on with a reset as far as it can go now.
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

    /// Begins a reset at this stage, or answers why it cannot begin; returns whether it has begun.
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

    /// Whether programs must stay out until a cold restart is over.
    pub(in crate::daemon) fn is_emptying(&self) -> bool {
        self.reset.as_ref().is_some_and(|reset| reset.is_cold)
    }

    /// The stage that follows, or the same; `None` at the end.
    fn next_stage(&mut self, stage: Stage, config: &Config, link: &mut ScanLink) -> Option<Stage> {
        let news = link.news();
        let (cycle, is_empty) = (news.cycle, news.programs.is_empty());
        match stage {
            Stage::Emptying { empty_in } => {
                let is_empty = is_empty && link.handle.orders.slots() == MAX_ORDERS;
                match empty_in.filter(|_| is_empty) {
                    // What was taken from the queue in that cycle or the next is visible by now.
                    Some(since) if cycle > since + 1 => Some(Stage::Ready),
                    Some(since) => Some(Stage::Emptying { empty_in: Some(since) }),
                    None => Some(Stage::Emptying { empty_in: is_empty.then_some(cycle) }),
                }
            }
            Stage::Ready => {
                link.last_ticket += 1;
                let (ticket, values) = (link.last_ticket, self.initial_values(config));
                let order = match self.is_emptying() {
                    true => Order::ResetVariables { ticket, values },
                    false => Order::SetVariables { ticket, values },
                };
                // One that stands would obey it later, when this was given up.
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

    /// The values that the order is to write, in order of name. A variable that no `[[variable]]`
    /// declares was made by a program: a cold restart forgets it, its type included.
    ///
    /// The scan writes all or none, and it denies none of these. Every declared variable was made
    /// at the start or by a reload. None of them is ever removed, and its type never changes.
    fn initial_values(&mut self, config: &Config) -> Vec<(String, Variable)> {
        if !self.is_emptying() {
            return self.retain.initial().to_vec();
        }
        let mut values = config.live.variables.clone();
        values.sort_by(|(one, _), (other, _)| one.cmp(other));
        values
    }
}
