//! The client for MQTT 5 and MQTT 3.1.1: it publishes values to a broker and receives commands.
//!
//! ```toml
//! [[device]]
//! name = "broker"
//! driver = "mqtt"
//! connect = "mqtt://127.0.0.1:1883"
//! client_id = "camshaft-1"
//! will = { topic = "plant/status", payload = "offline", retain = true }
//! birth = { topic = "plant/status", payload = "online", retain = true }
//! publish = [
//!   { name = "tank.level", topic = "plant/tank/level", deadband = 0.5, refresh = "10s" },
//! ]
//! [[device.point]]
//! name = "remote.setpoint"
//! direction = "in"
//! type = "f64"
//! at = { topic = "plant/setpoint", expires = "10s" }
//! ```
//! In both directions, a message contains the value of a point after scaling, in the point's
//! engineering unit. Any point or variable can be published. This device has no output points. A
//! command is an input point with an expiry time. When the last value has expired, the quality of
//! the point is bad, and the point's key `on_bad` decides which value programs read. An entry of
//! `set` writes a variable, which keeps the value.
//!
//! Where to look next:
//! - `mqtt/session.rs` is the loop that connects, works and reconnects.
//! - `mqtt/publish.rs` decides when a value is sent.
//! - `mqtt/payload.rs` reads the payload of a command: text or JSON.
//! - `mqtt/command.rs` decides how long a command is valid; `mqtt/set.rs` writes variables.
//! - `mqtt/takeover.rs` lets a new device wait for the end of the old device.
//! - `mqtt/client.rs` has the client of the library for each version of the protocol.
//! - `mqtt/credential.rs` reads certificates and passwords.
//! - `mqtt/sparkplug.rs` implements Sparkplug B on top of the same session.
//!
//! This driver does not support QoS 2 and stores no history. Each message contains the present
//! value, so a duplicate does no harm. Values that could not be sent are not stored for later.
//!
//! This driver uses the maintained fork of rumqttc. The last release of the original rumqttc
//! (0.25.1) has known vulnerabilities (RUSTSEC-2026-0049, -0098, -0099, -0104).

mod broker;
mod client;
mod command;
mod config;
mod credential;
mod line;
mod loss;
mod payload;
mod plain;
mod plan;
mod publish;
mod pulse;
mod refusal;
mod session;
mod set;
pub mod sparkplug;
mod takeover;
mod version;

use std::path::Path;
use std::sync::Arc;

use rumqttc::QoS;
use tokio::task::JoinHandle;

use super::export::Exports;
use super::link::Link;
use super::{Named, OpenError, Part, Plan, Settings};
use crate::logged::OnChange;
use crate::process::image::{Freshness, Points};
use broker::Broker;
use command::Commands;
pub use config::{Assignment, Config, Message, Publication, TopicAddress};
use credential::Credentials;
use line::Ledger;
pub use publish::MessageForm;
use pulse::Pulse;
use session::{Dialect, State};
use takeover::Turn;
pub use version::Version;

impl Settings for Config {
    fn plan(
        &self,
        points: &Arc<Points>,
        device: usize,
        exports: &Exports,
    ) -> Result<Plan, OpenError> {
        let mqtt = Mqtt::plan(self, points, device, exports)?;
        let points = Arc::clone(points);
        Ok(Plan::new(move || Link::start(&points, device, mqtt.freshness(), mqtt)))
    }

    fn settle(&mut self, folder: &Path) {
        let files = [&mut self.password_file, &mut self.ca, &mut self.cert, &mut self.key];
        for file in files.into_iter().flatten() {
            *file = folder.join(&*file);
        }
    }

    fn files(&self) -> Vec<Named> {
        let files = [
            ("ca", &self.ca),
            ("cert", &self.cert),
            ("key", &self.key),
            ("password_file", &self.password_file),
        ];
        files.into_iter().filter_map(|(key, file)| Some((key, file.clone()?))).collect()
    }

    fn shown(&self) -> Vec<(String, &str)> {
        let names = self.publish.iter().map(|said| &*said.name).enumerate();
        let published = names.map(|(n, name)| (format!("publish[{n}].name"), name));
        let set = self.set.iter().enumerate();
        published.chain(set.map(|(n, set)| (format!("set[{n}].name"), &*set.name))).collect()
    }

    fn claim(&self) -> Option<(&'static str, String, &'static str)> {
        let whole = format!("{:?} at {}", self.client_id, self.connect);
        Some((
            "client_id",
            whole,
            "when one of the two devices connects, the broker disconnects the other one",
        ))
    }

    fn works_without_points(&self) -> bool {
        let says = self.will.is_some() || self.birth.is_some();
        says || self.sparkplug.is_some() || !self.publish.is_empty() || !self.set.is_empty()
    }
}

/// The client of one broker.
#[derive(Debug)]
struct Mqtt {
    /// The name of the device.
    name: String,
    broker: Broker,
    /// The right to use the identity of this client. An older device of this process may still have
    /// this right.
    turn: Turn,
    /// The task that reads the certificates, the key and the password from `files`, if a read is in
    /// progress. At most one read is in progress, because a read from a disk that hangs may never
    /// end.
    reading: Option<JoinHandle<Result<Credentials, OpenError>>>,
    /// The credential files that the configuration of this device names, each with its key. Error
    /// messages contain the paths of these files.
    files: Vec<Named>,
    dialect: Box<dyn Dialect>,
    commands: Commands,
    exports: Exports,
    /// The counters of published and refused messages, the messages in the library's queue, and the
    /// sent messages that the broker has not acknowledged yet.
    ledger: Ledger,
    /// `received` is the number of messages that were received after the start of this device.
    /// `connections` is the number of connections that the broker has accepted after the start of
    /// this device.
    received: u64,
    connections: u64,
    state: State,
    /// The check that the broker still answers. `None` until the broker has accepted the
    /// connection.
    pulse: Option<Pulse>,
    /// The reason why the last connection was lost or could not be made. `None` before the first
    /// loss or failed attempt, and from the moment when a new connection is `Connected` until it is
    /// lost.
    trouble: OnChange<Option<String>>,
}

impl Mqtt {
    /// Plans what device number `device` publishes and which commands it receives.
    ///
    /// # Errors
    /// When a part of the configuration cannot work.
    fn plan(
        config: &Config,
        points: &Points,
        device: usize,
        exports: &Exports,
    ) -> Result<Self, OpenError> {
        let broker = Broker::plan(config)?;
        let (dialect, commands) = plan::plan(config, points, device, exports)?;
        Ok(Self {
            name: points.devices().get(device).cloned().unwrap_or_default(),
            broker,
            turn: Turn::default(),
            reading: None,
            files: config.files(),
            dialect,
            commands,
            exports: exports.clone(),
            ledger: Ledger::default(),
            received: 0,
            connections: 0,
            state: State::default(),
            pulse: None,
            trouble: OnChange::default(),
        })
    }

    /// Returns no default age limits for inputs. The key `expires` limits the age of a command, and
    /// the configuration of the point may set other age limits.
    fn freshness(&self) -> Freshness {
        Freshness::default()
    }
}

/// Converts a QoS number of the configuration. The plan has checked that the number is 0 or 1.
const fn qos(level: u8) -> QoS {
    match level {
        0 => QoS::AtMostOnce,
        _ => QoS::AtLeastOnce,
    }
}

/// Makes the status part for a name in `publish` that no point and no variable has.
fn unknown(name: &str) -> Part {
    let state = "no point and no variable has this name".to_owned();
    Part { name: name.to_owned(), ok: false, state, facts: Vec::new() }
}
