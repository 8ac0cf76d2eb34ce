//! An edge node of Sparkplug B, version 3.0, over the session of `session.rs`.
//!
//! ```text
//!   connected --> NBIRTH seq 0 (--> DBIRTH seq 1) --> NDATA or DDATA, seq + 1 each, 255 then 0
//!                   ^                                        |
//!                   +---- asked for a rebirth, or a metric --+
//!                         has come, gone or changed its type
//! ```
//! The broker's will is the NDEATH; it has the bdSeq of the birth that it ends, which is another on
//! each connection. With a `device` the metrics are that device's and the node has none of its own.
//! Values are said when they differ, all of an instant in one message, under the aliases of the
//! birth. Commands are metrics as well: what they hold is said back.
//!
//! With a `primary_host` nothing is said before that host says that it is there, and the connection
//! is given up when it goes. History is not kept: what nobody heard is not said later.

use std::collections::HashMap;
use std::time::{Duration, SystemTime};

use prost::Message;
use rumqttc::{LastWill, Publish, QoS, RetainForwardRule, SubscribeFilterInput};
use serde::Deserialize;
use tokio::time::Instant;

use super::command::{Commands, Said};
use super::line::{FULL, Line, Outgoing};
use super::publish::Item;
use super::session::{Dialect, Heard};
use crate::driver::export::{Export, Shown};
use crate::driver::link::Side;
use crate::driver::{OpenError, Part};
use crate::image::{Quality, Value};
use payload::{DataType, Held, Metric, Payload, PropertySet};

mod payload;

/// The metric that is written to ask for a birth.
const REBIRTH: &str = "Node Control/Rebirth";

/// The metric that joins a death to its birth.
const BDSEQ: &str = "bdSeq";

/// The longest name of a node and the like, in bytes: three of them are a topic.
const MAX_NAME: usize = 256;

/// The key `sparkplug`.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Config {
    /// The group that the node is in.
    pub group: String,
    /// The node, unique in its group.
    pub node: String,
    /// The device whose metrics they are; without it they are the node's own.
    pub device: Option<String>,
    /// The host without which nothing is said.
    pub primary_host: Option<String>,
}

/// An edge node.
#[derive(Debug)]
pub(super) struct Node {
    config: Config,
    metrics: Vec<Item>,
    /// The number of each metric, which is its alias; the commands are the first of them.
    by_name: HashMap<String, usize>,
    /// Of this connection.
    bdseq: u8,
    /// Of the next message.
    seq: u8,
    /// What the birth has said of each metric; `None` before it.
    born: Option<Vec<Option<DataType>>>,
    /// What the primary host has said last, and when by its clock.
    host: Option<State>,
}

/// The payload of a STATE message.
#[derive(Debug, Clone, Copy, Deserialize)]
struct State {
    online: bool,
    timestamp: u64,
}

impl Config {
    /// The names become levels of topics.
    pub(super) fn check(&self) -> Result<(), OpenError> {
        let names = [
            ("group", Some(&self.group)),
            ("node", Some(&self.node)),
            ("device", self.device.as_ref()),
            ("primary_host", self.primary_host.as_ref()),
        ];
        for (key, name) in names {
            let is_wrong = |c: char| "/+#".contains(c) || c.is_control();
            if name.is_some_and(|name| {
                !(1..=MAX_NAME).contains(&name.len()) || name.contains(is_wrong)
            }) {
                let (key, found) = (format!("sparkplug.{key}"), format!("{name:?}"));
                return Err(OpenError::new(key, found, "a name without /, + and #"));
            }
        }
        Ok(())
    }

    /// The topic of a message of this sort from or to the node, or its device if it has one.
    fn topic(&self, sort: char, verb: &str) -> String {
        let Self { group, node, device, .. } = self;
        let device = device.as_ref().filter(|_| sort == 'D').map(|device| format!("/{device}"));
        format!("spBv1.0/{group}/{sort}{verb}/{node}{}", device.unwrap_or_default())
    }

    /// The sort of message that the metrics are in.
    fn sort(&self) -> char {
        if self.device.is_some() { 'D' } else { 'N' }
    }

    fn state_topic(&self) -> Option<String> {
        self.primary_host.as_ref().map(|host| format!("spBv1.0/STATE/{host}"))
    }
}

impl Node {
    /// The metrics begin with those of the commands, in their order.
    pub(super) fn new(config: Config, metrics: Vec<Item>) -> Self {
        let by_name = metrics.iter().map(|metric| metric.address.clone()).zip(0..).collect();
        Self { config, metrics, by_name, bdseq: 0, seq: 0, born: None, host: None }
    }

    /// Says who we are and all there is. If there is no room for it, everything is said again.
    fn birth(&mut self, types: Vec<Option<DataType>>, line: &mut Line, export: &Export) -> bool {
        self.seq = 0;
        let now = SystemTime::now();
        let plain = |name: &str, datatype: DataType, value| Metric {
            name: Some(name.to_owned()),
            timestamp: Some(millis(now)),
            datatype: Some(datatype as u32),
            value: Some(value),
            ..Metric::default()
        };
        let mut node = vec![
            plain(BDSEQ, DataType::Int64, Held::Long(self.bdseq.into())),
            plain(REBIRTH, DataType::Boolean, Held::Boolean(false)),
        ];
        let named = |at: usize| {
            let (item, datatype) = (&self.metrics[at], types[at]?);
            let metric = metric(at, &export.find(&item.name)?, datatype);
            let name = Some(item.address.clone());
            Some(Metric { name, datatype: Some(datatype as u32), ..metric })
        };
        let metrics: Vec<_> = (0..self.metrics.len()).filter_map(named).collect();
        let is_said = if self.config.device.is_some() {
            self.say('N', "BIRTH", node, line) && self.say('D', "BIRTH", metrics, line)
        } else {
            node.extend(metrics);
            self.say('N', "BIRTH", node, line)
        };
        if is_said {
            let now = Instant::now();
            for item in &mut self.metrics {
                if let Some(shown) = export.find(&item.name) {
                    item.said(&shown, now);
                }
            }
            self.born = Some(types);
        }
        is_said
    }

    /// When the next of them is due, as things stand.
    fn next(&self, export: &Export, now: Instant) -> Option<Instant> {
        let due = |item: &Item| item.due(&export.find(&item.name)?, now);
        self.metrics.iter().filter_map(due).min()
    }

    /// Says this under the next number; `false` if there is no room.
    fn say(&mut self, sort: char, verb: &str, metrics: Vec<Metric>, line: &mut Line) -> bool {
        let (timestamp, seq) = (Some(millis(SystemTime::now())), Some(self.seq.into()));
        let payload = Payload { timestamp, metrics, seq }.encode_to_vec();
        let topic = self.config.topic(sort, verb);
        let is_said = line.say(Outgoing { topic: &topic, qos: 0, retain: false, payload });
        self.seq = self.seq.wrapping_add(u8::from(is_said));
        is_said
    }

    /// Obeys, metric by metric.
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
                    commands.refuse(&topic, &format!("{name} is no metric that takes commands"));
                }
            }
        }
        heard
    }

    /// The primary host comes or goes.
    fn attend(&mut self, said: &Publish, commands: &mut Commands) -> Heard {
        let Ok(state) = serde_json::from_slice::<State>(&said.payload) else {
            let topic = String::from_utf8_lossy(&said.topic);
            commands.refuse(&topic, "it is no STATE such as {\"online\":true,\"timestamp\":0}");
            return Heard::Done;
        };
        // A late farewell of an earlier life of the host.
        if self.host.is_some_and(|last| state.timestamp < last.timestamp) {
            return Heard::Done;
        }
        let was_there = self.host.replace(state).is_some_and(|last| last.online);
        match (was_there, state.online) {
            (true, false) => Heard::Leave("the primary host is gone"),
            (false, true) => Heard::Answer,
            _ => Heard::Done,
        }
    }
}

impl Dialect for Node {
    fn will(&mut self) -> Option<LastWill> {
        let now = millis(SystemTime::now());
        let bdseq = Metric {
            name: Some(BDSEQ.to_owned()),
            timestamp: Some(now),
            datatype: Some(DataType::Int64 as u32),
            value: Some(Held::Long(self.bdseq.into())),
            ..Metric::default()
        };
        let death = Payload { timestamp: Some(now), metrics: vec![bdseq], seq: None };
        let topic = self.config.topic('N', "DEATH");
        Some(LastWill::new(topic, death.encode_to_vec(), QoS::AtLeastOnce, false, None))
    }

    fn next_session(&mut self) {
        self.bdseq = self.bdseq.wrapping_add(1);
    }

    fn forget(&mut self) {
        self.born = None;
        self.host = None;
        self.metrics.iter_mut().for_each(Item::forget);
    }

    fn filters(&self) -> Vec<SubscribeFilterInput> {
        let live = |topic| {
            SubscribeFilterInput::new(topic, QoS::AtLeastOnce)
                .retain_forward_rule(RetainForwardRule::Never)
        };
        let mut filters = vec![live(self.config.topic('N', "CMD"))];
        if self.config.device.is_some() {
            filters.push(live(self.config.topic('D', "CMD")));
        }
        let state = self.config.state_topic();
        filters.extend(state.map(|topic| SubscribeFilterInput::new(topic, QoS::AtLeastOnce)));
        filters
    }

    fn granted(&mut self, _: usize, commands: &mut Commands, side: &mut Side) {
        commands.all.iter_mut().for_each(|command| command.allow(side));
    }

    fn denied(&mut self, _: usize, why: &str, commands: &mut Commands, side: &mut Side) {
        commands.all.iter_mut().for_each(|command| command.deny(why, side));
    }

    fn hear(&mut self, said: &Publish, commands: &mut Commands, side: &mut Side) -> Heard {
        if self.config.state_topic().is_some_and(|topic| said.topic == topic) {
            return self.attend(said, commands);
        }
        // The specification has no retained commands.
        if said.retain { Heard::Done } else { self.obey(said, commands, side) }
    }

    fn speak(&mut self, line: &mut Line, export: &Export, now: Instant) -> Option<Instant> {
        let has_host = self.host.is_some_and(|host| host.online);
        if export.cycle == 0 || (self.config.primary_host.is_some() && !has_host) {
            return None;
        }
        let types: Vec<_> = self.metrics.iter().map(|item| datatype(export, &item.name)).collect();
        if self.born.as_ref() != Some(&types) {
            if !self.birth(types, line, export) {
                return Some(now + FULL);
            }
            return self.next(export, now);
        }
        let (mut said, mut data) = (Vec::new(), Vec::new());
        for (at, item) in self.metrics.iter().enumerate() {
            let (Some(shown), Some(datatype)) = (export.find(&item.name), types[at]) else {
                continue;
            };
            if item.due(&shown, now).is_some_and(|due| due <= now) {
                data.push(metric(at, &shown, datatype));
                said.push((at, shown));
            }
        }
        if !data.is_empty() && !self.say(self.config.sort(), "DATA", data, line) {
            return Some(now + FULL);
        }
        said.into_iter().for_each(|(at, shown)| self.metrics[at].said(&shown, now));
        self.next(export, now)
    }

    fn unsaid(&self) -> usize {
        self.metrics.iter().filter(|item| item.is_unsaid()).count()
    }

    fn parts(&self) -> Vec<Part> {
        let Some(born) = &self.born else { return Vec::new() };
        let types = self.metrics.iter().zip(born);
        let unknown = types.filter(|(_, datatype)| datatype.is_none());
        unknown.map(|(item, _)| super::unknown(&item.name)).collect()
    }
}

/// The type of a point or variable; `None` if nothing has this name.
fn datatype(export: &Export, name: &str) -> Option<DataType> {
    if let Some(id) = export.points.find(name) {
        return Some(DataType::of(&export.points[id]));
    }
    Some(match export.find(name)?.value {
        Value::Bool(_) => DataType::Boolean,
        Value::Int(_) => DataType::Int32,
        Value::Real(_) => DataType::Double,
    })
}

/// A metric under its alias. What was never read has no value, instead of a 0.
fn metric(alias: usize, shown: &Shown, datatype: DataType) -> Metric {
    let value = datatype.hold(shown.value).filter(|_| shown.quality != Quality::Waiting);
    Metric {
        alias: Some(alias as u64),
        timestamp: Some(millis(shown.at)),
        is_null: value.is_none().then_some(true),
        properties: Some(PropertySet::quality(shown.quality)),
        value,
        ..Metric::default()
    }
}

/// The value of a metric; if it does not say of which type, it is of `expected`.
fn value(metric: &Metric, expected: DataType) -> Result<Value, String> {
    let held = metric.value.ok_or("it has no value that is understood")?;
    let said = metric.datatype.and_then(|said| DataType::try_from(said as i32).ok());
    let datatype = said.filter(|said| *said != DataType::Unknown).unwrap_or(expected);
    datatype.value(held).ok_or_else(|| format!("{held:?} is no value of type {datatype:?}"))
}

fn millis(at: SystemTime) -> u64 {
    let since = at.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since.as_millis()).unwrap_or(u64::MAX)
}

fn instant(millis: u64) -> SystemTime {
    // What no clock can show is ahead of all of them.
    let since = Duration::from_millis(millis);
    SystemTime::UNIX_EPOCH.checked_add(since).unwrap_or_else(SystemTime::now)
}
