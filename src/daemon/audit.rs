//! Who did what: each order of an operator is a line in the history and in the log, with the user
//! who gave it and the values before and after.
//!
//! ```text
//!  order ──▶ draft (who, value before) ──▶ carried out ──▶ receipt, log ──▶ answer
//! ```
//! The answer passes through the loop once more before people have it, so that whoever then looks
//! into the history finds the order there. An order that was refused changes nothing and has no
//! receipt. Orders to hold and to release have theirs in `record.rs`. How a line reads is in
//! `control/ordered.rs`.

mod rows;

use tokio::sync::mpsc::error::SendError;
use tokio::sync::{mpsc, oneshot};

use super::Daemon;
use crate::control::{
    ChangeView, Code, Event, Failure, OrderKind, Ordered, Receipt, Reply, Request, Response, Who,
};
use crate::image::{Direction, Value};
use crate::plugin::ModuleHash;
use crate::text::legible_up_to;
use crate::variable::Variable;
use rows::Rows;

/// Bytes of the changes of a reload in one line; more are in the log and in `camshaft diff`.
const MAX_CHANGES_BYTES: usize = 400;

/// Turns the answers to orders into receipts.
#[derive(Debug)]
pub(super) struct Audit {
    events: mpsc::Sender<super::Event>,
    rows: Rows,
}

/// An order before it is carried out.
#[derive(Debug)]
struct Draft {
    plugin: Option<String>,
    /// The file before.
    old_hash: Option<ModuleHash>,
    ordered: Ordered,
    /// Whether the version that it brings gets another chance when it lies in the folder.
    forgives: bool,
}

/// An order with its outcome, which nobody has heard yet.
#[derive(Debug)]
pub(super) struct Obeyed {
    draft: Draft,
    answer: Reply,
    reply: oneshot::Sender<Reply>,
}

impl Audit {
    /// Answers come back to the loop through `events`.
    pub(super) fn new(events: mpsc::Sender<super::Event>) -> Self {
        Self { events, rows: Rows::default() }
    }

    /// A reply whose answer becomes an event of the loop before it goes on to `reply`.
    fn pass(&self, draft: Draft, reply: oneshot::Sender<Reply>) -> oneshot::Sender<Reply> {
        let (ours, answer) = oneshot::channel();
        let events = self.events.clone();
        tokio::spawn(async move {
            // Dropped unanswered when the daemon stops; so is `reply` then.
            let Ok(answer) = answer.await else { return };
            let obeyed = super::Event::Obeyed(Box::new(Obeyed { draft, answer, reply }));
            if let Err(SendError(super::Event::Obeyed(obeyed))) = events.send(obeyed).await {
                let _ = obeyed.reply.send(obeyed.answer);
            }
        });
        ours
    }
}

impl Daemon {
    /// The reply for an order that is to be recorded; `reply` itself for what changes nothing.
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

    /// A reply for a reload that no person has ordered.
    pub(super) fn audited_reload(&self, why: &str) -> oneshot::Sender<Reply> {
        let mut draft = draft(OrderKind::Reload, None);
        draft.ordered.details = Some(why.to_owned());
        // Nobody waits for it.
        self.audit.pass(draft, oneshot::channel().0)
    }

    fn draft(&mut self, request: &Request, who: &Option<Who>) -> Option<Draft> {
        use OrderKind as Kind;
        let order = |kind| Some(draft(kind, who.clone()));
        match request {
            Request::Restart { name } => self.draft_of_plugin(Kind::Restart, name, who),
            Request::Deploy { name, .. } => self.draft_of_plugin(Kind::Deploy, name, who),
            Request::Rollback { name, even_bad, .. } => {
                let draft = self.draft_of_plugin(Kind::Rollback, name, who)?;
                Some(Draft { forgives: *even_bad, ..draft })
            }
            Request::Remove { name } => self.draft_of_plugin(Kind::Remove, name, who),
            Request::RestartCold => order(Kind::RestartCold),
            Request::ResetRetain => order(Kind::ResetRetain),
            Request::Recover => order(Kind::Recover),
            Request::Reload => order(Kind::Reload),
            Request::Set { point, value } => {
                let values = (self.value(point), Some(value.to_string()));
                draft_of(Kind::Set, Some(point), values, who)
            }
            Request::SetVar { name, value } => {
                let old = self.reins.latest.read().variables.read(name);
                let values = (old.map(shown), Some(value.to_string()));
                draft_of(Kind::Set, Some(name), values, who)
            }
            Request::Force { point, order } => {
                let values = (self.value(point), Some(order.value.to_string()));
                let mut draft = draft_of(Kind::Force, Some(point), values, who)?;
                draft.ordered.details = Some(order.terms());
                Some(draft)
            }
            Request::Unforce { point } => {
                let old = point.as_deref().and_then(|point| self.value(point));
                draft_of(Kind::Unforce, point.as_ref(), (old, None), who)
            }
            Request::Inject { device, injection } => {
                let kind = injection.get("kind").and_then(serde_json::Value::as_str);
                let values = (None, kind.map(str::to_owned));
                draft_of(Kind::Fault, Some(device), values, who)
            }
            Request::Clear { device } => {
                draft_of(Kind::ClearFault, Some(device), (None, None), who)
            }
            Request::Hold { .. }
            | Request::Release { .. }
            | Request::Status
            | Request::Plugins
            | Request::Points
            | Request::Vars
            | Request::Forces
            | Request::Diff
            | Request::Versions { .. }
            | Request::History { .. } => None,
        }
    }

    fn draft_of_plugin(&self, order: OrderKind, name: &str, who: &Option<Who>) -> Option<Draft> {
        let old_hash = self.supervisor.plugin(name).and_then(|view| view.file);
        Some(Draft { plugin: Some(name.to_owned()), old_hash, ..draft(order, who.clone()) })
    }

    /// The value that a point has now.
    fn value(&mut self, name: &str) -> Option<String> {
        let news = self.reins.latest.read();
        let point = &news.points[news.points.find(name)?];
        let image = match point.direction {
            Direction::In => &news.inputs.bytes,
            Direction::Out => &news.outputs,
        };
        Some(point.read(image).to_string())
    }

    /// An order has an outcome: records it, and lets people hear it.
    pub(super) fn obeyed(&mut self, obeyed: Obeyed) {
        let Obeyed { mut draft, answer, reply } = obeyed;
        if let (true, Ok(Response::Deployed { name, hash })) = (draft.forgives, &answer)
            && let Some(hash) = ModuleHash::from_hex(hash)
        {
            self.supervisor.release_version(name, hash);
            self.record.versions.forgive(name, hash);
        }
        if let Some(hash) = settle(&mut draft, &answer) {
            self.enter(draft, hash);
        }
        // Whoever asked may have left.
        let _ = reply.send(answer);
    }

    /// The force of a point has ended by itself.
    pub(super) fn force_is_over(&mut self, point: String, owner: &str) {
        let mut draft = draft(OrderKind::Unforce, None);
        draft.ordered.target = Some(point);
        draft.ordered.details = Some(format!("ordered by {owner}"));
        self.enter(draft, None);
    }

    /// Records and says an order that has put this version into the folder, unless there are too
    /// many of its kind.
    fn enter(&mut self, mut draft: Draft, hash: Option<ModuleHash>) {
        let now = self.now();
        let count = self.audit.rows.take(&draft.ordered, draft.plugin.as_deref(), now);
        let Some(count) = count else { return };
        draft.ordered.count = count;
        say(&self.record.ordered(draft.plugin, hash, draft.old_hash, draft.ordered));
    }
}

fn draft(order: OrderKind, who: Option<Who>) -> Draft {
    let ordered = Ordered {
        order,
        target: None,
        old: None,
        new: None,
        details: None,
        who,
        failed: None,
        count: 1,
    };
    Draft { plugin: None, old_hash: None, ordered, forgives: false }
}

fn draft_of(
    order: OrderKind,
    target: Option<&String>,
    (old, new): (Option<String>, Option<String>),
    who: &Option<Who>,
) -> Option<Draft> {
    let mut draft = draft(order, who.clone());
    draft.ordered.target = target.cloned();
    (draft.ordered.old, draft.ordered.new) = (old, new);
    Some(draft)
}

fn shown(variable: Variable) -> String {
    Value::from(variable).to_string()
}

/// Completes an order with its outcome; `None` if it has changed nothing, else the version that is
/// in the folder by it.
fn settle(draft: &mut Draft, answer: &Reply) -> Option<Option<ModuleHash>> {
    match answer {
        Ok(Response::Deployed { hash, .. }) => return Some(ModuleHash::from_hex(hash)),
        Ok(Response::Changes(changes)) => {
            let changes = changed(changes);
            let details = &mut draft.ordered.details;
            *details = Some(match details.take() {
                Some(why) => format!("{changes}; {why}"),
                None => changes,
            });
        }
        Ok(_) => {}
        Err(Failure { code: Code::Unknown | Code::Invalid | Code::Refused, .. }) => return None,
        // A file that is half moved, or a restart that was given up.
        Err(failure) => draft.ordered.failed = Some(failure.message.clone()),
    }
    Some(None)
}

/// What a reload has changed.
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

/// Says an order in the log; one that takes the machine out of the hands of its programs louder.
fn say(receipt: &Receipt) {
    use OrderKind as Kind;
    let Event::Ordered(ordered) = &receipt.event else { return };
    let sentence = ordered.sentence(receipt.hash.as_deref(), receipt.old_hash.as_deref());
    let sentence = match &receipt.plugin {
        Some(plugin) => format!("{plugin}: {sentence}"),
        None => sentence,
    };
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
