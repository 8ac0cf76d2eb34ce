//! An order while it is open: its sender, its subject, and the values before it.
//!
//! It is made when the order comes, because the value before is not known afterwards. `audit.rs`
//! adds the outcome.

use crate::control::{ForceOrder, OrderKind, Ordered, Who};
use crate::plugin::ModuleHash;

/// An order whose outcome is not known yet.
#[derive(Debug, Clone)]
pub(super) struct Draft {
    /// The plugin, if the order is about one.
    pub(super) plugin: Option<String>,
    /// The module in the file before.
    pub(super) old_hash: Option<ModuleHash>,
    /// The module that the order puts into the file.
    pub(super) hash: Option<ModuleHash>,
    /// The order as it will stand in the history.
    pub(super) ordered: Ordered,
    /// Whether the version that it brings gets another chance when it lies in the folder.
    pub(super) forgives: bool,
}

impl Draft {
    /// An order about the machine.
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

    /// Makes it an order about a plugin whose file holds `old_hash`.
    pub(super) fn plugin(self, name: &str, old_hash: Option<ModuleHash>) -> Self {
        Self { plugin: Some(name.to_owned()), old_hash, ..self }
    }

    /// Makes it an order about a point, variable or device, which changes its value.
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

    /// Notes, for a rollback, whether it may be to a bad version.
    pub(super) fn forgiving(self, forgives: bool) -> Self {
        Self { forgives, ..self }
    }

    /// Adds the terms of a force.
    pub(super) fn terms(mut self, order: &ForceOrder) -> Self {
        self.ordered.details = Some(order.terms());
        self
    }

    /// The subject of the order. Orders about the same subject are recorded in the order in which
    /// they were given.
    pub(super) fn subject(&self) -> &str {
        let name = self.ordered.target.as_deref().or(self.plugin.as_deref());
        name.unwrap_or(self.ordered.order.name())
    }

    /// Whether it is about the same point, variable, device or plugin as another order. A plugin
    /// may have the name of a point.
    pub(super) fn is_about_what(&self, other: &Self) -> bool {
        self.plugin == other.plugin && self.subject() == other.subject()
    }

    /// Whether it concerns the same thing as another order. The end of all forces concerns each of
    /// them.
    pub(super) fn meets(&self, other: &Self) -> bool {
        let is_force =
            |draft: &Self| matches!(draft.ordered.order, OrderKind::Force | OrderKind::Unforce);
        let is_all = |draft: &Self| is_force(draft) && draft.ordered.target.is_none();
        self.is_about_what(other)
            || is_force(self) && is_force(other) && (is_all(self) || is_all(other))
    }

    /// Takes in that another order about the same thing was carried out before this one: the value
    /// after that order is the value before this one.
    pub(super) fn follows(&mut self, other: &Self) {
        use OrderKind as Kind;
        match other.ordered.order {
            Kind::Set | Kind::Force => self.ordered.old.clone_from(&other.ordered.new),
            Kind::Deploy | Kind::Rollback | Kind::Remove => self.old_hash = other.hash,
            _ => {}
        }
    }
}
