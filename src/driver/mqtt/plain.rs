//! The dialect without Sparkplug: each value has its own topic, and the payload is text.
//!
//! The configuration defines the topics. `sparkplug.rs` is the other dialect. Both dialects use the
//! connection of `session.rs`. `publish.rs` decides when a value is sent. `payload.rs` reads a
//! received payload, and `command.rs` decides how long a command is valid.

use std::collections::HashMap;

use rumqttc::{LastWill, Publish, RetainForwardRule, SubscribeFilter};
use tokio::time::Instant;

use super::command::Commands;
use super::line::{FULL, Line, Outgoing};
use super::payload::{MAX_TEXT, Payload};
use super::publish::{Item, MessageForm};
use super::session::{Dialect, Heard};
use super::{Message, qos};
use crate::driver::Part;
use crate::driver::export::{Export, Exports};
use crate::driver::link::Side;

/// The state of the dialect: its topics, its subscriptions and its fixed messages.
#[derive(Debug)]
pub(super) struct Plain {
    /// The message that the broker publishes if the connection is lost.
    will: Option<Message>,
    /// The message that the client publishes first on each connection.
    birth: Option<Message>,
    /// Whether the birth message was sent on this connection. If no birth message is configured,
    /// the first call of `speak` sets this field.
    is_born: bool,
    /// The published values. If the queue becomes full, the list is rotated: the next call of
    /// `speak` begins with the first value that was not sent.
    topics: Vec<Topic>,
    /// The number of values that the last call of `speak` did not send although they were due,
    /// because the queue was full.
    waiting: usize,
    /// The subscriptions, one for each topic of a command.
    subscriptions: Vec<Subscription>,
    /// The index of each subscription, by its topic.
    of_topic: HashMap<String, usize>,
    /// The connection to the daemon, which knows the types of variables and writes them.
    exports: Exports,
}

/// A published value that has its own topic.
#[derive(Debug)]
pub(super) struct Topic {
    /// The value, with its topic and the rule that decides when it is sent.
    pub(super) item: Item,
    pub(super) qos: u8,
    /// Whether the broker retains the last message of this topic.
    pub(super) retain: bool,
    /// The format of the payload.
    pub(super) text: MessageForm,
}

/// The subscription to a topic. Each message of the topic sets all points of its commands.
#[derive(Debug)]
pub(super) struct Subscription {
    /// The topic, which is a name without wildcards.
    pub(super) topic: String,
    pub(super) qos: u8,
    /// Whether a retained message is used as a command.
    pub(super) retained: bool,
    /// The numbers of the commands that have this topic.
    pub(super) commands: Vec<usize>,
    /// The numbers of the commands with this topic that write variables.
    pub(super) variables: Vec<usize>,
    /// The payload of the last message that was not retained, and the payload of the last retained
    /// message. Both are stored only if `retained` is set.
    known: [Option<Vec<u8>>; 2],
}

impl Subscription {
    /// Makes the subscription to a topic, without commands.
    pub(super) fn new(topic: &str, qos: u8, retained: bool) -> Self {
        let (commands, variables) = (Vec::new(), Vec::new());
        Self { topic: topic.to_owned(), qos, retained, commands, variables, known: [None, None] }
    }

    /// Whether a message is a new command. If retained messages are used as commands, stores its
    /// payload for later comparisons.
    ///
    /// The broker sends its retained message again after each connect. If this client used the
    /// message as a command again, the message could replace a newer command, or an expired command
    /// could become valid again.
    fn is_news(&mut self, said: &Publish) -> bool {
        if !self.retained {
            // The subscription asks for no retained messages. Brokers for older protocol versions
            // ignore this option and send retained messages.
            return !said.retain;
        }
        if said.retain && self.known.iter().flatten().any(|known| *known == said.payload) {
            return false;
        }
        // A payload longer than `MAX_TEXT` is not stored, because its message is refused each time.
        let known = (said.payload.len() <= MAX_TEXT).then(|| said.payload.to_vec());
        self.known[usize::from(said.retain)] = known;
        true
    }
}

impl Topic {
    /// Whether the value of the topic must be sent at `now`.
    fn is_due(&self, export: &Export, now: Instant) -> bool {
        let due = |shown| self.item.due(&shown, now);
        export.find(&self.item.name).and_then(due).is_some_and(|due| due <= now)
    }
}

impl Plain {
    /// Makes the dialect.
    pub(super) fn new(
        [will, birth]: [Option<Message>; 2],
        topics: Vec<Topic>,
        subscriptions: Vec<Subscription>,
        exports: Exports,
    ) -> Self {
        let numbered = subscriptions.iter().map(|said| said.topic.clone()).zip(0..);
        let of_topic = numbered.collect();
        Self { will, birth, is_born: false, topics, waiting: 0, subscriptions, of_topic, exports }
    }
}

impl Dialect for Plain {
    fn will(&mut self) -> Option<LastWill> {
        let Message { topic, payload, qos: level, retain } = self.will.as_ref()?;
        Some(LastWill::new(topic, payload.as_str(), qos(*level), *retain, None))
    }

    fn forget(&mut self) {
        self.is_born = false;
        self.waiting = 0;
        self.topics.iter_mut().for_each(|topic| topic.item.forget());
    }

    fn filters(&self) -> Vec<SubscribeFilter> {
        let filter = |said: &Subscription| {
            let rule = match said.retained {
                true => RetainForwardRule::OnEverySubscribe,
                false => RetainForwardRule::Never,
            };
            SubscribeFilter {
                retain_forward_rule: rule,
                ..SubscribeFilter::new(&said.topic, qos(said.qos))
            }
        };
        self.subscriptions.iter().map(filter).collect()
    }

    fn granted(&mut self, filter: usize, commands: &mut Commands, side: &mut Side) {
        for at in &self.subscriptions[filter].commands {
            commands.all[*at].allow(side);
        }
        for at in &self.subscriptions[filter].variables {
            commands.variables[*at].allow();
        }
    }

    fn denied(&mut self, filter: usize, why: &str, commands: &mut Commands, side: &mut Side) {
        for at in &self.subscriptions[filter].commands {
            commands.all[*at].deny(why, side);
        }
        for at in &self.subscriptions[filter].variables {
            commands.variables[*at].deny(why);
        }
    }

    fn hear(&mut self, said: &Publish, commands: &mut Commands, side: &mut Side) -> Heard {
        let topic = String::from_utf8_lossy(&said.topic);
        let Some(&at) = self.of_topic.get(&*topic) else {
            commands.refuse(&topic, "this client has not subscribed to this topic");
            return Heard::Done;
        };
        let subscription = &mut self.subscriptions[at];
        if subscription.is_news(said) {
            let (payload, left) = (Payload::new(&said.payload), super::session::left(said));
            for at in &subscription.commands {
                let command = &commands.all[*at];
                let payload = payload.as_ref().map_err(Clone::clone);
                let said = payload.and_then(|payload| command.read(payload, left));
                commands.take(*at, said, side);
            }
            for at in &subscription.variables {
                let payload = payload.as_ref().map_err(Clone::clone);
                commands.set(*at, payload, left, &self.exports);
            }
        }
        Heard::Done
    }

    fn speak(&mut self, line: &mut Line, export: &Export, now: Instant) -> Option<Instant> {
        if let Some(birth) = self.birth.as_ref().filter(|_| !self.is_born) {
            let Message { topic, payload, qos, retain } = birth;
            let payload = payload.as_bytes().to_vec();
            if !line.send(Outgoing { topic, qos: *qos, retain: *retain, payload }) {
                return Some(now + FULL);
            }
        }
        self.is_born = true;
        let mut next: Option<Instant> = None;
        for at in 0..self.topics.len() {
            let Topic { item, qos, retain, text } = &mut self.topics[at];
            let shown = export.find(&item.name);
            item.is_unknown = shown.is_none() && export.cycle > 0;
            let Some(shown) = shown else { continue };
            if item.due(&shown, now).is_some_and(|due| due <= now) {
                let short = export.shortest(&item.name).unwrap_or(shown);
                let (topic, payload) = (&item.address, text.write(&short));
                if !line.send(Outgoing { topic, qos: *qos, retain: *retain, payload }) {
                    // The next call begins with this topic, for which the queue had no room.
                    self.topics.rotate_left(at);
                    self.waiting =
                        self.topics.iter().filter(|topic| topic.is_due(export, now)).count();
                    return Some(now + FULL);
                }
                item.said(&shown, now);
            }
            next = next.into_iter().chain(item.due(&shown, now)).min();
        }
        self.waiting = 0;
        next
    }

    fn unsaid(&self) -> usize {
        let unsaid = self.topics.iter().filter(|topic| topic.item.is_unsaid()).count();
        unsaid.max(self.waiting)
    }

    fn parts(&self) -> Vec<Part> {
        let unknown = self.topics.iter().filter(|topic| topic.item.is_unknown);
        unknown.map(|topic| super::unknown(&topic.item.name)).collect()
    }
}
