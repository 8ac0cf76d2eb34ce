//! What the scan ought to do, written from the documentation: a shadow of it, in plain lists.
//!
//! It is given the same orders as the scan and ends every cycle with the world that the scan should
//! then show. It knows no engine, no buffers and no time limits.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use camshaft::driver::{Command, Fault};
use camshaft::image::{Direction, Inputs, PointId, Points, Safe};
use camshaft::plugin::world::{MAX_PROGRAMS, Seat};
use camshaft::plugin::{Generation, Settings};
use camshaft::scan::MAX_ORDERS;
use camshaft::variable::Variable;

use super::guest::{Instance, is_granted};
use super::plant::Mirror;

/// Orders in one cycle, as `scan` has it.
const ORDERS_PER_CYCLE: usize = 16;

/// Room for what comes back, as `scan` has it.
const MAX_RETURNS: usize = MAX_ORDERS + RETURNS_PER_CYCLE;

/// From each seat two versions, and one more that fails or has proved itself.
const RETURNS_PER_CYCLE: usize = 3 * MAX_PROGRAMS;

/// What a program says, or what is said about it.
#[derive(Debug, Clone, PartialEq)]
pub enum Said {
    Words,
    NotGranted(PointId),
    Owned(PointId, Seat),
}

/// What programs share.
pub struct World {
    pub now: Duration,
    pub cycle: u64,
    pub inputs: Inputs,
    pub outputs: Vec<u8>,
    pub before: Vec<u8>,
    pub owners: Vec<Option<Seat>>,
    /// In order of creation.
    pub variables: Vec<(&'static str, Variable)>,
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
    /// How it ended.
    pub trap: Option<(&'static str, u64)>,
}

/// A program on its way, with the variable that its `init` wrote.
pub struct Prepared {
    pub program: Seated,
    pub variable: Option<(&'static str, Variable)>,
}

pub enum Order {
    Install(Box<Prepared>),
    Remove(Seat),
    Configure(Seat, Settings),
    Command { ticket: u64, device: usize, command: Command },
    Halt,
}

/// What comes back.
#[derive(Debug, PartialEq)]
pub enum Back {
    Program(Generation),
    Refused(Generation),
    Settings,
    Answer { ticket: u64, is_good: bool },
}

pub struct Model {
    pub points: Arc<Points>,
    pub world: World,
    /// In the order of polling.
    pub seated: Vec<Seated>,
    /// Those that trapped, in that order.
    pub down: Vec<Seated>,
    pub devices: Vec<(Mirror, Option<Fault>)>,
    pub orders: VecDeque<Order>,
    pub returns: VecDeque<Back>,
    pub is_halted: bool,
    /// Orders `Install` that were obeyed.
    pub installed: u64,
    /// Seats polled in this cycle, in order.
    pub polled: Vec<Seat>,
    /// Traps so far.
    pub traps: u64,
}

impl Model {
    pub fn new(points: &Arc<Points>) -> Self {
        let mut outputs = vec![0; points.image_bytes(Direction::Out)];
        for (_, point) in points.iter().filter(|(_, point)| point.direction == Direction::Out) {
            if let Safe::Value(value) = point.safe {
                point.write(&mut outputs, value).expect("safe values fit");
            }
        }
        Self {
            points: Arc::clone(points),
            world: World {
                now: Duration::ZERO,
                cycle: 0,
                inputs: Inputs::unread(points),
                before: outputs.clone(),
                outputs,
                owners: vec![None; points.len()],
                variables: Vec::new(),
                lines: Vec::new(),
            },
            seated: Vec::new(),
            down: Vec::new(),
            devices: (0..2).map(|n| (Mirror::new(points, n), None)).collect(),
            orders: VecDeque::new(),
            returns: VecDeque::new(),
            is_halted: false,
            installed: 0,
            polled: Vec::new(),
            traps: 0,
        }
    }

    /// One cycle. `seen` is what the scan says of its inputs: some cannot be foretold.
    pub fn cycle(&mut self, now: Duration, seen: &Inputs) {
        self.world.now = now;
        self.world.cycle += 1;
        self.world.lines.clear();
        self.polled.clear();
        self.obey(now);
        for (device, fault) in &mut self.devices {
            *fault = device.read(now, seen, &mut self.world.inputs);
        }
        self.run();
        for (device, fault) in &mut self.devices {
            *fault = device.write(now, &self.world.outputs).or(*fault);
        }
        self.world.before.clone_from(&self.world.outputs);
    }

    fn obey(&mut self, now: Duration) {
        for _ in 0..ORDERS_PER_CYCLE {
            if MAX_RETURNS - self.returns.len() < RETURNS_PER_CYCLE {
                return;
            }
            let Some(order) = self.orders.pop_front() else { return };
            match order {
                Order::Command { ticket, device, command } => {
                    let device = self.devices.get_mut(device);
                    let is_good = device.is_some_and(|(device, _)| device.command(now, &command));
                    self.returns.push_back(Back::Answer { ticket, is_good });
                }
                Order::Configure(seat, settings) => {
                    self.configure(seat, settings);
                    return;
                }
                Order::Remove(seat) => {
                    self.down.retain(|program| program.seat != seat);
                    if let Some(index) = self.index(seat) {
                        self.vacate(index);
                    }
                    return;
                }
                Order::Halt => {
                    self.is_halted = true;
                    while !self.seated.is_empty() {
                        self.vacate(0);
                    }
                    return;
                }
                Order::Install(prepared) => {
                    if self.install(*prepared) {
                        return;
                    }
                }
            }
        }
    }

    fn index(&self, seat: Seat) -> Option<usize> {
        self.seated.iter().position(|program| program.seat == seat)
    }

    /// Whether it takes somebody's place.
    fn install(&mut self, prepared: Prepared) -> bool {
        let Prepared { mut program, variable } = prepared;
        let seat = program.seat;
        let replaces = self.seated.iter().chain(&self.down).any(|other| other.seat == seat);
        if self.is_halted {
            self.returns.push_back(Back::Refused(program.generation));
            return replaces;
        }
        self.installed += 1;
        if let Some((name, value)) = variable {
            self.world.write(name, value);
        }
        self.down.retain(|other| other.seat != seat);
        if let Some(index) = self.index(seat) {
            let old = self.seated.remove(index);
            self.returns.push_back(Back::Program(old.generation));
            self.give_up(seat, Some(&program.settings));
        }
        (program.since_cycle, program.since) = (self.world.cycle, self.world.now);
        self.take_place(program);
        replaces
    }

    fn take_place(&mut self, program: Seated) {
        let rank = |program: &Seated| (program.settings.order, program.name);
        let place = self.seated.iter().take_while(|other| rank(other) < rank(&program)).count();
        self.seated.insert(place, program);
    }

    fn configure(&mut self, seat: Seat, settings: Settings) {
        if let Some(index) = self.index(seat) {
            self.give_up(seat, Some(&settings));
            let mut program = self.seated.remove(index);
            program.instance.entitle(&settings);
            program.settings = settings;
            self.take_place(program);
        }
        self.returns.push_back(Back::Settings);
    }

    fn vacate(&mut self, index: usize) -> Seated {
        let program = self.seated.remove(index);
        self.give_up(program.seat, None);
        self.returns.push_back(Back::Program(program.generation));
        program
    }

    /// Frees the outputs of a seat that are not granted any more, and makes them safe.
    fn give_up(&mut self, seat: Seat, settings: Option<&Settings>) {
        for (id, point) in self.points.iter() {
            let is_kept = settings.is_some_and(|settings| is_granted(&settings.outputs, id));
            if self.world.owners[id.index()] != Some(seat) || is_kept {
                continue;
            }
            self.world.owners[id.index()] = None;
            if let Safe::Value(value) = point.safe {
                point.write(&mut self.world.outputs, value).expect("safe values fit");
            }
        }
    }

    fn run(&mut self) {
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
                    index += 1;
                }
                Err(kind) => {
                    let mut program = self.vacate(index);
                    program.trap = Some((kind, self.world.cycle));
                    self.down.push(program);
                    self.traps += 1;
                }
            }
        }
    }
}
