//! Where the broker is, who we are to it, and what it may do to us: the options of a connection.
//!
//! Files are read when the configuration is checked, so that a mistake has a line, and again for
//! each connection, so that renewed certificates and passwords count from the next one on.

use std::fmt;
use std::fs::File;
use std::io::Read;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use rumqttc::{ConnectProperties, LastWill, MqttOptions, TlsConfiguration};
use rumqttc::{IncomingPacketSizeLimit, Transport};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::{ClientConfig, RootCertStore};

use super::{Config, dial};
use crate::driver::OpenError;

/// The protocol has whole seconds in 16 bits. Shorter, and pings would be most of the traffic.
const KEEP_ALIVE: std::ops::RangeInclusive<Duration> =
    Duration::from_secs(1)..=Duration::from_secs(65_535);

/// Less no handshake over a radio takes; more, and a dead broker looks like a slow one.
const CONNECT_TIMEOUT: std::ops::RangeInclusive<Duration> =
    Duration::from_millis(100)..=Duration::from_secs(120);

/// The largest message that the broker may send: a command of Sparkplug with a thousand metrics.
/// What is larger it drops; a broker that sends it nevertheless is hung up on.
const MAX_PACKET: u32 = 64 << 10;

/// How many messages of QoS 1 the broker may have under way to us, and we to it. Enough to keep a
/// line busy, and with the queue of [`super::session`] the most old values that are ever delivered
/// before the newest.
const MAX_UNDER_WAY: u16 = 32;

/// Bytes that are read of a certificate, a key or a password: all authorities of the world in one
/// file have less. What is cut there is no whole certificate and is refused.
const MOST_PEM_BYTES: u64 = 4 << 20;

/// Where the broker is, and who we are.
#[derive(Debug)]
pub(super) struct Broker {
    host: String,
    port: u16,
    tls: Option<TlsFiles>,
    client_id: String,
    username: Option<String>,
    password_file: Option<PathBuf>,
    pub(super) keep_alive: Duration,
    pub(super) connect_timeout: Duration,
}

/// Files in PEM.
#[derive(Debug)]
struct TlsFiles {
    ca: PathBuf,
    /// Our certificate and its key.
    client: Option<(PathBuf, PathBuf)>,
}

impl Broker {
    /// Reads the files as well, to see whether they can be used.
    pub(super) fn plan(config: &Config) -> Result<Self, OpenError> {
        let (is_secure, host, port) = address(&config.connect).ok_or_else(|| {
            let wanted = "mqtt://host:port, or mqtts:// for TLS, such as mqtt://127.0.0.1:1883";
            OpenError::new("connect", format!("{:?}", config.connect), wanted)
        })?;
        if !(1..=256).contains(&config.client_id.len()) {
            let found = format!("{} bytes", config.client_id.len());
            return Err(OpenError::new("client_id", found, "a name that no other client has"));
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
            return Err(OpenError::new("username", "nothing", "the name that the password is of"));
        }
        let broker = Self {
            host,
            port,
            tls: TlsFiles::plan(config, is_secure)?,
            client_id: config.client_id.clone(),
            username: config.username.clone(),
            password_file: config.password_file.clone(),
            keep_alive: config.keep_alive,
            connect_timeout: config.connect_timeout,
        };
        broker.options(None).map(|_| broker)
    }

    /// For one connection, with what the broker is to say for us when that is lost.
    ///
    /// Nothing outlives it: commands that were sent while we were away are no commands.
    pub(super) fn options(&self, will: Option<LastWill>) -> Result<MqttOptions, OpenError> {
        let broker = rumqttc::Broker::tcp(self.host.clone(), self.port);
        let mut options = MqttOptions::new(self.client_id.clone(), broker);
        let (host, port, limit) = (self.host.clone(), self.port, self.connect_timeout);
        options.set_socket_connector(move |_, _| dial::dial(host.clone(), port, limit));
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
            match &self.password_file {
                Some(file) => {
                    let text = read("password_file", file)?;
                    let line = text.split(|byte| b"\r\n".contains(byte)).next();
                    options.set_credentials(name.clone(), line.unwrap_or_default().to_vec());
                }
                None => {
                    options.set_username(name.clone());
                }
            }
        }
        if let Some(tls) = &self.tls {
            options.set_transport(Transport::tls_with_config(tls.read()?));
        }
        if let Some(will) = will {
            options.set_last_will(will);
        }
        Ok(options)
    }
}

impl fmt::Display for Broker {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { host, port, .. } = self;
        if host.contains(':') { write!(f, "[{host}]:{port}") } else { write!(f, "{host}:{port}") }
    }
}

/// Whether TLS is wanted, host and port.
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

fn read(key: &str, file: &Path) -> Result<Vec<u8>, OpenError> {
    let wanted = "a file that can be read";
    let found = |error| OpenError::new(key, format!("{}: {error}", file.display()), wanted);
    let mut bytes = Vec::new();
    let read = File::open(file).and_then(|file| file.take(MOST_PEM_BYTES).read_to_end(&mut bytes));
    read.map(|_| bytes).map_err(found)
}

impl TlsFiles {
    fn plan(config: &Config, is_secure: bool) -> Result<Option<Self>, OpenError> {
        let files = [("ca", &config.ca), ("cert", &config.cert), ("key", &config.key)];
        if !is_secure {
            return match files.iter().find(|(_, file)| file.is_some()) {
                Some((key, _)) => {
                    Err(OpenError::new(*key, "a file", "nothing, or mqtts:// in `connect`"))
                }
                None => Ok(None),
            };
        }
        let wanted =
            "the certificates of whom to believe, such as /etc/ssl/certs/ca-certificates.crt";
        let ca = config.ca.clone().ok_or_else(|| OpenError::new("ca", "nothing", wanted))?;
        let client = match (&config.cert, &config.key) {
            (Some(cert), Some(key)) => Some((cert.clone(), key.clone())),
            (None, None) => None,
            (None, Some(_)) => {
                return Err(OpenError::new("cert", "nothing", "the certificate to the key"));
            }
            (Some(_), None) => {
                return Err(OpenError::new("key", "nothing", "the key to the certificate"));
            }
        };
        Ok(Some(Self { ca, client }))
    }

    fn read(&self) -> Result<TlsConfiguration, OpenError> {
        let mut roots = RootCertStore::empty();
        for cert in certificates("ca", &self.ca)? {
            let wanted = "certificates of authorities";
            let found = |error| format!("{}: {error}", self.ca.display());
            roots.add(cert).map_err(|error| OpenError::new("ca", found(error), wanted))?;
        }
        // Named, because a process may have several and then no default.
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let builder = ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .expect("ring knows the versions that are safe")
            .with_root_certificates(roots);
        let Some((cert, key_file)) = &self.client else {
            return Ok(TlsConfiguration::Rustls(Arc::new(builder.with_no_client_auth())));
        };
        let wrong = |error: String| {
            let found = format!("{}: {error}", key_file.display());
            OpenError::new("key", found, "the private key to `cert`, in PEM, without a password")
        };
        let key = PrivateKeyDer::from_pem_slice(&read("key", key_file)?);
        let key = key.map_err(|error| wrong(error.to_string()))?;
        let config = builder.with_client_auth_cert(certificates("cert", cert)?, key);
        let config = config.map_err(|error| wrong(error.to_string()))?;
        Ok(TlsConfiguration::Rustls(Arc::new(config)))
    }
}

/// All certificates of a file, of which there is at least one.
fn certificates(key: &str, file: &Path) -> Result<Vec<CertificateDer<'static>>, OpenError> {
    let wrong = |error: &str| {
        OpenError::new(key, format!("{}: {error}", file.display()), "certificates in PEM")
    };
    let text = read(key, file)?;
    let all: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(&text).collect();
    let all = all.map_err(|error| wrong(&error.to_string()))?;
    if all.is_empty() { Err(wrong("no certificate")) } else { Ok(all) }
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
