//! Messages to systemd, the service manager: readiness, status, reload, stop and watchdog. The
//! protocol is in the manual page sd_notify(3).
//!
//! Each message is one datagram to the socket whose address is in the variable `NOTIFY_SOCKET`. If
//! this variable does not exist, the functions of a [`Notifier`] do nothing, so the daemon can also
//! run without systemd. A send never blocks. If systemd does not accept a message now, the message
//! is queued, and the next call sends it again. A watchdog message is not queued.
//!
//! ```text
//! READY=1 ─────▶ RELOADING=1 ─▶ READY=1 ─────▶ STOPPING=1
//!         WATCHDOG=1, as long as the scan runs cycles
//! ```
//!
//! This file does not use the crate `sd-notify`, for three reasons. The crate reads the environment
//! for each message, and a test cannot change the environment safely. The functions of the crate
//! can block. The crate does not support abstract sockets.
//!
//! This file does not receive sockets from systemd (`LISTEN_FDS`). The Rust module `daemon` decides
//! when the daemon is ready. The unit file is `systemd/camshaft.service`.

use std::collections::VecDeque;
use std::ffi::OsStr;
use std::io;
use std::os::linux::net::SocketAddrExt;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::net::{SocketAddr, UnixDatagram};
use std::time::Duration;

use nix::time::{ClockId, clock_gettime};

/// The maximum length of a status text, in bytes. systemd ignores a datagram of more than 4096
/// bytes. A quarter of 4096 bytes is enough, because `systemctl status` shows the text on one line.
const STATUS_BYTES_MAX: usize = 1024;

/// The maximum number of messages in the queue while systemd does not accept messages. The limit
/// has room for the messages of two reloads and a stop. If the queue is full, the oldest message is
/// dropped, because newer messages make it obsolete.
const UNSENT_MAX: usize = 8;

/// Sends the state of the daemon to systemd.
#[derive(Debug)]
pub struct Notifier {
    /// The socket of this process and the address of systemd; `None` if this process sends no
    /// messages.
    peer: Option<(UnixDatagram, SocketAddr)>,
    /// The messages that systemd has not accepted yet, oldest first.
    unsent: VecDeque<String>,
    /// The last status text. If a new text equals this text, the new text is not sent.
    status: String,
}

impl Notifier {
    /// Creates a notifier for the socket in `NOTIFY_SOCKET`. If the variable does not exist, the
    /// notifier sends no messages. If the socket cannot be used, the function logs a warning, and
    /// the notifier sends no messages.
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

    /// Creates a notifier for the socket at `address`. The address is an absolute path, or `@name`
    /// for an abstract socket.
    ///
    /// # Errors
    /// The address is neither an absolute path nor `@name`, or it is too long for a socket. For
    /// example, `vsock:` addresses are an error, because systemd does not use them for services.
    pub fn to(address: &OsStr) -> io::Result<Self> {
        let address = match address.as_bytes() {
            [b'@', name @ ..] => SocketAddr::from_abstract_name(name)?,
            [b'/', ..] => SocketAddr::from_pathname(address)?,
            _ => return Err(io::Error::other("expected an absolute path or @name")),
        };
        let socket = UnixDatagram::unbound()?;
        socket.set_nonblocking(true)?;
        Ok(Self { peer: Some((socket, address)), ..Self::silent() })
    }

    /// Creates a notifier that sends no messages.
    pub fn silent() -> Self {
        Self { peer: None, unsent: VecDeque::new(), status: String::new() }
    }

    /// Reports that the daemon is ready, with a status text. The daemon calls this function after
    /// the first full cycle, and at the end of **every** reload. If a reload was refused, `status`
    /// contains the reason.
    pub fn ready(&mut self, status: &str) {
        self.announce("READY=1", status);
    }

    /// Reports that the daemon reads its configuration again. The daemon must call `ready` after
    /// the reload.
    ///
    /// The message contains the time of this call. With this time, systemd 253 and later check that
    /// the reload began after the SIGHUP that systemd has sent (`Type=notify-reload`). systemd 252
    /// ignores the time.
    pub fn reloading(&mut self) {
        let now: Duration = clock_gettime(ClockId::CLOCK_MONOTONIC)
            .expect("CLOCK_MONOTONIC exists on every Linux")
            .into();
        self.post(format!("RELOADING=1\nMONOTONIC_USEC={}", now.as_micros()));
    }

    /// Reports that the daemon has begun its orderly stop, with a status text.
    pub fn stopping(&mut self, status: &str) {
        self.announce("STOPPING=1", status);
    }

    /// Sets the text that `systemctl status` shows. If the text has not changed, the function sends
    /// only the queued messages, so the daemon may call it often.
    pub fn status(&mut self, text: &str) {
        let text = one_line(text);
        if text == self.status {
            self.flush();
        } else {
            self.post(format!("STATUS={text}"));
            self.status = text;
        }
    }

    /// Sends a state of the daemon and the status text in one message.
    fn announce(&mut self, state: &str, status: &str) {
        self.status = one_line(status);
        self.post(format!("{state}\nSTATUS={}", self.status));
    }

    /// Queues a message, and tries to send all queued messages. If the queue is full, the oldest
    /// message is dropped.
    fn post(&mut self, message: String) {
        // The new message has a newer status text. So queued messages that contain only a status
        // text are obsolete.
        if message.contains("STATUS=") {
            self.unsent.retain(|waiting| !waiting.starts_with("STATUS="));
        }
        if self.unsent.len() == UNSENT_MAX {
            self.unsent.pop_front();
        }
        self.unsent.push_back(message);
        self.flush();
    }

    /// Tries to send the queued messages. Returns whether all of them were sent.
    fn flush(&mut self) -> bool {
        while let Some(message) = self.unsent.front() {
            if self.send(message).is_err() {
                return false;
            }
            self.unsent.pop_front();
        }
        true
    }

    /// Sends one datagram. An error means that the queue of systemd is full, or that systemd does
    /// not run at the moment. In both cases a later attempt may succeed.
    fn send(&self, message: &str) -> io::Result<()> {
        match &self.peer {
            Some((socket, address)) => {
                socket.send_to_addr(message.as_bytes(), address).map(|_whole_or_error| ())
            }
            None => Ok(()),
        }
    }
}

/// Feeds the watchdog of systemd as long as the scan runs cycles. If the watchdog is not fed in
/// time, systemd restarts the daemon.
///
/// The decision depends only on the cycle count of the scan. So if the scan has stopped, the
/// watchdog is not fed, even if other threads of the daemon still run. The scan period must be
/// shorter than [`Watchdog::interval`].
#[derive(Debug)]
pub struct Watchdog {
    interval: Duration,
    fed_cycle: u64,
}

impl Watchdog {
    /// Creates the watchdog from the environment of this process; `None` if systemd does not
    /// supervise this process.
    pub fn from_env() -> Option<Self> {
        let variable = |name| std::env::var(name).ok();
        let (timeout_us, pid) = (variable("WATCHDOG_USEC"), variable("WATCHDOG_PID"));
        Self::from_values(timeout_us.as_deref(), pid.as_deref(), std::process::id())
    }

    /// Creates the watchdog from the variables `WATCHDOG_USEC` and `WATCHDOG_PID` and the number of
    /// this process. The manual page sd_watchdog_enabled(3) has the rules. Returns `None` if the
    /// time limit is missing or not valid, or if `WATCHDOG_PID` is the number of another process.
    pub fn from_values(timeout_us: Option<&str>, pid: Option<&str>, own_pid: u32) -> Option<Self> {
        let timeout_us: u64 = timeout_us?.parse().ok().filter(|&us| us > 0 && us < u64::MAX)?;
        if pid.is_some_and(|pid| pid.parse() != Ok(own_pid)) {
            return None;
        }
        // systemd recommends that the daemon feeds the watchdog two times in each time limit. So
        // one late message does not cause a restart.
        Some(Self { interval: Duration::from_micros(timeout_us) / 2, fed_cycle: 0 })
    }

    /// Returns the time between two calls of [`Watchdog::feed`].
    pub fn interval(&self) -> Duration {
        self.interval
    }

    /// Whether the scan has run a cycle after the watchdog was last fed. `cycle` is the present
    /// cycle count.
    pub fn is_due(&self, cycle: u64) -> bool {
        cycle != self.fed_cycle
    }

    /// Feeds the watchdog if the cycle count `cycle` has changed. Returns whether the watchdog was
    /// fed.
    ///
    /// The function sends the queued messages first. If systemd does not accept all of them and the
    /// watchdog message at once, the watchdog is not fed, and the watchdog message is not queued. A
    /// queued watchdog message would be sent later, and would then report a running scan although
    /// the scan may have stopped.
    pub fn feed(&mut self, cycle: u64, notifier: &mut Notifier) -> bool {
        let fed = self.is_due(cycle) && notifier.flush() && notifier.send("WATCHDOG=1").is_ok();
        if fed {
            self.fed_cycle = cycle;
        }
        fed
    }
}

/// Whether stderr of this process is connected to the journal of systemd. In that case the log can
/// use the protocol of this journal, with fields.
///
/// According to systemd.exec(5), the variable `JOURNAL_STREAM` contains the device and inode
/// numbers of the stream to the journal. The variable alone proves nothing, because child processes
/// inherit it even if their stderr is redirected. Therefore this function compares both numbers
/// with the device and inode numbers of stderr.
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

/// Cuts a text to `STATUS_BYTES_MAX` and replaces line breaks and zero bytes by spaces. In the
/// protocol a line break ends a field. So text after a line break, for example in an error message,
/// would be read as another field of the daemon's message.
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
