//! The Modbus TCP server: a SCADA system can read values of the controller and write commands.
//!
//! ```toml
//! [[device]]
//! name = "scada"
//! driver = "modbus_server"
//! listen = "0.0.0.0:502"
//! allow = ["10.0.7.0/24"]
//! show = [
//!   { name = "tank.level", table = "input", address = 0, type = "f32", quality = 2 },
//!   { name = "motor.run", table = "discrete", address = 0 },
//! ]
//! [[device.point]]
//! name = "scada.setpoint"
//! direction = "in"
//! type = "u16"
//! at = { table = "holding", address = 100, min = 0, max = 1000, expires = "10s" }
//! ```
//! A client can write only the inputs of this device. If a client reads a bad value, the answer is
//! an exception, a configured value, or the last value that was not bad; then a second register or
//! bit says "bad" (`server/seen.rs`). `offer.rs` and `map.rs` define which register or bit contains
//! which value. `connection.rs` serves one client. Modbus has no passwords and no user names. A
//! client whose address is in `allow` can use all that the server offers. All other protection must
//! come from the network.

mod command;
mod connection;
mod map;
mod offer;
mod request;
mod seen;
mod shown;
mod source;

use std::collections::{BTreeMap, HashMap};
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use serde::Deserialize;
use tokio::net::TcpListener;
use tokio::sync::mpsc;
use tokio::task::{self, JoinError, JoinSet};
use tokio::time::{Instant, interval, sleep};

pub use command::{CommandAddress, Expires};
pub use shown::{OnBad, Show};
pub use source::Source;

use crate::clock::{Clock, MonotonicClock};
use crate::driver::export::Exports;
use crate::driver::link::{Link, Serve, Side};
use crate::driver::{Fault, OpenError, Part, Plan, Settings, duration};
use crate::logged::OnChange;
use crate::process::image::{Freshness, PointId, Points};
use connection::{Ask, End, attend};
use offer::Offer;
use request::{Exception, refused};

/// The range of `max_clients`. Each client needs a file descriptor, a task, and less than 1 KiB for
/// one request and its answer.
const CLIENTS: std::ops::RangeInclusive<usize> = 1..=64;

/// The range of `idle`. A person needs more than 100 ms to type a request. A connection that is
/// silent for a day is dead.
const IDLE: std::ops::RangeInclusive<Duration> =
    Duration::from_millis(100)..=Duration::from_secs(24 * 3600);

/// The first and the longest pause between two attempts to listen on the port, before
/// `Server::bind` varies each pause by up to a quarter. In a reload, the server of the old
/// configuration releases the port within about the first pause.
const BIND_AGAIN: [Duration; 2] = [Duration::from_millis(50), Duration::from_secs(5)];

/// The pause after a failed accept, for example if the system has no free file descriptor.
const ACCEPT_AGAIN: Duration = Duration::from_millis(100);

/// The time between two updates of the status.
const REPORT_PERIOD: Duration = Duration::from_secs(1);

/// The shortest time between two log lines about refused clients.
const COMPLAIN: Duration = Duration::from_secs(60);

/// The configuration of one `[[device]]` with `driver = "modbus_server"`.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Config {
    /// The address to listen on. With port 0 the system chooses a free port, and the status shows
    /// this port.
    pub listen: SocketAddr,
    /// The only unit address served; other unit addresses get exception 11. `None` serves them all.
    pub unit: Option<u8>,
    /// The maximum number of clients that are connected at the same time. The default is 8.
    #[serde(default = "eight")]
    pub max_clients: usize,
    /// The maximum time to wait for a request, receive it and send its answer. The default is 60 s.
    #[serde(default = "minute", with = "duration")]
    pub idle: Duration,
    /// The client addresses that may connect. The default is the loopback addresses.
    #[serde(default = "Source::loopback")]
    pub allow: Vec<Source>,
    /// The values that clients can read.
    #[serde(default)]
    pub show: Vec<Show>,
    /// The key `at` of each point, by the name of the point: where and how clients write the point.
    #[serde(default)]
    pub at: BTreeMap<String, CommandAddress>,
}

impl Settings for Config {
    fn plan(
        &self,
        points: &Arc<Points>,
        device: usize,
        exports: &Exports,
    ) -> Result<Plan, OpenError> {
        let server = Server::plan(self, points, device, exports)?;
        let limits: HashMap<_, _> =
            points.iter().map(|(id, _)| (id, server.freshness(id))).collect();
        let points = Arc::clone(points);
        Ok(Plan::new(move || Link::start_with(&points, device, |id| limits[&id], server)))
    }

    fn shown(&self) -> Vec<(String, &str)> {
        let names = self.show.iter().map(|show| &*show.name).enumerate();
        names.map(|(n, name)| (format!("show[{n}].name"), name)).collect()
    }

    fn claim(&self) -> Option<(&'static str, String, &'static str)> {
        let fate = "only one of the two devices gets the port";
        (self.listen.port() != 0).then(|| ("listen", self.listen.to_string(), fate))
    }

    fn works_without_points(&self) -> bool {
        !self.show.is_empty()
    }
}

fn eight() -> usize {
    8
}

fn minute() -> Duration {
    Duration::from_secs(60)
}

/// One server: its configuration, the values that it offers, and its counters.
#[derive(Debug)]
struct Server {
    config: Config,
    offer: Offer,
    exports: Exports,
    tally: Tally,
}

/// The counters that the status shows, and the connected clients.
#[derive(Debug, Default)]
struct Tally {
    requests: u64,
    exceptions: u64,
    /// The number of refused clients: their address is not allowed, or the server was full.
    turned_away: u64,
    /// The number of clients whose connection the server has ended, or whose task has panicked.
    cut_off: u64,
    /// The connected clients, by the id of their task.
    clients: HashMap<task::Id, Client>,
    /// The time when a refused client was logged last.
    complained: Option<Instant>,
    /// The number of names in `show` without a point or variable, at the last status update.
    unknown: usize,
}

/// A connected client, with the numbers of its requests and of its exception answers.
#[derive(Debug)]
struct Client {
    peer: SocketAddr,
    requests: u64,
    exceptions: u64,
}

impl Server {
    /// Plans the server of device number `device`: checks its keys and its addresses.
    ///
    /// # Errors
    /// When the configuration cannot work.
    fn plan(
        config: &Config,
        points: &Points,
        device: usize,
        exports: &Exports,
    ) -> Result<Self, OpenError> {
        if !CLIENTS.contains(&config.max_clients) {
            let wanted = format!("from {} to {}", CLIENTS.start(), CLIENTS.end());
            return Err(OpenError::new("max_clients", config.max_clients.to_string(), wanted));
        }
        if !IDLE.contains(&config.idle) {
            let found = humantime::format_duration(config.idle).to_string();
            return Err(OpenError::new("idle", found, "from 100ms to 1day"));
        }
        let offer = Offer::plan(config, points, device)?;
        let (config, exports) = (config.clone(), exports.clone());
        Ok(Self { config, offer, exports, tally: Tally::default() })
    }

    /// Returns how long the scan trusts a command (an input of this device) after its last write.
    fn freshness(&self, id: PointId) -> Freshness {
        self.offer.freshness(id)
    }

    /// Listens on the port. After a failure, the server tries again until it succeeds.
    async fn bind(&self, side: &mut Side) -> TcpListener {
        let listen = self.config.listen;
        let [mut pause, longest] = BIND_AGAIN;
        let mut is_waiting = OnChange::default();
        loop {
            let error = match TcpListener::bind(listen).await {
                Ok(listener) => {
                    if is_waiting.changes_to(false) {
                        tracing::info!("the Modbus server listens on {listen} now");
                    }
                    return listener;
                }
                Err(error) => error,
            };
            if pause > longest / 2 && is_waiting.changes_to(true) {
                tracing::warn!("the Modbus server cannot listen on {listen}, will retry: {error}");
            }
            let state = format!("cannot listen: {error}");
            side.show(vec![Part { name: listen.to_string(), ok: false, state, facts: Vec::new() }]);
            side.fault(Some(Fault::Disconnected));
            side.publish();
            sleep(pause.mul_f64(0.75 + 0.5 * fastrand::f64())).await;
            pause = (2 * pause).min(longest);
        }
    }

    /// Accepts clients, answers their requests and updates the status. Never returns.
    async fn attend(&mut self, listener: &TcpListener, side: &mut Side) -> ! {
        let (asks, mut inbox) = mpsc::channel(self.config.max_clients);
        let mut tasks = JoinSet::new();
        let address = listener.local_addr().unwrap_or(self.config.listen);
        let mut report = interval(REPORT_PERIOD);
        loop {
            tokio::select! {
                arrived = listener.accept() => match arrived {
                    Ok((stream, peer)) => if self.is_welcome(peer, &mut tasks).await {
                        let task = tasks.spawn(attend(stream, self.config.idle, asks.clone()));
                        let client = Client { peer, requests: 0, exceptions: 0 };
                        self.tally.clients.insert(task.id(), client);
                    },
                    Err(_) => sleep(ACCEPT_AGAIN).await,
                },
                Some(ask) = inbox.recv() => self.answer(ask, side),
                Some(ended) = tasks.join_next_with_id() => self.tally.leave(ended),
                _ = report.tick() => self.report(address, side),
            }
        }
    }

    /// Whether the client `peer` may connect: its address is allowed and the server is not full.
    async fn is_welcome(&mut self, peer: SocketAddr, tasks: &mut JoinSet<End>) -> bool {
        let is_stranger = !self.config.allow.iter().any(|source| source.covers(peer.ip()));
        let mut patience = 3;
        // A task whose client has already disconnected must not block a new client.
        while !is_stranger && tasks.len() >= self.config.max_clients && patience > 0 {
            tokio::task::yield_now().await;
            while let Some(ended) = tasks.try_join_next_with_id() {
                self.tally.leave(ended);
            }
            patience -= 1;
        }
        let is_full = tasks.len() >= self.config.max_clients;
        if is_stranger || is_full {
            self.tally
                .turn_away(peer, if is_stranger { "not in `allow`" } else { "too many clients" });
        }
        !is_stranger && !is_full
    }

    /// Answers one request. If the request is a valid write, passes its commands to the scan.
    fn answer(&mut self, ask: Ask, side: &mut Side) {
        let mut has_commands = false;
        let is_ours = self.config.unit.is_none_or(|unit| unit == ask.unit);
        let answer = if is_ours {
            let export = self.exports.borrow().clone();
            self.offer.answer(&ask.pdu, &export, MonotonicClock.now(), &mut |id, raw| {
                side.put(id, raw);
                has_commands = true;
            })
        } else {
            refused(&ask.pdu, Exception::Unit)
        };
        if has_commands {
            side.publish();
        }
        self.tally.count(ask.client, &answer);
        // The client may have disconnected in the meantime. Its commands are valid nevertheless.
        let _ = ask.answer.send(answer);
    }

    /// Updates the status. Warns in the log if the number of unknown names in `show` has grown.
    fn report(&mut self, address: SocketAddr, side: &mut Side) {
        let export = self.exports.borrow().clone();
        let unknown: Vec<_> = match export.cycle {
            0 => Vec::new(),
            _ => self.offer.unknown(&export).collect(),
        };
        let is_news = unknown.len() > self.tally.unknown;
        self.tally.unknown = unknown.len();
        let mut parts = self.tally.parts(address, self.config.max_clients);
        if let Some(first) = unknown.first() {
            let state = match unknown.len() {
                1 => format!("there is no point or variable {first}"),
                2 => format!("there is no point or variable {first}; 1 other is unknown"),
                n => format!("there is no point or variable {first}; {} others are unknown", n - 1),
            };
            if is_news {
                tracing::warn!(
                    "`show` of the Modbus server names values that do not exist: {state}"
                );
            }
            parts.push(Part { name: "show".into(), ok: false, state, facts: Vec::new() });
        }
        side.show(parts);
    }
}

impl Serve for Server {
    async fn serve(&mut self, side: &mut Side) {
        // After a panic, the commands written before it are lost here. The scan sees this loss,
        // because `driver/link/thread.rs` has made the inputs of this device bad after the panic.
        self.offer.forget();
        self.tally = Tally::default();
        let listener = self.bind(side).await;
        side.fault(None);
        side.publish();
        self.attend(&listener, side).await;
    }
}

impl Tally {
    /// Counts one request of a client, and one exception if the answer is an exception.
    fn count(&mut self, client: task::Id, answer: &[u8]) {
        let exceptions = u64::from(answer[0] & 0x80 != 0);
        self.requests += 1;
        self.exceptions += exceptions;
        if let Some(client) = self.clients.get_mut(&client) {
            client.requests += 1;
            client.exceptions += exceptions;
        }
    }

    /// Removes a client whose task has ended.
    fn leave(&mut self, ended: Result<(task::Id, End), JoinError>) {
        let (client, is_cut_off) = match ended {
            Ok((client, end)) => (client, end != End::Left),
            Err(panic) => (panic.id(), true),
        };
        self.clients.remove(&client);
        self.cut_off += u64::from(is_cut_off);
    }

    /// Counts a refused client. At most one refused client per minute is logged.
    fn turn_away(&mut self, peer: SocketAddr, why: &str) {
        self.turned_away += 1;
        if self.complained.is_none_or(|at| at.elapsed() > COMPLAIN) {
            self.complained = Some(Instant::now());
            tracing::warn!("the Modbus server refuses client {}: {why}", peer.ip().to_canonical());
        }
    }

    /// Returns the parts of the status: first the server, then each connected client.
    fn parts(&self, address: SocketAddr, most: usize) -> Vec<Part> {
        let facts = [
            ("requests", self.requests),
            ("exceptions", self.exceptions),
            ("turned_away", self.turned_away),
            ("cut_off", self.cut_off),
        ];
        let fact = |(name, count): (&str, u64)| (name.to_owned(), count as f64);
        let mut parts = vec![Part {
            name: address.to_string(),
            ok: true,
            state: format!("{} of {most} clients", self.clients.len()),
            facts: facts.into_iter().map(fact).collect(),
        }];
        let mut clients: Vec<_> = self.clients.values().collect();
        clients.sort_by_key(|client| client.peer);
        parts.extend(clients.into_iter().map(|client| {
            Part {
                name: client.peer.to_string(),
                ok: true,
                state: "connected".into(),
                facts: [("requests", client.requests), ("exceptions", client.exceptions)]
                    .map(fact)
                    .to_vec(),
            }
        }));
        parts
    }
}
