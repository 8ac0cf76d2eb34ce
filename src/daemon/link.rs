//! The link to the scan: the daemon sends orders down, and the scan sends answers and facts up.
//!
//! ```text
//!   a part ── order(ticket) ──▶ bounded queue ──▶ the scan
//!   askers[ticket] ◀── Answer { ticket } ── returns ◀──┤
//!   news() ◀──────── the newest snapshot ◀─────────────┘
//! ```
//! If the queue of orders is full, the link refuses the order; the link never waits. Facts come up
//! as snapshots. Each snapshot holds all facts, so a snapshot that the daemon did not read is no
//! loss. The scan answers an order with the ticket of the order, and the link keeps the sender's
//! reply under this ticket until then.
//!
//! The link does not know what an order means: the part that gives the order knows. `link/stall.rs`
//! finds out whether the scan moves.

mod stall;

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::oneshot;

use crate::clock::{Clock, MonotonicClock};
use crate::config::{Config, Live};
use crate::control::{Code, Failure, Reply};
use crate::driver::{Command, Injection};
use crate::process::image::{Direction, Value};
use crate::process::line::Line;
use crate::process::variable::{Variable, VariableKind};
use crate::process::world::World;
use crate::scan::stats::Stats;
use crate::scan::{self, Order, ScanHandle, Snapshot, thread};
use crate::text::nearest;
pub(super) use stall::Stall;

/// The daemon's ends of everything that lies between the daemon and the scan.
pub(super) struct ScanLink {
    /// The scan's thread; `None` after the stop or a stall has ended it.
    pub(super) scan: Option<thread::Running>,
    /// The daemon's ends of the queues to the scan, and the snapshots from the scan.
    pub(super) handle: ScanHandle,
    /// The log lines of guests. The scan writes them, the loop reads them.
    pub(super) lines: rtrb::Consumer<Line>,
    /// The times that the scan has measured: its lateness and its work.
    pub(super) stats: Stats,
    /// The replies to the requests that wait for an answer of the scan, by ticket.
    pub(super) askers: HashMap<u64, oneshot::Sender<Reply>>,
    /// The ticket of the newest order. The next order gets this number plus one.
    pub(super) last_ticket: u64,
    /// Whether the scan stands, and what is known about the stall.
    pub(super) stall: Stall,
    /// The names of variables that the scan reserves until a restart.
    pub(super) reserved: Reserved,
}

/// Variables whose declaration in the configuration waits for a restart. A program may make such a
/// variable before the restart, but only with the declared type.
#[derive(Debug, Default)]
pub(super) struct Reserved(pub(super) Vec<(String, VariableKind)>);

impl Reserved {
    /// The declared type of the variable with this name; `None` if no declaration of this name
    /// waits for a restart.
    pub(super) fn kind(&self, name: &str) -> Option<VariableKind> {
        let found = self.0.iter().find(|(reserved, _)| reserved == name);
        found.map(|(_, kind)| *kind)
    }
}

impl ScanLink {
    /// The newest snapshot of the scan.
    pub(super) fn news(&mut self) -> &Snapshot {
        self.handle.latest.read()
    }

    /// The instant for which people are told ages and remaining times: the instant of the newest
    /// snapshot. While the scan stands, it is the present, because values grow older although the
    /// snapshot stays the same.
    pub(super) fn present(&mut self) -> Duration {
        if self.stall.is_on() { MonotonicClock.now() } else { self.news().now }
    }

    /// A world for a program that is to be prepared: the image and the variables that its `init`
    /// works on.
    pub(super) fn rehearsal(&mut self, config: &Config) -> Box<World> {
        let Config { live: Live { points, scan, .. }, fixed, .. } = config;
        let mut world = scan::rehearsal(self.news(), scan.period);
        if !Arc::ptr_eq(&world.points, points) {
            // The scan takes over the new points before it gets any program that is prepared from
            // now on.
            world.take_points(Arc::clone(points));
        }
        world.is_recorded = fixed.crash.record;
        world
    }

    /// Orders a simulated input to have a value. If that is impossible, `reply` gets the reason.
    pub(super) fn set(
        &mut self,
        name: &str,
        value: Value,
        reply: oneshot::Sender<Reply>,
        config: &Config,
    ) {
        let points = &config.live.points;
        let failure = match points.find(name) {
            None => unknown("point", name, points.iter().map(|(_, point)| &*point.name)),
            Some(id) if points[id].direction == Direction::Out => Failure::new(
                Code::Refused,
                format!("{name} is an output; only inputs of simulated devices can be set"),
            ),
            Some(id) => match points[id].encode(value) {
                Err(unfit) => Failure::new(Code::Invalid, format!("{name}: {unfit}")),
                Ok(_) => {
                    let device = points[id].device;
                    return self.order_device(device, Command::Set(id, value), reply);
                }
            },
        };
        let _ = reply.send(Err(failure));
    }

    /// Orders a variable to have a value. If that is impossible, `reply` gets the reason.
    pub(super) fn set_variable(
        &mut self,
        name: String,
        value: Value,
        reply: oneshot::Sender<Reply>,
    ) {
        let variables = &self.news().variables;
        let failure = match variables.read(&name).map(Variable::kind) {
            None => unknown("variable", &name, variables.iter().map(|(name, _)| name)),
            // A program may write a number that is not finite. A person who types one has made a
            // mistake.
            Some(_) if !value.is_finite() => Failure::new(
                Code::Invalid,
                format!("{name}: expected a finite number, found {value}"),
            ),
            Some(kind) => match Variable::from_value(kind, value) {
                None => Failure::new(
                    Code::Invalid,
                    format!("{name}: the variable is of type {kind}, which {value} is not"),
                ),
                Some(value) => {
                    let values = vec![(name, value)];
                    self.order(reply, |ticket| Order::SetVariables { ticket, values });
                    return;
                }
            },
        };
        let _ = reply.send(Err(failure));
    }

    /// Orders a simulated device to fail in the way that `injection` describes.
    pub(super) fn inject(
        &mut self,
        device: &str,
        injection: serde_json::Value,
        reply: oneshot::Sender<Reply>,
        config: &Config,
    ) {
        match Injection::from_json(injection) {
            Ok(injection) => self.command(device, Command::Inject(injection), reply, config),
            Err(error) => {
                let _ = reply.send(Err(Failure::new(Code::Invalid, error)));
            }
        }
    }

    /// Sends a command to the device of this name, or answers that no device has this name.
    pub(super) fn command(
        &mut self,
        name: &str,
        command: Command,
        reply: oneshot::Sender<Reply>,
        config: &Config,
    ) {
        match config.live.devices.iter().position(|device| device.name == name) {
            Some(device) => self.order_device(device, command, reply),
            None => {
                let names: Vec<_> =
                    config.live.devices.iter().map(|device| device.name.as_str()).collect();
                let there = match &*names {
                    [] => "the configuration has none".into(),
                    [one] => format!("there is {one}"),
                    all => format!("there are {}", all.join(", ")),
                };
                let message = format!("there is no device {name:?}; {there}");
                let _ = reply.send(Err(Failure::new(Code::Unknown, message)));
            }
        }
    }

    /// Sends a command to the device with this index; the scan passes the command on to the driver.
    fn order_device(&mut self, device: usize, command: Command, reply: oneshot::Sender<Reply>) {
        self.order(reply, |ticket| Order::Command { ticket, device, command });
    }

    /// Checks that the scan moves. The daemon refuses orders while the scan stands. Otherwise the
    /// scan would obey an order later, although its sender has already read that it was not obeyed.
    ///
    /// # Errors
    /// If the scan stands. The failure says what the scan was doing.
    pub(super) fn takes_orders(&self) -> Result<(), Failure> {
        let Some(doing) = self.stall.doing() else { return Ok(()) };
        let message = format!("the scan stands and takes no orders, {doing}");
        Err(Failure::new(Code::Busy, message))
    }

    /// The ticket for the next order. The ticket of an order that the scan does not get is never
    /// used again; a gap in the numbers does no harm.
    pub(super) fn next_ticket(&mut self) -> u64 {
        self.last_ticket += 1;
        self.last_ticket
    }

    /// Sends an order to the scan, and keeps `reply` until the scan answers. Returns the ticket of
    /// the order. If the order was refused, `reply` has got the reason, and the function returns
    /// `None`.
    pub(super) fn order(
        &mut self,
        reply: oneshot::Sender<Reply>,
        order: impl FnOnce(u64) -> Order,
    ) -> Option<u64> {
        if let Err(stands) = self.takes_orders() {
            let _ = reply.send(Err(stands));
            return None;
        }
        let ticket = self.next_ticket();
        if self.handle.orders.push(order(ticket)).is_err() {
            let _ = reply.send(Err(Failure::new(Code::Busy, "the scan has too many orders")));
            return None;
        }
        self.askers.insert(ticket, reply);
        Some(ticket)
    }

    /// The present value of a point as text; `None` if no point has this name.
    pub(super) fn value(&mut self, name: &str) -> Option<String> {
        let news = self.news();
        let point = &news.points[news.points.find(name)?];
        let image = match point.direction {
            Direction::In => &news.inputs.bytes,
            Direction::Out => &news.outputs,
        };
        Some(point.read(image).to_string())
    }

    /// The present value of a point that is not forced; `None` if a force stands over the value, or
    /// no point has this name.
    pub(super) fn unforced_value(&mut self, name: &str) -> Option<String> {
        let news = self.news();
        let id = news.points.find(name)?;
        let is_forced = news.forces.iter().any(|force| force.point == id);
        if is_forced { None } else { self.value(name) }
    }
}

/// The failure "there is no `what` of this name". It suggests the nearest of the `known` names.
pub(super) fn unknown<'k>(what: &str, name: &str, known: impl Iterator<Item = &'k str>) -> Failure {
    let remedy = match nearest(name, known) {
        Some(near) => format!("did you mean {near:?}?"),
        None if what == "point" => "`camshaft points` lists them".into(),
        None => "`camshaft vars` lists them".into(),
    };
    Failure::new(Code::Unknown, format!("there is no {what} {name:?}; {remedy}"))
}
