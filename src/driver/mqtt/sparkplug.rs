//! An edge node of Sparkplug B, version 3.0. It uses the connection of `session.rs`.
//!
//! ```text
//!   connected --> NBIRTH seq 0 (--> DBIRTH seq 1) --> NDATA or DDATA, seq + 1 each, 255 then 0
//!                   ^                                        |
//!                   +- a host asks for a birth, or a metric -+
//!                         appears, disappears or has a new type
//! ```
//! The will at the broker is the NDEATH. The births are the messages NBIRTH and DBIRTH. The NDEATH
//! and each NBIRTH of one connection contain the same number, bdSeq. Consecutive connections have
//! different bdSeq numbers, so a host can see to which births an NDEATH belongs. If the
//! configuration has a `device`, all metrics belong to that device. Births are the longest
//! messages. Therefore at most one birth a second is sent, even if many hosts ask for births.
//!
//! A value is sent when its rule in `publish.rs` requires this. One message contains all values
//! that are due at one instant, with the aliases that the birth has defined. Each command is one of
//! the metrics, so the client publishes the value of the command.
//!
//! With a `primary_host`, nothing is sent before that host is online. When the host goes offline,
//! the client closes the connection. A value that could not be sent is not sent later: there is no
//! store of old values. `payload.rs` defines the encoding. `plain.rs` is the dialect without
//! Sparkplug.

use std::collections::HashMap;
use std::time::{Duration, SystemTime};

use prost::Message;
use rumqttc::{LastWill, Publish, QoS, RetainForwardRule, SubscribeFilter};
use serde::Deserialize;
use tokio::time::Instant;

use super::command::{Commands, Said};
use super::line::{FULL, Line, Outgoing};
use super::publish::Item;
use super::session::{Dialect, Heard};
use crate::driver::Part;
use crate::driver::export::Export;
use crate::driver::link::Side;
pub use config::Config;
pub(super) use config::is_free;
use config::{BDSEQ, REBIRTH};
use metric::{datatype, instant, metric, millis, named, value};
use payload::{DataType, Held, Metric, Payload};

mod bdseq;
mod config;
mod metric;
mod payload;

/// The shortest time between two births. If many hosts ask for a birth within this time, one birth
/// answers all of them.
const BETWEEN_BIRTHS: Duration = Duration::from_secs(1);

/// An edge node of Sparkplug.
#[derive(Debug)]
pub(super) struct Node {
    /// The names of the group, the node, the device and the primary host.
    config: Config,
    /// All metrics, each with the value that was sent last. The index of a metric never changes.
    metrics: Vec<Item>,
    /// The index in `metrics` of each metric, by its name. The index is also the alias of the
    /// metric. The commands are the first metrics.
    by_name: HashMap<String, usize>,
    /// The bdSeq number of this connection, or of the next connection if there is no connection.
    /// `None` until the will of that connection is made.
    bdseq: Option<u8>,
    /// The seq number of the next message.
    seq: u8,
    /// The data type of each metric in the last birth. An inner `None` is a metric whose name no
    /// point and no variable has. The outer `None` is set before the first birth of a connection,
    /// and when another birth is requested.
    born: Option<Vec<Option<DataType>>>,
    /// The time at which the last birth of this connection was sent.
    born_at: Option<Instant>,
    /// The number of metrics that the last call of `speak` did not send, because the queue was
    /// full.
    waiting: usize,
    /// The last STATE message of the primary host on this connection.
    host: Option<HostState>,
    /// The topics whose subscription the broker refuses, each with the reason.
    denied: Vec<(String, String)>,
}

/// The payload of a STATE message. The host sets `timestamp` by its own clock.
#[derive(Debug, Clone, Copy, Deserialize)]
struct HostState {
    /// Whether the host is online.
    online: bool,
    /// The time in the message, in milliseconds since 1970. A STATE with an older time than the
    /// last STATE is ignored.
    timestamp: u64,
}

impl Node {
    /// Makes a node. Its first metrics belong to the commands, in the order of the commands.
    pub(super) fn new(config: Config, metrics: Vec<Item>) -> Self {
        let by_name = metrics.iter().map(|metric| metric.address.clone()).zip(0..).collect();
        Self {
            config,
            metrics,
            by_name,
            bdseq: None,
            seq: 0,
            born: None,
            born_at: None,
            waiting: 0,
            host: None,
            denied: Vec::new(),
        }
    }

    /// Returns the metric bdSeq. The NDEATH and each NBIRTH of one connection contain the same
    /// bdSeq number.
    fn bdseq(&mut self) -> Metric {
        let Config { group, node, .. } = &self.config;
        let number = *self.bdseq.get_or_insert_with(|| bdseq::next(group, node));
        named(BDSEQ, DataType::Int64, Held::Long(number.into()))
    }

    /// Sends the NBIRTH and, if a `device` is configured, the DBIRTH, and returns `true`. Together
    /// they contain all metrics whose point or variable exists. If the queue has no room for these
    /// messages, the function sends nothing and returns `false`.
    fn birth(
        &mut self,
        types: Vec<Option<DataType>>,
        line: &mut Line,
        export: &Export,
        now: Instant,
    ) -> bool {
        self.born = None;
        self.seq = 0;
        if !line.has_room(1 + usize::from(self.config.device.is_some())) {
            return false;
        }
        let mut node = vec![self.bdseq(), named(REBIRTH, DataType::Boolean, Held::Boolean(false))];
        let born = |at: usize| {
            let (item, datatype) = (&self.metrics[at], types[at]?);
            let metric = metric(at, &export.shortest(&item.name)?, datatype);
            let name = Some(item.address.clone());
            Some(Metric { name, datatype: Some(datatype as u32), ..metric })
        };
        let metrics: Vec<_> = (0..self.metrics.len()).filter_map(born).collect();
        let is_sent = if self.config.device.is_some() {
            self.send('N', "BIRTH", node, line) && self.send('D', "BIRTH", metrics, line)
        } else {
            node.extend(metrics);
            self.send('N', "BIRTH", node, line)
        };
        if is_sent {
            for item in &mut self.metrics {
                if let Some(shown) = export.find(&item.name) {
                    item.said(&shown, now);
                }
            }
            (self.born, self.born_at) = (Some(types), Some(now));
        }
        is_sent
    }

    /// Returns the time at which the next metric is due, if no value changes before.
    fn next(&self, export: &Export, now: Instant) -> Option<Instant> {
        let due = |item: &Item| item.due(&export.find(&item.name)?, now);
        self.metrics.iter().filter_map(due).min()
    }

    /// Sends a message with the next seq number. Returns `false` if the queue has no room.
    fn send(&mut self, sort: char, verb: &str, metrics: Vec<Metric>, line: &mut Line) -> bool {
        let (timestamp, seq) = (Some(millis(SystemTime::now())), Some(self.seq.into()));
        let payload = Payload { timestamp, metrics, seq }.encode_to_vec();
        let topic = self.config.topic(sort, verb);
        let is_sent = line.send(Outgoing { topic: &topic, qos: 0, retain: false, payload });
        self.seq = self.seq.wrapping_add(u8::from(is_sent));
        is_sent
    }

    /// Sends the metrics that are due, in one message. Returns `false` if the queue has no room.
    fn data(
        &mut self,
        types: &[Option<DataType>],
        line: &mut Line,
        export: &Export,
        now: Instant,
    ) -> bool {
        let (mut said, mut data) = (Vec::new(), Vec::new());
        for (at, item) in self.metrics.iter().enumerate() {
            let (Some(shown), Some(datatype)) = (export.find(&item.name), types[at]) else {
                continue;
            };
            if item.due(&shown, now).is_some_and(|due| due <= now) {
                let short = export.shortest(&item.name).unwrap_or(shown);
                data.push(metric(at, &short, datatype));
                said.push((at, shown));
            }
        }
        if !data.is_empty() && !self.send(self.config.sort(), "DATA", data, line) {
            self.waiting = said.len();
            return false;
        }
        said.into_iter().for_each(|(at, shown)| self.metrics[at].said(&shown, now));
        true
    }

    /// Carries out an NCMD or DCMD message, metric by metric.
    fn obey(&mut self, said: &Publish, commands: &mut Commands, side: &mut Side) -> Heard {
        let topic = String::from_utf8_lossy(&said.topic);
        let payload = match Payload::decode(&*said.payload) {
            Ok(payload) => payload,
            Err(error) => {
                commands.refuse(&topic, &error.to_string());
                return Heard::Done;
            }
        };
        let mut heard = Heard::Done;
        for metric in payload.metrics {
            if metric.name.as_deref() == Some(REBIRTH) {
                if metric.value == Some(Held::Boolean(true)) {
                    // No other message is sent before the next birth, as the specification demands.
                    self.born = None;
                    heard = Heard::Answer;
                }
                continue;
            }
            let of_name = metric.name.as_ref().map(|name| self.by_name.get(name).copied());
            let of_alias = || metric.alias.and_then(|alias| usize::try_from(alias).ok());
            match of_name.unwrap_or_else(of_alias).filter(|at| *at < commands.all.len()) {
                Some(at) => {
                    let left = super::session::left(said);
                    let value = value(&metric, DataType::of(&commands.all[at].point));
                    let sent = metric.timestamp.or(payload.timestamp).map(instant);
                    let said = value.map(|value| Said { value, sent, expires: left });
                    commands.take(at, said, side);
                }
                None => {
                    let name = metric.name.unwrap_or_else(|| format!("alias {:?}", metric.alias));
                    commands
                        .refuse(&topic, &format!("{name} is not a metric that accepts commands"));
                }
            }
        }
        heard
    }

    /// Reads from a STATE message whether the primary host is online. Returns the next action.
    fn attend(&mut self, said: &Publish, commands: &mut Commands) -> Heard {
        let Ok(state) = serde_json::from_slice::<HostState>(&said.payload) else {
            let topic = String::from_utf8_lossy(&said.topic);
            commands.refuse(
                &topic,
                "expected a STATE message such as {\"online\":true,\"timestamp\":0}",
            );
            return Heard::Done;
        };
        // This STATE message is older than the last STATE message, so it is ignored.
        if self.host.is_some_and(|last| state.timestamp < last.timestamp) {
            return Heard::Done;
        }
        let was_there = self.host.replace(state).is_some_and(|last| last.online);
        match (was_there, state.online) {
            (true, false) => Heard::Leave("the primary host is offline"),
            (false, true) => Heard::Answer,
            _ => Heard::Done,
        }
    }

    /// Returns the topics to subscribe to. The flag is `true` if messages on the topic contain
    /// commands to the metrics.
    fn topics(&self) -> Vec<(String, bool)> {
        let sort = self.config.sort();
        let mut topics = vec![(self.config.topic('N', "CMD"), sort == 'N')];
        if sort == 'D' {
            topics.push((self.config.topic('D', "CMD"), true));
        }
        topics.extend(self.config.state_topic().map(|topic| (topic, false)));
        topics
    }
}

impl Dialect for Node {
    fn will(&mut self) -> Option<LastWill> {
        let metrics = vec![self.bdseq()];
        let timestamp = Some(millis(SystemTime::now()));
        let death = Payload { timestamp, metrics, seq: None }.encode_to_vec();
        let topic = self.config.topic('N', "DEATH");
        Some(LastWill::new(topic, death, QoS::AtLeastOnce, false, None))
    }

    fn next_session(&mut self) {
        self.bdseq = None;
    }

    fn forget(&mut self) {
        (self.born, self.born_at, self.host) = (None, None, None);
        self.waiting = 0;
        self.denied.clear();
        self.metrics.iter_mut().for_each(Item::forget);
    }

    fn filters(&self) -> Vec<SubscribeFilter> {
        let state = self.config.state_topic();
        let filter = |(topic, _): (String, bool)| {
            // By the specification, a STATE message is retained, and a command is never retained.
            let rule = match state.as_ref() == Some(&topic) {
                true => RetainForwardRule::OnEverySubscribe,
                false => RetainForwardRule::Never,
            };
            SubscribeFilter {
                retain_forward_rule: rule,
                ..SubscribeFilter::new(topic, QoS::AtLeastOnce)
            }
        };
        self.topics().into_iter().map(filter).collect()
    }

    fn granted(&mut self, filter: usize, commands: &mut Commands, side: &mut Side) {
        if let Some((_, true)) = self.topics().get(filter) {
            commands.all.iter_mut().for_each(|command| command.allow(side));
        }
    }

    fn denied(&mut self, filter: usize, why: &str, commands: &mut Commands, side: &mut Side) {
        let Some((topic, has_commands)) = self.topics().into_iter().nth(filter) else { return };
        tracing::warn!(topic, "the broker refuses the subscription to {topic}: {why}");
        if has_commands {
            commands.all.iter_mut().for_each(|command| command.deny(why, side));
        }
        self.denied.push((topic, why.to_owned()));
    }

    fn hear(&mut self, said: &Publish, commands: &mut Commands, side: &mut Side) -> Heard {
        if self.config.state_topic().is_some_and(|topic| said.topic == topic) {
            return self.attend(said, commands);
        }
        if said.retain { Heard::Done } else { self.obey(said, commands, side) }
    }

    fn waits_for(&self) -> Option<String> {
        let host = self.config.primary_host.as_ref()?;
        let is_there = self.host.is_some_and(|host| host.online);
        (!is_there).then(|| format!("primary host {host}"))
    }

    fn speak(&mut self, line: &mut Line, export: &Export, now: Instant) -> Option<Instant> {
        if export.cycle == 0 || self.waits_for().is_some() {
            return None;
        }
        self.waiting = 0;
        let types: Vec<_> = self.metrics.iter().map(|item| datatype(export, &item.name)).collect();
        for (item, datatype) in self.metrics.iter_mut().zip(&types) {
            item.is_unknown = datatype.is_none();
        }
        if self.born.as_ref() == Some(&types) {
            let has_room = self.data(&types, line, export, now);
            return if has_room { self.next(export, now) } else { Some(now + FULL) };
        }
        let soonest = self.born_at.map(|born_at| born_at + BETWEEN_BIRTHS);
        if soonest.is_some_and(|soonest| now < soonest) {
            return soonest;
        }
        let known = types.iter().flatten().count();
        if !self.birth(types, line, export, now) {
            self.waiting = known;
            return Some(now + FULL);
        }
        self.next(export, now)
    }

    fn unsaid(&self) -> usize {
        self.metrics.iter().filter(|item| item.is_unsaid()).count().max(self.waiting)
    }

    fn parts(&self) -> Vec<Part> {
        let denied = self.denied.iter().map(|(topic, why)| {
            let state = format!("the broker refuses the subscription: {why}");
            Part { name: topic.clone(), ok: false, state, facts: Vec::new() }
        });
        let unknown = self.metrics.iter().filter(|item| item.is_unknown);
        denied.chain(unknown.map(|item| super::unknown(&item.name))).collect()
    }
}

#[cfg(test)]
mod tests;
