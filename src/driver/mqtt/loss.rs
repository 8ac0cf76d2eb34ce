//! The reason why a connection has ended, as text, and facts that the next connection needs.
//!
//! The text appears in the log and in the status. The library wraps the errors of the operating
//! system and of TLS in its own error types. This file finds the inner error. `session.rs` decides
//! what to do after a loss.

use std::borrow::Cow;
use std::io;

use rumqttc::{ConnectionError, DisconnectReasonCode, Error, StateError};

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
}

impl Loss {
    pub(super) fn new(why: impl Into<Cow<'static, str>>, was_tried: bool) -> Self {
        Self { why: why.into(), was_tried, was_replaced: false }
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
                Self::new(format!("the broker refuses this client: {code:?}"), true)
            }
            ConnectionError::NotConnAck(_) => {
                Self::new("the first packet of the broker is not a CONNACK", true)
            }
            ConnectionError::MqttState(error) => error.into(),
            error => Self::new(error.to_string(), true),
        }
    }
}

impl From<StateError> for Loss {
    fn from(error: StateError) -> Self {
        let why: Cow<'static, str> = match error {
            StateError::AwaitPingResp => "no answer from the broker within keep_alive".into(),
            // The library also returns this error for a DISCONNECT without properties. MQTT 5
            // (3.14.2.2.1) allows such a packet, and Mosquitto sends it, but the library cannot
            // parse it.
            StateError::ConnectionAborted => "the broker has closed the connection".into(),
            StateError::ServerDisconnect { reason_code, .. } => {
                let was_replaced = reason_code == DisconnectReasonCode::SessionTakenOver;
                let why = match was_replaced {
                    true => "another client has connected with the same client_id".into(),
                    false => format!("the broker ends the connection: {reason_code:?}"),
                };
                return Self { was_replaced, ..Self::new(why, true) };
            }
            StateError::Io(error) | StateError::Deserialization(Error::Io(error)) => {
                failed(&error).into()
            }
            StateError::OutgoingPacketTooLarge { pkt_size, max } => {
                format!("a message has {pkt_size} bytes; the broker accepts at most {max}").into()
            }
            StateError::Deserialization(Error::PayloadSizeLimitExceeded { pkt_size, max }) => {
                format!("the broker sends a message of {pkt_size} bytes; the limit is {max}").into()
            }
            StateError::Unsolicited(_) => {
                "the broker acknowledges a message that was never sent".into()
            }
            StateError::Deserialization(error) => {
                format!("the broker does not speak MQTT 5: {error}").into()
            }
            error => error.to_string().into(),
        };
        Self::new(why, true)
    }
}

/// The reason of a loss when the connection was not made within `connect_timeout`.
pub(super) const NO_ANSWER: &str = "no answer from the broker within connect_timeout";

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
            assert_eq!(loss, Loss::new(expected.to_owned(), true));
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
}
