//! A TCP connection to the field, set up so that a cable which is pulled is found out.
//!
//! Without that, who only listens waits for ever, and who speaks for a quarter of an hour. How long
//! a peer on a sound connection may be silent is the business of each driver.

use std::io;
use std::time::Duration;

use socket2::{SockRef, TcpKeepalive};
use tokio::net::TcpStream;

/// The first probe after so much silence, from one to the next, and how many: it is found out after
/// 15 + 3 * 5 s, and as soon with something under way.
const KEEPALIVE: (Duration, Duration, u32) = (Duration::from_secs(15), Duration::from_secs(5), 3);

/// Sends what there is at once, and does not wait for ever.
pub(super) fn set_up(stream: &TcpStream) -> io::Result<()> {
    stream.set_nodelay(true)?;
    let (idle, interval, probes) = KEEPALIVE;
    let socket = SockRef::from(stream);
    let keepalive = TcpKeepalive::new().with_time(idle).with_interval(interval);
    socket.set_tcp_keepalive(&keepalive.with_retries(probes))?;
    socket.set_tcp_user_timeout(Some(idle + interval * probes))
}
