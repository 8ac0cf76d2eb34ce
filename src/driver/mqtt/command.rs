//! Commands: values that other MQTT clients send to input points of this device. A command is valid
//! for a limited time.
//!
//! The key `expires` of the point sets the longest time for which a command is valid. The sender
//! can shorten this time in two ways:
//! - by the message expiry interval of MQTT 5. The broker forwards the rest of the interval with
//!   the message.
//! - by the time of sending in the payload. The age of the value is then subtracted from `expires`.
//!   A time in the future counts as the present time, so it does not make a value valid for longer.
//!
//! The scan checks in every cycle whether the command has expired. So a command expires in time
//! even if the thread of the device hangs.
//!
//! A payload that does not fit the point is refused. The last good value then stays valid until it
//! expires. `plain.rs` and `sparkplug.rs` receive the messages, and `payload.rs` reads text and
//! JSON.

use std::time::{Duration, SystemTime};

use super::payload::Payload;
use super::refusal::Refusals;
use super::set::VariableCommand;
use crate::clock::{Clock, MonotonicClock};
use crate::driver::Part;
use crate::driver::export::Exports;
use crate::driver::link::Side;
use crate::logged::OnChange;
use crate::process::image::{Point, PointId, PointKind, Quality, Value};

/// An input point of this device that other MQTT clients can set.
#[derive(Debug)]
pub(super) struct Command {
    /// The id of the point that the command sets.
    pub(super) id: PointId,
    /// A copy of the configured point, with its type, scale and offset.
    pub(super) point: Point,
    /// The topic of the command or, in Sparkplug, the name of its metric.
    pub(super) address: String,
    /// The maximum time for which a value is valid.
    pub(super) expires: Duration,
    /// The path of the value in the JSON payload. `None` if the payload is the value, or a JSON
    /// object with the member `value`.
    json: Option<String>,
    /// Why the last value or the subscription was refused.
    refusals: Refusals,
    /// Whether the point has received a valid value since the start of the device.
    has_value: bool,
    /// Whether a value was received after the last publication to the scan.
    is_new: bool,
}

/// All commands of a device, and the counts for the status.
#[derive(Debug, Default)]
pub(super) struct Commands {
    /// The commands of the device. The index of a command is its number.
    pub(super) all: Vec<Command>,
    /// The commands that write variables. The index of a command is its number among these.
    pub(super) variables: Vec<VariableCommand>,
    /// The number of refused commands, plus the number of messages that were refused as a whole.
    pub(super) refused: u64,
    /// The number of commands that a later command replaced before the scan could read them.
    pub(super) superseded: u64,
    /// Whether the refusal of a whole message was logged on this connection.
    is_said: OnChange<bool>,
}

/// A value that a command message contained.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Said {
    /// The value, before the conversion to the type of the point.
    pub(super) value: Value,
    /// The time at which the value was sent, by the sender's clock.
    pub(super) sent: Option<SystemTime>,
    /// The time for which the sender wants the value to be valid. This time begins when the message
    /// arrives.
    pub(super) expires: Option<Duration>,
}

impl Commands {
    pub(super) fn new(all: Vec<Command>) -> Self {
        Self { all, ..Self::default() }
    }

    /// Adds the commands that write variables.
    pub(super) fn with_variables(self, variables: Vec<VariableCommand>) -> Self {
        Self { variables, ..self }
    }

    /// Writes the variable of command number `at` among those that write variables, or refuses the
    /// command and counts the refusal.
    pub(super) fn set(
        &mut self,
        at: usize,
        payload: Result<&Payload<'_>, String>,
        left: Option<Duration>,
        exports: &Exports,
    ) {
        let is_taken = self.variables[at].take(payload, left, exports);
        self.refused += u64::from(!is_taken);
    }

    /// Sets the point of command number `at`, or refuses the command and counts the refusal.
    pub(super) fn take(&mut self, at: usize, said: Result<Said, String>, side: &mut Side) {
        let command = &mut self.all[at];
        let was_untold = command.is_new;
        match said.and_then(|said| command.take(said, side)) {
            Ok(()) => self.superseded += u64::from(was_untold),
            Err(why) => {
                self.refused += 1;
                command.log_refusal(&why);
                command.refusals.record(Some(why));
            }
        }
    }

    /// Counts the refusal of a message when the refusal is not about a particular command, for
    /// example because the topic is unknown. Logs the first of these refusals on each connection.
    pub(super) fn refuse(&mut self, topic: &str, why: &str) {
        self.refused += 1;
        if self.is_said.changes_to(true) {
            tracing::warn!(topic, "a message on {topic} is refused: {why}");
        }
    }

    /// Records that all received values were published to the scan.
    pub(super) fn were_published(&mut self) {
        self.all.iter_mut().for_each(|command| command.is_new = false);
    }

    /// Forgets which refusals were logged, because a new connection begins. The next refusal is
    /// then logged again.
    pub(super) fn begin(&mut self) {
        self.is_said = OnChange::default();
        self.all.iter_mut().for_each(|command| command.refusals.begin());
        self.variables.iter_mut().for_each(VariableCommand::begin);
    }

    /// Returns a part of the status for each command whose subscription or last value was refused.
    pub(super) fn parts(&self) -> impl Iterator<Item = Part> {
        let points = self.all.iter();
        let points = points.filter_map(|command| command.refusals.part(&command.point.name));
        points.chain(self.variables.iter().filter_map(VariableCommand::part))
    }
}

impl Command {
    pub(super) fn new(id: PointId, point: &Point, address: &str, expires: Duration) -> Self {
        Self {
            id,
            point: point.clone(),
            address: address.to_owned(),
            expires,
            json: None,
            refusals: Refusals::default(),
            has_value: false,
            is_new: false,
        }
    }

    /// Sets the path of the value in the JSON payload.
    pub(super) fn with_json(self, json: Option<String>) -> Self {
        Self { json, ..self }
    }

    /// Reads the value of this command from the payload of a message.
    ///
    /// # Errors
    /// When the payload has no value for the point. The error is the reason, as text.
    pub(super) fn read(
        &self,
        payload: &Payload<'_>,
        expires: Option<Duration>,
    ) -> Result<Said, String> {
        let (value, sent) = payload.read(self.json.as_deref(), &self.point)?;
        Ok(Said { value, sent, expires })
    }

    /// Records that the broker refuses the subscription, and makes the quality of the point bad.
    pub(super) fn deny(&mut self, why: &str, side: &mut Side) {
        side.spoil(self.id, Quality::Config);
        let why = self.refusals.deny(why);
        self.log_refusal(&why);
    }

    /// Records that the broker grants the subscription, perhaps after an earlier refusal.
    pub(super) fn allow(&mut self, side: &mut Side) {
        if self.refusals.allow() {
            // The last value may still be valid. The scan checks whether it has expired.
            let quality = if self.has_value { Quality::Good } else { Quality::Waiting };
            side.spoil(self.id, quality);
        }
    }

    /// Logs the first refusal of this command on each connection.
    fn log_refusal(&mut self, why: &str) {
        if self.refusals.is_first() {
            let (point, topic) = (&self.point.name, &self.address);
            tracing::warn!(point, topic, "a command to {point} on {topic} is refused: {why}");
        }
    }

    /// Sets the point to this value, for the time for which the value is valid.
    ///
    /// # Errors
    /// When the value does not fit the point or has expired. The error is the reason, as text.
    fn take(&mut self, said: Said, side: &mut Side) -> Result<(), String> {
        let left = self.left(said, SystemTime::now())?;
        let value = whole(said.value, &self.point);
        let raw = self.point.raw_of(value).map_err(|unfit| format!("{}: {unfit}", said.value))?;
        side.put_until(self.id, raw, MonotonicClock.now() + left);
        self.refusals.record(None);
        self.has_value = true;
        self.is_new = true;
        Ok(())
    }

    /// Returns the remaining time for which the value is valid, or an error if the value has
    /// expired.
    fn left(&self, said: Said, now: SystemTime) -> Result<Duration, String> {
        // If the sender's clock is ahead of the clock of this machine, the age of the value is 0.
        let age = said.sent.and_then(|sent| now.duration_since(sent).ok()).unwrap_or_default();
        let meant = said.expires.unwrap_or(Duration::MAX);
        let left = meant.min(self.expires.saturating_sub(age));
        if left.is_zero() {
            return Err(format!("the command has expired; the age of the command is {age:?}"));
        }
        Ok(left)
    }
}

/// Converts a value to the type of the point. For an integer point without scale and offset, 2.0
/// becomes 2, and 2.5 becomes NaN, which `Point::raw_of` refuses. For a bool point, 0 and 1 become
/// `false` and `true`. Any other value is returned unchanged.
fn whole(value: Value, point: &Point) -> Value {
    match value {
        // `Point::raw_of` checks the range later. Up to 2^63 a double is exact enough for that
        // check.
        Value::Real(real) if point.is_whole() => match real.fract() == 0.0 {
            true => Value::Int(real as i128),
            false => Value::Real(f64::NAN),
        },
        Value::Int(int) if point.kind == PointKind::Bool && (0..=1).contains(&int) => {
            Value::Bool(int == 1)
        }
        value => value,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::process::image::Direction;

    #[test]
    fn a_command_counts_for_the_shortest_of_its_limits() {
        fn check(age_s: i64, meant_s: Option<u64>, expected_s: Option<u64>) {
            let point = Point::new("p", Direction::In, PointKind::F64);
            let now = SystemTime::UNIX_EPOCH + Duration::from_secs(1000);
            let sent = Some(SystemTime::UNIX_EPOCH + Duration::from_secs((1000 - age_s) as u64));
            let said =
                Said { value: Value::Int(1), sent, expires: meant_s.map(Duration::from_secs) };
            let command = Command::new(PointId(0), &point, "t", Duration::from_secs(10));
            let left = command.left(said, now).ok();
            assert_eq!(left, expected_s.map(Duration::from_secs), "{age_s} {meant_s:?}");
        }
        check(0, None, Some(10));
        check(4, None, Some(6));
        check(4, Some(3), Some(3));
        check(4, Some(30), Some(6));
        check(10, None, None);
        check(10, Some(30), None);
        check(0, Some(0), None);
        check(-5, None, Some(10));
    }

    #[test]
    fn numbers_are_of_the_points_type() {
        let point = |kind| Point::new("p", Direction::In, kind);
        let check = |kind, value, expected: Option<Value>| {
            let point = point(kind);
            let raw = point.raw_of(whole(value, &point)).ok();
            assert_eq!(raw.map(|raw| point.value_of(&raw)), expected, "{kind} {value}");
        };
        check(PointKind::U8, Value::Real(2.0), Some(Value::Int(2)));
        check(PointKind::U8, Value::Real(2.5), None);
        check(PointKind::U8, Value::Int(256), None);
        check(PointKind::U8, Value::Real(1e30), None);
        check(PointKind::F64, Value::Real(f64::NAN), None);
        check(PointKind::F32, Value::Real(f64::INFINITY), None);
        check(PointKind::I64, "-9223372036854775809".parse().unwrap(), None);
        check(PointKind::Bool, Value::Int(1), Some(Value::Bool(true)));
        check(PointKind::Bool, Value::Int(2), None);
        check(PointKind::F32, Value::Int(3), Some(Value::Real(3.0)));
        check(PointKind::F32, Value::Real(1e300), None);
        check(PointKind::I32, Value::Bool(true), None);
    }
}
