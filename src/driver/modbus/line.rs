//! Where the units of a bus are reached, and how long things take on the way there.
//!
//! Times on a serial line follow from its speed (Modbus over serial line 1.02, 2.5.1); nothing
//! tries to keep the 1.5 characters within a frame, which no adapter on USB can. Opening what this
//! names is `transport.rs`.

use std::fmt;
use std::path::PathBuf;
use std::str::FromStr;
use std::time::Duration;

use serde::Deserialize;

use super::request::Request;

/// The port of Modbus TCP that IANA has assigned.
const PORT: u16 = 502;

/// How long a unit may take to answer over TCP.
const TCP_TIMEOUT: Duration = Duration::from_millis(500);

/// How long a unit on a serial line may think, and an adapter hold back what it has said.
const SERIAL_THOUGHT: Duration = Duration::from_millis(200);

/// The gap between frames above 19200 Bd, where 3.5 characters would be shorter than anybody's
/// timers are good.
const SHORTEST_GAP: Duration = Duration::from_micros(1750);

/// Where a bus is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Target {
    /// Modbus TCP: `tcp://host:port`.
    Tcp(String, u16),
    /// Frames of the serial line through a server that passes them on: `rtu+tcp://host:port`.
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

/// A host by name or address, that of IPv6 in brackets, and a port if there is one.
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
    /// What the specification wants.
    #[default]
    Even,
    /// An odd one.
    Odd,
    /// None, mostly with two stop bits.
    None,
}

/// How a serial line speaks. Bytes have 8 bits, as frames of Modbus RTU need.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Serial {
    /// Bits in a second.
    pub baud: u32,
    /// The parity bit.
    pub parity: Parity,
    /// Stop bits, 1 or 2.
    pub stop_bits: u8,
}

impl Default for Serial {
    /// What every unit must be able to (Modbus over serial line 1.02, 3.2).
    fn default() -> Self {
        Self { baud: 19_200, parity: Parity::Even, stop_bits: 1 }
    }
}

impl Serial {
    /// How long so many bytes take.
    pub fn time(&self, bytes: usize) -> Duration {
        let bits = 1 + 8 + u32::from(self.parity != Parity::None) + u32::from(self.stop_bits);
        Duration::from_secs_f64(bytes as f64 * f64::from(bits) / f64::from(self.baud))
    }

    /// The silence between frames: 3.5 characters.
    fn gap(&self) -> Duration {
        if self.baud > 19_200 { SHORTEST_GAP } else { self.time(7) / 2 }
    }
}

/// Everything that a transport has to know.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Line {
    /// Where.
    pub target: Target,
    /// How it speaks; for a line behind a server only if its speed is known.
    pub serial: Option<Serial>,
    /// The silence between frames, if not the usual one.
    pub gap: Option<Duration>,
    /// How long a unit has to answer, if not the usual time.
    pub timeout: Option<Duration>,
    /// How long a connection may take.
    pub connect_timeout: Duration,
}

impl Line {
    /// A line on which nothing special is set.
    pub fn new(target: Target) -> Self {
        let serial = matches!(target, Target::Rtu(_)).then(Serial::default);
        let connect_timeout = Duration::from_secs(2);
        Self { target, serial, gap: None, timeout: None, connect_timeout }
    }

    /// Whether frames are those of a serial line, which carry no number of their transaction.
    pub const fn is_rtu(&self) -> bool {
        !matches!(self.target, Target::Tcp(..))
    }

    /// The silence between frames.
    pub fn gap(&self) -> Duration {
        self.gap.unwrap_or_else(|| self.serial.map_or(Duration::ZERO, |serial| serial.gap()))
    }

    /// How long a request and its reply are on the line, without anybody thinking.
    pub fn time(&self, request: &Request) -> Duration {
        // The unit, two bytes of checksum, and what is between them.
        let sent = request.rtu().map_or(0, |frame| frame.len());
        self.serial.map_or(Duration::ZERO, |serial| serial.time(sent + request.reply_len() + 3))
    }

    /// How long to wait for the reply, from when the request is handed over.
    pub fn timeout(&self, request: &Request) -> Duration {
        let thought = if self.serial.is_some() { SERIAL_THOUGHT } else { TCP_TIMEOUT };
        self.time(request) + self.timeout.unwrap_or(thought)
    }

    /// What a request costs at most when nobody answers: the wait, and on lines without numbers the
    /// silence after it.
    pub fn cost_of_silence(&self, request: &Request) -> Duration {
        self.timeout(request) * if self.is_rtu() { 2 } else { 1 }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::driver::modbus::request::{Ask, Table};

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
        // 8 bytes there and 25 back, of 11 or 10 bits.
        check(9600, Parity::Even, 4010, 37_812);
        check(19_200, Parity::Even, 2005, 18_906);
        check(19_200, Parity::None, 1822, 17_187);
        check(115_200, Parity::Even, 1750, 3151);
    }
}
