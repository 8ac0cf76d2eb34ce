//! The options of a connection: the broker's address, the client's identity, and the limits for
//! messages.
//!
//! The files with certificates and passwords are read when the configuration is checked. So a
//! mistake is reported with its line number in the configuration file. The files are read again for
//! each connection, so a renewed certificate or password is used without a reload. `credential.rs`
//! reads the files. `session.rs` makes the connections.

use std::fmt;
use std::time::Duration;

use rumqttc::{AsyncClient, ConnectProperties, LastWill, MqttOptions};
use rumqttc::{IncomingPacketSizeLimit, Transport};
use rumqttc_v4 as v4;

use super::Config;
use super::client::{Client, Events, will_of};
use super::credential::{Credentials, Files};
use super::line::QUEUE;
use super::version::Version;
use crate::driver::OpenError;
use crate::driver::tcp::dial;

/// The range of `keep_alive`. In the protocol this time is a number of whole seconds with 16 bits.
/// With less than 1 s, most of the traffic would be pings.
const KEEP_ALIVE: std::ops::RangeInclusive<Duration> =
    Duration::from_secs(1)..=Duration::from_secs(65_535);

/// The range of `connect_timeout`. The minimum is 100 ms, because a handshake over radio may take
/// this time. With more than 120 s, the client would detect a dead broker too late.
const CONNECT_TIMEOUT: std::ops::RangeInclusive<Duration> =
    Duration::from_millis(100)..=Duration::from_secs(120);

/// The maximum size of a message from the broker, in bytes: enough for a Sparkplug command with a
/// thousand metrics. The client sends this limit to the broker, and the broker drops larger
/// messages. If the broker sends a larger message nevertheless, the client disconnects.
const MAX_PACKET: u32 = 64 << 10;

/// The maximum number of unacknowledged messages of QoS 1 in each direction. With this number, the
/// wait for acknowledgements seldom limits the rate of messages. At most `MAX_UNDER_WAY` plus
/// [`super::line::QUEUE`] old values are delivered before the newest value.
const MAX_UNDER_WAY: u16 = 32;

/// The maximum size of a message to a broker of MQTT 3.1.1, in bytes: the limit of the protocol
/// (2.2.3). Such a broker cannot tell its own limit.
const MAX_OUTGOING: usize = 268_435_455;

/// The broker's address and the client's identity.
#[derive(Debug)]
pub(super) struct Broker {
    /// The name or IP address of the broker's host.
    host: String,
    port: u16,
    /// The version of the protocol.
    pub(super) version: Version,
    /// The paths of the files with the password, certificates and key.
    pub(super) files: Files,
    /// The identity of this client. No other client of the broker may have this identity.
    client_id: String,
    username: Option<String>,
    /// If the client receives no packet for this time plus 0.1 s, it asks the broker for an answer.
    pub(super) keep_alive: Duration,
    /// The time limit for making the connection, and for the answer to each packet of
    /// subscriptions.
    pub(super) connect_timeout: Duration,
}

impl Broker {
    /// Checks the keys of the broker. Also reads the files, to check that they can be used.
    pub(super) fn plan(config: &Config) -> Result<Self, OpenError> {
        let (is_secure, host, port) = address(&config.connect).ok_or_else(|| {
            let wanted = "mqtt://host:port, or mqtts:// for TLS, such as mqtt://127.0.0.1:1883";
            OpenError::new("connect", format!("{:?}", config.connect), wanted)
        })?;
        if !(1..=256).contains(&config.client_id.len()) {
            let found = format!("{} bytes", config.client_id.len());
            return Err(OpenError::new(
                "client_id",
                found,
                "a client id of 1 to 256 bytes that no other client uses",
            ));
        }
        for (key, limits, value) in [
            ("keep_alive", KEEP_ALIVE, config.keep_alive),
            ("connect_timeout", CONNECT_TIMEOUT, config.connect_timeout),
        ] {
            if !limits.contains(&value) {
                let wanted = format!("from {:?} to {:?}", limits.start(), limits.end());
                return Err(OpenError::new(key, format!("{value:?}"), wanted));
            }
        }
        if let (None, Some(_)) = (&config.username, &config.password_file) {
            return Err(OpenError::new(
                "username",
                "nothing",
                "the user name that belongs to `password_file`",
            ));
        }
        let broker = Self {
            host,
            port,
            version: config.version,
            files: Files::plan(config, is_secure)?,
            client_id: config.client_id.clone(),
            username: config.username.clone(),
            keep_alive: config.keep_alive,
            connect_timeout: config.connect_timeout,
        };
        broker.files.read().map(|_| broker)
    }

    /// Returns the identity of this client, together with the broker that knows it.
    pub(super) fn identity(&self) -> String {
        format!("{:?} at {self}", self.client_id)
    }

    /// Makes the client of one connection: its handle and its event loop. `will` is the message
    /// that the broker publishes when the connection is lost.
    ///
    /// When a connection ends, the broker deletes all data of this connection. So commands that
    /// were sent during an outage never arrive.
    pub(super) fn client(&self, given: Credentials, will: Option<LastWill>) -> (Client, Events) {
        match self.version {
            Version::V5 => {
                let builder = AsyncClient::builder(self.options(given, will)).capacity(QUEUE);
                let (client, events) = builder.build();
                (Client::V5(client), Events::V5(Box::new(events)))
            }
            Version::V311 => {
                let builder = v4::AsyncClient::builder(self.options_v311(given, will));
                let (client, mut events) = builder.capacity(QUEUE).build();
                let connect_within = Some(self.connect_timeout);
                // The library limits the connection and each flush by this time. `connect_within`
                // already limits the connection, so this time must only be at least as long.
                let seconds = self.connect_timeout.as_secs() + 1;
                events.network_options.set_connection_timeout(seconds);
                let events = Events::V311 { events: Box::new(events), connect_within };
                (Client::V311(client), events)
            }
        }
    }

    /// Returns the options of a connection with MQTT 5.
    fn options(&self, given: Credentials, will: Option<LastWill>) -> MqttOptions {
        let broker = rumqttc::Broker::tcp(self.host.clone(), self.port);
        let mut options = MqttOptions::new(self.client_id.clone(), broker);
        let (host, port, limit) = (self.host.clone(), self.port, self.connect_limit());
        options.set_socket_connector(move |_, _| {
            let host = host.clone();
            async move { dial(&host, port, limit).await }
        });
        let properties = ConnectProperties {
            session_expiry_interval: Some(0),
            receive_maximum: Some(MAX_UNDER_WAY),
            max_packet_size: Some(MAX_PACKET),
            ..ConnectProperties::new()
        };
        options
            .set_keep_alive(u16::try_from(self.keep_alive.as_secs()).unwrap_or(u16::MAX))
            .set_clean_start(true)
            .set_connect_timeout(self.connect_timeout)
            .set_connect_properties(properties)
            .set_incoming_packet_size_limit(IncomingPacketSizeLimit::Bytes(MAX_PACKET))
            .set_outgoing_inflight_upper_limit(MAX_UNDER_WAY);
        if let Some(name) = &self.username {
            match given.password {
                Some(password) => options.set_credentials(name.clone(), password),
                None => options.set_username(name.clone()),
            };
        }
        if let Some(tls) = given.tls {
            options.set_transport(Transport::tls_with_config(tls));
        }
        if let Some(will) = will {
            options.set_last_will(will);
        }
        options
    }

    /// Returns the time limit for the TCP connection. The library stops the connector after
    /// `connect_timeout` and then knows no reason. So the connector ends a tenth earlier, and its
    /// error names the addresses that were tried.
    fn connect_limit(&self) -> Duration {
        self.connect_timeout - self.connect_timeout / 10
    }

    /// Returns the options of a connection with MQTT 3.1.1.
    fn options_v311(&self, given: Credentials, will: Option<LastWill>) -> v4::MqttOptions {
        let broker = v4::Broker::tcp(self.host.clone(), self.port);
        let mut options = v4::MqttOptions::new(self.client_id.clone(), broker);
        let (host, port, limit) = (self.host.clone(), self.port, self.connect_limit());
        options
            .set_socket_connector(move |_, _| {
                let host = host.clone();
                async move { dial(&host, port, limit).await }
            })
            .set_keep_alive(u16::try_from(self.keep_alive.as_secs()).unwrap_or(u16::MAX))
            .set_clean_session(true)
            .set_max_packet_size(MAX_PACKET as usize, MAX_OUTGOING)
            .set_inflight(MAX_UNDER_WAY);
        if let Some(name) = &self.username {
            match given.password {
                Some(password) => options.set_credentials(name.clone(), password),
                None => options.set_username(name.clone()),
            };
        }
        if let Some(tls) = given.tls {
            options.set_transport(v4::Transport::tls_with_config(tls));
        }
        if let Some(will) = will {
            options.set_last_will(will_of(&will));
        }
        options
    }
}

impl fmt::Display for Broker {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { host, port, .. } = self;
        if host.contains(':') { write!(f, "[{host}]:{port}") } else { write!(f, "{host}:{port}") }
    }
}

/// Parses the address of a broker. Returns whether TLS is used, the host, and the port.
fn address(text: &str) -> Option<(bool, String, u16)> {
    let (is_secure, rest) = match text.strip_prefix("mqtt://") {
        Some(rest) => (false, rest),
        None => (true, text.strip_prefix("mqtts://")?),
    };
    let rest = rest.strip_suffix('/').unwrap_or(rest);
    let (host, port) = match rest.strip_prefix('[') {
        Some(rest) => rest.split_once(']')?,
        None => rest.split_at(rest.find(':').unwrap_or(rest.len())),
    };
    let port = match port.strip_prefix(':') {
        Some(port) => port.parse().ok().filter(|port| *port > 0)?,
        None if port.is_empty() => [1883, 8883][usize::from(is_secure)],
        None => return None,
    };
    let is_name = |c: char| c.is_alphanumeric() || "-._:%".contains(c);
    (!host.is_empty() && host.chars().all(is_name)).then(|| (is_secure, host.to_owned(), port))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn brokers_have_addresses() {
        fn check(text: &str, expected: Option<(bool, &str, u16)>) {
            let expected = expected.map(|(secure, host, port)| (secure, host.to_owned(), port));
            assert_eq!(address(text), expected, "{text}");
        }
        check("mqtt://127.0.0.1:1884", Some((false, "127.0.0.1", 1884)));
        check("mqtt://broker.plant", Some((false, "broker.plant", 1883)));
        check("mqtts://broker/", Some((true, "broker", 8883)));
        check("mqtts://[fe80::1%eth0]:1", Some((true, "fe80::1%eth0", 1)));
        check("mqtt://[::1]", Some((false, "::1", 1883)));
        check("mqtt://broker:0", None);
        check("mqtt://broker:65536", None);
        check("mqtt://", None);
        check("mqtt://user@broker", None);
        check("mqtt://broker/path", None);
        check("mqtt://[::1]1883", None);
        check("http://broker", None);
        check("broker:1883", None);
    }
}
