//! The link to the scan: the daemon sends orders to the scan and receives answers and snapshots.
//!
//! ```text
//!   a part ── order(ticket) ──▶ bounded queue ──▶ the scan
//!   askers[ticket] ◀── Answer { ticket } ── returns ◀──┤
//!   news() ◀──────── the newest snapshot ◀─────────────┘
//! ```
//! The link never waits: if the queue of orders is full, it refuses the order. Each order has a
//! number, its ticket. The link stores the reply channel of an order under the ticket. The answer
//! of the scan has the same ticket, so the link finds the reply channel. Facts about the scan
//! arrive as snapshots. Each snapshot has all facts, so the daemon need not read every snapshot.
//!
//! The link does not interpret orders: the part of the daemon that gives an order knows its
//! meaning. `link/stall.rs` detects whether the scan still moves.

mod stall;

use std::collections::{BTreeMap, HashMap};
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

/// The daemon's ends of all queues and channels between the daemon and the scan.
pub(super) struct ScanLink {
    /// The thread of the scan. `None` after the daemon has stopped the scan.
    pub(super) scan: Option<thread::Running>,
    /// The daemon's ends of the queues to the scan, and the snapshots from the scan.
    pub(super) handle: ScanHandle,
    /// The log lines of programs. The scan writes the lines, and the main loop reads the lines.
    pub(super) lines: rtrb::Consumer<Line>,
    /// The statistics of the durations that the scan measures in each cycle: its lateness and its
    /// work.
    pub(super) stats: Stats,
    /// The reply channels of requests that wait for an answer of the scan, by ticket.
    pub(super) askers: HashMap<u64, oneshot::Sender<Reply>>,
    /// The ticket of the newest order. The next order gets the next number.
    pub(super) last_ticket: u64,
    /// Whether the scan is stalled, and the facts about the stall.
    pub(super) stall: Stall,
    /// The variables whose names and types the scan reserves until the daemon's restart.
    pub(super) reserved: Reserved,
}

/// The variables in the configuration file whose declarations wait for a restart of the daemon. A
/// reload sets this list. Before the restart, a program may create a variable with one of these
/// names, but only with the declared type.
#[derive(Debug, Default)]
pub(super) struct Reserved(pub(super) Vec<(String, VariableKind)>);

impl Reserved {
    /// Returns the declared type of the variable with this name. `None` if no declaration of this
    /// name waits for a restart.
    pub(super) fn kind(&self, name: &str) -> Option<VariableKind> {
        let found = self.0.iter().find(|(reserved, _)| reserved == name);
        found.map(|(_, kind)| *kind)
    }
}

impl ScanLink {
    /// Returns the newest snapshot of the scan.
    pub(super) fn news(&mut self) -> &Snapshot {
        self.handle.latest.read()
    }

    /// Returns the time that counts as "now" for the ages and the remaining times that operators
    /// see. Normally this is the time of the newest snapshot. During a stall, this is the present
    /// time, because the values become older although the scan makes no new snapshot.
    pub(super) fn present(&mut self) -> Duration {
        if self.stall.is_on() { MonotonicClock.now() } else { self.news().now }
    }

    /// Returns a copy of the process image and of the variables, in which `init` of a new program
    /// can run. With a copy, `init` cannot affect the running scan.
    pub(super) fn rehearsal(&mut self, config: &Config) -> Box<World> {
        let Config { live: Live { points, scan, .. }, fixed, .. } = config;
        let mut world = scan::rehearsal(self.news(), scan.period);
        if !Arc::ptr_eq(&world.points, points) {
            // In the copy, the points of the new configuration replace the old points. The scan has
            // already got the order to take over these points, and it carries out this order before
            // it gets the new program.
            world.take_points(Arc::clone(points));
        }
        world.is_recorded = fixed.crash.record;
        world
    }

    /// Orders the scan to set a simulated input to a value. If the order is not possible, `reply`
    /// gets the reason.
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

    /// Orders the scan to set a variable to a value. If the order is not possible, `reply` gets the
    /// reason.
    pub(super) fn set_variable(
        &mut self,
        name: String,
        value: Value,
        reply: oneshot::Sender<Reply>,
    ) {
        let variables = &self.news().variables;
        let failure = match variables.read(&name).map(Variable::kind) {
            None => unknown("variable", &name, variables.iter().map(|(name, _)| name)),
            // A program may write a number that is not finite. From an operator such a number is
            // refused, because it is most likely a mistake.
            Some(_) if !value.is_finite() => Failure::new(
                Code::Invalid,
                format!("{name}: expected a finite number, found {value}"),
            ),
            Some(kind) => match Variable::from_value(kind, value) {
                None => Failure::new(
                    Code::Invalid,
                    format!("{name}: expected a value of type {kind}, found {value}"),
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

    /// Orders the scan to write the values of devices into variables, all in one cycle. A value is
    /// dropped if its variable does not exist or has another type. `reply` gets the answer.
    pub(super) fn set_variables(
        &mut self,
        values: BTreeMap<String, Value>,
        reply: oneshot::Sender<Reply>,
    ) {
        let variables = &self.news().variables;
        let of = |(name, value): (String, Value)| {
            let kind = variables.read(&name)?.kind();
            Some((name, Variable::from_value(kind, value)?))
        };
        let values: Vec<_> = values.into_iter().filter_map(of).collect();
        self.order(reply, |ticket| Order::SetVariables { ticket, values });
    }

    /// Orders a simulated device to fail. The JSON object `injection` describes the fault. If the
    /// order is not possible, `reply` gets the reason.
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

    /// Sends a command to the device of this name. If there is no such device, if the scan is
    /// stalled, or if the queue is full, `reply` gets the failure.
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
                    [] => "the configuration has no device".into(),
                    [one] => format!("the only device is {one}"),
                    all => format!("the devices are {}", all.join(", ")),
                };
                let message = format!("there is no device {name:?}; {there}");
                let _ = reply.send(Err(Failure::new(Code::Unknown, message)));
            }
        }
    }

    /// Sends a command to the device with this index. The scan passes it to the driver of the
    /// device.
    fn order_device(&mut self, device: usize, command: Command, reply: oneshot::Sender<Reply>) {
        self.order(reply, |ticket| Order::Command { ticket, device, command });
    }

    /// Returns an error if the scan is stalled. The daemon refuses orders during a stall. Otherwise
    /// the scan could carry out an order after the stall, although the sender of the order has
    /// already got an error.
    ///
    /// # Errors
    /// The scan is stalled. The failure names the step of the scan in which the stall began.
    pub(super) fn takes_orders(&self) -> Result<(), Failure> {
        let Some(doing) = self.stall.doing() else { return Ok(()) };
        let message = format!("the scan is stalled, {doing}, and accepts no orders");
        Err(Failure::new(Code::Busy, message))
    }

    /// Returns the ticket for the next order. If the order is not sent, its ticket is not used
    /// again. Unused tickets are harmless.
    pub(super) fn next_ticket(&mut self) -> u64 {
        self.last_ticket += 1;
        self.last_ticket
    }

    /// Sends an order to the scan, and stores `reply` until the scan answers. Returns the ticket of
    /// the order. If the scan is stalled or the queue is full, `reply` gets this reason and the
    /// function returns `None`.
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
            let _ = reply
                .send(Err(Failure::new(Code::Busy, "the scan has too many orders; try again")));
            return None;
        }
        self.askers.insert(ticket, reply);
        Some(ticket)
    }

    /// Returns the present value of a point as text; `None` if no point has this name.
    pub(super) fn value(&mut self, name: &str) -> Option<String> {
        let news = self.news();
        let point = &news.points[news.points.find(name)?];
        let image = match point.direction {
            Direction::In => &news.inputs.bytes,
            Direction::Out => &news.outputs,
        };
        Some(point.shortest(&point.raw(image)).to_string())
    }

    /// Returns the present value of a point as text. `None` if the point is forced, or if no point
    /// has this name.
    pub(super) fn unforced_value(&mut self, name: &str) -> Option<String> {
        let news = self.news();
        let id = news.points.find(name)?;
        let is_forced = news.forces.iter().any(|force| force.point == id);
        if is_forced { None } else { self.value(name) }
    }
}

/// Returns the failure for an unknown `name`. `what` is the kind of the name: `point` or
/// `variable`. The text suggests the most similar of the `known` names.
pub(super) fn unknown<'k>(what: &str, name: &str, known: impl Iterator<Item = &'k str>) -> Failure {
    let remedy = match nearest(name, known) {
        Some(near) => format!("did you mean {near:?}?"),
        None if what == "point" => "`camshaft points` lists them".into(),
        None => "`camshaft vars` lists them".into(),
    };
    Failure::new(Code::Unknown, format!("there is no {what} {name:?}; {remedy}"))
}
