//! The client of the library for each protocol version: MQTT 5, and MQTT 3.1.1 for brokers that do
//! not know MQTT 5.
//!
//! The library has one package for each version. The types of the MQTT 5 package are the common
//! types of this driver: this file converts the events of MQTT 3.1.1 to them. MQTT 3.1.1 lacks some
//! functions, and then the converted packet has no properties:
//! - A message has no expiry interval, so only `expires` and the time in the payload limit it.
//! - A subscription cannot refuse retained messages. `plain.rs` ignores them where they are no
//!   commands.
//! - The broker does not say why it refuses a message or ends a connection.
//!
//! `broker.rs` makes the options of both clients. `session.rs` decides what is sent.

use std::time::Duration;

use rumqttc::{
    AsyncClient, ClientError, ConnAck, ConnectReturnCode, Event, EventLoop, LastWill, Outgoing,
    Packet, PubAck, Publish, PublishOptions, SubAck, SubscribeFilter, SubscribeReasonCode,
};
use rumqttc_v4 as v4;
use tokio::time::timeout;

use super::loss::{Loss, NO_ANSWER};

/// The handle that accepts packets for the broker without waiting.
#[derive(Debug)]
pub(super) enum Client {
    /// The handle of MQTT 5.
    V5(AsyncClient),
    /// The handle of MQTT 3.1.1.
    V311(v4::AsyncClient),
}

/// The event loop of the library, which makes the connection and exchanges the packets.
pub(super) enum Events {
    /// The event loop of MQTT 5.
    V5(Box<EventLoop>),
    /// The event loop of MQTT 3.1.1.
    V311 {
        /// The event loop of the library.
        events: Box<v4::EventLoop>,
        /// The time limit for the connection. `None` as soon as the broker has accepted it. The
        /// library itself counts this time in whole seconds.
        connect_within: Option<Duration>,
    },
}

impl Client {
    /// Passes a message to the library. Returns `false` if the library does not accept it.
    pub(super) fn try_publish(
        &self,
        topic: &str,
        payload: Vec<u8>,
        qos: rumqttc::QoS,
        retain: bool,
    ) -> bool {
        match self {
            Self::V5(client) => {
                let options = PublishOptions::new(qos).retain(retain);
                client.try_publish(topic, payload, options).is_ok()
            }
            Self::V311(client) => {
                let options = v4::PublishOptions::new(qos).retain(retain);
                client.try_publish(topic, payload, options).is_ok()
            }
        }
    }

    /// Passes a request for subscriptions to the library.
    ///
    /// # Errors
    /// When the library does not accept the request.
    pub(super) fn try_subscribe(&self, filters: Vec<SubscribeFilter>) -> Result<(), Loss> {
        match self {
            Self::V5(client) => client.try_subscribe_many(filters).map_err(|e| refused(&e)),
            Self::V311(client) => {
                let plain =
                    |filter: SubscribeFilter| v4::SubscribeFilter::new(filter.path, filter.qos);
                let asked = client.try_subscribe_many(filters.into_iter().map(plain));
                asked.map_err(|error| Loss::new(error.to_string(), true))
            }
        }
    }

    /// Passes a request to end a subscription to the library. If the queue of the library is full,
    /// the request is dropped.
    pub(super) fn try_unsubscribe(&self, filter: &str) {
        let _ = match self {
            Self::V5(client) => client.try_unsubscribe(filter).is_ok(),
            Self::V311(client) => client.try_unsubscribe(filter).is_ok(),
        };
    }
}

/// Makes the loss for a request that the library does not accept.
fn refused(error: &ClientError) -> Loss {
    Loss::new(error.to_string(), true)
}

/// Polls the library once. Returns its event loop and the event.
pub(super) async fn step(mut events: Events) -> (Events, Result<Event, Loss>) {
    let event = match &mut events {
        Events::V5(events) => events.poll().await.map_err(Loss::from),
        Events::V311 { events, connect_within } => {
            let polled = match connect_within.take() {
                None => Ok(events.poll().await),
                // A poll can be dropped here, because its connection ends with it.
                Some(limit) => timeout(limit, events.poll()).await,
            };
            match polled {
                Ok(event) => event.map(event_of).map_err(Loss::from),
                Err(_) => Err(Loss::new(NO_ANSWER, true)),
            }
        }
    };
    (events, event)
}

/// Converts an event of MQTT 3.1.1.
fn event_of(event: v4::Event) -> Event {
    match event {
        v4::Event::Incoming(packet) => Event::Incoming(packet_of(packet)),
        v4::Event::Outgoing(v4::Outgoing::Publish(number)) => {
            Event::Outgoing(Outgoing::Publish(number))
        }
        v4::Event::Outgoing(v4::Outgoing::PingReq) => Event::Outgoing(Outgoing::PingReq),
        // The other outgoing packets change nothing in `session.rs`.
        v4::Event::Outgoing(_) => Event::Outgoing(Outgoing::PingResp),
    }
}

/// Converts a received packet of MQTT 3.1.1.
fn packet_of(packet: v4::Packet) -> Packet {
    match packet {
        v4::Packet::ConnAck(welcome) => Packet::ConnAck(ConnAck {
            session_present: welcome.session_present,
            code: ConnectReturnCode::Success,
            properties: None,
        }),
        v4::Packet::Publish(said) => Packet::Publish(Publish {
            dup: said.dup,
            qos: said.qos,
            retain: said.retain,
            topic: said.topic,
            pkid: said.pkid,
            payload: said.payload,
            properties: None,
        }),
        v4::Packet::PubAck(answer) => Packet::PubAck(PubAck::new(answer.pkid, None)),
        v4::Packet::SubAck(answer) => {
            let code = |code| match code {
                v4::SubscribeReasonCode::Success(qos) => SubscribeReasonCode::Success(qos),
                v4::SubscribeReasonCode::Failure => SubscribeReasonCode::Failure,
            };
            let return_codes = answer.return_codes.into_iter().map(code).collect();
            Packet::SubAck(SubAck { pkid: answer.pkid, return_codes, properties: None })
        }
        // The other packets only show that the broker answers.
        _ => Packet::PingResp,
    }
}

/// Converts a will to MQTT 3.1.1.
pub(super) fn will_of(will: &LastWill) -> v4::LastWill {
    let topic = String::from_utf8_lossy(&will.topic);
    v4::LastWill::new(topic, will.message.to_vec(), will.qos, will.retain)
}
