//! Why a connection has ended, in words for people, and what follows for the next one.
//!
//! The words stand in the log and the status. What is done about it is `session.rs`'s affair.

use std::borrow::Cow;

use rumqttc::{ConnectionError, DisconnectReasonCode, StateError};

/// Why a connection has ended.
#[derive(Debug, PartialEq)]
pub(super) struct Loss {
    pub(super) why: Cow<'static, str>,
    /// The broker may have heard of us.
    pub(super) was_tried: bool,
    /// Another client has our name, and will be back if it is thrown out as well.
    pub(super) was_replaced: bool,
}

impl Loss {
    pub(super) fn new(why: impl Into<Cow<'static, str>>, was_tried: bool) -> Self {
        Self { why: why.into(), was_tried, was_replaced: false }
    }
}

impl From<ConnectionError> for Loss {
    fn from(error: ConnectionError) -> Self {
        match error {
            // Before the first packet of MQTT; later ones come as errors of its state.
            ConnectionError::Io(error) => Self::new(error.to_string(), false),
            ConnectionError::Tls(error) => Self::new(format!("TLS: {error}"), false),
            ConnectionError::Timeout(_) => Self::new("no answer within connect_timeout", true),
            ConnectionError::ConnectionRefused(code) => {
                Self::new(format!("the broker refuses us: {code:?}"), true)
            }
            ConnectionError::MqttState(StateError::AwaitPingResp) => {
                Self::new("no answer within keep_alive", true)
            }
            // Also what is left of a DISCONNECT without properties, which MQTT 5 (3.14.2.2.1)
            // allows and the library does not: Mosquitto sends such.
            ConnectionError::MqttState(StateError::ConnectionAborted) => {
                Self::new("the broker has hung up", true)
            }
            ConnectionError::MqttState(StateError::ServerDisconnect { reason_code, .. }) => {
                let was_replaced = reason_code == DisconnectReasonCode::SessionTakenOver;
                let why = match was_replaced {
                    true => "another client has our client_id".into(),
                    false => format!("the broker throws us out: {reason_code:?}"),
                };
                Self { was_replaced, ..Self::new(why, true) }
            }
            error => Self::new(error.to_string(), true),
        }
    }
}
