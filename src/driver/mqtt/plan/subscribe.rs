//! The plan of the commands without Sparkplug: one subscription for each topic.
//!
//! Several points and variables may have one topic. Each message of the topic then sets all of
//! them. They share the subscription, so they must have the same `qos` and `retained`. A topic of a
//! published value cannot be the topic of a command, because the client would receive its own
//! messages. The other keys of the device are planned in `plan.rs`.

use std::collections::{HashMap, HashSet};

use super::{Ours, Wrong, check_topic};
use crate::driver::OpenError;
use crate::driver::mqtt::command::{Command, Commands};
use crate::driver::mqtt::config::{Assignment, Config};
use crate::driver::mqtt::plain::Subscription;
use crate::driver::mqtt::set::VariableCommand;

/// The maximum number of variables that other clients can write: one for each variable.
const MAX_SET: usize = crate::process::variable::MAX_VARIABLES;

/// The maximum length of the key `json`, in bytes. Paths in payloads of sensors are much shorter.
const MAX_PATH: usize = 256;

/// The subscriptions, while they are planned.
struct Subscriptions<'c> {
    /// One subscription for each topic.
    all: Vec<Subscription>,
    /// For each topic, the index of its subscription, and the first point or variable with this
    /// topic.
    of_topic: HashMap<&'c str, (usize, &'c str)>,
    /// The topics of published values.
    published: &'c HashSet<&'c str>,
}

/// A mistake of a command: the key, the value found and the value expected.
type Mistake = (&'static str, String, String);

/// Plans the commands and their subscriptions. `published` are the topics of published values.
///
/// # Errors
/// When a key of a command has a value that cannot work.
pub(super) fn plan<'c>(
    config: &'c Config,
    ours: Vec<Ours<'c>>,
    published: &'c HashSet<&'c str>,
) -> Result<(Commands, Vec<Subscription>), OpenError> {
    let mut all = Subscriptions { all: Vec::new(), of_topic: HashMap::new(), published };
    let mut commands = Vec::new();
    for (n, Ours { id, point, at }) in ours.into_iter().enumerate() {
        if at.metric.is_some() {
            let wanted = "no such key, because only `sparkplug` uses metrics";
            return Err(Wrong("metric", "a name".into(), wanted).at(point));
        }
        let (topic, qos) = (at.topic.as_deref().unwrap_or_default(), at.qos.unwrap_or(1));
        let keys = (topic, qos, at.retained.unwrap_or(false), at.json.as_deref());
        let subscription = all.add(keys, &point.name);
        let wrong = |(key, found, wanted)| OpenError::at(&point.name, key, found, wanted);
        subscription.map_err(wrong)?.commands.push(n);
        commands.push(Command::new(id, point, topic, at.expires).with_json(at.json.clone()));
    }
    let commands = Commands::new(commands).with_variables(variables(&config.set, &mut all)?);
    Ok((commands, all.all))
}

/// Plans the commands that write variables.
fn variables<'c>(
    set: &'c [Assignment],
    all: &mut Subscriptions<'c>,
) -> Result<Vec<VariableCommand>, OpenError> {
    if set.len() > MAX_SET {
        let found = format!("{} variables", set.len());
        return Err(OpenError::new("set", found, format!("at most {MAX_SET}")));
    }
    let plan = |(n, Assignment { name, topic, json, qos, retained }): (usize, &'c Assignment)| {
        let wrong = |(key, found, wanted): Mistake| {
            OpenError::new(format!("set[{n}].{key}"), found, wanted)
        };
        if name.is_empty() {
            return Err(wrong(("name", "\"\"".to_owned(), "the name of a variable".to_owned())));
        }
        let subscription = all.add((topic, *qos, *retained, json.as_deref()), name);
        subscription.map_err(wrong)?.variables.push(n);
        Ok(VariableCommand::new(name, topic, json.clone()))
    };
    set.iter().enumerate().map(plan).collect()
}

impl<'c> Subscriptions<'c> {
    /// Returns the subscription to the topic of a command, which has these values of `topic`,
    /// `qos`, `retained` and `json`. `name` is the point or variable of the command.
    fn add(
        &mut self,
        (topic, qos, retained, json): (&'c str, u8, bool, Option<&str>),
        name: &'c str,
    ) -> Result<&mut Subscription, Mistake> {
        let of = |Wrong(key, found, wanted): Wrong| (key, found, wanted.to_owned());
        check_topic(topic, qos).map_err(of)?;
        json.map_or(Ok(()), check_path).map_err(of)?;
        if self.published.contains(topic) {
            let found = format!("{topic:?}, which is already in use");
            return Err(("topic", found, "a topic that no published value uses".to_owned()));
        }
        let (at, first) = *self.of_topic.entry(topic).or_insert((self.all.len(), name));
        if at == self.all.len() {
            self.all.push(Subscription::new(topic, qos, retained));
        }
        let known = &mut self.all[at];
        let same = |value: &dyn ToString| {
            format!("{}, as for {first} of the same topic", value.to_string())
        };
        if known.qos != qos {
            return Err(("qos", qos.to_string(), same(&known.qos)));
        }
        if known.retained != retained {
            return Err(("retained", retained.to_string(), same(&known.retained)));
        }
        Ok(known)
    }
}

/// Checks the path of a value in a JSON payload.
fn check_path(json: &str) -> Result<(), Wrong> {
    let is_path = json.len() <= MAX_PATH && json.split('.').all(|key| !key.is_empty());
    match is_path && !json.contains(char::is_control) {
        true => Ok(()),
        false => Err(Wrong(
            "json",
            format!("{json:?}"),
            "the keys to the value with a point between two keys, such as \"battery.level\"",
        )),
    }
}
