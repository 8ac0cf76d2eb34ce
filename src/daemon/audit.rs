//! The audit: each order of an operator gets a line in the history and a line in the log, unless
//! the order was refused. The line names the user who gave the order, and the values before and
//! after. If a user repeats an order too often, several orders share one line (`audit/rows.rs`).
//!
//! ```text
//!   order ──▶ draft (who, value before) ──▶ carried out ──▶ receipt, log ──▶ answer
//! ```
//! The daemon first records the order and then sends the answer. So an operator who has got the
//! answer finds the order in the history, except if a rate limit delays the line. A refused order
//! changes nothing and has no receipt. A receipt is an entry in the history. If the daemon ends
//! before the outcome of an order is known, the receipt reports that the outcome is unknown.
//!
//! Orders to hold and to release are not recorded here but in `plugins/record.rs`. Next:
//! `audit/draft.rs` (an order without outcome), `audit/open.rs` (the sequence of the lines),
//! `audit/rows.rs` (rate limits), `control/ordered.rs` (the text of a line).

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
use open::{AnsweredCall, Open};
use rows::Rows;

/// The longest list of a reload's changes in one line of the history, in bytes. The log and
/// `camshaft diff` show all changes.
const MAX_CHANGES_BYTES: usize = 400;

/// The time for which the daemon remembers the module that an order has put into a plugin's file.
/// The watch of the folder may need this time to read the new file, and until then the daemon knows
/// the content of the file only from the order.
const FRESH: Duration = Duration::from_secs(2);

/// The orders that are not yet recorded, and the state that is needed to record them.
#[derive(Debug)]
pub(super) struct Audit {
    /// The channel to the main loop. Each answer returns to the loop as an event on this channel.
    events: mpsc::Sender<super::Event>,
    /// The orders without an outcome, and the orders that wait for an earlier order.
    open: Open,
    /// The rate limits, and the orders that wait for a free line.
    rows: Rows,
    /// For each plugin: the module that the last order has put into its file, and the time of that
    /// order. The module is `None` if the order has removed the file.
    put: HashMap<String, (Option<ModuleHash>, Duration)>,
}

/// The answer to an open order, on its way through the main loop to the sender of the order.
#[derive(Debug)]
pub(super) struct Obeyed {
    /// The number of the order in the list [`Open`].
    number: u64,
    /// The answer, and the channel to the sender of the order.
    outcome: AnsweredCall,
}

impl Audit {
    /// Returns an audit without orders. Answers return to the main loop through `events`.
    pub(super) fn new(events: mpsc::Sender<super::Event>) -> Self {
        Self { events, open: Open::default(), rows: Rows::default(), put: HashMap::new() }
    }

    /// Returns a channel for the answer to an order. An answer on this channel first becomes an
    /// event of the main loop. The loop records the order and then sends the answer to `reply`.
    fn pass(&mut self, draft: Draft, reply: oneshot::Sender<Reply>) -> oneshot::Sender<Reply> {
        use super::Event::Obeyed as Event;
        let (ours, answer) = oneshot::channel();
        let (number, events) = (self.open.add(draft), self.events.clone());
        // This task waits for the answer without blocking the main loop.
        tokio::spawn(async move {
            // The channel closes without an answer only when the daemon stops.
            let stopping = |_| Err(Failure::new(Code::Busy, "the daemon is stopping"));
            let outcome = (answer.await.unwrap_or_else(stopping), reply);
            let event = Event(Box::new(Obeyed { number, outcome }));
            // If the main loop has ended, the answer goes to the sender without a record.
            if let Err(SendError(Event(obeyed))) = events.send(event).await {
                let (answer, reply) = obeyed.outcome;
                let _ = reply.send(answer);
            }
        });
        ours
    }
}

impl Daemon {
    /// Returns the channel for the answer to a request. For an order that this file records, the
    /// answer on this channel first passes through the main loop. For any other request, the
    /// function returns `reply` unchanged.
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

    /// Returns the channel for the answer to a reload that was not ordered by an operator. `why` is
    /// the cause of the reload, as text.
    pub(super) fn audited_reload(&mut self, why: &str) -> oneshot::Sender<Reply> {
        let mut draft = Draft::of(OrderKind::Reload, &None);
        draft.ordered.details = Some(why.to_owned());
        // No part of the daemon waits for this answer, so the receiver is dropped.
        self.audit.pass(draft, oneshot::channel().0)
    }

    /// Returns the draft of an order that must be recorded. `None` for a request that changes
    /// nothing. Also `None` for a hold or a release, which `plugins/record.rs` records.
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

    /// Returns the hash of the module in the file of a plugin. If an order has changed the file a
    /// short time ago, the hash is from this order. Otherwise the hash is from the supervisor,
    /// which knows the last reading of the folder.
    fn in_file(&mut self, name: &str) -> Option<ModuleHash> {
        let now = MonotonicClock.now();
        // Old entries are dropped: after `FRESH` the watch of the folder has read the file.
        self.audit.put.retain(|_, (_, at)| now < *at + FRESH);
        match self.audit.put.get(name) {
            Some((put, _)) => *put,
            None => self.plugins.supervisor.plugin(name)?.file,
        }
    }

    /// Stores the outcome of an order. The function also records all orders that can be recorded
    /// now, and sends their answers.
    pub(super) fn obeyed(&mut self, Obeyed { number, outcome }: Obeyed) {
        if let Some((answer, reply)) = self.audit.open.settle(number, outcome) {
            // A refused order is not recorded, so its answer is sent at once. The send fails if the
            // client has closed its connection.
            let _ = reply.send(answer);
        }
        // Orders that waited for this outcome may be recorded now, so all orders are checked.
        while let Some((draft, (answer, reply))) = self.audit.open.next() {
            self.record_order(draft, &answer);
            // The send fails if the sender has closed the connection.
            let _ = reply.send(answer);
        }
    }

    /// Records an order with its outcome. If the order was carried out, the function first updates
    /// the drafts of later orders about the same thing, and calls `note_file`.
    fn record_order(&mut self, mut draft: Draft, answer: &Reply) {
        complete(&mut draft, answer);
        if draft.ordered.failed.is_none() {
            self.audit.open.carried_out(&draft);
            self.note_file(&draft);
        }
        self.admit(draft);
    }

    /// Remembers which module an order has put into the file of a plugin. If the order is a
    /// rollback with `--even-bad`, the function releases the version of this rollback from
    /// quarantine.
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

    /// Records the orders that waited because of a rate limit and for which a line is free now.
    pub(super) fn pursue_audit(&mut self) {
        for draft in self.audit.rows.due(MonotonicClock.now()) {
            self.enter(draft);
        }
    }

    /// Records that the force of a point has ended, although no order has ended it.
    fn force_is_over(&mut self, point: &str, owner: &str) {
        let mut draft = Draft::of(OrderKind::Unforce, &None).target(point, None, None::<String>);
        draft.ordered.details = Some(format!("ordered by {owner}"));
        self.admit(draft);
    }

    /// Records the forces that have ended without an order, because their time has passed or their
    /// point was removed.
    pub(super) fn settle_forces(&mut self) {
        for (point, owner) in self.field.forces_over(&mut self.link) {
            self.force_is_over(&point, &owner);
        }
    }

    /// Records the end of all forces when the daemon stops. Every force ends with the daemon.
    pub(super) fn end_forces(&mut self) {
        for (point, owner) in self.field.last_forces() {
            self.force_is_over(&point, &format!("{owner}; the daemon stops"));
        }
    }

    /// Records all remaining orders when the daemon stops: the open orders, with or without an
    /// outcome, and the orders that wait for a free line.
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
        // Orders that wait because of a rate limit are recorded now, without regard to the limit.
        let waiting: Vec<_> = self.audit.rows.drain().collect();
        waiting.into_iter().for_each(|draft| self.enter(draft));
    }

    /// Records an order at once, or stores the order until its rate limit allows a line. An order
    /// to end all forces gets one line for each force that it has ended, or one line if it has
    /// ended no force.
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

    /// Writes an order into the history and into the log.
    fn enter(&mut self, draft: Draft) {
        let Draft { plugin, hash, old_hash, ordered, .. } = draft;
        log(&self.plugins.record.ordered(plugin, hash, old_hash, ordered));
    }
}

/// Adds the outcome of an order to its draft.
fn complete(draft: &mut Draft, answer: &Reply) {
    let Ordered { details, failed, .. } = &mut draft.ordered;
    // The outcome adds facts: the hash of a deployed version, the changes of a reload, or the
    // reason of a failure.
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

/// Returns the changes of a reload as text for one line.
fn changed(changes: &[ChangeView]) -> String {
    let change = |change: &ChangeView| match change.effect.as_str() {
        "restart" => format!("{} {} (takes effect after a restart)", change.key, change.how),
        _ => format!("{} {}", change.key, change.how),
    };
    match changes {
        [] => "no key has changed".into(),
        all => {
            let all: Vec<_> = all.iter().map(change).collect();
            legible_up_to(MAX_CHANGES_BYTES, &all.join(", "))
        }
    }
}

/// Logs an order. If the order takes control from the programs, the log line is a warning.
fn log(receipt: &Receipt) {
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
