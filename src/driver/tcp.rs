//! TCP connections to the field: how a driver connects to a host, and the options by which it
//! detects that a cable is unplugged.
//!
//! A host name may have several addresses. Some of them may swallow every packet: for example, an
//! IPv6 address in a network without a route for IPv6. [`dial`] starts an attempt for each address,
//! one after the other, and leaves the earlier attempts running. This is the method of RFC 8305
//! (Happy Eyeballs), but the addresses stay in the order of the resolver:
//!
//! ```text
//!   resolver ─▶ address 1 ───────────────────────── no answer
//!                 └ 250 ms ─▶ address 2 ─ refused
//!                                └ at once ─▶ address 3 ─ accepted: the connection
//! ```
//! Without the options of [`set_up`], the operating system detects a dead connection very late. A
//! side that only receives would wait for ever. A side that sends would wait for a quarter of an
//! hour. This file does not limit how long a peer may be silent while the connection works; each
//! driver has its own limit.

use std::fmt::Write;
use std::io;
use std::net::{IpAddr, SocketAddr, ToSocketAddrs};
use std::time::Duration;

use socket2::{SockRef, TcpKeepalive};
use tokio::net::TcpStream;
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep_until};

use crate::patience::{PlacesByKey, is_late, within};

/// The keepalive settings: the silence before the first probe, the time between two probes, and the
/// number of probes. A dead connection is detected after 15 + 3 * 5 = 30 s. A connection also ends
/// if the peer does not acknowledge sent data within this time.
const KEEPALIVE: (Duration, Duration, u32) = (Duration::from_secs(15), Duration::from_secs(5), 3);

/// The time after which the next address is tried, while the attempt for the previous address goes
/// on. RFC 8305 (section 5) recommends this value. A shorter time would often connect to two
/// addresses of one device, and many devices accept only a few connections.
const STAGGER: Duration = Duration::from_millis(250);

/// The maximum number of addresses of a host that one call of [`dial`] tries. A host of a plant has
/// a few addresses; each attempt in progress needs a socket.
const MAX_ADDRESSES: usize = 16;

/// The maximum number of calls of the resolver for one host name that wait at the same time. The
/// resolver itself gives up after about 30 s. If a name service never answers, each attempt to
/// connect would otherwise leave one more waiting thread.
static LOOKUPS: PlacesByKey<String> = PlacesByKey::new(4);

/// The error text for an address or a resolver that does not answer. The text names the key that
/// sets `limit` of [`dial`].
const SILENT: &str = "no answer within connect_timeout";

/// Connects to a host. `host` is a name or an IP address without brackets. Each call asks the
/// resolver again, so a host that has moved is found. `limit` is the time for the resolver and all
/// addresses together. The returned connection has the options of [`set_up`].
///
/// # Errors
/// When the resolver finds no address or does not answer, or when no address accepts the connection
/// in time. The error names each address with the reason why it failed.
pub(super) async fn dial(host: &str, port: u16, limit: Duration) -> io::Result<TcpStream> {
    let end = Instant::now() + limit;
    let found = match addresses(host, port, limit).await {
        Ok(found) if found.is_empty() => {
            let why = format!("the resolver has no address for {host}");
            return Err(io::Error::new(io::ErrorKind::NotFound, why));
        }
        Ok(found) => found,
        Err(error) if is_late(&error) => {
            let why = format!("the resolver for {host}: {SILENT}");
            return Err(io::Error::new(io::ErrorKind::TimedOut, why));
        }
        Err(error) => {
            let why = format!("the resolver has no address for {host}: {error}");
            return Err(io::Error::new(error.kind(), why));
        }
    };
    connect(&found, end).await
}

/// Returns the addresses of a host in the order of the resolver, each once, at most
/// [`MAX_ADDRESSES`]. The resolver runs on a thread that may wait, and must answer within `limit`.
async fn addresses(host: &str, port: u16, limit: Duration) -> io::Result<Vec<SocketAddr>> {
    if let Ok(literal) = host.parse::<IpAddr>() {
        return Ok(vec![SocketAddr::new(literal, port)]);
    }
    let (places, host) = (LOOKUPS.of(host.to_owned()), host.to_owned());
    within(limit, &places, move || {
        let mut found = Vec::new();
        for address in (host.as_str(), port).to_socket_addrs()? {
            if found.len() < MAX_ADDRESSES && !found.contains(&address) {
                found.push(address);
            }
        }
        Ok(found)
    })
    .await
}

/// Connects to the first address that accepts. The next attempt starts when one has failed, and at
/// the latest after [`STAGGER`]. If `end` is near, it starts earlier, so that each address is
/// tried.
///
/// # Errors
/// When no address accepts the connection before `end`.
async fn connect(found: &[SocketAddr], end: Instant) -> io::Result<TcpStream> {
    let count = u32::try_from(found.len().max(1)).unwrap_or(u32::MAX);
    let stagger = STAGGER.min(end.saturating_duration_since(Instant::now()) / count);
    let mut waiting = found.iter().copied();
    // If the caller drops this future, the set ends all attempts.
    let mut attempts = JoinSet::new();
    let mut failures: Vec<(SocketAddr, io::Error)> = Vec::new();
    let mut next_at = Instant::now();
    while failures.len() < found.len() {
        tokio::select! {
            () = sleep_until(next_at), if waiting.len() > 0 => {
                attempts.extend(waiting.next().map(attempt));
                next_at = Instant::now() + stagger;
            }
            Some(ended) = attempts.join_next() => match ended.map_err(io::Error::other)? {
                (_, Ok(stream)) => return Ok(stream),
                (address, Err(error)) => {
                    failures.push((address, error));
                    next_at = Instant::now();
                }
            },
            () = sleep_until(end) => break,
        }
    }
    Err(failed(found, &failures))
}

/// Connects to one address. Returns the address too, so that the caller knows which one this is.
async fn attempt(address: SocketAddr) -> (SocketAddr, io::Result<TcpStream>) {
    let connect = async {
        let stream = TcpStream::connect(address).await?;
        set_up(&stream)?;
        Ok(stream)
    };
    (address, connect.await)
}

/// Makes the error for a host of which no address has accepted. An address without an entry in
/// `failures` has not answered.
fn failed(found: &[SocketAddr], failures: &[(SocketAddr, io::Error)]) -> io::Error {
    // A resolver may return the addresses in another order each time. In a fixed order, the same
    // trouble has the same text, and the drivers log each text once.
    let mut sorted = found.to_vec();
    sorted.sort_unstable();
    let mut why = String::new();
    for address in sorted {
        let separator = if why.is_empty() { "" } else { "; " };
        let failure = failures.iter().find(|(of, _)| *of == address);
        let _ = match failure {
            Some((_, error)) => write!(why, "{separator}{address}: {error}"),
            None => write!(why, "{separator}{address}: {SILENT}"),
        };
    }
    let is_silent = failures.len() < found.len();
    let last = failures.last().filter(|_| !is_silent).map(|(_, error)| error.kind());
    io::Error::new(last.unwrap_or(io::ErrorKind::TimedOut), why)
}

/// Sets the options of a connection. Data is sent without delay (no Nagle algorithm), and a dead
/// connection ends after a limited time.
fn set_up(stream: &TcpStream) -> io::Result<()> {
    stream.set_nodelay(true)?;
    let (idle, interval, probes) = KEEPALIVE;
    let socket = SockRef::from(stream);
    let keepalive = TcpKeepalive::new().with_time(idle).with_interval(interval);
    socket.set_tcp_keepalive(&keepalive.with_retries(probes))?;
    socket.set_tcp_user_timeout(Some(idle + interval * probes))
}

#[cfg(test)]
mod tests {
    use std::net::TcpListener;

    use socket2::{Domain, Socket, Type};

    use super::*;

    /// An address that swallows what is sent to it: the queue of its listener is full.
    struct Swallower {
        address: SocketAddr,
        _queue: Vec<Socket>,
    }

    impl Swallower {
        fn new(ip: &str, port: u16) -> Self {
            let listener = Socket::new(Domain::IPV4, Type::STREAM, None).unwrap();
            listener.bind(&SocketAddr::new(ip.parse().unwrap(), port).into()).unwrap();
            listener.listen(0).unwrap();
            let address = listener.local_addr().unwrap().as_socket().unwrap();
            let mut queue = vec![listener];
            for _ in 0..4 {
                let client = Socket::new(Domain::IPV4, Type::STREAM, None).unwrap();
                client.set_nonblocking(true).unwrap();
                let _ = client.connect(&address.into());
                queue.push(client);
            }
            Self { address, _queue: queue }
        }
    }

    fn block_on<T>(work: impl Future<Output = T>) -> T {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(work)
    }

    /// An address of this machine at which no program listens.
    fn closed() -> SocketAddr {
        TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap()
    }

    fn soon(ms: u64) -> Instant {
        Instant::now() + Duration::from_millis(ms)
    }

    #[test]
    fn a_socket_notices_a_pulled_cable() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        block_on(async {
            let stream = dial("localhost", port, Duration::from_secs(5)).await.unwrap();
            let socket = SockRef::from(&stream);
            assert!(socket.keepalive().unwrap() && stream.nodelay().unwrap());
            assert_eq!(socket.tcp_keepalive_time().unwrap(), Duration::from_secs(15));
            assert_eq!(socket.tcp_keepalive_interval().unwrap(), Duration::from_secs(5));
            assert_eq!(socket.tcp_keepalive_retries().unwrap(), 3);
            assert_eq!(socket.tcp_user_timeout().unwrap(), Some(Duration::from_secs(30)));
            drop(listener);
            let refused = dial("127.0.0.1", port, Duration::from_secs(5)).await.unwrap_err();
            assert_eq!(refused.kind(), io::ErrorKind::ConnectionRefused);
            let expected = format!("127.0.0.1:{port}: Connection refused (os error 111)");
            assert_eq!(refused.to_string(), expected);
        });
    }

    #[test]
    fn an_ipv6_address_needs_no_resolver() {
        let Ok(listener) = TcpListener::bind("[::1]:0") else { return };
        let address = listener.local_addr().unwrap();
        block_on(async {
            let stream = dial("::1", address.port(), Duration::from_secs(5)).await.unwrap();
            assert_eq!(stream.peer_addr().unwrap(), address);
        });
    }

    /// Addresses that swallow every packet cost a part of the time. In an earlier version of the
    /// Modbus driver, the first of them used all of `connect_timeout`.
    #[test]
    fn silent_addresses_leave_time_for_the_others() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let good = listener.local_addr().unwrap();
        let silent = [Swallower::new("127.0.0.2", 0), Swallower::new("127.0.0.3", 0)];
        let all = [silent[0].address, silent[1].address, closed(), good];
        block_on(async {
            for limit_ms in [4000, 400] {
                let (began, end) = (Instant::now(), soon(limit_ms));
                let stream = connect(&all, end).await.unwrap();
                assert_eq!(stream.peer_addr().unwrap(), good);
                let (took, limit) = (began.elapsed(), Duration::from_millis(limit_ms));
                assert!(took < limit.min(Duration::from_secs(2)), "{took:?} of {limit:?}");
            }
        });
    }

    #[test]
    fn the_error_names_each_address_in_a_fixed_order() {
        let refused = closed();
        let swallower = Swallower::new("127.0.0.3", 0);
        block_on(async {
            let expected = format!(
                "{refused}: Connection refused (os error 111); \
                 {}: no answer within connect_timeout",
                swallower.address
            );
            for all in [[refused, swallower.address], [swallower.address, refused]] {
                let error = connect(&all, soon(300)).await.unwrap_err();
                assert_eq!(error.to_string(), expected);
                assert_eq!(error.kind(), io::ErrorKind::TimedOut);
            }
        });
    }

    #[test]
    fn a_name_without_an_address_is_named() {
        let error = block_on(dial("no-such-host.invalid", 502, Duration::from_secs(60)));
        let error = error.unwrap_err().to_string();
        let expected = "the resolver has no address for no-such-host.invalid: ";
        assert!(error.starts_with(expected), "{error}");
    }

    /// A resolver that does not answer is asked again, but not by more and more threads.
    #[test]
    fn a_resolver_that_hangs_is_waited_for_within_the_limit() {
        let lookups = LOOKUPS.of("hung.test".into());
        let taken = [(); 4].map(|()| lookups.try_take().unwrap());
        let began = Instant::now();
        let error = block_on(dial("hung.test", 502, Duration::from_millis(50))).unwrap_err();
        assert!(began.elapsed() < Duration::from_secs(2));
        let expected = "the resolver for hung.test: no answer within connect_timeout";
        assert_eq!(error.to_string(), expected);
        drop(taken);
    }
}
