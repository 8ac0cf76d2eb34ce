//! The way to the units of a bus: its address, and how long things take on it.
//!
//! Times on a serial line follow from its speed (Modbus over serial line 1.02, 2.5.1). The driver
//! does not enforce the 1.5 characters within a frame, because no USB adapter can keep to them.
//! `transport.rs` opens what a [`Target`] names.

use std::fmt;
use std::path::PathBuf;
use std::str::FromStr;
use std::time::Duration;

use serde::Deserialize;

use crate::driver::modbus::wire::request::Request;

/// The port that IANA has assigned to Modbus TCP.
const PORT: u16 = 502;

/// How long a unit may take to answer over TCP, by default.
const TCP_TIMEOUT: Duration = Duration::from_millis(500);

/// How long a unit on a serial line may think, plus the time that an adapter holds back the reply,
/// by default.
const SERIAL_THOUGHT: Duration = Duration::from_millis(200);

/// The gap between frames above 19200 Bd. There 3.5 characters would be shorter than timers can
/// measure.
const SHORTEST_GAP: Duration = Duration::from_micros(1750);

/// The address of a bus.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Target {
    /// Modbus TCP: `tcp://host:port`.
    Tcp(String, u16),
    /// Frames of the serial line, through a TCP server that passes them on: `rtu+tcp://host:port`.
    RtuOverTcp(String, u16),
    /// A serial line: `rtu:///dev/...`.
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

/// A host by name or address, and a port if there is one. An IPv6 address is in brackets.
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
    /// Even parity, which the specification requires as default.
    #[default]
    Even,
    /// Odd parity.
    Odd,
    /// No parity bit, mostly with two stop bits.
    None,
}

/// The settings of a serial line. Bytes have 8 bits, as frames of Modbus RTU need.
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
    /// The settings that every unit must support (Modbus over serial line 1.02, 3.2).
    fn default() -> Self {
        Self { baud: 19_200, parity: Parity::Even, stop_bits: 1 }
    }
}

impl Serial {
    /// The time that this many bytes take.
    pub fn time(&self, bytes: usize) -> Duration {
        let bits = 1 + 8 + u32::from(self.parity != Parity::None) + u32::from(self.stop_bits);
        Duration::from_secs_f64(bytes as f64 * f64::from(bits) / f64::from(self.baud))
    }

    /// The silence between frames: 3.5 characters, or [`SHORTEST_GAP`].
    fn gap(&self) -> Duration {
        if self.baud > 19_200 { SHORTEST_GAP } else { self.time(7) / 2 }
    }
}

/// Everything that a transport needs to know about a bus.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Line {
    /// The address of the bus.
    pub target: Target,
    /// The settings of the serial line. For a line behind a TCP server only if its speed is known.
    pub serial: Option<Serial>,
    /// The silence between frames, if it is not the default.
    pub gap: Option<Duration>,
    /// How long a unit may take to answer, if it is not the default.
    pub timeout: Option<Duration>,
    /// How long it may take to connect.
    pub connect_timeout: Duration,
}

impl Line {
    /// A line with default settings.
    pub fn new(target: Target) -> Self {
        let serial = matches!(target, Target::Rtu(_)).then(Serial::default);
        let connect_timeout = Duration::from_secs(2);
        Self { target, serial, gap: None, timeout: None, connect_timeout }
    }

    /// Whether frames are those of a serial line, which carry no transaction number.
    pub const fn is_rtu(&self) -> bool {
        !matches!(self.target, Target::Tcp(..))
    }

    /// The silence between frames.
    pub fn gap(&self) -> Duration {
        self.gap.unwrap_or_else(|| self.serial.map_or(Duration::ZERO, |serial| serial.gap()))
    }

    /// The time that a request and its reply are on the line, without the unit's time to think.
    pub fn time(&self, request: &Request) -> Duration {
        // The reply adds three bytes: the unit and two bytes of checksum.
        let sent = request.rtu().map_or(0, |frame| frame.len());
        self.serial.map_or(Duration::ZERO, |serial| serial.time(sent + request.reply_len() + 3))
    }

    /// How long to wait for the reply, from the moment at which the request is handed over.
    pub fn timeout(&self, request: &Request) -> Duration {
        let thought = if self.serial.is_some() { SERIAL_THOUGHT } else { TCP_TIMEOUT };
        self.time(request) + self.timeout.unwrap_or(thought)
    }

    /// The maximum cost of a request without a reply: the wait and, on lines without transaction
    /// numbers, the silence after it.
    pub fn cost_of_silence(&self, request: &Request) -> Duration {
        self.timeout(request) * if self.is_rtu() { 2 } else { 1 }
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
            let request = Request { unit: 1, ask };
            let times = (line.gap().as_micros(), line.time(&request).as_micros());
            assert_eq!(times, (gap_us, time_us), "{baud} {parity:?}");
            let waits = line.timeout(&request).as_micros();
            assert_eq!(waits, time_us + 200_000);
        }
        // The request has 8 bytes and the reply 25, of 11 or 10 bits each.
        check(9600, Parity::Even, 4010, 37_812);
        check(19_200, Parity::Even, 2005, 18_906);
        check(19_200, Parity::None, 1822, 17_187);
        check(115_200, Parity::Even, 1750, 3151);
    }
}
