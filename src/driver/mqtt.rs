//! MQTT 5: shows values to a broker and takes commands from it.
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
//! Values are in the unit of their point, in both directions. Any point or variable can be shown;
//! outputs of this device there are none. A command is an input whose value ends: after `expires`
//! the point is bad, with what follows from its `on_bad`. When a value is said is in
//! `mqtt/publish.rs`, how long a command counts in `mqtt/command.rs`, and how a connection begins
//! and ends in `mqtt/session.rs`, and what proves who we are in `mqtt/credential.rs`. Over the same
//! session `mqtt/sparkplug.rs` speaks Sparkplug B.
//!
//! There is no QoS 2: values are levels, of which the newest counts, and twice the same does no
//! harm. There is no history of what nobody heard. The library is that fork of rumqttc which is
//! kept: the last release of rumqttc itself (0.25.1) needs certificate code with known weaknesses
//! (RUSTSEC-2026-0049, -0098, -0099, -0104).

mod broker;
mod command;
mod config;
mod credential;
mod dial;
mod line;
mod loss;
mod plain;
mod plan;
mod publish;
mod pulse;
mod session;
pub mod sparkplug;

use rumqttc::QoS;
use tokio::task::JoinHandle;

use super::export::Exports;
use super::{Named, OpenError, Part};
use crate::image::{Freshness, Points};
use broker::Broker;
use command::Commands;
pub use config::{At, Config, Message, Publication};
use credential::Credentials;
use line::Ledger;
pub use publish::Text;
use pulse::Pulse;
use session::{Dialect, State};

/// A client of a broker.
#[derive(Debug)]
pub(super) struct Mqtt {
    /// The device's.
    name: String,
    broker: Broker,
    /// A reading of the broker's files that is under way, one at most: it may never end.
    reading: Option<JoinHandle<Result<Credentials, OpenError>>>,
    /// Those files.
    files: Vec<Named>,
    dialect: Box<dyn Dialect>,
    commands: Commands,
    exports: Exports,
    /// What became of what was said.
    ledger: Ledger,
    /// Messages that were heard since the start, and connections.
    received: u64,
    connections: u64,
    state: State,
    /// Of the connection that there is.
    pulse: Option<Pulse>,
    /// How the connection was lost last, until there is another.
    trouble: Option<String>,
}

impl Mqtt {
    /// Understands what device number `device` says and hears.
    ///
    /// # Errors
    /// When something of it cannot be.
    pub(super) fn plan(
        config: &Config,
        points: &Points,
        device: usize,
        exports: &Exports,
    ) -> Result<Self, OpenError> {
        let broker = Broker::plan(config)?;
        let (dialect, commands) = plan::plan(config, points, device)?;
        Ok(Self {
            name: points.devices().get(device).cloned().unwrap_or_default(),
            broker,
            reading: None,
            files: config.files(),
            dialect,
            commands: Commands::new(commands),
            exports: exports.clone(),
            ledger: Ledger::default(),
            received: 0,
            connections: 0,
            state: State::default(),
            pulse: None,
            trouble: None,
        })
    }

    /// Commands age by their own end, and by the limits of their point.
    pub(super) fn freshness(&self) -> Freshness {
        Freshness::default()
    }
}

/// The level of a message; another one than 0 was checked to be 1.
const fn qos(level: u8) -> QoS {
    match level {
        0 => QoS::AtMostOnce,
        _ => QoS::AtLeastOnce,
    }
}

/// What the status shows of a value that there is none of.
fn unknown(name: &str) -> Part {
    let state = "no point and no variable has this name".to_owned();
    Part { name: name.to_owned(), ok: false, state, facts: Vec::new() }
}
