//! The way out: messages that are handed to the library, and what becomes of each.
//!
//! The library takes a message at once and sends it later. Until it is sent, this file counts it as
//! waiting. So it is known how much room there is, and which topic an acknowledgement is about: a
//! broker that refuses a message names only its number. A [`Dialect`](super::session::Dialect)
//! decides what to send, and when.

use std::collections::VecDeque;
use std::time::Duration;

use rumqttc::{AsyncClient, ConnAck, Outgoing as Sent, PubAck, PubAckReason, PublishOptions};

use super::qos;
use crate::logged::OnChange;

/// The maximum number of messages that wait for the library, which takes them as fast as the broker
/// does. With the pause of [`FULL`] that is enough for some thousand a second. It is not more,
/// because a waiting message is older than the current value.
pub(super) const QUEUE: usize = 128;

/// The pause after which a full queue is tried again.
pub(super) const FULL: Duration = Duration::from_millis(20);

/// A message to be sent.
pub(super) struct Outgoing<'a> {
    pub(super) topic: &'a str,
    pub(super) qos: u8,
    pub(super) retain: bool,
    pub(super) payload: Vec<u8>,
}

/// The way to the broker.
pub(super) struct Line<'a> {
    pub(super) client: &'a AsyncClient,
    pub(super) ledger: &'a mut Ledger,
}

/// What became of messages, since the start and on this connection.
#[derive(Debug, Default)]
pub(super) struct Ledger {
    /// The number of messages handed to the library since the start.
    pub(super) published: u64,
    /// The number of messages that the broker has refused since the start.
    pub(super) denied: u64,
    /// Whether the broker does not support retained messages.
    keeps_none: bool,
    /// The topics of the messages that the library has not sent yet, in the order in which it will
    /// send them: at most [`QUEUE`].
    waiting: VecDeque<String>,
    /// The number and topic of each message that the broker has not acknowledged yet: as many as
    /// may be under way.
    under_way: Vec<(u16, String)>,
    /// Whether a refused message of this connection was logged.
    is_said: OnChange<bool>,
}

impl Line<'_> {
    /// Hands a message to the library; `false` if there is no room.
    pub(super) fn say(&mut self, said: Outgoing<'_>) -> bool {
        if !self.has_room(1) {
            return false;
        }
        if said.retain && self.ledger.keeps_none {
            // It must not be sent (MQTT 5, 3.2.2.3.5), and the library would drop it without a
            // word.
            self.ledger.deny(said.topic, "it keeps no messages (`retain`)");
            return true;
        }
        let options = PublishOptions::new(qos(said.qos)).retain(said.retain);
        let is_taken = self.client.try_publish(said.topic, said.payload, options).is_ok();
        if is_taken {
            self.ledger.published += 1;
            self.ledger.waiting.push_back(said.topic.to_owned());
        }
        is_taken
    }

    /// Whether there is room for this many messages.
    pub(super) fn has_room(&self, count: usize) -> bool {
        self.ledger.waiting.len() + count <= QUEUE
    }
}

impl Ledger {
    /// Begins a connection: nothing of the one before is under way.
    pub(super) fn begin(&mut self, welcome: &ConnAck) {
        let kept = welcome.properties.as_ref().and_then(|given| given.retain_available);
        *self = Self {
            published: self.published,
            denied: self.denied,
            keeps_none: kept == Some(0),
            ..Self::default()
        };
    }

    /// Notes that the library has sent a packet.
    pub(super) fn sent(&mut self, sent: &Sent) {
        let Sent::Publish(number) = *sent else { return };
        // The library keeps the order of the messages. The number 0 means that the message is not
        // acknowledged.
        let topic = self.waiting.pop_front().filter(|_| number != 0);
        self.under_way.extend(topic.map(|topic| (number, topic)));
    }

    /// Notes that the broker has taken a message, or has refused it.
    pub(super) fn acknowledged(&mut self, answer: &PubAck) {
        let at = self.under_way.iter().position(|(number, _)| *number == answer.pkid);
        let topic = at.map(|at| self.under_way.swap_remove(at).1).unwrap_or_default();
        // Reason codes from there on are errors (MQTT 5, 2.4).
        if answer.reason as u8 >= PubAckReason::UnspecifiedError as u8 {
            self.deny(&topic, &format!("{:?}", answer.reason));
        }
    }

    /// Counts a message that the broker refuses, and logs the first of a connection.
    fn deny(&mut self, topic: &str, why: &str) {
        self.denied += 1;
        if self.is_said.changes_to(true) {
            tracing::warn!(topic, "the broker does not take messages on {topic}: {why}");
        }
    }
}

#[cfg(test)]
mod tests {
    use rumqttc::MqttOptions;

    use super::*;

    /// Sends a message on a topic.
    fn say(ledger: &mut Ledger, client: &AsyncClient, topic: &str, qos: u8) -> bool {
        Line { client, ledger }.say(Outgoing { topic, qos, retain: false, payload: vec![] })
    }

    #[test]
    fn an_acknowledgement_is_about_the_topic_of_its_message() {
        let options = MqttOptions::new("c", rumqttc::Broker::tcp("127.0.0.1", 1));
        let (client, _events) = AsyncClient::builder(options).capacity(QUEUE).build();
        let mut ledger = Ledger::default();
        for (topic, qos) in [("a", 1), ("b", 0), ("c", 1)] {
            assert!(say(&mut ledger, &client, topic, qos));
        }
        for number in [1, 0, 2] {
            ledger.sent(&Sent::Publish(number));
        }
        assert_eq!(ledger.under_way, [(1, "a".to_owned()), (2, "c".to_owned())]);
        let answer = |pkid, reason| PubAck { reason, ..PubAck::new(pkid, None) };
        ledger.acknowledged(&answer(1, PubAckReason::NoMatchingSubscribers));
        assert_eq!((ledger.denied, ledger.under_way.len()), (0, 1));
        ledger.acknowledged(&answer(2, PubAckReason::QuotaExceeded));
        assert_eq!((ledger.denied, ledger.under_way.len()), (1, 0));
    }

    #[test]
    fn there_is_room_until_the_library_has_sent() {
        let options = MqttOptions::new("c", rumqttc::Broker::tcp("127.0.0.1", 1));
        let (client, _events) = AsyncClient::builder(options).capacity(QUEUE).build();
        let mut ledger = Ledger::default();
        let taken = (0..QUEUE + 3).filter(|_| say(&mut ledger, &client, "t", 0)).count();
        assert_eq!((taken, ledger.published), (QUEUE, QUEUE as u64));
        let has_room =
            |ledger: &mut Ledger, count| Line { client: &client, ledger }.has_room(count);
        ledger.sent(&Sent::Publish(0));
        assert!(has_room(&mut ledger, 1) && !has_room(&mut ledger, 2));
    }
}
