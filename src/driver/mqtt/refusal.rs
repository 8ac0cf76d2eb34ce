//! The refusals of one command: why its last value or its subscription was refused, and whether the
//! log has a line about it.
//!
//! A command sets a point (`command.rs`) or a variable (`set.rs`). These files write the log lines.

use crate::driver::Part;
use crate::logged::OnChange;

/// The refusals of one command.
#[derive(Debug, Default)]
pub(super) struct Refusals {
    /// The reason why the last value was refused. `None` if it was accepted, and before the first
    /// value.
    value: Option<String>,
    /// The reason why the broker refuses the subscription. `None` if the broker grants it.
    subscription: Option<String>,
    /// Whether a refusal was logged on this connection.
    is_logged: OnChange<bool>,
}

impl Refusals {
    /// Records that the last value was refused, with the reason, or that it was accepted.
    pub(super) fn record(&mut self, refused: Option<String>) {
        self.value = refused;
    }

    /// Records that the broker refuses the subscription. Returns the reason as text for the log.
    pub(super) fn deny(&mut self, why: &str) -> String {
        let why = format!("the broker refuses the subscription: {why}");
        self.subscription = Some(why.clone());
        why
    }

    /// Records that the broker grants the subscription. Returns whether it refused it before.
    pub(super) fn allow(&mut self) -> bool {
        self.subscription.take().is_some()
    }

    /// Whether no refusal was logged on this connection yet. The caller then logs this one.
    pub(super) fn is_first(&mut self) -> bool {
        self.is_logged.changes_to(true)
    }

    /// Forgets that a refusal was logged, because a new connection begins.
    pub(super) fn begin(&mut self) {
        self.is_logged = OnChange::default();
    }

    /// Returns the part of the status if the subscription or the last value was refused. `name` is
    /// the name of the point or variable.
    pub(super) fn part(&self, name: &str) -> Option<Part> {
        let why = self.subscription.as_ref().or(self.value.as_ref())?;
        let (name, state) = (name.to_owned(), format!("refused: {why}"));
        Some(Part { name, ok: false, state, facts: Vec::new() })
    }
}
