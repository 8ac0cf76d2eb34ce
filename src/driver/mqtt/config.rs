//! The keys of a `[[device]]` with `driver = "mqtt"`.
//!
//! This file only parses the keys. `plan.rs`, `broker.rs`, `credential.rs` and
//! `sparkplug/config.rs` check the values, and check which keys may be used together.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::Duration;

use serde::Deserialize;

use super::publish::MessageForm;
use super::sparkplug;
use super::version::Version;
use crate::driver::duration;

/// The keys of one MQTT device.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Config {
    /// The address of the broker: `mqtt://host:port`, or `mqtts://host:port` for TLS.
    pub connect: String,
    /// The identity of this client. Each client of a broker must have a different `client_id`. If
    /// two clients have the same `client_id`, the broker disconnects the client that connected
    /// first.
    pub client_id: String,
    /// The version of the protocol. `5` is the default. `3.1.1` is for a broker that does not know
    /// MQTT 5. With `3.1.1` a message has no expiry interval.
    #[serde(default)]
    pub version: Version,
    /// The user name, if the broker requires one.
    pub username: Option<String>,
    /// The file with the password. The password is the first line of the file.
    pub password_file: Option<PathBuf>,
    /// The file with the certificates of the trusted authorities, in PEM.
    pub ca: Option<PathBuf>,
    /// The file with the certificate of this client, if the broker requires one.
    pub cert: Option<PathBuf>,
    /// The file with the private key of the certificate in `cert`.
    pub key: Option<PathBuf>,
    /// If the client receives no packet from the broker for this time plus 0.1 s, the client asks
    /// for an answer. If the client receives no packet for twice this time, the client ends the
    /// connection. The broker ends the connection if this client sends no packet for 1.5 times
    /// `keep_alive` (MQTT 5, 3.1.2.10). When the broker accepts the connection, it may set another
    /// time. If that time is not 0, it replaces `keep_alive`.
    #[serde(default = "half_a_minute", with = "duration")]
    pub keep_alive: Duration,
    /// The time limit for making the connection, and for the answer to each packet of
    /// subscriptions.
    #[serde(default = "five_seconds", with = "duration")]
    pub connect_timeout: Duration,
    /// The message that the broker publishes when it loses the connection to this client.
    pub will: Option<Message>,
    /// The message that the client publishes first on each connection.
    pub birth: Option<Message>,
    /// The settings of Sparkplug B. If this key is set, Sparkplug defines the topics.
    pub sparkplug: Option<sparkplug::Config>,
    /// The values that are published.
    #[serde(default)]
    pub publish: Vec<Publication>,
    /// The variables that other clients of the broker can write.
    #[serde(default)]
    pub set: Vec<Assignment>,
    /// For each point, by its name, the value of its key `at`: how commands to the point arrive.
    #[serde(default)]
    pub at: BTreeMap<String, TopicAddress>,
}

fn half_a_minute() -> Duration {
    Duration::from_secs(30)
}

fn five_seconds() -> Duration {
    Duration::from_secs(5)
}

/// A message with a fixed topic and payload.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Message {
    /// The topic of the message.
    pub topic: String,
    /// The payload, as text.
    pub payload: String,
    /// The QoS: 0 for at most once, 1 for at least once.
    #[serde(default = "one")]
    pub qos: u8,
    /// Whether the broker retains the message for clients that subscribe later.
    #[serde(default)]
    pub retain: bool,
}

fn one() -> u8 {
    1
}

/// A value that is published. If `every` is not set, the value is sent when it changes.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Publication {
    /// The name of the point or variable.
    pub name: String,
    /// The topic. With Sparkplug this key must not be set.
    pub topic: Option<String>,
    /// The name of the metric in Sparkplug. The default is `name`.
    pub metric: Option<String>,
    /// The QoS: 0 for at most once, 1 for at least once.
    pub qos: Option<u8>,
    /// Whether the broker retains the last message for clients that subscribe later.
    pub retain: Option<bool>,
    /// The format of the payload.
    pub payload: Option<MessageForm>,
    /// A changed number is sent only if it differs from the last sent number by more than
    /// `deadband`. `deadband` does not apply to a change of the quality, and not to a change to or
    /// from NaN.
    pub deadband: Option<f64>,
    /// The shortest time between two messages of this value.
    #[serde(default, deserialize_with = "duration::some")]
    pub min_interval: Option<Duration>,
    /// The longest time between two messages of this value. After this time the value is sent even
    /// without a change.
    #[serde(default, deserialize_with = "duration::some")]
    pub refresh: Option<Duration>,
    /// The period with which the value is sent. With this key, a change of the value causes no
    /// message.
    #[serde(default, deserialize_with = "duration::some")]
    pub every: Option<Duration>,
}

/// A variable that other clients of the broker can write. The variable keeps the value until it is
/// written again; a command that expires is a point.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Assignment {
    /// The name of the variable. The variable must exist when a message arrives.
    pub name: String,
    /// The topic of the messages. Points may have the same topic.
    pub topic: String,
    /// The path of the value in a JSON payload, such as `battery.level`. Without this key, the
    /// payload is the value itself, or a JSON object with the member `value`.
    pub json: Option<String>,
    /// The QoS: 0 for at most once, 1 for at least once.
    #[serde(default = "one")]
    pub qos: u8,
    /// Whether a retained message is used, as with the key `retained` of a point.
    #[serde(default)]
    pub retained: bool,
}

/// The key `at` of a point: how commands to this point arrive.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TopicAddress {
    /// The topic of the commands to this point. Several points may have the same topic; each of
    /// them gets its value from each message. With Sparkplug this key must not be set.
    pub topic: Option<String>,
    /// The name of the metric in Sparkplug. The default is the name of the point.
    pub metric: Option<String>,
    /// The path of the value in a JSON payload, such as `battery.level`. Without this key, the
    /// payload is the value itself, or a JSON object with the member `value`. With Sparkplug this
    /// key must not be set.
    pub json: Option<String>,
    /// The QoS: 0 for at most once, 1 for at least once.
    pub qos: Option<u8>,
    /// The longest time for which a command is valid. This time begins at the time of sending, if
    /// the sender has put that time into the message. Otherwise it begins when the message arrives.
    #[serde(with = "duration")]
    pub expires: Duration,
    /// Whether a retained message is used as a command. A retained message may be very old. A
    /// retained message is ignored if its payload equals the payload of the last retained message,
    /// or of the last message that was not retained, on this topic.
    pub retained: Option<bool>,
}
