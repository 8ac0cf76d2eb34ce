//! A draft: an order while it is open, with its sender, its subject, and the value before it.
//!
//! The draft is made when the order comes, because the value before is not known later. `audit.rs`
//! adds the outcome; `control/ordered.rs` is the order as it stands in the history.

use crate::control::{ForceOrder, OrderKind, Ordered, Who};
use crate::plugin::ModuleHash;

/// An order whose outcome is not known yet.
#[derive(Debug, Clone)]
pub(super) struct Draft {
    /// The plugin that the order is about, if it is about a plugin.
    pub(super) plugin: Option<String>,
    /// The module that was in the plugin's file before the order.
    pub(super) old_hash: Option<ModuleHash>,
    /// The module that the order puts into the file.
    pub(super) hash: Option<ModuleHash>,
    /// The order as it will stand in the history.
    pub(super) ordered: Ordered,
    /// Whether the version that the order puts into the file gets another chance there.
    pub(super) forgives: bool,
}

impl Draft {
    /// The draft of an order of this kind by this user, without a subject.
    pub(super) fn of(order: OrderKind, who: &Option<Who>) -> Self {
        let ordered = Ordered {
            order,
            target: None,
            old: None,
            new: None,
            details: None,
            who: who.clone(),
            failed: None,
            count: 1,
        };
        Self { plugin: None, old_hash: None, hash: None, ordered, forgives: false }
    }

    /// Makes the draft one about a plugin whose file has `old_hash`.
    pub(super) fn plugin(self, name: &str, old_hash: Option<ModuleHash>) -> Self {
        Self { plugin: Some(name.to_owned()), old_hash, ..self }
    }

    /// Makes the draft one about a point, variable or device, whose value changes from `old` to
    /// `new`.
    pub(super) fn target(
        mut self,
        name: &str,
        old: Option<String>,
        new: Option<impl ToString>,
    ) -> Self {
        let (old, new) = (old, new.map(|new| new.to_string()));
        self.ordered = Ordered { target: Some(name.to_owned()), old, new, ..self.ordered };
        self
    }

    /// Notes for a rollback whether the operator allows a bad version.
    pub(super) fn forgiving(self, forgives: bool) -> Self {
        Self { forgives, ..self }
    }

    /// Adds the terms of a force: its time, owner and reason.
    pub(super) fn terms(mut self, order: &ForceOrder) -> Self {
        self.ordered.details = Some(order.terms());
        self
    }

    /// The name of the thing that the order is about, or the kind of the order. Orders about the
    /// same thing are recorded in the order in which they were given.
    pub(super) fn subject(&self) -> &str {
        let name = self.ordered.target.as_deref().or(self.plugin.as_deref());
        name.unwrap_or(self.ordered.order.name())
    }

    /// Whether the order is about the same point, variable, device or plugin as `other`. The plugin
    /// is compared too, because a plugin may have the name of a point.
    pub(super) fn is_about_what(&self, other: &Self) -> bool {
        self.plugin == other.plugin && self.subject() == other.subject()
    }

    /// Whether the order concerns the same thing as `other`. An order to end all forces concerns
    /// each force.
    pub(super) fn meets(&self, other: &Self) -> bool {
        let is_force =
            |draft: &Self| matches!(draft.ordered.order, OrderKind::Force | OrderKind::Unforce);
        let is_all = |draft: &Self| is_force(draft) && draft.ordered.target.is_none();
        self.is_about_what(other)
            || is_force(self) && is_force(other) && (is_all(self) || is_all(other))
    }

    /// Takes in that `other`, about the same thing, was carried out before this order. The value
    /// after `other` is the value before this order.
    pub(super) fn follows(&mut self, other: &Self) {
        use OrderKind as Kind;
        match other.ordered.order {
            Kind::Set | Kind::Force => self.ordered.old.clone_from(&other.ordered.new),
            Kind::Deploy | Kind::Rollback | Kind::Remove => self.old_hash = other.hash,
            _ => {}
        }
    }
}
