//! Events in journald's own protocol, so that their fields can be searched.
//!
//! The thread that logs makes one datagram of an event
//! (<https://systemd.io/JOURNAL_NATIVE_PROTOCOL>). The log's writer sends the datagram, because
//! journald may be slow to read, and a send waits for it. The crate `tracing-journald` would send
//! on the thread that logs. A datagram that journald does not take is lost.

use std::fmt;
use std::io::{self, Write};
use std::os::unix::net::UnixDatagram;
use std::path::Path;

use tracing::field::{Field, Visit};
use tracing::{Event, Level, Metadata, Subscriber};
use tracing_appender::non_blocking::NonBlocking;
use tracing_subscriber::layer::{Context, Layer};

/// Path of journald's socket.
const SOCKET: &str = "/run/systemd/journal/socket";

/// Most bytes of one value. A datagram may have about 200 KB. A log line has at most 32 fields, and
/// at most two of these are texts from outside.
const MAX_VALUE: usize = 32 << 10;

/// The socket to journald, for the log's writer: each write is one datagram.
#[derive(Debug)]
pub(super) struct Socket(UnixDatagram);

impl Socket {
    /// Opens the socket.
    ///
    /// # Errors
    /// journald does not listen.
    pub(super) fn open() -> io::Result<Self> {
        let socket = UnixDatagram::unbound()?;
        // A journald that does not read is still there, and the start must not wait for it.
        socket.set_nonblocking(true)?;
        // journald ignores an empty datagram.
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
        // The socket is addressed by its path each time, because journald may have been restarted.
        self.0.send_to(datagram, Path::new(SOCKET)).map(|_| datagram.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// The layer of `tracing` that turns events into datagrams.
pub(super) struct Datagrams(pub(super) NonBlocking);

impl<S: Subscriber> Layer<S> for Datagrams {
    fn on_event(&self, event: &Event<'_>, _: Context<'_, S>) {
        let mut datagram = Datagram::of(event.metadata());
        event.record(&mut datagram);
        // If the queue is full, it counts the lost datagram itself.
        let _ = self.0.clone().write_all(&datagram.0);
    }
}

/// The bytes of a datagram: fields, each with its length.
#[derive(Debug)]
struct Datagram(Vec<u8>);

impl Datagram {
    /// A datagram with the fields that every event has.
    fn of(about: &Metadata<'_>) -> Self {
        let mut datagram = Self(Vec::with_capacity(512));
        datagram.put("PRIORITY", priority(*about.level()));
        // The identifier is the same if the program has another name, or runs through a link.
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

    /// Adds a field in the form for values of any content: name, length, value.
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
            // Without a prefix, the scan's field `priority` would overwrite journald's own.
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

/// The priority of a level as syslog counts it (RFC 5424, 6.2.1).
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

    /// An output that keeps what is written.
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

    /// The fields of a datagram, read by the rules of the protocol.
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
