//! The rules that decide when each published value is sent. They read no clock: they only compare
//! the current value and time with the value and time of the last message.
//!
//! An `Item` stores only the value that was sent last, and has no queue. During an outage of the
//! connection the item stores no other values. After the outage only the newest value is sent. An
//! outage of any length therefore uses no memory. This file also encodes a value as text for
//! `plain.rs`. `sparkplug.rs` encodes metrics.

use std::time::{Duration, SystemTime};

use serde::{Deserialize, Serialize};
use tokio::time::Instant;

use crate::driver::export::Shown;
use crate::process::image::{Class, Quality, Value};

/// The format of the payload in the dialect without Sparkplug, where each value has its own
/// message.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum MessageForm {
    /// JSON: `{"value":1.5,"quality":"good","opc_ua":0,"time":"2026-11-26T18:00:00.000Z"}`
    #[default]
    Json,
    /// Only the value: `1.5`. If the quality is bad, the payload is the word of the quality, such
    /// as `no_comm`. A receiver cannot confuse that word with a number.
    Value,
}

/// The rule that decides when a value is sent again.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) enum Rule {
    /// The value is sent when it has changed.
    Change {
        /// A changed number is sent only if it differs from the last sent number by more than
        /// `deadband`. `deadband` does not apply to a change of the quality, and not to a change to
        /// or from NaN.
        deadband: f64,
        /// The shortest time between two messages of the value.
        min_interval: Duration,
        /// The longest time between two messages of the value. After this time the value is sent
        /// even without a change.
        refresh: Option<Duration>,
    },
    /// The value is sent once in each period of this length. A change of the value causes no
    /// earlier message.
    Cyclic(Duration),
}

/// One value that is published.
#[derive(Debug)]
pub(super) struct Item {
    /// The name of the point or variable.
    pub(super) name: String,
    /// The topic of the value, or the name of its metric.
    pub(super) address: String,
    /// The rule that decides when the value is sent.
    pub(super) rule: Rule,
    /// Whether no point and no variable has this name. Each call of `Dialect::speak` that reaches
    /// this item updates this field.
    pub(super) is_unknown: bool,
    /// The value that was sent last on this connection. `None` if no value was sent.
    last: Option<Spoken>,
}

/// A sent value, with its quality and the time at which it was sent.
#[derive(Debug, Clone, Copy)]
struct Spoken {
    value: Value,
    quality: Quality,
    at: Instant,
}

impl Item {
    pub(super) fn new(name: &str, address: &str, rule: Rule) -> Self {
        let (name, address) = (name.to_owned(), address.to_owned());
        Self { name, address, rule, is_unknown: false, last: None }
    }

    /// Returns the time at which the value must be sent. Returns `None` if the value is not sent
    /// until it changes.
    pub(super) fn due(&self, shown: &Shown, now: Instant) -> Option<Instant> {
        let Some(last) = &self.last else { return Some(now) };
        match self.rule {
            Rule::Cyclic(period) => Some(last.at + period),
            Rule::Change { deadband, min_interval, refresh } => {
                let changed = last.differs(shown, deadband).then_some(last.at + min_interval);
                let refreshed = refresh.map(|refresh| last.at + refresh);
                changed.into_iter().chain(refreshed).min()
            }
        }
    }

    /// Records that the value was sent at `now`.
    pub(super) fn said(&mut self, shown: &Shown, now: Instant) {
        self.last = Some(Spoken { value: shown.value, quality: shown.quality, at: now });
    }

    /// Deletes the record of the last sent value, because a new connection begins.
    pub(super) fn forget(&mut self) {
        self.last = None;
    }

    /// Whether the value was not sent yet on this connection. Always `false` for an unknown name.
    pub(super) fn is_unsaid(&self) -> bool {
        self.last.is_none() && !self.is_unknown
    }
}

impl Spoken {
    /// Whether `shown` differs from the value that was sent last: in its quality, or in its value.
    /// A number must differ by more than `deadband`, or change to or from NaN.
    fn differs(&self, shown: &Shown, deadband: f64) -> bool {
        self.quality != shown.quality || self.value.differs_by_more(shown.value, deadband)
    }
}

impl MessageForm {
    /// Returns the payload for a value.
    pub(super) fn write(self, shown: &Shown) -> Vec<u8> {
        /// The fields of the JSON payload. A consumer can use the quality as a word or as an OPC UA
        /// status code.
        #[derive(Serialize)]
        struct Payload {
            value: Option<Value>,
            quality: &'static str,
            opc_ua: u32,
            time: Option<String>,
        }
        match self {
            Self::Json => {
                let Shown { value, quality, at } = *shown;
                let (word, opc_ua) = (quality.word(), quality.opc_ua());
                // An input that was never read has the value null. A 0 would look like a measured
                // value.
                let is_read = quality != Quality::Waiting;
                let (value, time) = (is_read.then_some(value), is_read.then(|| time(at)));
                let payload = Payload { value, quality: word, opc_ua, time };
                serde_json::to_vec(&payload)
                    .expect("JSON can encode all numbers and texts of a payload")
            }
            Self::Value if shown.quality.class() == Class::Bad => shown.quality.word().into(),
            Self::Value => shown.value.to_string().into(),
        }
    }
}

/// Returns a time in the format of RFC 3339, with milliseconds.
fn time(at: SystemTime) -> String {
    humantime::format_rfc3339_millis(at).to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shown(value: Value, quality: Quality) -> Shown {
        Shown { value, quality, at: SystemTime::UNIX_EPOCH + Duration::from_millis(1500) }
    }

    fn ms(ms: u64) -> Duration {
        Duration::from_millis(ms)
    }

    /// Returns the time at which a value is due, in milliseconds. The value 10.0 was sent at 0 ms.
    fn due(rule: Rule, value: Value, quality: Quality) -> Option<u128> {
        let start = Instant::now();
        let mut item = Item::new("p", "t", rule);
        let first = shown(Value::Real(10.0), Quality::Good);
        assert_eq!(item.due(&first, start), Some(start), "the first time at once");
        item.said(&first, start);
        let due = item.due(&shown(value, quality), start);
        due.map(|due| (due - start).as_millis())
    }

    #[test]
    fn values_are_said_when_they_differ() {
        use Quality::{Good, Stale};
        use Value::Real;
        let rule = |deadband, refresh| Rule::Change { deadband, min_interval: ms(100), refresh };
        assert_eq!(due(rule(0.0, None), Real(10.0), Good), None);
        assert_eq!(due(rule(0.0, None), Real(10.1), Good), Some(100));
        assert_eq!(due(rule(0.5, None), Real(10.5), Good), None);
        assert_eq!(due(rule(0.5, None), Real(9.4), Good), Some(100));
        assert_eq!(due(rule(0.5, None), Real(10.0), Stale), Some(100));
        assert_eq!(due(rule(0.5, None), Real(f64::NAN), Good), Some(100));
        assert_eq!(due(rule(0.5, Some(ms(5000))), Real(10.0), Good), Some(5000));
        assert_eq!(due(rule(0.5, Some(ms(5000))), Real(12.0), Good), Some(100));
        assert_eq!(due(Rule::Cyclic(ms(70)), Real(10.0), Good), Some(70));
        assert_eq!(due(rule(0.5, None), Value::Bool(true), Good), Some(100));
    }

    #[test]
    fn a_number_that_is_none_is_said_once() {
        let rule = Rule::Change { deadband: 0.0, min_interval: ms(0), refresh: None };
        let (mut item, now) = (Item::new("p", "t", rule), Instant::now());
        let none = shown(Value::Real(f64::NAN), Quality::Good);
        item.said(&none, now);
        assert_eq!(item.due(&none, now), None);
        item.forget();
        assert_eq!(item.due(&none, now), Some(now));
    }

    #[test]
    fn bad_values_are_said_as_such() {
        fn check(text: MessageForm, value: Value, quality: Quality, expected: &str) {
            let payload = text.write(&shown(value, quality));
            assert_eq!(String::from_utf8(payload).unwrap(), expected);
        }
        let (json, value) = (MessageForm::Json, MessageForm::Value);
        let good = r#"{"value":1.5,"quality":"good","opc_ua":0,"time":"1970-01-01T00:00:01.500Z"}"#;
        check(json, Value::Real(1.5), Quality::Good, good);
        let bad = good.replace("1.5,", "7,").replace("good", "no_comm");
        let bad = &bad.replace(":0,", ":2150694912,");
        check(json, Value::Int(7), Quality::NoComm, bad);
        let none =
            r#"{"value":"nan","quality":"good","opc_ua":0,"time":"1970-01-01T00:00:01.500Z"}"#;
        check(json, Value::Real(f64::NAN), Quality::Good, none);
        check(value, Value::Real(f64::NEG_INFINITY), Quality::Good, "-inf");
        let unread = r#"{"value":null,"quality":"waiting","opc_ua":2150760448,"time":null}"#;
        check(json, Value::Int(0), Quality::Waiting, unread);
        check(value, Value::Int(0), Quality::Waiting, "waiting");
        check(value, Value::Real(1.5), Quality::Good, "1.5");
        check(value, Value::Int(u64::MAX.into()), Quality::Stale, "18446744073709551615");
        check(value, Value::Bool(false), Quality::Good, "false");
        check(value, Value::Bool(false), Quality::NoComm, "no_comm");
    }
}
