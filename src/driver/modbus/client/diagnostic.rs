//! The diagnostics of a unit: counters and times that show how well the unit can be reached. The
//! device status shows these values, and programs can read them as inputs.
//!
//! The counters start at 0 when the device is opened, and they never decrease. If a counter is too
//! large for the type of a point, the point shows the greatest value of its type. This file makes
//! no decisions; `breaker.rs` decides whether the driver treats a unit as present.

use std::collections::BTreeMap;
use std::time::Duration;

use hdrhistogram::Histogram;
use serde::Deserialize;

use super::session::ExchangeResult;
use crate::driver::modbus::wire::error::WireError;
use crate::process::image::{Direction, Point, PointKind, Raw, Value};

/// The longest round trip that the histogram can represent, in microseconds. It is 60 s, the
/// longest timeout that can be configured.
const MAX_ROUND_TRIP_US: u64 = 60_000_000;

/// The minimum length of the time window in which the unit's share of the bus time is measured.
const WINDOW: Duration = Duration::from_secs(5);

/// The diagnostic values of a unit that an input can show.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Diagnostic {
    /// Whether there is a connection and `breaker.rs` has put the unit online. The type of the
    /// input is bool.
    Online,
    /// The number of requests that were sent, including repetitions.
    Requests,
    /// The number of requests without a reply, including the requests at which the connection has
    /// ended.
    Timeouts,
    /// The number of replies with a wrong checksum, plus the number of invalid replies.
    Crc,
    /// The number of replies that were exceptions.
    Exceptions,
    /// The median time from the start of a request to the end of its valid reply or exception, in
    /// microseconds.
    RttUs,
    /// The unit's share of the bus time in the last complete window, in percent. A window has at
    /// least 5 s.
    LoadPercent,
}

impl Diagnostic {
    /// Whether a point of this type can show this diagnostic value.
    pub(super) const fn fits(self, kind: PointKind) -> bool {
        match self {
            Self::Online => matches!(kind, PointKind::Bool),
            _ => matches!(kind, PointKind::U32 | PointKind::U64 | PointKind::F64),
        }
    }

    /// Returns the types that a point may have for this diagnostic value. Error messages contain
    /// this text.
    pub(super) const fn wanted(self) -> &'static str {
        match self {
            Self::Online => "type bool",
            _ => "type u32, u64 or f64",
        }
    }
}

/// The counters of one unit.
#[derive(Debug)]
pub(super) struct Counters {
    requests: u64,
    timeouts: u64,
    crc: u64,
    garbage: u64,
    doubtful: u64,
    /// The number of requests at which the connection has ended.
    closed: u64,
    missed: u64,
    exceptions: BTreeMap<u8, u64>,
    round_trips: Histogram<u64>,
    /// The time for which the unit has occupied the bus in the current window. The window began at
    /// `since`.
    busy: Duration,
    since: Duration,
    load_percent: f64,
}

impl Counters {
    pub(super) fn new() -> Self {
        let round_trips = Histogram::new_with_max(MAX_ROUND_TRIP_US, 2);
        Self {
            requests: 0,
            timeouts: 0,
            crc: 0,
            garbage: 0,
            doubtful: 0,
            closed: 0,
            missed: 0,
            exceptions: BTreeMap::new(),
            round_trips: round_trips.expect("the bounds of the histogram are valid constants"),
            busy: Duration::ZERO,
            since: Duration::ZERO,
            load_percent: 0.0,
        }
    }

    /// Counts one request: its outcome, its round-trip time if it had a reply, and the time that it
    /// occupied the bus.
    pub(super) fn count(&mut self, outcome: &ExchangeResult, round_trip: Duration, busy: Duration) {
        self.requests += 1;
        self.busy += busy;
        if let None | Some(WireError::Exception(_)) = outcome.error() {
            let round_trip = u64::try_from(round_trip.as_micros()).unwrap_or(u64::MAX);
            self.round_trips.saturating_record(round_trip);
        }
        match outcome.error() {
            None | Some(WireError::Differs | WireError::TooLong) => {}
            Some(WireError::Closed(_)) => self.closed += 1,
            Some(WireError::Timeout | WireError::OnlyEcho) => self.timeouts += 1,
            Some(WireError::Crc) => self.crc += 1,
            Some(
                WireError::Garbage(_)
                | WireError::WrongUnit { .. }
                | WireError::OtherTransaction { .. },
            ) => self.garbage += 1,
            Some(WireError::Doubtful) => self.doubtful += 1,
            // An exception code is one byte, so the map has at most 256 entries.
            Some(WireError::Exception(code)) => *self.exceptions.entry(*code).or_default() += 1,
        }
    }

    /// Counts periods in which the driver did not make a read, for example because other requests
    /// occupied the bus or the unit did not answer.
    pub(super) fn miss(&mut self, periods: u32) {
        self.missed += u64::from(periods);
    }

    /// If the current window has ended, computes the unit's share of the bus time in this window,
    /// and begins the next window.
    pub(super) fn measure(&mut self, now: Duration) {
        let window = now.saturating_sub(self.since);
        if window >= WINDOW {
            self.load_percent = 100.0 * self.busy.as_secs_f64() / window.as_secs_f64();
            (self.busy, self.since) = (Duration::ZERO, now);
        }
    }

    /// Returns all counters, round-trip times and the load with their names, for the device status.
    pub(super) fn facts(&self) -> Vec<(String, f64)> {
        let quantile = |q| self.round_trips.value_at_quantile(q) as f64;
        let fixed = [
            ("requests", self.requests as f64),
            ("timeouts", self.timeouts as f64),
            ("crc", self.crc as f64),
            ("garbage", self.garbage as f64),
            ("doubtful", self.doubtful as f64),
            ("closed", self.closed as f64),
            ("missed_periods", self.missed as f64),
            ("rtt_p50_us", quantile(0.5)),
            ("rtt_p99_us", quantile(0.99)),
            ("rtt_max_us", self.round_trips.max() as f64),
            ("load_percent", self.load_percent),
        ];
        let fixed = fixed.into_iter().map(|(name, value)| (name.to_owned(), value));
        let by_code = self.exceptions.iter();
        let by_code = by_code.map(|(code, count)| (format!("exception_{code}"), *count as f64));
        fixed.chain(by_code).collect()
    }

    /// Returns the diagnostic value `what` as the raw value of a point of type `kind`.
    pub(super) fn raw(&self, what: Diagnostic, kind: PointKind, is_online: bool) -> Raw {
        let number = match what {
            Diagnostic::Online => return [u8::from(is_online), 0, 0, 0, 0, 0, 0, 0],
            Diagnostic::Requests => self.requests,
            Diagnostic::Timeouts => self.timeouts + self.closed,
            Diagnostic::Crc => self.crc + self.garbage,
            Diagnostic::Exceptions => self.exceptions.values().sum(),
            Diagnostic::RttUs => self.round_trips.value_at_quantile(0.5),
            Diagnostic::LoadPercent => self.load_percent.round() as u64,
        };
        let number = if kind == PointKind::U32 { number.min(u32::MAX.into()) } else { number };
        let value = match (what, kind) {
            (Diagnostic::LoadPercent, PointKind::F64) => Value::Real(self.load_percent),
            _ => Value::Int(number.into()),
        };
        Point::new("", Direction::In, kind).raw_of(value).unwrap_or_default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::driver::modbus::wire::request::Reply;

    #[test]
    fn what_happened_is_counted_by_its_kind() {
        let mut counters = Counters::new();
        let ms = Duration::from_millis;
        for (outcome, rtt, busy) in [
            (ExchangeResult::Reply(Reply::Written), 4, 5),
            (ExchangeResult::Failed(WireError::Exception(2)), 6, 7),
            (ExchangeResult::Failed(WireError::Exception(2)), 6, 7),
            (ExchangeResult::Failed(WireError::Timeout), 6, 500),
            (ExchangeResult::Failed(WireError::Crc), 6, 10),
            (ExchangeResult::Failed(WireError::Garbage("".into())), 6, 11),
            (ExchangeResult::Failed(WireError::Closed("".into())), 6, 0),
        ] {
            counters.count(&outcome, ms(rtt), ms(busy));
        }
        counters.measure(ms(5400));
        let facts: BTreeMap<_, _> = counters.facts().into_iter().collect();
        for (name, value) in [
            ("requests", 7.0),
            ("timeouts", 1.0),
            ("crc", 1.0),
            ("garbage", 1.0),
            ("closed", 1.0),
            ("exception_2", 2.0),
            ("load_percent", 10.0),
        ] {
            assert_eq!(facts[name], value, "{name}");
        }
        assert!((5900.0..6200.0).contains(&facts["rtt_max_us"]), "{facts:?}");
        let raw = |what, kind| counters.raw(what, kind, true);
        assert_eq!(raw(Diagnostic::Online, PointKind::Bool)[0], 1);
        assert_eq!(raw(Diagnostic::Timeouts, PointKind::U32), 2u64.to_le_bytes());
        assert_eq!(raw(Diagnostic::Crc, PointKind::U32), 2u64.to_le_bytes());
        assert_eq!(raw(Diagnostic::Exceptions, PointKind::F64), 2f64.to_le_bytes());
        counters.load_percent = 0.75;
        let raw = |kind| counters.raw(Diagnostic::LoadPercent, kind, true);
        assert_eq!(raw(PointKind::F64), 0.75f64.to_le_bytes());
        assert_eq!(raw(PointKind::U32)[0], 1);
    }
}
