//! The audit: each order of an operator becomes a line in the history and in the log. The line
//! names the user who gave the order, and the values before and after.
//!
//! ```text
//!  order ──▶ draft (who, value before) ──▶ carried out ──▶ receipt, log ──▶ answer
//! ```
//! The answer passes through the loop before it is sent, so an operator who reads the history after
//! the answer finds the order there. A refused order changes nothing and has no receipt. If an
//! order is open at the end of the daemon, its receipt says so. `plugins/record.rs` writes the
//! receipts of orders to hold and to release. Next: `audit/draft.rs` (an order that is open),
//! `audit/open.rs` (the order of the lines), `audit/rows.rs` (rate limits), `control/ordered.rs`
//! (how a line reads).

mod draft;
mod open;
mod rows;

use std::collections::HashMap;
use std::time::Duration;

use tokio::sync::mpsc::error::SendError;
use tokio::sync::{mpsc, oneshot};

use super::Daemon;
use crate::clock::{Clock, MonotonicClock};
use crate::control::{
    ChangeView, Code, Event, Failure, OrderKind, Ordered, Receipt, Reply, Request, Response, Who,
};
use crate::plugin::ModuleHash;
use crate::process::image::Value;
use crate::text::legible_up_to;
use draft::Draft;
use open::{Open, Outcome};
use rows::Rows;

/// The longest text for the changes of a reload in one line of the history, in bytes. The log and
/// `camshaft diff` show all changes.
const MAX_CHANGES_BYTES: usize = 400;

/// How long the daemon trusts an order about what is in a plugin's file. In this time the watch of
/// the folder may not have read the file yet.
const FRESH: Duration = Duration::from_secs(2);

/// The orders on their way into the history, and what is needed to record them.
#[derive(Debug)]
pub(super) struct Audit {
    /// The sender for the loop's events, on which the answers come back to the loop.
    events: mpsc::Sender<super::Event>,
    /// The orders that have no outcome yet, and those that wait for an earlier order.
    open: Open,
    /// The rate limits, and the orders that wait for a line.
    rows: Rows,
    /// The module that an order has lately put into each file, or `None` if the order has removed
    /// it, and when.
    put: HashMap<String, (Option<ModuleHash>, Duration)>,
}

/// The answer to an open order, on its way through the loop to the sender of the order.
#[derive(Debug)]
pub(super) struct Obeyed {
    /// The number of the order in [`Open`].
    number: u64,
    /// The answer, and the sender that it goes to.
    outcome: Outcome,
}

impl Audit {
    /// The audit without any order. Answers come back to the loop through `events`.
    pub(super) fn new(events: mpsc::Sender<super::Event>) -> Self {
        Self { events, open: Open::default(), rows: Rows::default(), put: HashMap::new() }
    }

    /// A sender whose answer first becomes an event of the loop, and then goes on to `reply`.
    fn pass(&mut self, draft: Draft, reply: oneshot::Sender<Reply>) -> oneshot::Sender<Reply> {
        use super::Event::Obeyed as Event;
        let (ours, answer) = oneshot::channel();
        let (number, events) = (self.open.add(draft), self.events.clone());
        tokio::spawn(async move {
            // The sender is dropped without an answer only when the daemon stops.
            let stopping = |_| Err(Failure::new(Code::Busy, "the daemon is stopping"));
            let outcome = (answer.await.unwrap_or_else(stopping), reply);
            let event = Event(Box::new(Obeyed { number, outcome }));
            if let Err(SendError(Event(obeyed))) = events.send(event).await {
                let (answer, reply) = obeyed.outcome;
                let _ = reply.send(answer);
            }
        });
        ours
    }
}

impl Daemon {
    /// The sender for the answer to a request. For an order that is to be recorded, the answer
    /// passes through the loop; for a request that changes nothing, it is `reply` itself.
    pub(super) fn audited(
        &mut self,
        request: &Request,
        who: &Option<Who>,
        reply: oneshot::Sender<Reply>,
    ) -> oneshot::Sender<Reply> {
        match self.draft(request, who) {
            Some(draft) => self.audit.pass(draft, reply),
            None => reply,
        }
    }

    /// The sender for the answer to a reload that no operator has ordered.
    pub(super) fn audited_reload(&mut self, why: &str) -> oneshot::Sender<Reply> {
        let mut draft = Draft::of(OrderKind::Reload, &None);
        draft.ordered.details = Some(why.to_owned());
        // The answer to such a reload is read by no caller.
        self.audit.pass(draft, oneshot::channel().0)
    }

    /// The draft of an order that is to be recorded. `None` for a request that changes nothing, and
    /// for a hold or a release, which `plugins/record.rs` records.
    fn draft(&mut self, request: &Request, who: &Option<Who>) -> Option<Draft> {
        use OrderKind as Kind;
        let of = |kind| Draft::of(kind, who);
        let none = None::<String>;
        Some(match request {
            Request::Restart { name } => of(Kind::Restart).plugin(name, self.in_file(name)),
            Request::Deploy { name, .. } => of(Kind::Deploy).plugin(name, self.in_file(name)),
            Request::Rollback { name, even_bad, .. } => {
                of(Kind::Rollback).plugin(name, self.in_file(name)).forgiving(*even_bad)
            }
            Request::Remove { name } => of(Kind::Remove).plugin(name, self.in_file(name)),
            Request::RestartCold => of(Kind::RestartCold),
            Request::ResetRetain => of(Kind::ResetRetain),
            Request::Recover => of(Kind::Recover),
            Request::Reload => of(Kind::Reload),
            Request::Set { point, value } => {
                of(Kind::Set).target(point, self.link.unforced_value(point), Some(value))
            }
            Request::SetVar { name, value } => {
                let old = self.link.news().variables.read(name);
                let old = old.map(|old| Value::from(old).to_string());
                of(Kind::Set).target(name, old, Some(value))
            }
            Request::Force { point, order } => {
                let force =
                    of(Kind::Force).target(point, self.link.value(point), Some(order.value));
                force.terms(order)
            }
            Request::Unforce { point: Some(point) } => {
                of(Kind::Unforce).target(point, self.link.value(point), none)
            }
            Request::Unforce { point: None } => of(Kind::Unforce),
            Request::Inject { device, injection } => {
                let kind = injection.get("kind").and_then(serde_json::Value::as_str);
                of(Kind::Fault).target(device, None, kind)
            }
            Request::Clear { device } => of(Kind::ClearFault).target(device, None, none),
            Request::Hold { .. }
            | Request::Release { .. }
            | Request::Status
            | Request::Plugins
            | Request::Points
            | Request::Vars
            | Request::Forces
            | Request::Diff
            | Request::Versions { .. }
            | Request::History { .. } => return None,
        })
    }

    /// The module in the file of a plugin, as orders or the folder have told last.
    fn in_file(&mut self, name: &str) -> Option<ModuleHash> {
        let now = MonotonicClock.now();
        self.audit.put.retain(|_, (_, at)| now < *at + FRESH);
        match self.audit.put.get(name) {
            Some((put, _)) => *put,
            None => self.plugins.supervisor.plugin(name)?.file,
        }
    }

    /// Takes in the outcome of an order. The order is recorded when its turn has come, and then its
    /// answer is sent.
    pub(super) fn obeyed(&mut self, Obeyed { number, outcome }: Obeyed) {
        if let Some((answer, reply)) = self.audit.open.settle(number, outcome) {
            // A refused order waits for no other order. Its sender may have closed the connection.
            let _ = reply.send(answer);
        }
        while let Some((draft, (answer, reply))) = self.audit.open.next() {
            self.record_order(draft, &answer);
            // The sender may have closed the connection.
            let _ = reply.send(answer);
        }
    }

    /// Records an order with its outcome. If the order was carried out, it also changes the drafts
    /// of later orders.
    fn record_order(&mut self, mut draft: Draft, answer: &Reply) {
        complete(&mut draft, answer);
        if draft.ordered.failed.is_none() {
            self.audit.open.carried_out(&draft);
            self.note_file(&draft);
        }
        self.admit(draft);
    }

    /// Notes which module an order has put into the file of a plugin. If the order forgives, the
    /// module leaves quarantine.
    fn note_file(&mut self, draft: &Draft) {
        let Some(name) = &draft.plugin else { return };
        if draft.hash.is_some() || draft.ordered.order == OrderKind::Remove {
            self.audit.put.insert(name.clone(), (draft.hash, MonotonicClock.now()));
        }
        if let Some(hash) = draft.hash.filter(|_| draft.forgives) {
            self.plugins.supervisor.release_version(name, hash);
            self.plugins.record.versions.forgive(name, hash);
        }
    }

    /// Records the orders that have waited for a line and have one now.
    pub(super) fn pursue_audit(&mut self) {
        for draft in self.audit.rows.due(MonotonicClock.now()) {
            self.enter(draft);
        }
    }

    /// Records that the force of a point has ended without an order.
    fn force_is_over(&mut self, point: &str, owner: &str) {
        let mut draft = Draft::of(OrderKind::Unforce, &None).target(point, None, None::<String>);
        draft.ordered.details = Some(format!("ordered by {owner}"));
        self.admit(draft);
    }

    /// Records which forces have ended because their time is over.
    pub(super) fn settle_forces(&mut self) {
        for (point, owner) in self.field.forces_over(&mut self.link) {
            self.force_is_over(&point, &owner);
        }
    }

    /// Records the end of all forces at the end of the daemon, because no force outlives it.
    pub(super) fn end_forces(&mut self) {
        for (point, owner) in self.field.last_forces() {
            self.force_is_over(&point, &format!("{owner}; the daemon stops"));
        }
    }

    /// Records, at the end of the daemon, the orders without an outcome and the orders without a
    /// line.
    pub(super) fn close_audit(&mut self) {
        let open: Vec<_> = self.audit.open.drain().collect();
        for (mut draft, outcome) in open {
            match outcome {
                Some((answer, reply)) => {
                    self.record_order(draft, &answer);
                    let _ = reply.send(answer);
                }
                None => {
                    let why =
                        "the daemon has ended before it knew whether the order was carried out";
                    draft.ordered.failed = Some(why.into());
                    self.admit(draft);
                }
            }
        }
        let waiting: Vec<_> = self.audit.rows.drain().collect();
        waiting.into_iter().for_each(|draft| self.enter(draft));
    }

    /// Records an order, unless it has to wait for a line. An order to end all forces has a line
    /// for each force that it has ended.
    fn admit(&mut self, draft: Draft) {
        let Ordered { order, target, .. } = &draft.ordered;
        let is_for_all = *order == OrderKind::Unforce && target.is_none();
        let ended = if is_for_all { self.field.ended_by_order() } else { Vec::new() };
        if !ended.is_empty() {
            for (point, value) in ended {
                self.enter(draft.clone().target(&point, Some(value), None::<String>));
            }
        } else if let Some(draft) = self.audit.rows.admit(draft, MonotonicClock.now()) {
            self.enter(draft);
        }
    }

    /// Puts an order into the history and the log.
    fn enter(&mut self, draft: Draft) {
        let Draft { plugin, hash, old_hash, ordered, .. } = draft;
        say(&self.plugins.record.ordered(plugin, hash, old_hash, ordered));
    }
}

/// Adds the outcome of an order to its draft.
fn complete(draft: &mut Draft, answer: &Reply) {
    let Ordered { details, failed, .. } = &mut draft.ordered;
    match answer {
        Ok(Response::Deployed { hash, .. }) => draft.hash = ModuleHash::from_hex(hash),
        Ok(Response::Changes(changes)) => {
            let changes = changed(changes);
            *details = Some(match details.take() {
                Some(why) => format!("{changes}; {why}"),
                None => changes,
            });
        }
        Ok(_) => {}
        Err(failure) => *failed = Some(failure.message.clone()),
    }
}

/// The changes of a reload, as text for one line.
fn changed(changes: &[ChangeView]) -> String {
    let change = |change: &ChangeView| match change.effect.as_str() {
        "restart" => format!("{} {} (after a restart)", change.key, change.how),
        _ => format!("{} {}", change.key, change.how),
    };
    match changes {
        [] => "nothing is different".into(),
        all => {
            let all: Vec<_> = all.iter().map(change).collect();
            legible_up_to(MAX_CHANGES_BYTES, &all.join(", "))
        }
    }
}

/// Logs an order. If it takes control from the programs, the line is a warning.
fn say(receipt: &Receipt) {
    use OrderKind as Kind;
    let Event::Ordered(ordered) = &receipt.event else { return };
    let sentence = ordered.sentence(receipt.hash.as_deref(), receipt.old_hash.as_deref());
    let sentence = match &receipt.plugin {
        Some(plugin) => format!("{plugin}: {sentence}"),
        None => sentence,
    };
    if ordered.order == Kind::Reload && ordered.who.is_none() {
        return; // the reload itself has a line
    }
    let audit = ordered.order.name();
    let (plugin, target) = (receipt.plugin.as_deref(), ordered.target.as_deref());
    let who = ordered.who.as_ref().map(ToString::to_string);
    match ordered.order {
        Kind::Force | Kind::Unforce | Kind::RestartCold | Kind::ResetRetain | Kind::Recover => {
            tracing::warn!(audit, plugin, target, who, "{sentence}");
        }
        _ => tracing::info!(audit, plugin, target, who, "{sentence}"),
    }
}
