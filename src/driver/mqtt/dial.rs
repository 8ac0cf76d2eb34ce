//! The TCP connection to a broker, with socket options by which the client detects a pulled cable.
//!
//! The library does not open this connection, because the library would set no keepalive and no
//! timeout for unacknowledged data. The library then runs TLS and MQTT on this connection. If the
//! connection works but the broker is silent, `pulse.rs` decides when to end the connection.

use std::io;
use std::net::SocketAddr;
use std::time::Duration;

use tokio::net::{TcpStream, lookup_host};
use tokio::time::timeout;

use super::loss::NO_ANSWER;
use crate::driver::tcp::set_up;

/// Tries the addresses of the host in order, and returns the first connection that is accepted.
/// `limit` is the time for all addresses together. It does not include the search for the
/// addresses.
///
/// # Errors
/// When the host name cannot be resolved or has no address, or the socket options cannot be set.
/// When no address accepts the connection in time; the error is then that of the last address.
pub(super) async fn dial(host: String, port: u16, limit: Duration) -> io::Result<TcpStream> {
    let found: Vec<SocketAddr> = lookup_host((host.as_str(), port)).await?.collect();
    // Each address gets an equal part of `limit`. So an address that never answers leaves time for
    // the next addresses.
    let share = limit / u32::try_from(found.len().max(1)).unwrap_or(u32::MAX);
    let mut failure = io::Error::new(io::ErrorKind::NotFound, "the host has no address");
    for address in found {
        match timeout(share, TcpStream::connect(address)).await {
            Ok(Ok(stream)) => return set_up(&stream).map(|()| stream),
            Ok(Err(error)) => failure = error,
            Err(_) => failure = io::Error::new(io::ErrorKind::TimedOut, NO_ANSWER),
        }
    }
    Err(failure)
}

#[cfg(test)]
mod tests {
    use std::net::TcpListener;

    use socket2::SockRef;

    use super::*;

    #[test]
    fn a_socket_notices_a_pulled_cable() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async {
            let stream = dial("localhost".into(), port, Duration::from_secs(5)).await.unwrap();
            let socket = SockRef::from(&stream);
            assert!(socket.keepalive().unwrap() && stream.nodelay().unwrap());
            assert_eq!(socket.tcp_keepalive_time().unwrap(), Duration::from_secs(15));
            assert_eq!(socket.tcp_keepalive_interval().unwrap(), Duration::from_secs(5));
            assert_eq!(socket.tcp_keepalive_retries().unwrap(), 3);
            assert_eq!(socket.tcp_user_timeout().unwrap(), Some(Duration::from_secs(30)));
            drop(listener);
            let refused = dial("127.0.0.1".into(), port, Duration::from_secs(5)).await;
            assert_eq!(refused.unwrap_err().kind(), io::ErrorKind::ConnectionRefused);
        });
    }
}
