//! The options of a TCP connection to the field. With these options, a driver detects that a cable
//! is unplugged.
//!
//! Without these options, the operating system detects a dead connection very late. A side that
//! only receives would wait for ever. A side that sends would wait for a quarter of an hour. This
//! file does not limit how long a peer may be silent while the connection works; each driver has
//! its own limit.

use std::io;
use std::time::Duration;

use socket2::{SockRef, TcpKeepalive};
use tokio::net::TcpStream;

/// The keepalive settings: the silence before the first probe, the time between two probes, and the
/// number of probes. A dead connection is detected after 15 + 3 * 5 = 30 s. A connection also ends
/// if the peer does not acknowledge sent data within this time.
const KEEPALIVE: (Duration, Duration, u32) = (Duration::from_secs(15), Duration::from_secs(5), 3);

/// Sets the options of a connection. Data is sent without delay (no Nagle algorithm), and a dead
/// connection ends after a limited time.
pub(super) fn set_up(stream: &TcpStream) -> io::Result<()> {
    stream.set_nodelay(true)?;
    let (idle, interval, probes) = KEEPALIVE;
    let socket = SockRef::from(stream);
    let keepalive = TcpKeepalive::new().with_time(idle).with_interval(interval);
    socket.set_tcp_keepalive(&keepalive.with_retries(probes))?;
    socket.set_tcp_user_timeout(Some(idle + interval * probes))
}
