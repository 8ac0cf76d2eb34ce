//! Commands that write variables: the entries `set` of a device.
//!
//! ```toml
//! set = [{ name = "tank.setpoint", topic = "plant/setpoint", json = "value" }]
//! ```
//! An entry writes its variable once for each message. The variable keeps the value, and a program
//! or an operator may write it later. A retained variable also keeps the value over a restart. This
//! is the difference to a command that is a point: a variable has no quality and never expires. So
//! the time in a payload is not used here.
//!
//! The type of the variable decides how the payload is read. A variable that does not exist is not
//! created, because its type would be a guess. The daemon writes the values; see
//! `driver/export.rs`. `command.rs` has the commands that are points.

use std::time::Duration;

use super::payload::Payload;
use super::refusal::Refusals;
use crate::driver::Part;
use crate::driver::export::Exports;
use crate::process::image::{Direction, Point, PointKind};
use crate::process::variable::{Variable, VariableKind};

/// A variable that other MQTT clients can write.
#[derive(Debug)]
pub(super) struct VariableCommand {
    /// The name of the variable.
    name: String,
    /// The topic of the command.
    topic: String,
    /// The path of the value in the JSON payload. `None` if the payload is the value, or a JSON
    /// object with the member `value`.
    json: Option<String>,
    /// Why the last value or the subscription was refused.
    refusals: Refusals,
}

impl VariableCommand {
    pub(super) fn new(name: &str, topic: &str, json: Option<String>) -> Self {
        let (name, topic) = (name.to_owned(), topic.to_owned());
        Self { name, topic, json, refusals: Refusals::default() }
    }

    /// Passes the value of a message to the daemon, which writes the variable. `left` is the
    /// remaining time for which the message is valid. Returns whether the value was accepted.
    pub(super) fn take(
        &mut self,
        payload: Result<&Payload<'_>, String>,
        left: Option<Duration>,
        exports: &Exports,
    ) -> bool {
        let done = payload.and_then(|payload| self.write(payload, left, exports));
        let is_taken = done.is_ok();
        if let Err(why) = &done {
            self.log(why);
        }
        self.refusals.record(done.err());
        is_taken
    }

    /// Reads the value and passes it to the daemon.
    fn write(
        &self,
        payload: &Payload<'_>,
        left: Option<Duration>,
        exports: &Exports,
    ) -> Result<(), String> {
        if left.is_some_and(|left| left.is_zero()) {
            return Err("the command has expired".to_owned());
        }
        let kind = exports.borrow().variables.read(&self.name).map(Variable::kind);
        let kind = kind.ok_or_else(|| {
            let name = &self.name;
            format!(
                "expected a variable {name:?}, found none: add a [[variable]] of this name, or \
                 start the program that makes it"
            )
        })?;
        // A point of the type of the variable: the payload of a point is read in the same way.
        let point = Point::new(&self.name, Direction::In, point_kind(kind));
        let (value, _) = payload.read(self.json.as_deref(), &point)?;
        let raw = point.raw_of(value).map_err(|unfit| format!("{value}: {unfit}"))?;
        exports.write_variable(&self.name, point.value_of(&raw)).map_err(str::to_owned)
    }

    /// Records that the broker refuses the subscription.
    pub(super) fn deny(&mut self, why: &str) {
        let why = self.refusals.deny(why);
        self.log(&why);
    }

    /// Records that the broker grants the subscription.
    pub(super) fn allow(&mut self) {
        self.refusals.allow();
    }

    /// Forgets that a refusal was logged, because a new connection begins.
    pub(super) fn begin(&mut self) {
        self.refusals.begin();
    }

    /// Returns the part of the status if the subscription or the last value was refused.
    pub(super) fn part(&self) -> Option<Part> {
        self.refusals.part(&self.name)
    }

    /// Logs the first refusal on each connection.
    fn log(&mut self, why: &str) {
        if self.refusals.is_first() {
            let Self { name, topic, .. } = self;
            tracing::warn!(topic, "a command to the variable {name} on {topic} is refused: {why}");
        }
    }
}

/// Returns the type of a point that has the values of a variable.
fn point_kind(kind: VariableKind) -> PointKind {
    match kind {
        VariableKind::Boolean => PointKind::Bool,
        VariableKind::Int => PointKind::I32,
        VariableKind::Double => PointKind::F64,
    }
}
