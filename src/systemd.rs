//! Messages to the service manager: readiness, status, reload and watchdog, by the protocol of
//! sd_notify(3).
//!
//! Each message is one datagram to the socket named in `NOTIFY_SOCKET`. Without that variable every
//! call here does nothing, so the daemon need not know how it was started. Sending never blocks: if
//! the service manager does not take a message now, the message is kept and offered again with the
//! next one.
//!
//! This file implements the protocol itself because of three properties of the `sd-notify` crate.
//! The crate reads the environment at each message (which a test cannot change safely), it blocks,
//! and it knows no abstract sockets. This file takes no sockets from the manager (`LISTEN_FDS`). It
//! decides nothing: the daemon says when it is ready. The unit file is `systemd/camshaft.service`.

use std::collections::VecDeque;
use std::ffi::OsStr;
use std::io;
use std::os::linux::net::SocketAddrExt;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::net::{SocketAddr, UnixDatagram};
use std::time::Duration;

use nix::time::{ClockId, clock_gettime};

/// The longest status text in bytes. The manager ignores whole datagrams over 4096 bytes.
/// `systemctl status` shows the text on one line, so a quarter of 4096 is enough.
const STATUS_BYTES_MAX: usize = 1024;

/// Most messages that wait for a manager that does not read. The messages of two reloads and a stop
/// fit. Older messages may be dropped, because a newer state makes them obsolete.
const UNSENT_MAX: usize = 8;

/// Sends the state of the daemon to the service manager.
#[derive(Debug)]
pub struct Notifier {
    /// This process's socket and the manager's address; `None` if no manager wants messages.
    peer: Option<(UnixDatagram, SocketAddr)>,
    /// The messages that the manager has not taken yet, oldest first.
    unsent: VecDeque<String>,
    /// The last status text, so that the same text is not sent twice.
    status: String,
}

impl Notifier {
    /// A notifier for the socket in `NOTIFY_SOCKET`. Without that variable, or if the socket cannot
    /// be used (which is logged), the notifier sends nothing.
    pub fn from_env() -> Self {
        let Some(address) = std::env::var_os("NOTIFY_SOCKET") else { return Self::silent() };
        Self::to(&address).unwrap_or_else(|error| {
            tracing::warn!(
                ?address,
                %error,
                "NOTIFY_SOCKET ({address:?}) cannot be used: {error}; systemd gets no messages"
            );
            Self::silent()
        })
    }

    /// A notifier for the socket at `address`: a path, or `@name` for an abstract socket.
    ///
    /// # Errors
    /// The address is of another kind (`vsock:` is not for services) or too long for a socket.
    pub fn to(address: &OsStr) -> io::Result<Self> {
        let address = match address.as_bytes() {
            [b'@', name @ ..] => SocketAddr::from_abstract_name(name)?,
            [b'/', ..] => SocketAddr::from_pathname(address)?,
            _ => return Err(io::Error::other("neither an absolute path nor an @name")),
        };
        let socket = UnixDatagram::unbound()?;
        socket.set_nonblocking(true)?;
        Ok(Self { peer: Some((socket, address)), ..Self::silent() })
    }

    /// A notifier that sends nothing.
    pub fn silent() -> Self {
        Self { peer: None, unsent: VecDeque::new(), status: String::new() }
    }

    /// Reports that the daemon works, with this status. The daemon calls this function after the
    /// first full cycle and at the end of **every** reload. If a reload was refused, `status` says
    /// why.
    pub fn ready(&mut self, status: &str) {
        self.say("READY=1", status);
    }

    /// Reports that the daemon reads its configuration again; a call of `ready` must follow.
    ///
    /// The time is in the same datagram. From the time, systemd 253 and later know that the reload
    /// came after their SIGHUP (`Type=notify-reload`); systemd 252 ignores it.
    pub fn reloading(&mut self) {
        let now: Duration = clock_gettime(ClockId::CLOCK_MONOTONIC)
            .expect("CLOCK_MONOTONIC exists on every Linux")
            .into();
        self.post(format!("RELOADING=1\nMONOTONIC_USEC={}", now.as_micros()));
    }

    /// Reports that the daemon has begun its orderly stop.
    pub fn stopping(&mut self, status: &str) {
        self.say("STOPPING=1", status);
    }

    /// Sets the line that `systemctl status` shows. Frequent calls cost little: only a changed text
    /// is sent.
    pub fn status(&mut self, text: &str) {
        let text = one_line(text);
        if text == self.status {
            self.flush();
        } else {
            self.post(format!("STATUS={text}"));
            self.status = text;
        }
    }

    /// Sends a state of the daemon together with the status text.
    fn say(&mut self, state: &str, status: &str) {
        self.status = one_line(status);
        self.post(format!("{state}\nSTATUS={}", self.status));
    }

    /// Queues a message and offers all queued messages. If the queue is full, the oldest message is
    /// dropped.
    fn post(&mut self, message: String) {
        // Every message but RELOADING has a status, so the status of a queued message is out of
        // date.
        if message.contains("STATUS=") {
            self.unsent.retain(|waiting| !waiting.starts_with("STATUS="));
        }
        if self.unsent.len() == UNSENT_MAX {
            self.unsent.pop_front();
        }
        self.unsent.push_back(message);
        self.flush();
    }

    /// Offers the unsent messages. Returns whether all of them were sent.
    fn flush(&mut self) -> bool {
        while let Some(message) = self.unsent.front() {
            if self.send(message).is_err() {
                return false;
            }
            self.unsent.pop_front();
        }
        true
    }

    /// Sends one datagram. An error means that the manager's queue is full or that the manager is
    /// away. Neither need last.
    fn send(&self, message: &str) -> io::Result<()> {
        match &self.peer {
            Some((socket, address)) => {
                socket.send_to_addr(message.as_bytes(), address).map(|_whole_or_error| ())
            }
            None => Ok(()),
        }
    }
}

/// Feeds the service manager's watchdog as long as the scan runs cycles, and no longer.
///
/// The scan's own cycle count decides: if the scan is dead, a helper thread that still lives does
/// not feed the watchdog. The scan period must be shorter than [`Watchdog::interval`].
#[derive(Debug)]
pub struct Watchdog {
    interval: Duration,
    fed_cycle: u64,
}

impl Watchdog {
    /// The watchdog that the service manager wants from this process; `None` if it wants none.
    pub fn from_env() -> Option<Self> {
        let variable = |name| std::env::var(name).ok();
        let (timeout_us, pid) = (variable("WATCHDOG_USEC"), variable("WATCHDOG_PID"));
        Self::from_values(timeout_us.as_deref(), pid.as_deref(), std::process::id())
    }

    /// Makes the watchdog from the two variables and the number of this process, by the rules of
    /// sd_watchdog_enabled(3). `None` if there is no time limit, or if the variables are for
    /// another process.
    pub fn from_values(timeout_us: Option<&str>, pid: Option<&str>, own_pid: u32) -> Option<Self> {
        let timeout_us: u64 = timeout_us?.parse().ok().filter(|&us| us > 0 && us < u64::MAX)?;
        if pid.is_some_and(|pid| pid.parse() != Ok(own_pid)) {
            return None;
        }
        // The daemon feeds twice in each time limit, as systemd asks, so that one late message does
        // no harm.
        Some(Self { interval: Duration::from_micros(timeout_us) / 2, fed_cycle: 0 })
    }

    /// The pause between two calls of [`Watchdog::feed`].
    pub fn interval(&self) -> Duration {
        self.interval
    }

    /// Whether the scan, now at `cycle`, has moved since the watchdog was last fed.
    pub fn is_due(&self, cycle: u64) -> bool {
        cycle != self.fed_cycle
    }

    /// Feeds the watchdog if the scan has moved to another `cycle`. Returns whether it was fed.
    ///
    /// If the manager does not take a feed at once, the feed is dropped. A late feed would say that
    /// the scan lives, although the scan may have died by then.
    pub fn feed(&mut self, cycle: u64, notifier: &mut Notifier) -> bool {
        let fed = self.is_due(cycle) && notifier.flush() && notifier.send("WATCHDOG=1").is_ok();
        if fed {
            self.fed_cycle = cycle;
        }
        fed
    }
}

/// Whether stderr of this process is connected to the journal. If it is, the log can use the
/// protocol of the journal, with fields.
///
/// By systemd.exec(5), `JOURNAL_STREAM` holds device and inode of the stream. This function
/// compares both with stderr, because a program that is started by hand from a service inherits the
/// variable, but not the stream.
pub fn journal_connected() -> bool {
    let Ok(stream) = std::env::var("JOURNAL_STREAM") else { return false };
    nix::sys::stat::fstat(io::stderr())
        .is_ok_and(|stderr| is_stream(&stream, stderr.st_dev, stderr.st_ino))
}

fn is_stream(journal_stream: &str, device: u64, inode: u64) -> bool {
    journal_stream.split_once(':').is_some_and(|(stream_device, stream_inode)| {
        stream_device.parse() == Ok(device) && stream_inode.parse() == Ok(inode)
    })
}

/// Makes one line of a text and cuts it to its limit. A line break would end the field, and the
/// rest of the text (a plugin's name, an error) would count as a field of the daemon.
fn one_line(text: &str) -> String {
    text[..text.floor_char_boundary(STATUS_BYTES_MAX)].replace(['\n', '\r', '\0'], " ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_watchdog_is_ours_only_with_a_time_limit_and_our_process_number() {
        let check = |timeout_us, pid, interval_us: Option<u64>| {
            let interval = Watchdog::from_values(timeout_us, pid, 42).map(|w| w.interval());
            assert_eq!(interval, interval_us.map(Duration::from_micros), "{timeout_us:?} {pid:?}");
        };
        check(Some("5000000"), Some("42"), Some(2_500_000));
        check(Some("5000000"), None, Some(2_500_000));
        check(Some("5000000"), Some("43"), None);
        check(Some("5000000"), Some("all"), None);
        check(Some("0"), None, None);
        check(Some("soon"), None, None);
        check(Some("18446744073709551615"), None, None);
        check(None, Some("42"), None);
    }

    #[test]
    fn the_watchdog_is_due_only_when_the_scan_has_moved() {
        let mut watchdog = Watchdog::from_values(Some("2"), None, 1).unwrap();
        let mut check = |cycle, fed| {
            assert_eq!(watchdog.feed(cycle, &mut Notifier::silent()), fed, "cycle {cycle}");
        };
        check(0, false);
        check(7, true);
        check(7, false);
        check(8, true);
    }

    #[test]
    fn the_journal_is_recognised_by_device_and_inode() {
        let check = |stream, expected| assert_eq!(is_stream(stream, 9, 1234), expected, "{stream}");
        check("9:1234", true);
        check("9:1235", false);
        check("8:1234", false);
        check("9", false);
        check("9:", false);
        check("", false);
    }

    #[test]
    fn a_status_is_one_line_of_bounded_length() {
        assert_eq!(one_line("2 run\nREADY=1"), "2 run READY=1");
        assert_eq!(one_line(&"ä".repeat(5000)).len(), STATUS_BYTES_MAX);
    }

    #[test]
    fn an_address_is_a_path_or_an_abstract_name() {
        let check = |address: &str, ok| {
            assert_eq!(Notifier::to(OsStr::new(address)).is_ok(), ok, "{address}");
        };
        check("/run/systemd/notify", true);
        check("@name", true);
        check("relative", false);
        check("vsock:2:1234", false);
        check("", false);
        check(&format!("/{}", "x".repeat(200)), false);
    }
}
