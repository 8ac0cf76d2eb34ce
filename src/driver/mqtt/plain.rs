//! The dialect with a topic for each value, which is sent as text.
//!
//! The configuration chooses the topics. The other dialect over the same session is `sparkplug.rs`.
//! When a value is sent is decided in `publish.rs`, how long a command is valid in `command.rs`.

use std::collections::HashMap;

use rumqttc::{LastWill, Publish, RetainForwardRule, SubscribeFilterInput};
use tokio::time::Instant;

use super::command::{Commands, MAX_TEXT, Said};
use super::line::{FULL, Line, Outgoing};
use super::publish::{Item, Text};
use super::session::{Dialect, Heard};
use super::{Message, qos};
use crate::driver::Part;
use crate::driver::export::Export;
use crate::driver::link::Side;

/// The messages that are sent and received.
#[derive(Debug)]
pub(super) struct Plain {
    will: Option<Message>,
    birth: Option<Message>,
    /// Whether the birth message was sent on this connection.
    is_born: bool,
    topics: Vec<Topic>,
    /// The number of topics that were due when the queue was full.
    waiting: usize,
    subscriptions: Vec<Subscription>,
    /// The index of the command of each topic.
    commands: HashMap<String, usize>,
}

/// A published value with its own topic.
#[derive(Debug)]
pub(super) struct Topic {
    pub(super) item: Item,
    pub(super) qos: u8,
    pub(super) retain: bool,
    pub(super) text: Text,
}

/// The subscription of a command, in the order of the commands.
#[derive(Debug)]
pub(super) struct Subscription {
    pub(super) topic: String,
    pub(super) qos: u8,
    /// Whether retained messages of the broker count as commands.
    pub(super) retained: bool,
    /// The last payload that came live, and the last that came retained. Kept only if `retained`.
    known: [Option<Vec<u8>>; 2],
}

impl Subscription {
    pub(super) fn new(topic: &str, qos: u8, retained: bool) -> Self {
        Self { topic: topic.to_owned(), qos, retained, known: [None, None] }
    }

    /// Whether a message is a command that was not seen before.
    ///
    /// The broker sends a retained message again on each connection. It would replace a newer
    /// command, and an old command would become valid again.
    fn is_news(&mut self, said: &Publish) -> bool {
        if !self.retained {
            // The broker was asked to send no retained messages, but a broker of an older protocol
            // version ignores that.
            return !said.retain;
        }
        if said.retain && self.known.iter().flatten().any(|known| *known == said.payload) {
            return false;
        }
        // A longer payload is refused each time it comes.
        let known = (said.payload.len() <= MAX_TEXT).then(|| said.payload.to_vec());
        self.known[usize::from(said.retain)] = known;
        true
    }
}

impl Topic {
    /// Whether the value of the topic is to be sent at `now`.
    fn is_due(&self, export: &Export, now: Instant) -> bool {
        let due = |shown| self.item.due(&shown, now);
        export.find(&self.item.name).and_then(due).is_some_and(|due| due <= now)
    }
}

impl Plain {
    pub(super) fn new(
        [will, birth]: [Option<Message>; 2],
        topics: Vec<Topic>,
        subscriptions: Vec<Subscription>,
    ) -> Self {
        let numbered = subscriptions.iter().map(|said| said.topic.clone()).zip(0..);
        let commands = numbered.collect();
        Self { will, birth, is_born: false, topics, waiting: 0, subscriptions, commands }
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

    fn filters(&self) -> Vec<SubscribeFilterInput> {
        let filter = |said: &Subscription| {
            let rule = match said.retained {
                true => RetainForwardRule::OnEverySubscribe,
                false => RetainForwardRule::Never,
            };
            SubscribeFilterInput::new(&said.topic, qos(said.qos)).retain_forward_rule(rule)
        };
        self.subscriptions.iter().map(filter).collect()
    }

    fn granted(&mut self, filter: usize, commands: &mut Commands, side: &mut Side) {
        commands.all[filter].allow(side);
    }

    fn denied(&mut self, filter: usize, why: &str, commands: &mut Commands, side: &mut Side) {
        commands.all[filter].deny(why, side);
    }

    fn hear(&mut self, said: &Publish, commands: &mut Commands, side: &mut Side) -> Heard {
        let topic = String::from_utf8_lossy(&said.topic);
        let Some(&at) = self.commands.get(&*topic) else {
            commands.refuse(&topic, "no subscription has asked for it");
            return Heard::Done;
        };
        if self.subscriptions[at].is_news(said) {
            commands.take(at, Said::parse(&said.payload, super::session::left(said)), side);
        }
        Heard::Done
    }

    fn speak(&mut self, line: &mut Line, export: &Export, now: Instant) -> Option<Instant> {
        if let Some(birth) = self.birth.as_ref().filter(|_| !self.is_born) {
            let Message { topic, payload, qos, retain } = birth;
            let payload = payload.as_bytes().to_vec();
            if !line.say(Outgoing { topic, qos: *qos, retain: *retain, payload }) {
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
                let (topic, payload) = (&item.address, text.write(&shown));
                if !line.say(Outgoing { topic, qos: *qos, retain: *retain, payload }) {
                    // The topic that had to wait is the first the next time.
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
