//! The options of a TCP connection to the field, so that a pulled cable is noticed.
//!
//! Without them, a peer that only listens waits for ever, and a peer that sends waits for a quarter
//! of an hour. Each driver decides by itself how long a peer on a sound connection may be silent.

use std::io;
use std::time::Duration;

use socket2::{SockRef, TcpKeepalive};
use tokio::net::TcpStream;

/// The silence before the first keepalive probe, the time between two probes, and their number. A
/// dead connection is found after 15 + 3 * 5 s, also when data is under way.
const KEEPALIVE: (Duration, Duration, u32) = (Duration::from_secs(15), Duration::from_secs(5), 3);

/// Sets the options: data is sent at once, and a dead connection ends after a limited time.
pub(super) fn set_up(stream: &TcpStream) -> io::Result<()> {
    stream.set_nodelay(true)?;
    let (idle, interval, probes) = KEEPALIVE;
    let socket = SockRef::from(stream);
    let keepalive = TcpKeepalive::new().with_time(idle).with_interval(interval);
    socket.set_tcp_keepalive(&keepalive.with_retries(probes))?;
    socket.set_tcp_user_timeout(Some(idle + interval * probes))
}
