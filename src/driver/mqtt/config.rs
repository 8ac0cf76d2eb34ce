//! The keys of a `[[device]]` that is a broker.
//!
//! This file only parses them. `plan.rs` and `broker.rs` check their values and which of them go
//! together.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::Duration;

use serde::Deserialize;

use super::publish::Text;
use super::sparkplug;
use crate::driver::duration;

/// A `[[device]]` of this driver.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Config {
    /// `mqtt://host:port`, or `mqtts://` for TLS.
    pub connect: String,
    /// The name of this client. If two clients have the same name, the broker disconnects one of
    /// them.
    pub client_id: String,
    /// The user name, if the broker wants one.
    pub username: Option<String>,
    /// The file whose first line is the password.
    pub password_file: Option<PathBuf>,
    /// The certificates of the authorities to trust, in PEM.
    pub ca: Option<PathBuf>,
    /// The client's own certificate, if the broker wants one.
    pub cert: Option<PathBuf>,
    /// The private key of that certificate.
    pub key: Option<PathBuf>,
    /// The silence of the broker after which the client asks it for an answer. After as long again
    /// without an answer the connection is lost. The broker waits for the client 1.5 times as long
    /// as this (MQTT 5, 3.1.2.10). If the broker names another time when it accepts the connection,
    /// that time counts.
    #[serde(default = "half_a_minute", with = "duration")]
    pub keep_alive: Duration,
    /// The time limit for making a connection, and for the answer to a subscription.
    #[serde(default = "five_seconds", with = "duration")]
    pub connect_timeout: Duration,
    /// The message that the broker publishes when it loses this client.
    pub will: Option<Message>,
    /// The message that the client publishes first.
    pub birth: Option<Message>,
    /// The settings of Sparkplug B, if it replaces the topics that the configuration chooses.
    pub sparkplug: Option<sparkplug::Config>,
    /// The values that are published.
    #[serde(default)]
    pub publish: Vec<Publication>,
    /// The key `at` of each point, by the point's name: how its commands come.
    #[serde(default)]
    pub at: BTreeMap<String, At>,
}

fn half_a_minute() -> Duration {
    Duration::from_secs(30)
}

fn five_seconds() -> Duration {
    Duration::from_secs(5)
}

/// A message that never changes.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Message {
    /// The topic.
    pub topic: String,
    /// The payload.
    pub payload: String,
    /// The QoS: 0 for at most once, 1 for at least once.
    #[serde(default = "one")]
    pub qos: u8,
    /// Whether the broker retains it for clients that subscribe later.
    #[serde(default)]
    pub retain: bool,
}

fn one() -> u8 {
    1
}

/// A value that is published. Without `every` it is sent when it changes.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Publication {
    /// The name of the point or variable.
    pub name: String,
    /// The topic; not with Sparkplug.
    pub topic: Option<String>,
    /// The name of the metric in Sparkplug, if it is not `name`.
    pub metric: Option<String>,
    /// The QoS: 0 for at most once, 1 for at least once.
    pub qos: Option<u8>,
    /// Whether the broker retains it for clients that subscribe later.
    pub retain: Option<bool>,
    /// The form of the payload.
    pub payload: Option<Text>,
    /// A number has changed when it differs by more than this from the one sent last.
    pub deadband: Option<f64>,
    /// The shortest time between two messages.
    #[serde(default, deserialize_with = "duration::some")]
    pub min_interval: Option<Duration>,
    /// The time after which the value is sent again, changed or not.
    #[serde(default, deserialize_with = "duration::some")]
    pub refresh: Option<Duration>,
    /// The period in which the value is sent. It is then not sent when it changes.
    #[serde(default, deserialize_with = "duration::some")]
    pub every: Option<Duration>,
}

/// The key `at` of a point.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct At {
    /// The topic of the commands to this point; not with Sparkplug.
    pub topic: Option<String>,
    /// The name of the metric in Sparkplug, if it is not the point's name.
    pub metric: Option<String>,
    /// The QoS: 0 for at most once, 1 for at least once.
    pub qos: Option<u8>,
    /// How long a command is valid: from the instant that its sender gives or, without one, from
    /// its arrival.
    #[serde(with = "duration")]
    pub expires: Duration,
    /// Whether a retained message counts as a command. It may be a year old. One that was received
    /// before does not count again.
    pub retained: Option<bool>,
}
