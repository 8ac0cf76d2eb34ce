//! A draft: the record of an order before its outcome is known. The draft has the user, the thing
//! that the order is about, and the value before the order.
//!
//! The daemon makes the draft when the order arrives, because the value before the order is not
//! known later. `audit.rs` adds the outcome. The finished record in the history has the type
//! [`Ordered`].

use crate::control::{ForceOrder, OrderKind, Ordered, Who};
use crate::plugin::ModuleHash;

/// The record of an order whose outcome is not known yet.
#[derive(Debug, Clone)]
pub(super) struct Draft {
    /// The name of the plugin that the order is about; `None` if the order is not about a plugin.
    pub(super) plugin: Option<String>,
    /// The hash of the module that was in the plugin's file before the order; `None` if there was
    /// no file, and if the order is not about a plugin.
    pub(super) old_hash: Option<ModuleHash>,
    /// The hash of the module that the order has put into the file. `None` until `audit.rs` has the
    /// answer to the order, and for an order that writes no file.
    pub(super) hash: Option<ModuleHash>,
    /// The part of the record that will be in the history.
    pub(super) ordered: Ordered,
    /// Whether the order releases the version `hash` from quarantine.
    pub(super) forgives: bool,
}

impl Draft {
    /// Returns the draft of an order of this kind by this user, without a plugin and without a
    /// target.
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

    /// Adds the plugin that the order is about. `old_hash` is the hash of the module that is in the
    /// plugin's file.
    pub(super) fn plugin(self, name: &str, old_hash: Option<ModuleHash>) -> Self {
        Self { plugin: Some(name.to_owned()), old_hash, ..self }
    }

    /// Adds the point, variable or device that the order is about. `old` and `new` are its values
    /// before and after the order; for a fault, `new` is the kind of the fault.
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

    /// Sets whether the order releases its version from quarantine. A rollback releases its version
    /// if the operator allows a bad version.
    pub(super) fn forgiving(self, forgives: bool) -> Self {
        Self { forgives, ..self }
    }

    /// Adds the owner, the duration and the reason of a force.
    pub(super) fn terms(mut self, order: &ForceOrder) -> Self {
        self.ordered.details = Some(order.terms());
        self
    }

    /// Returns the subject of the order: the name of its point, variable, device or plugin. If the
    /// order has no such name, the subject is the name of its kind. The key of a store in `rows.rs`
    /// has this subject.
    pub(super) fn subject(&self) -> &str {
        let name = self.ordered.target.as_deref().or(self.plugin.as_deref());
        name.unwrap_or(self.ordered.order.name())
    }

    /// Whether this order and `other` are about the same point, variable, device or plugin. The
    /// plugin is compared too, because a plugin and a point may have the same name.
    pub(super) fn is_about_what(&self, other: &Self) -> bool {
        self.plugin == other.plugin && self.subject() == other.subject()
    }

    /// Whether this order and `other` affect the same thing. An order to end all forces affects
    /// each force.
    pub(super) fn meets(&self, other: &Self) -> bool {
        let is_force =
            |draft: &Self| matches!(draft.ordered.order, OrderKind::Force | OrderKind::Unforce);
        let is_all = |draft: &Self| is_force(draft) && draft.ordered.target.is_none();
        self.is_about_what(other)
            || is_force(self) && is_force(other) && (is_all(self) || is_all(other))
    }

    /// Updates this draft after the earlier order `other` was carried out. Both orders are about
    /// the same thing. So the new value or module of `other` is the old value or module of this
    /// order.
    pub(super) fn follows(&mut self, other: &Self) {
        use OrderKind as Kind;
        match other.ordered.order {
            Kind::Set | Kind::Force => self.ordered.old.clone_from(&other.ordered.new),
            Kind::Deploy | Kind::Rollback | Kind::Remove => self.old_hash = other.hash,
            _ => {}
        }
    }
}
