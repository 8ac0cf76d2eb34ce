//! The model of the scan: it computes what the scan should do, in plain lists.
//!
//! The model was written from the documentation, and not from the code of the scan. It gets the
//! same orders as the scan. After every cycle it has the state that the scan should show. It has no
//! WebAssembly engine, no buffers and no time limits. Seats and standby versions are in
//! `model/seat.rs`.

mod feed;
mod field;
mod overlay;
mod seat;

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use camshaft::driver::{Command, Fault};
use camshaft::plugin::instance::program::Takeover;
use camshaft::plugin::{Generation, Settings};
use camshaft::process::image::{Direction, Inputs, PointId, Points, Raw, Safe};
use camshaft::process::seat::{MAX_PROGRAMS, Seat};
use camshaft::process::variable::Variable;
use camshaft::scan::MAX_ORDERS;

use super::guest::Instance;
use super::plant::Mirror;
use super::version::Version;
use overlay::Overlay;

/// Orders in one cycle, as `scan` has it.
const ORDERS_PER_CYCLE: usize = 16;

/// The most that comes back in one cycle, and the room for it, as `scan` has them.
const RETURNS_PER_CYCLE: usize = 3 * MAX_PROGRAMS;
const MAX_RETURNS: usize = MAX_ORDERS + RETURNS_PER_CYCLE;

/// What a program says, or what is said about it.
#[derive(Debug, Clone, PartialEq)]
pub enum Said {
    Words,
    NotGranted(PointId),
    Owned(PointId, Seat),
    NotFinite(PointId),
    VariableNotGranted(&'static str),
}

/// What programs share.
pub struct World {
    pub now: Duration,
    pub cycle: u64,
    pub points: Arc<Points>,
    pub inputs: Inputs,
    pub outputs: Vec<u8>,
    pub before: Vec<u8>,
    pub owners: Vec<Option<Seat>>,
    pub overlay: Overlay,
    /// In order of creation.
    pub variables: Vec<(&'static str, Variable)>,
    /// Their names, once for each good write, until somebody wants to know.
    pub written: Vec<&'static str>,
    /// Of this cycle.
    pub lines: Vec<(Seat, Said)>,
}

impl World {
    pub fn read(&self, name: &str) -> Option<Variable> {
        self.variables.iter().find(|(other, _)| *other == name).map(|(_, value)| *value)
    }

    /// The code of the contract.
    pub fn write(&mut self, name: &'static str, value: Variable) -> i32 {
        match self.variables.iter_mut().find(|(other, _)| *other == name) {
            None => self.variables.push((name, value)),
            Some((_, old)) if old.kind() == value.kind() => *old = value,
            Some(_) => return 4,
        }
        self.written.push(name);
        0
    }

    pub fn say(&mut self, seat: Seat, said: Said) {
        self.lines.push((seat, said));
    }
}

/// A program in the scan.
#[derive(Debug, Clone)]
pub struct Seated {
    pub name: &'static str,
    pub seat: Seat,
    pub generation: Generation,
    pub settings: Settings,
    pub instance: Instance,
    pub polls: u64,
    pub since_cycle: u64,
    pub since: Duration,
    /// How it ended, and in which cycle.
    pub trap: Option<(&'static str, u64)>,
    pub takeover: Option<Takeover>,
    pub is_proven: bool,
    pub standby: Option<Box<Standby>>,
    /// The version that it, or the one that it took over from, has replaced again, and how and when
    /// that ended.
    pub rolled_back: Option<(Generation, &'static str, u64)>,
}

/// The version before, ready to resume.
#[derive(Debug, Clone)]
pub struct Standby {
    pub program: Seated,
    /// What its rollback puts back, if the successor has written it.
    pub variables: Vec<(&'static str, Variable)>,
}

/// A program on its way, with the variable that its `init` wrote.
pub struct Prepared {
    pub program: Seated,
    pub variable: Option<(&'static str, Variable)>,
}

pub enum Order {
    Install(Box<Prepared>),
    Remove(Seat),
    Reconfigure {
        settings: Vec<(Seat, Settings)>,
        variables: Vec<(&'static str, Variable)>,
        field: Option<Field>,
    },
    Command {
        ticket: u64,
        device: usize,
        command: Command,
    },
    SetVariables {
        ticket: u64,
        values: Vec<(&'static str, Variable)>,
    },
    Force {
        ticket: u64,
        point: PointId,
        raw: Raw,
        until: Option<Duration>,
    },
    Unforce {
        ticket: u64,
        point: Option<PointId>,
    },
    Shadow(Feed),
    Halt,
}

/// The scan's end of a shadow run.
pub struct Feed {
    pub number: u64,
    pub name: &'static str,
    pub seat: Seat,
    pub version: Version,
    pub points: Arc<Points>,
    /// The instance that is watched, once it has begun.
    pub generation: Generation,
}

/// Other points, and what becomes of the third device.
pub struct Field {
    pub points: Arc<Points>,
    pub annex: Annex,
}

#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Annex {
    Kept,
    Opened,
    Gone,
}

/// What comes back.
#[derive(Debug, PartialEq)]
pub enum Back {
    Program(Generation),
    /// With the beginning of the reason, if there is one.
    Refused(Generation, Option<String>),
    Reconfigured,
    Feed,
    Answer {
        ticket: u64,
        is_good: bool,
    },
    VariablesSet {
        ticket: u64,
        cycle: u64,
        is_good: bool,
    },
}

pub struct Model {
    pub world: World,
    /// In the order of polling.
    pub seated: Vec<Seated>,
    /// Those that trapped, in that order.
    pub down: Vec<Seated>,
    pub feeds: Vec<Feed>,
    /// Numbers of feeds that nobody wants any more.
    pub over: Vec<u64>,
    pub devices: Vec<(Mirror, Option<Fault>)>,
    pub orders: VecDeque<Order>,
    pub returns: VecDeque<Back>,
    pub is_halted: bool,
    /// Raised by whoever is about to order a halt.
    pub is_halting: bool,
    /// What happened in this cycle.
    pub events: Vec<(&'static str, String)>,
    /// Orders `Install` that were obeyed.
    pub installed: u64,
    /// Seats polled in this cycle, in order.
    pub polled: Vec<Seat>,
}

impl Model {
    /// Nothing has happened yet; these variables are there from before.
    pub fn new(points: &Arc<Points>, variables: &[(&'static str, Variable)]) -> Self {
        let mut outputs = vec![0; points.image_bytes(Direction::Out)];
        for (_, point) in points.iter().filter(|(_, point)| point.direction == Direction::Out) {
            if let Safe::Value(value) = point.safe {
                point.write(&mut outputs, value).expect("safe values fit");
            }
        }
        Self {
            world: World {
                now: Duration::ZERO,
                cycle: 0,
                points: Arc::clone(points),
                inputs: Inputs::unread(points),
                before: outputs.clone(),
                outputs,
                owners: vec![None; points.ids()],
                overlay: Overlay::default(),
                variables: variables.to_vec(),
                written: Vec::new(),
                lines: Vec::new(),
            },
            seated: Vec::new(),
            down: Vec::new(),
            feeds: Vec::new(),
            over: Vec::new(),
            devices: (0..2).map(|n| (Mirror::new(points, n), None)).collect(),
            orders: VecDeque::new(),
            returns: VecDeque::new(),
            is_halted: false,
            is_halting: false,
            events: Vec::new(),
            installed: 0,
            polled: Vec::new(),
        }
    }

    /// One cycle. `seen` is what the scan says of its inputs: some cannot be foretold.
    pub fn cycle(&mut self, now: Duration, seen: &Inputs) {
        self.world.now = now;
        self.world.cycle += 1;
        self.world.lines.clear();
        self.polled.clear();
        self.events.clear();
        self.obey(now);
        for (device, fault) in &mut self.devices {
            *fault = device.read(now, seen, &mut self.world.inputs);
        }
        self.run();
        self.world.drive();
        for (device, fault) in &mut self.devices {
            *fault = device.write(now, &self.world.before).or(*fault);
        }
    }

    /// An order that replaces or takes away is the last one of its cycle, unless all of it is to
    /// end anyway.
    fn obey(&mut self, now: Duration) {
        let is_ending = self.is_halting || self.is_halted;
        for _ in 0..if is_ending { MAX_ORDERS } else { ORDERS_PER_CYCLE } {
            if MAX_RETURNS - self.returns.len() < RETURNS_PER_CYCLE {
                return;
            }
            let Some(order) = self.orders.pop_front() else { return };
            if self.carry_out(order, now) && !is_ending {
                return;
            }
        }
    }

    /// Whether that was enough for one cycle.
    fn carry_out(&mut self, order: Order, now: Duration) -> bool {
        match order {
            Order::Command { ticket, device, command } => {
                let device = self.devices.get_mut(device);
                let is_good = device.is_some_and(|(device, _)| device.command(now, &command));
                self.returns.push_back(Back::Answer { ticket, is_good });
                return false;
            }
            Order::Force { ticket, point, raw, until } => {
                let is_good = self.world.points.get(point).is_some();
                if is_good {
                    self.unforce(Some(point));
                    self.world.overlay.forces.push((point, raw, until));
                }
                self.returns.push_back(Back::Answer { ticket, is_good });
                return false;
            }
            Order::Unforce { ticket, point } => {
                self.unforce(point);
                self.returns.push_back(Back::Answer { ticket, is_good: true });
                return false;
            }
            Order::SetVariables { ticket, values } => {
                let before = self.world.variables.clone();
                let codes = values.iter().map(|(name, value)| self.world.write(name, *value));
                let is_good = codes.fold(0, i32::max) == 0;
                if !is_good {
                    self.world.variables = before;
                }
                let cycle = self.world.cycle;
                self.returns.push_back(Back::VariablesSet { ticket, cycle, is_good });
            }
            Order::Reconfigure { settings, variables, field } => {
                if field.is_some() || !variables.is_empty() {
                    self.seated.iter_mut().for_each(Seated::forget_refusals);
                }
                for (name, value) in variables {
                    if self.world.read(name).is_none() {
                        self.world.write(name, value);
                    }
                }
                if let Some(field) = field {
                    self.take_over(field);
                }
                settings.iter().for_each(|(seat, settings)| self.configure(*seat, settings));
                self.returns.push_back(Back::Reconfigured);
            }
            Order::Remove(seat) => {
                self.down.retain(|program| program.seat != seat);
                if let Some(index) = self.index(seat) {
                    self.release_seat(index);
                }
            }
            Order::Halt => {
                self.is_halted = true;
                while !self.seated.is_empty() {
                    self.release_seat(0);
                }
                self.make_safe_now();
            }
            Order::Shadow(feed) => self.begin_feed(feed),
            Order::Install(prepared) => return self.install(*prepared),
        }
        true
    }

    fn run(&mut self) {
        self.end_feeds();
        self.examine();
        let mut index = 0;
        while index < self.seated.len() {
            let program = &mut self.seated[index];
            if !self.world.cycle.is_multiple_of(program.settings.every.into()) {
                index += 1;
                continue;
            }
            self.polled.push(program.seat);
            match program.instance.poll(program.seat, &mut self.world) {
                Ok(()) => {
                    program.polls += 1;
                    self.judge(index);
                    index += 1;
                }
                Err(kind) => index += usize::from(self.on_trap(index, kind)),
            }
        }
    }
}
