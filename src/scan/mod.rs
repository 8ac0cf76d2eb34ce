//! The scan: a thread that runs cycles. A cycle obeys orders, reads, runs, writes and publishes.
//!
//! A cycle never waits and never logs. A cycle allocates memory only if it swaps or loses a
//! program, takes over a configuration, begins a shadow run, or has more points than before. The
//! supervisor, not the scan, decides which programs run.
//!
//! ```text
//! obey (orders) ─▶ read (devices) ─▶ run (programs) ─▶ write (devices) ─▶ publish (Snapshot)
//! ```
//!
//! The queues to and from the daemon are in `exchange.rs`. `thread.rs` has the thread, and
//! `pacer.rs` computes when a cycle begins. `swap.rs` puts a program on its seat. `reconfigure.rs`
//! takes over a new configuration. `require.rs` finds programs with a bad required input.
//! `shadow.rs` fills the frames of shadow runs, `stats.rs` collects time measurements, and
//! `position.rs` records which call the scan makes.

mod device;
mod exchange;
mod failure;
pub mod pacer;
pub mod position;
mod reconfigure;
mod require;
mod shadow;
pub mod stats;
mod swap;
pub mod thread;

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use crate::driver::Driver;
use crate::plugin::instance::stop::{BudgetSlot, Timekeeper, now_ns};
use crate::plugin::shadow::{Feed, MAX_FEEDS};
use crate::process::lent::Lent;
use crate::process::seat::{MAX_PROGRAMS, Seat};
use crate::process::variable::{Denied, Maker, Variable};
use crate::process::world::World;

use device::{Device, note_deliveries};
use exchange::RETURNS_PER_CYCLE;
pub use exchange::{
    DeviceFact, DeviceSet, Ends, MAX_ORDERS, MEMORY_CYCLES, Order, ProgramFact, Reconfiguration,
    RemovedDevice, Return, ScanHandle, Slot, Snapshot, queues, rehearsal,
};
use position::Doing;
use stats::{Sample, What};
use swap::Seated;

/// The largest number of orders that one cycle carries out. With this limit, a long queue of orders
/// does not make a cycle long.
const ORDERS_PER_CYCLE: usize = 16;

/// The state of the scan: the process image, the programs, the devices and the queues.
pub struct Scan {
    /// The process image, the variables and the forces. The scan lends them to a called program.
    world: Lent<World>,
    /// The programs that have a seat, in the order in which the scan polls them.
    programs: Vec<Seated>,
    /// If no cycle begins for this time, each device makes its outputs safe without the scan. Zero
    /// disables this.
    stall: Duration,
    /// Facts about trapped programs, until a new instance takes the seat or the plugin is removed.
    down: Vec<ProgramFact>,
    /// One feed for each shadow run; a feed records the polls of a running version.
    feeds: Vec<Feed>,
    devices: Vec<Device>,
    ends: Ends,
    slot: BudgetSlot,
    keeper: Arc<Timekeeper>,
    /// Whether the scan has carried out [`Order::Halt`].
    halted: bool,
    /// Whether any program requires an input. The scan updates the flag when a program gets a seat.
    is_demanding: bool,
    /// Number of cycles that ended after the deadline of the next cycle. Set by `thread.rs`.
    pub overruns: u64,
    /// Number of cycles that did not run because a cycle before them was too long. `thread.rs` sets
    /// this number.
    pub missed: u64,
    /// Number of time measurements that the scan dropped because the sample queue was full.
    samples_lost: u64,
}

impl Scan {
    /// Makes a scan with these devices and without programs. The thread that will run the cycles
    /// must call this function, because the budget slot belongs to the calling thread.
    pub fn new(
        world: Box<World>,
        devices: Vec<Box<dyn Driver>>,
        ends: Ends,
        keeper: Arc<Timekeeper>,
    ) -> Self {
        let period = world.period;
        let device = |driver| Device::new(driver, period, Duration::ZERO);
        Self {
            stall: Duration::ZERO,
            world: Lent::new(world),
            programs: Vec::with_capacity(MAX_PROGRAMS),
            down: Vec::with_capacity(MAX_PROGRAMS),
            feeds: Vec::with_capacity(MAX_FEEDS),
            devices: devices.into_iter().map(device).collect(),
            ends,
            slot: keeper.slot(),
            keeper,
            halted: false,
            is_demanding: false,
            overruns: 0,
            missed: 0,
            samples_lost: 0,
        }
    }

    /// Runs one cycle. `now` is the cycle's instant on the scan's clock.
    pub fn cycle(&mut self, now: Duration) {
        self.obey(now);
        self.read(now);
        self.run(now);
        self.write(now);
        self.publish();
    }

    /// Carries out orders, if the queue of returns has room. A heavy order swaps, restarts or
    /// removes a program, takes over a configuration, begins a shadow run, or writes variables.
    /// After a heavy order, the remaining orders wait for the next cycle. An install on a new seat
    /// is not heavy, so that a start with many programs is quick. In a halt, one cycle carries out
    /// all orders.
    fn obey(&mut self, now: Duration) {
        self.ends.position.begin();
        let world = &mut *self.world;
        world.now = now;
        world.cycle += 1;
        let halting = self.is_halting();
        for _ in 0..if halting { MAX_ORDERS } else { ORDERS_PER_CYCLE } {
            if self.ends.returns.slots() < RETURNS_PER_CYCLE {
                break;
            }
            let Ok(order) = self.ends.orders.pop() else { break };
            let is_heavy = match &order {
                Order::Install(prepared) => !self.is_new(prepared.program.seat),
                Order::Command { .. } | Order::Force { .. } | Order::Unforce { .. } => false,
                Order::Remove(_) | Order::Reconfigure(_) | Order::Halt => true,
                Order::Shadow(_) | Order::SetVariables { .. } => true,
                Order::ResetVariables { .. } => true,
            };
            self.carry_out(order, now);
            if is_heavy && !halting {
                break;
            }
        }
    }

    /// Carries out one order. Returns to the daemon the answer to the order, and each object that
    /// the scan thread must not free.
    fn carry_out(&mut self, order: Order, now: Duration) {
        match order {
            Order::Install(prepared) => self.install(prepared),
            Order::Remove(seat) => {
                self.down.retain(|fact| fact.seat != seat);
                if let Some(index) = self.index(seat) {
                    self.release_seat(index);
                }
            }
            Order::Reconfigure(reconfiguration) => self.reconfigure(reconfiguration, now),
            Order::Shadow(feed) => self.begin_feed(feed),
            Order::Command { ticket, device, command } => {
                self.ends.position.is_at(Doing::Driver(device as u16));
                let result = match self.devices.get_mut(device) {
                    Some(device) => device.driver.command(now, &command),
                    None => Err("there is no such device"),
                };
                self.ends.position.is_at(Doing::Own);
                self.give_back(Return::Answer { ticket, result });
            }
            Order::SetVariables { ticket, values } => {
                let result = self.set_variables(&values);
                let cycle = self.world.cycle;
                self.give_back(Return::VariablesSet { ticket, values, cycle, result });
            }
            Order::ResetVariables { ticket, values } => {
                let result = self.set_variables(&values);
                if result.is_ok() {
                    let is_kept = |name: &str| {
                        values.binary_search_by(|(other, _)| (**other).cmp(name)).is_ok()
                    };
                    self.world.variables.retain(is_kept);
                }
                let cycle = self.world.cycle;
                self.give_back(Return::VariablesSet { ticket, values, cycle, result });
            }
            Order::Force { ticket, force } => {
                let result = match self.world.points.get(force.point) {
                    Some(_) => self.world.overlay.force(force),
                    None => Err("the point is not in the configuration any more"),
                };
                self.give_back(Return::Answer { ticket, result });
            }
            Order::Unforce { ticket, point } => {
                self.world.overlay.unforce(point);
                self.give_back(Return::Answer { ticket, result: Ok(()) });
            }
            Order::Halt => {
                self.halted = true;
                while !self.programs.is_empty() {
                    self.release_seat(0);
                }
                self.world.make_safe_now();
            }
        }
    }

    /// Writes these variables. If one write is refused, no variable changes.
    fn set_variables(&mut self, values: &[(String, Variable)]) -> Result<(), &'static str> {
        let World { variables, now, .. } = &mut *self.world;
        let result = values.iter().try_for_each(|(name, value)| variables.write(name, *value));
        match result {
            Ok(()) => variables.commit_as(Maker::HOST, *now),
            Err(_) => variables.revert(),
        }
        result.map_err(|denied| match denied {
            Denied::OtherType(_) => "the value and the variable have different types",
            // `Quota` and `NotGranted` concern programs only. The host never gets them.
            Denied::Limit | Denied::Quota | Denied::NotGranted => {
                "there are too many variables, or the name is empty or too long"
            }
        })
    }

    /// Whether a halt order is queued or carried out. A halting scan installs no program.
    fn is_halting(&self) -> bool {
        self.halted || self.ends.halting.load(Ordering::Relaxed)
    }

    /// Reports to the timekeeper the shortest budget of all seated programs and of the program that
    /// is about to get a seat. `joining` is the budget of that program, or `Duration::MAX`.
    fn promise_budgets(&mut self, joining: Duration) {
        let budgets = self.programs.iter().map(|seated| seated.program.shortest_budget());
        self.slot.shortest(budgets.fold(joining, Duration::min));
        self.keeper.wake();
    }

    /// Copies the newest inputs of every device into the input image, then applies the forces.
    fn read(&mut self, now: Duration) {
        let world = &mut *self.world;
        world.remove_overlay();
        for (device, place) in self.devices.iter_mut().zip(0..) {
            self.ends.position.is_at(Doing::Driver(place));
            device.fault = device.driver.read(now, &mut world.inputs).err();
        }
        self.ends.position.is_at(Doing::Own);
        world.apply_overlay();
    }

    /// Polls every program that is due in this cycle.
    fn run(&mut self, now: Duration) {
        self.end_feeds();
        self.examine(now);
        self.slot.mark();
        let cycle = self.world.cycle;
        let mut started_ns = now_ns();
        let mut index = 0;
        while index < self.programs.len() {
            if !self.programs[index].program.is_due(cycle) {
                index += 1;
                continue;
            }
            if !self.feeds.is_empty() {
                self.feed_before(index);
            }
            let program = &mut self.programs[index].program;
            self.ends.position.is_at(Doing::Poll(program.seat, program.generation));
            let result = program.poll(&mut self.world, &self.slot, started_ns);
            self.ends.position.is_at(Doing::Own);
            let what = What::Poll(program.seat);
            let ended_ns = now_ns();
            self.record(what, ended_ns - started_ns);
            started_ns = ended_ns;
            match result {
                Ok(()) => {
                    if !self.feeds.is_empty() {
                        self.feed_after(index);
                    }
                    let seated = &self.programs[index];
                    if !seated.is_proven && seated.has_proved_itself(now) {
                        self.prove(index);
                    }
                    index += 1;
                }
                Err(trap) => index += usize::from(self.on_trap(index, trap)),
            }
        }
    }

    /// Passes the output image of this cycle to every device.
    fn write(&mut self, now: Duration) {
        let world = &mut *self.world;
        world.drive();
        for (device, place) in self.devices.iter_mut().zip(0..) {
            self.ends.position.is_at(Doing::Driver(place));
            // If both the read and the write failed, the device reports the fault of the write.
            device.fault = device.driver.write(now, &world.driven).err().or(device.fault);
        }
        self.ends.position.is_at(Doing::Own);
    }

    /// Publishes a snapshot of the state at the end of this cycle.
    fn publish(&mut self) {
        let world = &*self.world;
        if world.cycle.is_multiple_of(MEMORY_CYCLES) {
            for seated in &mut self.programs {
                seated.memory_bytes = seated.program.memory_bytes();
            }
        }
        let (programs, down, devices) = (&self.programs, &self.down, &self.devices);
        let (overruns, missed, lost) = (self.overruns, self.missed, self.samples_lost);
        let halted = self.halted;
        self.ends.latest.publish(|news| {
            news.cycle = world.cycle;
            news.now = world.now;
            news.overruns = overruns;
            news.missed = missed;
            news.samples_lost = lost;
            news.lines_lost = world.log.lost();
            news.halted = halted;
            if !Arc::ptr_eq(&news.points, &world.points) {
                // The daemon retains a reference to the old points, so this assignment does not
                // free them on the scan thread.
                news.points = Arc::clone(&world.points);
            }
            // These copies allocate memory only if there are more points than before.
            news.inputs.bytes.clone_from(&world.inputs.bytes);
            news.inputs.quality.clone_from(&world.inputs.quality);
            news.inputs.good_at.clone_from(&world.inputs.good_at);
            news.outputs.clone_from(&world.driven);
            news.owners.clone_from(&world.owners);
            note_deliveries(devices, &world.points, &mut news.deliveries);
            news.variables.copy_from(&world.variables);
            let facts = news.programs.list();
            facts.clear();
            facts.extend(programs.iter().map(Seated::fact));
            facts.extend(down.iter().take(MAX_PROGRAMS - programs.len()).cloned());
            let facts = news.devices.list();
            facts.clear();
            facts.extend(devices.iter().map(Device::fact));
            let forces = news.forces.list();
            forces.clear();
            forces.extend_from_slice(world.overlay.forces());
        });
    }

    /// Prepares every device for its drop, so that all devices can finish at the same time.
    pub fn leave_field(&mut self) {
        self.devices.iter_mut().for_each(|device| device.driver.leave());
    }

    /// Queues one time measurement of `ns` nanoseconds. If the queue is full, the scan drops and
    /// counts the measurement.
    pub fn record(&mut self, what: What, ns: u64) {
        let sample = Sample { what, ns: u32::try_from(ns).unwrap_or(u32::MAX) };
        if self.ends.samples.push(sample).is_err() {
            self.samples_lost += 1;
        }
    }

    /// The budget slot of the scan's thread. The timekeeper uses this slot to stop a poll.
    pub fn slot(&self) -> &BudgetSlot {
        &self.slot
    }

    /// The time from one cycle to the next.
    pub fn period(&self) -> Duration {
        self.world.period
    }

    /// The number of programs that have a seat.
    pub fn len(&self) -> usize {
        self.programs.len()
    }

    /// Whether no program has a seat.
    pub fn is_empty(&self) -> bool {
        self.programs.is_empty()
    }

    fn index(&self, seat: Seat) -> Option<usize> {
        self.programs.iter().position(|seated| seated.program.seat == seat)
    }

    /// Whether this seat has no program, and no trapped program that waits for a restart.
    fn is_new(&self, seat: Seat) -> bool {
        self.index(seat).is_none() && self.down.iter().all(|fact| fact.seat != seat)
    }

    fn give_back(&mut self, thing: Return) {
        // The push cannot fail: `obey` carries out an order only while the queue has room for all
        // returns of a cycle.
        let full = self.ends.returns.push(thing).is_err();
        debug_assert!(!full, "the queue has room for the returns of a cycle");
    }
}
