//! The line to the units of a bus: its address, its serial settings, and the time that a request
//! takes on the line.
//!
//! The times on a serial line follow from its speed (Modbus over serial line 1.02, 2.5.1). The
//! specification allows at most 1.5 characters of silence within a frame. The driver does not check
//! this limit, because USB adapters cannot meet it. `transport.rs` opens the port or the connection
//! that a [`Target`] names.

use std::collections::BTreeMap;
use std::fmt;
use std::ops::RangeInclusive;
use std::path::PathBuf;
use std::str::FromStr;
use std::time::Duration;

use serde::Deserialize;

use crate::driver::modbus::wire::request::UnitRequest;

/// The port that IANA has assigned to Modbus TCP. It is the default port of `tcp://host`.
const PORT: u16 = 502;

/// The default time that a unit may take to answer over Modbus TCP, and on a serial line of unknown
/// speed.
const TCP_TIMEOUT: Duration = Duration::from_millis(500);

/// The default time that a unit on a serial line of known speed may take to answer. It includes the
/// time for which a serial adapter delays the reply.
const SERIAL_THOUGHT: Duration = Duration::from_millis(200);

/// The gap between two frames above 19200 Bd. The specification recommends this fixed time (Modbus
/// over serial line 1.02, 2.5.1.1), because shorter times cause a high CPU load.
const SHORTEST_GAP: Duration = Duration::from_micros(1750);

/// The address of a bus, which is the parsed value of the key `connect`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Target {
    /// Modbus TCP: `tcp://host:port`.
    Tcp(String, u16),
    /// Frames of the serial line, sent through a TCP server that passes them to the serial line:
    /// `rtu+tcp://host:port`.
    RtuOverTcp(String, u16),
    /// A serial port of this computer: `rtu:///dev/...`.
    Rtu(PathBuf),
}

impl FromStr for Target {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let wanted =
            "\"tcp://host:502\", \"rtu:///dev/serial/by-id/...\" or \"rtu+tcp://host:port\"";
        let (scheme, rest) = text.split_once("://").ok_or(wanted)?;
        match scheme {
            "rtu" if rest.starts_with('/') => Ok(Self::Rtu(rest.into())),
            "tcp" => {
                let (host, port) = host_and_port(rest).ok_or(wanted)?;
                Ok(Self::Tcp(host, port.unwrap_or(PORT)))
            }
            "rtu+tcp" => match host_and_port(rest) {
                Some((host, Some(port))) => Ok(Self::RtuOverTcp(host, port)),
                _ => Err(wanted),
            },
            _ => Err(wanted),
        }
    }
}

/// Splits a text into a host and a port; the port is optional. Returns `None` if the text is not
/// valid. The host is a host name or an IP address. An IPv6 address must be in brackets, such as
/// `[::1]:502`.
fn host_and_port(text: &str) -> Option<(String, Option<u16>)> {
    let (host, port) = match text.strip_prefix('[') {
        Some(rest) => {
            let (host, rest) = rest.split_once(']')?;
            (host, rest.strip_prefix(':').or(rest.is_empty().then_some(""))?)
        }
        None => text.split_once(':').unwrap_or((text, "")),
    };
    let is_bare = port.is_empty() && !text.ends_with(':');
    let port = if is_bare { None } else { Some(port.parse().ok().filter(|port| *port != 0)?) };
    let is_host = !host.is_empty() && !host.contains(['/', ' ', '@']);
    is_host.then(|| (host.to_owned(), port))
}

impl fmt::Display for Target {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let host = |host: &str| match host.contains(':') {
            true => format!("[{host}]"),
            false => host.to_owned(),
        };
        match self {
            Self::Tcp(name, port) => write!(f, "tcp://{}:{port}", host(name)),
            Self::RtuOverTcp(name, port) => write!(f, "rtu+tcp://{}:{port}", host(name)),
            Self::Rtu(path) => write!(f, "rtu://{}", path.display()),
        }
    }
}

/// The parity bit of a serial line.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Parity {
    /// Even parity, which the specification requires as the default.
    #[default]
    Even,
    /// Odd parity.
    Odd,
    /// No parity bit. Each character then usually has two stop bits.
    None,
}

/// The settings of a serial line. Every character has 8 data bits, because frames of Modbus RTU
/// need 8 data bits.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Serial {
    /// The speed in bits per second.
    pub baud: u32,
    /// The parity bit.
    pub parity: Parity,
    /// The number of stop bits, 1 or 2.
    pub stop_bits: u8,
}

impl Default for Serial {
    /// Returns the settings that every unit must support (Modbus over serial line 1.02, 3.2).
    fn default() -> Self {
        Self { baud: 19_200, parity: Parity::Even, stop_bits: 1 }
    }
}

impl Serial {
    /// Returns the time that this number of bytes takes on the line.
    pub fn time(&self, bytes: usize) -> Duration {
        let bits = 1 + 8 + u32::from(self.parity != Parity::None) + u32::from(self.stop_bits);
        Duration::from_secs_f64(bytes as f64 * f64::from(bits) / f64::from(self.baud))
    }

    /// Returns the silence between two frames: 3.5 characters, or [`SHORTEST_GAP`] above 19200 Bd.
    fn gap(&self) -> Duration {
        if self.baud > 19_200 { SHORTEST_GAP } else { self.time(7) / 2 }
    }
}

/// The properties of a bus that `transport.rs` needs to connect and to wait for replies.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Line {
    /// The address of the bus.
    pub target: Target,
    /// The settings of the serial line. `None` for Modbus TCP, and for a serial line behind a TCP
    /// server if the configuration does not have the speed of this line.
    pub serial: Option<Serial>,
    /// The configured silence between two frames. `None` means the default.
    pub gap: Option<Duration>,
    /// The configured time that a unit may take to answer. `None` means the default.
    pub timeout: Option<Duration>,
    /// The maximum time to make the connection.
    pub connect_timeout: Duration,
    /// The pause after the connection is made, before the first request.
    pub connect_delay: Duration,
    /// Whether the transaction number of a Modbus TCP reply is not checked.
    pub ignores_transaction: bool,
    /// The addresses in the replies of units that answer with a different address than their own:
    /// the unit's address on the bus, and the address in its replies.
    pub other_addresses: BTreeMap<u8, u8>,
}

impl Line {
    /// Makes a line with the default settings for this address.
    pub fn new(target: Target) -> Self {
        let serial = matches!(target, Target::Rtu(_)).then(Serial::default);
        let connect_timeout = Duration::from_secs(2);
        Self {
            target,
            serial,
            gap: None,
            timeout: None,
            connect_timeout,
            connect_delay: Duration::ZERO,
            ignores_transaction: false,
            other_addresses: BTreeMap::new(),
        }
    }

    /// Returns the addresses that a unit may have. On a serial line, 0 is the broadcast address,
    /// and addresses above 247 are reserved (Modbus over serial line 1.02, 2.2).
    pub const fn ids(&self) -> RangeInclusive<u8> {
        if self.is_rtu() { 1..=247 } else { 0..=255 }
    }

    /// Returns the address that a reply of the unit with the address `unit` must have.
    pub fn answers_as(&self, unit: u8) -> u8 {
        self.other_addresses.get(&unit).copied().unwrap_or(unit)
    }

    /// Whether a reply does not show which request it answers. This is so on a serial line, and if
    /// the transaction number is not checked.
    pub const fn is_untagged(&self) -> bool {
        self.is_rtu() || self.ignores_transaction
    }

    /// Whether the bus uses the frames of a serial line. These frames contain no transaction
    /// number.
    pub const fn is_rtu(&self) -> bool {
        !matches!(self.target, Target::Tcp(..))
    }

    /// Returns the silence between two frames. It is zero if there is no configured gap and the
    /// settings of the serial line are not known.
    pub fn gap(&self) -> Duration {
        self.gap.unwrap_or_else(|| self.serial.map_or(Duration::ZERO, |serial| serial.gap()))
    }

    /// Returns the time for which a request and its reply are on the line. The time that the unit
    /// needs to answer is not included. Returns zero if the settings of the serial line are not
    /// known, and for Modbus TCP.
    pub fn time(&self, request: &UnitRequest) -> Duration {
        // The frame has three bytes that `reply_len` does not include: the unit, and the checksum
        // of two bytes.
        let sent = request.rtu().map_or(0, |frame| frame.len());
        self.serial.map_or(Duration::ZERO, |serial| serial.time(sent + request.reply_len() + 3))
    }

    /// Returns how long to wait for the reply. The wait begins when the driver starts to send the
    /// request.
    pub fn timeout(&self, request: &UnitRequest) -> Duration {
        let thought = if self.serial.is_some() { SERIAL_THOUGHT } else { TCP_TIMEOUT };
        self.time(request) + self.timeout.unwrap_or(thought)
    }

    /// Returns the maximum time for which a request without a reply occupies the bus. This time is
    /// the timeout. On a line without transaction numbers, this time also includes the pause after
    /// the timeout, which is as long as the timeout.
    pub fn cost_of_silence(&self, request: &UnitRequest) -> Duration {
        self.timeout(request) * if self.is_untagged() { 2 } else { 1 }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::driver::modbus::wire::request::Ask;
    use crate::driver::modbus::wire::table::Table;

    #[test]
    fn targets_are_urls() {
        fn check(text: &str, expected: Option<&str>) {
            let target = text.parse::<Target>().ok().map(|target| target.to_string());
            assert_eq!(target.as_deref(), expected, "{text:?}");
        }
        check("tcp://10.0.0.7", Some("tcp://10.0.0.7:502"));
        check("tcp://plc.local:1502", Some("tcp://plc.local:1502"));
        check("tcp://[::1]:1502", Some("tcp://[::1]:1502"));
        check("tcp://[::1]", Some("tcp://[::1]:502"));
        check("rtu+tcp://moxa:4001", Some("rtu+tcp://moxa:4001"));
        check("rtu:///dev/ttyUSB0", Some("rtu:///dev/ttyUSB0"));
        for wrong in ["10.0.0.7", "tcp://", "tcp://a:0", "tcp://a:", "tcp://a:b", "tcp://[::1]x"] {
            check(wrong, None);
        }
        for wrong in ["rtu+tcp://moxa", "rtu://ttyUSB0", "udp://a:1", "tcp://me@a:1"] {
            check(wrong, None);
        }
    }

    #[test]
    fn times_follow_from_the_speed() {
        fn check(baud: u32, parity: Parity, gap_us: u128, time_us: u128) {
            let serial = Serial { baud, parity, stop_bits: 1 };
            let target = "rtu:///dev/null".parse().unwrap();
            let line = Line { serial: Some(serial), ..Line::new(target) };
            let ask = Ask::Read { table: Table::Holding, address: 0, count: 10 };
            let request = UnitRequest { unit: 1, ask };
            let times = (line.gap().as_micros(), line.time(&request).as_micros());
            assert_eq!(times, (gap_us, time_us), "{baud} {parity:?}");
            let waits = line.timeout(&request).as_micros();
            assert_eq!(waits, time_us + 200_000);
        }
        // The request has 8 bytes and the reply has 25 bytes. A byte takes 11 bits with parity and
        // 10 bits without parity.
        check(9600, Parity::Even, 4010, 37_812);
        check(19_200, Parity::Even, 2005, 18_906);
        check(19_200, Parity::None, 1822, 17_187);
        check(115_200, Parity::Even, 1750, 3151);
    }
}
