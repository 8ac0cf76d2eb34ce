//! The reason why a connection has ended, as text, and facts that the next connection needs.
//!
//! The text appears in the log and in the status. The library wraps the errors of the operating
//! system and of TLS in its own error types. This file finds the inner error. `session.rs` decides
//! what to do after a loss.

use std::borrow::Cow;
use std::io;

use rumqttc::{ConnectReturnCode, ConnectionError, DisconnectReasonCode, Error, StateError};
use rumqttc_v4 as v4;

use super::version::Version;

/// The end of a connection, with the reason for the end.
#[derive(Debug, PartialEq)]
pub(super) struct Loss {
    /// The reason, as text for the log and the status.
    pub(super) why: Cow<'static, str>,
    /// Whether the broker may have received a packet of this connection.
    pub(super) was_tried: bool,
    /// Whether another client with the same `client_id` has connected. If this client then connects
    /// again, the broker disconnects the other client, and so the two clients may disconnect each
    /// other again and again.
    pub(super) was_replaced: bool,
    /// How the broker has ended the connection. [`Loss::before_welcome`] uses it.
    manner: Manner,
}

/// The manner in which a broker has ended a connection. It shows whether the broker may know only
/// another version of the protocol.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Manner {
    /// The broker has closed the connection without a word.
    HungUp,
    /// The broker has sent a packet that is not of this version, or has refused this version.
    Foreign,
    /// Any other manner.
    Other,
}

impl Loss {
    pub(super) fn new(why: impl Into<Cow<'static, str>>, was_tried: bool) -> Self {
        Self { why: why.into(), was_tried, was_replaced: false, manner: Manner::Other }
    }

    /// Makes the loss of a connection that the broker has closed, or that the network has reset.
    fn hung_up(why: impl Into<Cow<'static, str>>) -> Self {
        Self { manner: Manner::HungUp, ..Self::new(why, true) }
    }

    /// Makes the loss for an error of a socket. TLS tells its reason, so that is no silent close.
    fn socket(error: &io::Error) -> Self {
        let why = failed(error);
        if why.starts_with("TLS: ") { Self::new(why, true) } else { Self::hung_up(why) }
    }

    /// Completes the reason of a loss on a connection that the broker has not accepted. A broker
    /// that knows only MQTT 3.1.1 closes a connection of MQTT 5, or answers in its own form.
    pub(super) fn before_welcome(self, version: Version) -> Self {
        let why = match self.manner {
            Manner::HungUp => HUNG_UP.into(),
            Manner::Foreign | Manner::Other => self.why,
        };
        let why = match (self.manner, version) {
            (Manner::HungUp | Manner::Foreign, Version::V5) => format!("{why}; {OLDER}").into(),
            (Manner::Foreign, Version::V311) => format!("{why}; {NEWER}").into(),
            _ => why,
        };
        Self { why, ..self }
    }
}

impl From<ConnectionError> for Loss {
    fn from(error: ConnectionError) -> Self {
        match error {
            // The library returns this error only before the first MQTT packet. It returns a later
            // error of the socket as `ConnectionError::MqttState`.
            ConnectionError::Io(error) => Self::new(failed(&error), false),
            ConnectionError::Tls(error) => Self::new(format!("TLS: {error}"), false),
            ConnectionError::Timeout(_) => Self::new(NO_ANSWER, true),
            ConnectionError::ConnectionRefused(code) => {
                let is_foreign = code == ConnectReturnCode::UnsupportedProtocolVersion;
                let manner = if is_foreign { Manner::Foreign } else { Manner::Other };
                let why = format!("the broker refuses this client: {code:?}");
                Self { manner, ..Self::new(why, true) }
            }
            ConnectionError::NotConnAck(_) => {
                Self::new("the first packet of the broker is not a CONNACK", true)
            }
            ConnectionError::MqttState(error) => error.into(),
            error => Self::new(error.to_string(), true),
        }
    }
}

impl From<v4::ConnectionError> for Loss {
    fn from(error: v4::ConnectionError) -> Self {
        match error {
            v4::ConnectionError::Io(error) => Self::new(failed(&error), false),
            v4::ConnectionError::Tls(error) => Self::new(format!("TLS: {error}"), false),
            v4::ConnectionError::NetworkTimeout => Self::new(NO_ANSWER, true),
            v4::ConnectionError::FlushTimeout => {
                Self::new("the broker accepts no data within connect_timeout", true)
            }
            v4::ConnectionError::ConnectionRefused(code) => {
                let is_foreign = code == v4::ConnectReturnCode::RefusedProtocolVersion;
                let manner = if is_foreign { Manner::Foreign } else { Manner::Other };
                let why = format!("the broker refuses this client: {code:?}");
                Self { manner, ..Self::new(why, true) }
            }
            v4::ConnectionError::NotConnAck(_) => {
                Self::new("the first packet of the broker is not a CONNACK", true)
            }
            v4::ConnectionError::MqttState(error) => error.into(),
            error => Self::new(error.to_string(), true),
        }
    }
}

impl From<v4::StateError> for Loss {
    fn from(error: v4::StateError) -> Self {
        let why: Cow<'static, str> = match error {
            v4::StateError::AwaitPingResp => SILENT.into(),
            v4::StateError::ConnectionAborted => return Self::hung_up(CLOSED),
            v4::StateError::Io(error) | v4::StateError::Deserialization(v4::Error::Io(error)) => {
                return Self::socket(&error);
            }
            v4::StateError::Deserialization(error) => {
                let why = format!("the broker does not speak MQTT 3.1.1: {error}");
                return Self { manner: Manner::Foreign, ..Self::new(why, true) };
            }
            v4::StateError::Unsolicited(_) => NEVER_SENT.into(),
            error => error.to_string().into(),
        };
        Self::new(why, true)
    }
}

impl From<StateError> for Loss {
    fn from(error: StateError) -> Self {
        let why: Cow<'static, str> = match error {
            StateError::AwaitPingResp => SILENT.into(),
            // The library also returns this error for a DISCONNECT without properties. MQTT 5
            // (3.14.2.2.1) allows such a packet, and Mosquitto sends it, but the library cannot
            // parse it.
            StateError::ConnectionAborted => return Self::hung_up(CLOSED),
            StateError::ServerDisconnect { reason_code, .. } => {
                let was_replaced = reason_code == DisconnectReasonCode::SessionTakenOver;
                let why = match was_replaced {
                    true => "another client has connected with the same client_id".into(),
                    false => format!("the broker ends the connection: {reason_code:?}"),
                };
                return Self { was_replaced, ..Self::new(why, true) };
            }
            StateError::Io(error) | StateError::Deserialization(Error::Io(error)) => {
                return Self::socket(&error);
            }
            StateError::OutgoingPacketTooLarge { pkt_size, max } => {
                format!("a message has {pkt_size} bytes; the broker accepts at most {max}").into()
            }
            StateError::Deserialization(Error::PayloadSizeLimitExceeded { pkt_size, max }) => {
                format!("the broker sends a message of {pkt_size} bytes; the limit is {max}").into()
            }
            StateError::Unsolicited(_) => NEVER_SENT.into(),
            StateError::Deserialization(error) => {
                let why = format!("the broker does not speak MQTT 5: {error}");
                return Self { manner: Manner::Foreign, ..Self::new(why, true) };
            }
            error => error.to_string().into(),
        };
        Self::new(why, true)
    }
}

/// The reason of a loss when the connection was not made within `connect_timeout`.
pub(super) const NO_ANSWER: &str = "no answer from the broker within connect_timeout";

/// The reason of a loss when the broker does not answer a ping.
const SILENT: &str = "no answer from the broker within keep_alive";

/// The reason of a loss when the broker closes a connection that it has accepted.
const CLOSED: &str = "the broker has closed the connection";

/// The reason of a loss when the broker acknowledges an unknown message.
const NEVER_SENT: &str = "the broker acknowledges a message that was never sent";

/// The reason of a loss when the broker closes a connection that it has not accepted.
const HUNG_UP: &str = "the broker closed the connection before it answered the CONNECT";

/// The remedy if the broker may not know MQTT 5.
const OLDER: &str = "a broker that speaks only MQTT 3.1.1 does so: set `version = \"3.1.1\"`";

/// The remedy if the broker may not know MQTT 3.1.1.
const NEWER: &str = "a broker that speaks only MQTT 5 does so: remove `version`";

/// Returns the text of a socket error. The text begins with "TLS: " if TLS caused the error.
fn failed(error: &io::Error) -> String {
    let is_tls = error.get_ref().is_some_and(|inner| inner.is::<rustls::Error>());
    format!("{}{error}", if is_tls { "TLS: " } else { "" })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn losses_are_told_in_plain_words() {
        fn check(error: StateError, expected: &str) {
            let loss = Loss::from(ConnectionError::MqttState(error));
            assert_eq!((&*loss.why, loss.was_tried, loss.was_replaced), (expected, true, false));
        }
        let reset = || io::Error::from_raw_os_error(104);
        let expected = "Connection reset by peer (os error 104)";
        check(StateError::Deserialization(Error::Io(reset())), expected);
        check(StateError::Io(reset()), expected);
        let alert = rustls::Error::AlertReceived(rustls::AlertDescription::UnknownCA);
        let alert = io::Error::new(io::ErrorKind::InvalidData, alert);
        let expected = "TLS: received fatal alert: UnknownCA";
        check(StateError::Deserialization(Error::Io(alert)), expected);
        let large = StateError::OutgoingPacketTooLarge { pkt_size: 300, max: 256 };
        check(large, "a message has 300 bytes; the broker accepts at most 256");
        let large = Error::PayloadSizeLimitExceeded { pkt_size: 70_000, max: 65_536 };
        let large = StateError::Deserialization(large);
        check(large, "the broker sends a message of 70000 bytes; the limit is 65536");
        let malformed = StateError::Deserialization(Error::InvalidPacketType(15));
        check(malformed, "the broker does not speak MQTT 5: Invalid packet type = 15");
        check(StateError::Unsolicited(7), "the broker acknowledges a message that was never sent");
    }

    #[test]
    fn a_broker_of_another_version_is_told() {
        fn check(loss: impl Into<Loss>, version: Version, expected: &str) {
            assert_eq!(loss.into().before_welcome(version).why, expected);
        }
        let hung_up = "the broker closed the connection before it answered the CONNECT";
        let older = "a broker that speaks only MQTT 3.1.1 does so: set `version = \"3.1.1\"`";
        let reset = || io::Error::from_raw_os_error(104);
        let both = format!("{hung_up}; {older}");
        check(StateError::ConnectionAborted, Version::V5, &both);
        check(StateError::Deserialization(Error::Io(reset())), Version::V5, &both);
        check(v4::StateError::ConnectionAborted, Version::V311, hung_up);
        check(v4::StateError::Io(reset()), Version::V311, hung_up);
        let foreign = StateError::Deserialization(Error::MalformedPacket);
        let expected = format!("the broker does not speak MQTT 5: Packet is malformed; {older}");
        check(foreign, Version::V5, &expected);
        let code = ConnectReturnCode::UnsupportedProtocolVersion;
        let expected =
            format!("the broker refuses this client: UnsupportedProtocolVersion; {older}");
        check(ConnectionError::ConnectionRefused(code), Version::V5, &expected);
        let code = ConnectReturnCode::BadUserNamePassword;
        let expected = "the broker refuses this client: BadUserNamePassword";
        check(ConnectionError::ConnectionRefused(code), Version::V5, expected);
        let code = v4::ConnectReturnCode::RefusedProtocolVersion;
        let expected = "the broker refuses this client: RefusedProtocolVersion; a broker that \
                        speaks only MQTT 5 does so: remove `version`";
        check(v4::ConnectionError::ConnectionRefused(code), Version::V311, expected);
    }
}
