//! The link to the scan: orders go down, and what the scan gives back comes up.
//!
//! One bounded queue takes the orders; a full one refuses an order, and nothing here waits. Facts
//! come up as one snapshot, which is a level: a look that is missed loses nothing. The scan answers
//! an order by its ticket, and the sender's reply waits here for that. What an order means is known
//! to the part that gives it. Whether the scan moves at all is in `stall.rs`.

mod stall;

use std::collections::HashMap;
use std::sync::Arc;

use tokio::sync::oneshot;

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

/// The daemon's ends of all that lies between it and the scan.
pub(super) struct ScanLink {
    /// The scan's thread; `None` once it was ended.
    pub(super) scan: Option<thread::Running>,
    /// The daemon's ends of the queues to the scan.
    pub(super) handle: ScanHandle,
    /// The log lines of guests: the scan writes, the loop reads.
    pub(super) lines: rtrb::Consumer<Line>,
    /// The times that the scan has measured.
    pub(super) stats: Stats,
    /// The requests that wait for the scan's answer, by ticket.
    pub(super) askers: HashMap<u64, oneshot::Sender<Reply>>,
    /// The newest ticket, which numbers the orders that the scan answers.
    pub(super) last_ticket: u64,
    /// Whether the scan stands.
    pub(super) stall: Stall,
    /// The names of variables that the scan reserves.
    pub(super) reserved: Reserved,
}

/// Declared variables whose declaration waits for a restart: a program may make one early, with
/// this type only.
#[derive(Debug, Default)]
pub(super) struct Reserved(pub(super) Vec<(String, VariableKind)>);

impl Reserved {
    /// The type of the declared variable of this name, if its declaration waits for a restart.
    pub(super) fn kind(&self, name: &str) -> Option<VariableKind> {
        let found = self.0.iter().find(|(reserved, _)| reserved == name);
        found.map(|(_, kind)| *kind)
    }
}

impl ScanLink {
    /// The newest facts of the scan.
    pub(super) fn news(&mut self) -> &Snapshot {
        self.handle.latest.read()
    }

    /// A world for a program that is to be prepared.
    pub(super) fn rehearsal(&mut self, config: &Config) -> Box<World> {
        let Config { live: Live { points, scan, .. }, fixed, .. } = config;
        let mut world = scan::rehearsal(self.news(), scan.period);
        if !Arc::ptr_eq(&world.points, points) {
            // The scan takes over these points before any program that is prepared from now on.
            world.take_points(Arc::clone(points));
        }
        world.is_recorded = fixed.crash.record;
        world
    }

    /// Orders a simulated input to have a value, or answers why that is impossible.
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

    /// Orders a variable to have a value, or answers why that is impossible.
    pub(super) fn set_variable(
        &mut self,
        name: String,
        value: Value,
        reply: oneshot::Sender<Reply>,
    ) {
        let variables = &self.news().variables;
        let failure = match variables.read(&name).map(Variable::kind) {
            None => unknown("variable", &name, variables.iter().map(|(name, _)| name)),
            // Programs may write such a number; a person who types one has made a mistake.
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

    /// Gives a command to the device of this name, or answers that there is none.
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

    /// Sends a command to the device with this index, by way of the scan.
    fn order_device(&mut self, device: usize, command: Command, reply: oneshot::Sender<Reply>) {
        self.order(reply, |ticket| Order::Command { ticket, device, command });
    }

    /// Checks that the scan moves. A scan that stands would obey an order later, when its sender
    /// has already read that it was not obeyed.
    ///
    /// # Errors
    /// If the scan stands; the failure says where.
    pub(super) fn takes_orders(&self) -> Result<(), Failure> {
        let Some(doing) = self.stall.doing() else { return Ok(()) };
        let message = format!("the scan stands and takes no orders, {doing}");
        Err(Failure::new(Code::Busy, message))
    }

    /// Sends an order to the scan, and keeps `reply` until the scan answers. Returns the ticket of
    /// the order; `None` if it was refused, which `reply` has got then.
    pub(super) fn order(
        &mut self,
        reply: oneshot::Sender<Reply>,
        order: impl FnOnce(u64) -> Order,
    ) -> Option<u64> {
        if let Err(stands) = self.takes_orders() {
            let _ = reply.send(Err(stands));
            return None;
        }
        self.last_ticket += 1;
        let ticket = self.last_ticket;
        if self.handle.orders.push(order(ticket)).is_err() {
            let _ = reply.send(Err(Failure::new(Code::Busy, "the scan has too many orders")));
            return None;
        }
        self.askers.insert(ticket, reply);
        Some(ticket)
    }

    /// The present value of a point.
    pub(super) fn value(&mut self, name: &str) -> Option<String> {
        let news = self.news();
        let point = &news.points[news.points.find(name)?];
        let image = match point.direction {
            Direction::In => &news.inputs.bytes,
            Direction::Out => &news.outputs,
        };
        Some(point.read(image).to_string())
    }

    /// The present value of a point; `None` if a force hides the value that is meant.
    pub(super) fn unforced_value(&mut self, name: &str) -> Option<String> {
        let news = self.news();
        let id = news.points.find(name)?;
        let is_forced = news.forces.iter().any(|force| force.point == id);
        if is_forced { None } else { self.value(name) }
    }
}

/// The failure that no `what` has this name, with the nearest of the `known` names.
pub(super) fn unknown<'k>(what: &str, name: &str, known: impl Iterator<Item = &'k str>) -> Failure {
    let remedy = match nearest(name, known) {
        Some(near) => format!("did you mean {near:?}?"),
        None if what == "point" => "`camshaft points` lists them".into(),
        None => "`camshaft vars` lists them".into(),
    };
    Failure::new(Code::Unknown, format!("there is no {what} {name:?}; {remedy}"))
}
