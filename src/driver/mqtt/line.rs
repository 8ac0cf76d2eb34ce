//! The outgoing messages: those in the library's queue, and those that the broker has not
//! acknowledged.
//!
//! The library accepts a message into its queue at once and sends the message later. This file
//! counts the messages in that queue. A [`Dialect`](super::session::Dialect) uses this count to
//! check whether the queue has room for another message. The dialect decides what to send, and
//! when.
//!
//! ```text
//! say --> waiting (topics) --> sent --> under_way (number, topic) --> acknowledged, or denied
//!                                  \--> QoS 0: no acknowledgement
//! ```
//! A broker that refuses a message returns only the number of the message. With the list
//! `under_way`, the log line about the refusal can contain the topic.

use std::collections::VecDeque;
use std::time::Duration;

use rumqttc::{ConnAck, Outgoing as Sent, PubAck, PubAckReason};

use super::client::Client;
use super::qos;
use crate::logged::OnChange;

/// The maximum number of messages in the library's queue. The library sends these messages as fast
/// as the broker accepts them. With the pause of [`FULL`], this size allows some thousand messages
/// a second. In a longer queue, each value would only wait longer.
pub(super) const QUEUE: usize = 128;

/// If the queue is full, the client waits for this time before it tries to send the message again.
pub(super) const FULL: Duration = Duration::from_millis(20);

/// A message to be sent.
pub(super) struct Outgoing<'a> {
    pub(super) topic: &'a str,
    pub(super) qos: u8,
    /// Whether the broker retains the message for clients that subscribe later.
    pub(super) retain: bool,
    pub(super) payload: Vec<u8>,
}

/// The access to the library: the handle that accepts messages, and the counts of messages.
pub(super) struct Line<'a> {
    /// The library's handle, which accepts messages without waiting.
    pub(super) client: &'a Client,
    /// The record of the messages in the library's queue, and of the unacknowledged messages.
    pub(super) ledger: &'a mut Ledger,
}

/// The counts of messages since the start of the device, and the messages of this connection.
#[derive(Debug, Default)]
pub(super) struct Ledger {
    /// The number of messages that the library has accepted since the start of the device.
    pub(super) published: u64,
    /// The number of messages that were refused since the start of the device: by the broker, or by
    /// [`Line::send`] because the broker does not support retained messages.
    pub(super) denied: u64,
    /// Whether the broker does not support retained messages. Each accepted connection sets this
    /// field again.
    keeps_none: bool,
    /// The topics of the messages that the library has not sent yet, in the order of sending. There
    /// are at most [`QUEUE`] topics.
    waiting: VecDeque<String>,
    /// The packet number and topic of each sent message of QoS 1 that the broker has not
    /// acknowledged yet.
    under_way: Vec<(u16, String)>,
    /// Whether a refused message was logged on this connection.
    is_sent: OnChange<bool>,
}

impl Line<'_> {
    /// Passes a message to the library. Returns `false` if the queue has no room or the library
    /// does not accept the message. If the broker does not support retained messages, a message
    /// with `retain` is dropped and counted as refused, and the function returns `true`.
    pub(super) fn send(&mut self, said: Outgoing<'_>) -> bool {
        if !self.has_room(1) {
            return false;
        }
        if said.retain && self.ledger.keeps_none {
            // The broker does not support `retain`. Therefore MQTT 5 (3.2.2.3.5) forbids this
            // message, and the library would drop it without an error.
            self.ledger
                .deny(said.topic, "the broker does not support retained messages (`retain`)");
            return true;
        }
        let Outgoing { topic, qos: level, retain, payload } = said;
        let is_taken = self.client.try_publish(topic, payload, qos(level), retain);
        if is_taken {
            self.ledger.published += 1;
            self.ledger.waiting.push_back(topic.to_owned());
        }
        is_taken
    }

    /// Whether the queue has room for `count` more messages.
    pub(super) fn has_room(&self, count: usize) -> bool {
        self.ledger.waiting.len() + count <= QUEUE
    }
}

impl Ledger {
    /// Begins a connection: empties the lists, retains the counts since the start of the device,
    /// and records whether the broker supports retained messages.
    pub(super) fn begin(&mut self, welcome: &ConnAck) {
        let kept = welcome.properties.as_ref().and_then(|given| given.retain_available);
        *self = Self {
            published: self.published,
            denied: self.denied,
            keeps_none: kept == Some(0),
            ..Self::default()
        };
    }

    /// Records that the library has sent a packet.
    pub(super) fn sent(&mut self, sent: &Sent) {
        let Sent::Publish(number) = *sent else { return };
        // The library sends the messages in the order of `waiting`. The number 0 means QoS 0: the
        // broker sends no acknowledgement.
        let topic = self.waiting.pop_front().filter(|_| number != 0);
        self.under_way.extend(topic.map(|topic| (number, topic)));
    }

    /// Records that the broker has accepted or refused a message.
    pub(super) fn acknowledged(&mut self, answer: &PubAck) {
        let at = self.under_way.iter().position(|(number, _)| *number == answer.pkid);
        let topic = at.map(|at| self.under_way.swap_remove(at).1).unwrap_or_default();
        // `UnspecifiedError` and all greater reason codes are errors (MQTT 5, 2.4).
        if answer.reason as u8 >= PubAckReason::UnspecifiedError as u8 {
            self.deny(&topic, &format!("{:?}", answer.reason));
        }
    }

    /// Counts a refused message, and logs the first refused message of each connection.
    fn deny(&mut self, topic: &str, why: &str) {
        self.denied += 1;
        if self.is_sent.changes_to(true) {
            tracing::warn!(topic, "the broker refuses messages on {topic}: {why}");
        }
    }
}

#[cfg(test)]
mod tests {
    use rumqttc::{AsyncClient, EventLoop, MqttOptions};

    use super::*;

    /// Sends a message on a topic.
    fn send(ledger: &mut Ledger, client: &Client, topic: &str, qos: u8) -> bool {
        Line { client, ledger }.send(Outgoing { topic, qos, retain: false, payload: vec![] })
    }

    /// Makes a handle of the library. Its event loop is returned too, because without it the handle
    /// accepts nothing.
    fn client() -> (Client, EventLoop) {
        let options = MqttOptions::new("c", rumqttc::Broker::tcp("127.0.0.1", 1));
        let (client, events) = AsyncClient::builder(options).capacity(QUEUE).build();
        (Client::V5(client), events)
    }

    #[test]
    fn an_acknowledgement_is_about_the_topic_of_its_message() {
        let (client, _events) = client();
        let mut ledger = Ledger::default();
        for (topic, qos) in [("a", 1), ("b", 0), ("c", 1)] {
            assert!(send(&mut ledger, &client, topic, qos));
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
        let (client, _events) = client();
        let mut ledger = Ledger::default();
        let taken = (0..QUEUE + 3).filter(|_| send(&mut ledger, &client, "t", 0)).count();
        assert_eq!((taken, ledger.published), (QUEUE, QUEUE as u64));
        let has_room =
            |ledger: &mut Ledger, count| Line { client: &client, ledger }.has_room(count);
        ledger.sent(&Sent::Publish(0));
        assert!(has_room(&mut ledger, 1) && !has_room(&mut ledger, 2));
    }
}
