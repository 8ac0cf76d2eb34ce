//! The version of the protocol, as the key `version` of a device names it.
//!
//! The default is MQTT 5. Some brokers know only MQTT 3.1.1, for example brokers on small machines
//! and in older gateways. The client does not try the other version by itself: otherwise a short
//! failure of the broker could change which functions are available.
//!
//! `client.rs` has the client of the library for each version.

use serde::Deserialize;

/// The version of the protocol between this client and the broker.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize)]
pub enum Version {
    /// MQTT 5, the default.
    #[default]
    #[serde(rename = "5")]
    V5,
    /// MQTT 3.1.1, for a broker that does not know MQTT 5.
    #[serde(rename = "3.1.1")]
    V311,
}
