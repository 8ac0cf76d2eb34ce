//! The log output in the protocol of journald, with fields that can be searched.
//!
//! The thread that logs encodes an event as one datagram
//! (<https://systemd.io/JOURNAL_NATIVE_PROTOCOL>). The log's writer sends the datagram, because a
//! send waits if journald reads slowly. The crate `tracing-journald` is not used: it sends on the
//! thread that logs. A datagram that cannot be sent is lost. `log.rs` has the queue and the counts
//! of lost lines.

use std::fmt;
use std::io::{self, Write};
use std::os::unix::net::UnixDatagram;
use std::path::Path;

use tracing::field::{Field, Visit};
use tracing::{Event, Level, Metadata, Subscriber};
use tracing_appender::non_blocking::NonBlocking;
use tracing_subscriber::layer::{Context, Layer};

/// The path of the socket of journald.
const SOCKET: &str = "/run/systemd/journal/socket";

/// The maximum length of one value, in bytes. A datagram may have about 200 KB. A log line has at
/// most 32 fields. At most two of these fields are texts from outside, which can be long.
const MAX_VALUE: usize = 32 << 10;

/// The socket to journald. The log's writer uses this socket, and each write sends one datagram.
#[derive(Debug)]
pub(super) struct Socket(UnixDatagram);

impl Socket {
    /// Opens the socket and checks that journald is running.
    ///
    /// # Errors
    /// When the socket cannot be created or the datagram of the check cannot be sent, for example
    /// because journald does not run.
    pub(super) fn open() -> io::Result<Self> {
        let socket = UnixDatagram::unbound()?;
        // The check must not wait, because it is a part of the start of the daemon. If journald is
        // too busy to accept a datagram, the check succeeds.
        socket.set_nonblocking(true)?;
        // The check sends an empty datagram, which journald ignores.
        match socket.send_to(&[], Path::new(SOCKET)) {
            Err(error) if error.kind() != io::ErrorKind::WouldBlock => return Err(error),
            _ => {}
        }
        socket.set_nonblocking(false)?;
        Ok(Self(socket))
    }
}

impl Write for Socket {
    fn write(&mut self, datagram: &[u8]) -> io::Result<usize> {
        // Each send uses the path: after a restart of journald, the path leads to the new socket.
        self.0.send_to(datagram, Path::new(SOCKET)).map(|_| datagram.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// The layer of `tracing` that converts events to datagrams and puts them into the queue.
pub(super) struct Datagrams(pub(super) NonBlocking);

impl<S: Subscriber> Layer<S> for Datagrams {
    fn on_event(&self, event: &Event<'_>, _: Context<'_, S>) {
        let mut datagram = Datagram::of(event.metadata());
        event.record(&mut datagram);
        // The error needs no handling: if the queue is full, the queue counts the lost datagram.
        let _ = self.0.clone().write_all(&datagram.0);
    }
}

/// The bytes of a datagram: a list of fields, each with its name, length and value.
#[derive(Debug)]
struct Datagram(Vec<u8>);

impl Datagram {
    /// Makes a datagram with the fields that every event has.
    fn of(about: &Metadata<'_>) -> Self {
        let mut datagram = Self(Vec::with_capacity(512));
        datagram.put("PRIORITY", priority(*about.level()));
        // The identifier does not change if the executable file is renamed or started through a
        // link.
        datagram.put("SYSLOG_IDENTIFIER", "camshaft");
        datagram.put("TARGET", about.target());
        if let Some(file) = about.file() {
            datagram.put("CODE_FILE", file);
        }
        if let Some(line) = about.line() {
            datagram.put("CODE_LINE", &line.to_string());
        }
        datagram
    }

    /// Adds a field in the binary form: name, length, value. A value in this form may contain any
    /// bytes.
    fn put(&mut self, name: &str, value: &str) {
        let value = &value.as_bytes()[..value.floor_char_boundary(MAX_VALUE)];
        self.0.extend_from_slice(name.as_bytes());
        self.0.push(b'\n');
        self.0.extend_from_slice(&(value.len() as u64).to_le_bytes());
        self.0.extend_from_slice(value);
        self.0.push(b'\n');
    }
}

impl Visit for Datagram {
    fn record_str(&mut self, field: &Field, value: &str) {
        match field.name() {
            "message" => self.put("MESSAGE", value),
            // Without the prefix, the scan's field `priority` would overwrite journald's field
            // `PRIORITY`.
            name => {
                let legal = |c: char| if c.is_ascii_alphanumeric() { c } else { '_' };
                let name: String = name.chars().map(legal).collect();
                self.put(&format!("CAMSHAFT_{}", name.to_ascii_uppercase()), value);
            }
        }
    }

    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        self.record_str(field, &format!("{value:?}"));
    }
}

/// Returns the syslog priority of a level (RFC 5424, 6.2.1).
fn priority(level: Level) -> &'static str {
    match level {
        Level::ERROR => "3",
        Level::WARN => "4",
        Level::INFO => "6",
        Level::DEBUG | Level::TRACE => "7",
    }
}

#[cfg(test)]
mod tests {
    use tracing_appender::non_blocking;
    use tracing_subscriber::layer::SubscriberExt;

    use super::*;

    /// A log output that passes each datagram to the test.
    struct Kept(std::sync::mpsc::Sender<Vec<u8>>);

    impl Write for Kept {
        fn write(&mut self, datagram: &[u8]) -> io::Result<usize> {
            self.0.send(datagram.to_vec()).map_err(io::Error::other)?;
            Ok(datagram.len())
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    /// Decodes the fields of a datagram by the rules of the protocol.
    fn fields(mut datagram: &[u8]) -> Vec<(String, String)> {
        let text = |bytes: &[u8]| String::from_utf8(bytes.to_vec()).unwrap();
        let mut fields = Vec::new();
        while !datagram.is_empty() {
            let end = datagram.iter().position(|byte| *byte == b'\n').unwrap();
            let (name, rest) = (text(&datagram[..end]), &datagram[end + 1..]);
            let (length, rest) = rest.split_first_chunk::<8>().unwrap();
            let (value, rest) =
                rest.split_at(usize::try_from(u64::from_le_bytes(*length)).unwrap());
            assert_eq!(rest[0], b'\n');
            fields.push((name, text(value)));
            datagram = &rest[1..];
        }
        fields
    }

    #[test]
    fn an_event_is_a_datagram_of_fields() {
        let (kept, datagrams) = std::sync::mpsc::channel();
        let (queue, writer) = non_blocking(Kept(kept));
        let subscriber = tracing_subscriber::registry().with(Datagrams(queue));
        let long = "ä".repeat(MAX_VALUE);
        tracing::subscriber::with_default(subscriber, || {
            tracing::warn!(plugin = "tank", priority = 7, long, "two\nlines");
        });
        drop(writer);
        let found = fields(&datagrams.recv().unwrap());
        let value = |name: &str| {
            let mut of_name = found.iter().filter(|field| field.0 == name);
            let value = of_name.next().map(|field| field.1.as_str());
            assert!(of_name.next().is_none(), "{name} is there twice");
            value
        };
        assert_eq!(value("MESSAGE"), Some("two\nlines"));
        assert_eq!(value("PRIORITY"), Some("4"));
        assert_eq!(value("SYSLOG_IDENTIFIER"), Some("camshaft"));
        assert_eq!(value("CAMSHAFT_PLUGIN"), Some("tank"));
        assert_eq!(value("CAMSHAFT_PRIORITY"), Some("7"));
        assert_eq!(value("CAMSHAFT_LONG").map(str::len), Some(MAX_VALUE));
        assert!(value("CODE_FILE").is_some_and(|file| file.ends_with("journal.rs")));
        assert!(value("CODE_LINE").is_some() && value("TARGET").is_some());
    }
}
