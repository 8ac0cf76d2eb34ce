//! The plan of an MQTT device: this file checks the configuration, and makes the dialect and the
//! commands.
//!
//! Each error names the mistake and the expected value. `broker.rs` checks the keys of the broker,
//! `credential.rs` checks the keys of credential files, `sparkplug/config.rs` checks the names in
//! `sparkplug`, and `plan/subscribe.rs` checks the topics of commands. This file checks all other
//! keys. This file does not check whether a published name exists, because programs may create and
//! remove variables at any time.

mod subscribe;

use std::collections::HashSet;
use std::time::Duration;

use super::command::{Command, Commands};
use super::config::{Config, Message, Publication, TopicAddress};
use super::plain::{Plain, Topic};
use super::publish::{Item, Rule};
use super::session::Dialect;
use super::sparkplug::{self, Node};
use crate::driver::OpenError;
use crate::driver::export::Exports;
use crate::process::image::{Direction, Point, PointId, Points};

/// The maximum number of published values of one device. At each export, the client compares all
/// these values with the values that it sent last.
const MAX_PUBLISH: usize = 4096;

/// The maximum length of a topic, in bytes. The protocol allows 65535 bytes, but topics of real
/// plants are shorter than 1024 bytes.
const MAX_TOPIC: usize = 1024;

/// The range of `min_interval`, `refresh`, `every` and `expires`. The daemon exports values at most
/// 50 times a second, so a period below the minimum has no use. The longest period is enough for a
/// daily report.
const PERIOD: std::ops::RangeInclusive<Duration> =
    Duration::from_millis(10)..=Duration::from_secs(86_400);

/// The default of the shortest time between two messages of a value. Without this pause, a value
/// with noise would use the whole network connection.
const MIN_INTERVAL: Duration = Duration::from_millis(100);

/// The rule that decides when the value of a command is published. Only Sparkplug publishes the
/// values of commands.
const ON_CHANGE: Rule = Rule::Change { deadband: 0.0, min_interval: MIN_INTERVAL, refresh: None };

/// The dialect, which encodes and decodes the messages, and the commands.
pub(super) type Planned = (Box<dyn Dialect>, Commands);

/// A mistake in the key `at` of a point, in an entry of `publish`, or in the table `will` or
/// `birth`. The three parts are the key, the value found and the value expected.
struct Wrong(&'static str, String, &'static str);

impl Wrong {
    /// Returns the error for this mistake in the key `at` of a point.
    fn at(self, point: &Point) -> OpenError {
        OpenError::at(&point.name, self.0, self.1, self.2)
    }

    /// Returns the error for this mistake in `place`: `will`, `birth`, or an entry such as
    /// `publish[2]`.
    fn of(self, place: &str) -> OpenError {
        OpenError::new(format!("{place}.{}", self.0), self.1, self.2)
    }
}

/// Plans the published values and the commands of device number `device`.
///
/// # Errors
/// When a key of the device has a value that cannot work.
pub(super) fn plan(
    config: &Config,
    points: &Points,
    device: usize,
    exports: &Exports,
) -> Result<Planned, OpenError> {
    if config.publish.len() > MAX_PUBLISH {
        let found = format!("{} values", config.publish.len());
        return Err(OpenError::new("publish", found, format!("at most {MAX_PUBLISH}")));
    }
    let ours = points.iter().filter(|(_, point)| point.device == device);
    let ours = ours.map(|(id, point)| heard(config, id, point)).collect::<Result<_, _>>()?;
    match &config.sparkplug {
        Some(node) => metrics(config, node, ours),
        None => topics(config, ours, exports),
    }
}

/// A point of this device. Every point of an MQTT device is a command.
struct Ours<'c> {
    id: PointId,
    point: &'c Point,
    /// The key `at` of the point, from the configuration.
    at: &'c TopicAddress,
}

/// Checks that a point of this device can be a command: it must be an input with a key `at`, and
/// `expires` must be in its range.
fn heard<'c>(config: &'c Config, id: PointId, point: &'c Point) -> Result<Ours<'c>, OpenError> {
    let name = &point.name;
    if point.direction == Direction::Out {
        let wanted =
            "an input, because `at` receives commands; values to publish are listed in `publish`";
        return Err(OpenError::at(name, "", "an output", wanted));
    }
    let wanted = "{ topic = \"...\", expires = \"10s\" }";
    let at = config.at.get(name).ok_or_else(|| OpenError::at(name, "", "nothing", wanted))?;
    if !PERIOD.contains(&at.expires) {
        let found = format!("{:?}", at.expires);
        return Err(OpenError::at(name, "expires", found, "from 10ms to 1d"));
    }
    Ok(Ours { id, point, at })
}

/// Plans the dialect without Sparkplug. The configuration names the topics.
fn topics(config: &Config, ours: Vec<Ours<'_>>, exports: &Exports) -> Result<Planned, OpenError> {
    for (key, message) in [("will", &config.will), ("birth", &config.birth)] {
        if let Some(Message { topic, qos, .. }) = message {
            check_topic(topic, *qos).map_err(|wrong| wrong.of(key))?;
        }
    }
    let (mut topics, mut used) = (Vec::new(), HashSet::new());
    for (n, said) in config.publish.iter().enumerate() {
        let place = format!("publish[{n}]");
        let (topic, qos) = (said.topic.as_deref().unwrap_or_default(), said.qos.unwrap_or(1));
        check_topic(topic, qos).map_err(|wrong| wrong.of(&place))?;
        if said.metric.is_some() {
            return Err(Wrong(
                "metric",
                "a name".into(),
                "no such key, because only `sparkplug` uses metrics",
            )
            .of(&place));
        }
        if !used.insert(topic) {
            return Err(Wrong(
                "topic",
                format!("{topic:?}, which another value uses"),
                "a topic that no other value uses",
            )
            .of(&place));
        }
        topics.push(Topic {
            item: Item::new(&said.name, topic, said.rule().map_err(|wrong| wrong.of(&place))?),
            qos,
            retain: said.retain.unwrap_or(false),
            text: said.payload.unwrap_or_default(),
        });
    }
    let (commands, subscriptions) = subscribe::plan(config, ours, &used)?;
    let fixed = [config.will.clone(), config.birth.clone()];
    let plain = Plain::new(fixed, topics, subscriptions, exports.clone());
    Ok((Box::new(plain), commands))
}

/// Plans the Sparkplug dialect, with one metric for each command and each published value.
fn metrics(
    config: &Config,
    node: &sparkplug::Config,
    ours: Vec<Ours<'_>>,
) -> Result<Planned, OpenError> {
    const GIVEN: &str = "no such key, because Sparkplug defines this setting";
    node.check()?;
    for (key, message) in [("will", &config.will), ("birth", &config.birth)] {
        if message.is_some() {
            return Err(OpenError::new(key, "a message", GIVEN));
        }
    }
    if !config.set.is_empty() {
        let wanted = "no such key, because Sparkplug writes only the metrics of points";
        return Err(OpenError::new("set", "a list", wanted));
    }
    let (mut items, mut used, mut commands) = (Vec::new(), HashSet::new(), Vec::new());
    for Ours { id, point, at } in ours {
        let given = [("topic", at.topic.is_some()), ("qos", at.qos.is_some())];
        let others = [("retained", at.retained.is_some()), ("json", at.json.is_some())];
        let given = given.into_iter().chain(others);
        if let Some((key, _)) = given.into_iter().find(|(_, is_given)| *is_given) {
            return Err(Wrong(key, "a value".into(), GIVEN).at(point));
        }
        let metric = at.metric.as_ref().unwrap_or(&point.name);
        check_metric(metric, &mut used).map_err(|wrong| wrong.at(point))?;
        items.push(Item::new(&point.name, metric, ON_CHANGE));
        commands.push(Command::new(id, point, metric, at.expires));
    }
    for (n, said) in config.publish.iter().enumerate() {
        let place = format!("publish[{n}]");
        let given = [("topic", said.topic.is_some()), ("qos", said.qos.is_some())];
        let others = [("retain", said.retain.is_some()), ("payload", said.payload.is_some())];
        if let Some((key, _)) = given.into_iter().chain(others).find(|(_, is_given)| *is_given) {
            return Err(Wrong(key, "a value".into(), GIVEN).of(&place));
        }
        let metric = said.metric.as_ref().unwrap_or(&said.name);
        check_metric(metric, &mut used).map_err(|wrong| wrong.of(&place))?;
        items.push(Item::new(&said.name, metric, said.rule().map_err(|wrong| wrong.of(&place))?));
    }
    Ok((Box::new(Node::new(node.clone(), items)), Commands::new(commands)))
}

impl Publication {
    /// Returns the rule that decides when the value is sent.
    fn rule(&self) -> Result<Rule, Wrong> {
        let Self { deadband, min_interval, refresh, every, .. } = *self;
        if let Some(deadband) = deadband.filter(|band| !(0.0..f64::INFINITY).contains(band)) {
            return Err(Wrong("deadband", format!("{deadband:?}"), "0 or a greater number"));
        }
        for (key, time) in [("min_interval", min_interval), ("refresh", refresh), ("every", every)]
        {
            if let Some(time) = time.filter(|time| !PERIOD.contains(time)) {
                return Err(Wrong(key, format!("{time:?}"), "from 10ms to 1d"));
            }
        }
        let on_change = deadband.is_some() || min_interval.is_some() || refresh.is_some();
        match every {
            Some(_) if on_change => {
                let found = "`every` together with deadband, min_interval or refresh".into();
                Err(Wrong(
                    "every",
                    found,
                    "`every` alone, because with this key a change causes no message",
                ))
            }
            Some(period) => Ok(Rule::Cyclic(period)),
            None => Ok(Rule::Change {
                deadband: deadband.unwrap_or(0.0),
                min_interval: min_interval.unwrap_or(MIN_INTERVAL),
                refresh,
            }),
        }
    }
}

/// Checks that Sparkplug allows this name for a metric, and that no earlier metric has it.
fn check_metric<'c>(metric: &'c str, used: &mut HashSet<&'c str>) -> Result<(), Wrong> {
    if !sparkplug::is_free(metric) {
        let wanted = "a name other than bdSeq and Node Control/Rebirth, which Sparkplug uses";
        return Err(Wrong("metric", format!("{metric:?}"), wanted));
    }
    if !used.insert(metric) {
        return Err(Wrong(
            "metric",
            format!("{metric:?}, which another metric has"),
            "a name that no other metric has",
        ));
    }
    Ok(())
}

/// Checks that the topic is a name without wildcards (MQTT 5, 4.7), and that the QoS is 0 or 1.
fn check_topic(topic: &str, qos: u8) -> Result<(), Wrong> {
    let is_name = !topic.is_empty() && topic.len() <= MAX_TOPIC && !topic.starts_with('$');
    if !is_name || topic.contains(|c: char| "+#".contains(c) || c.is_control()) {
        return Err(Wrong(
            "topic",
            format!("{topic:?}"),
            "a topic of 1 to 1024 bytes without + and #, and without $ as its first character",
        ));
    }
    if qos > 1 {
        return Err(Wrong("qos", qos.to_string(), "0 or 1"));
    }
    Ok(())
}
