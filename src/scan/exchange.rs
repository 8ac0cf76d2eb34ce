//! The exchange between the scan and the daemon: orders, returns, the snapshot and their queues.
//!
//! Every queue and list here is bounded and made in advance, because the scan may not allocate.
//! What the scan does with an order is in `mod.rs`. The daemon holds the other ends, as a
//! [`ScanHandle`].

use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::time::Duration;

use super::position::Position;
use super::stats::{self, Sample};
use crate::driver::{Command, Delivery, Driver, Fault, MAX_DEVICES};
use crate::latest;
use crate::plugin::instance::program::{Prepared, Program, Takeover};
use crate::plugin::shadow::{Feed, MAX_FEEDS};
use crate::plugin::{Generation, ModuleHash, Refusal, Settings, Trap};
use crate::process::image::{Inputs, PointId, Points};
use crate::process::line::LogSink;
use crate::process::overlay::{Force, MAX_FORCES};
use crate::process::seat::{MAX_PROGRAMS, Seat};
use crate::process::variable::{Variable, VariableKind, Variables};
use crate::process::world::World;

/// Room in the queue of orders: one for each program, so that all can be installed at once.
pub const MAX_ORDERS: usize = MAX_PROGRAMS;

/// The most returns in one cycle. Each seat gives back two versions at a halt, and one more when
/// its poll fails or its probation ends. Each shadow run comes back once.
pub(super) const RETURNS_PER_CYCLE: usize = 3 * MAX_PROGRAMS + MAX_FEEDS;

/// An order to the scan. The scan obeys orders in their sequence, at the beginning of a cycle.
#[derive(Debug)]
pub enum Order {
    /// Seat this program, in place of the program that sits there.
    Install(Box<Prepared>),
    /// Take the program from this seat; its outputs become safe.
    Remove(Seat),
    /// Take over a new configuration, all of it between the same two cycles.
    Reconfigure(Box<Reconfiguration>),
    /// Feed a shadow run of a new version with what the running version polls. The feed comes back
    /// when one of the two ends, or at once if no other version of that plugin runs there.
    Shadow(Feed),
    /// Pass a command to a device and return the answer under this ticket.
    Command {
        /// The number that comes back with the answer.
        ticket: u64,
        /// The index of the device.
        device: usize,
        /// The command for the driver.
        command: Command,
    },
    /// Write these variables, all or none, and return the answer under this ticket. A variable that
    /// does not exist yet is created.
    SetVariables {
        /// The number that comes back with the answer.
        ticket: u64,
        /// Names and values, at most [`crate::process::variable::MAX_VARIABLES`] of them. They come
        /// back too, because the scan may not free them.
        values: Vec<(String, Variable)>,
    },
    /// Give these variables these values, sorted by name, forget all other variables, and return
    /// the answer under this ticket. Allowed only while no program is in the scan.
    ResetVariables {
        /// The number that comes back with the answer.
        ticket: u64,
        /// Names and values, in order of name.
        values: Vec<(String, Variable)>,
    },
    /// Force a point to this value, whatever its device or program says, and return the answer
    /// under this ticket.
    Force {
        /// The number that comes back with the answer.
        ticket: u64,
        /// The point, its value, and for how long the force lasts.
        force: Force,
    },
    /// End the force of this point, or all forces.
    Unforce {
        /// The number that comes back with the answer.
        ticket: u64,
        /// The point; `None` for all points.
        point: Option<PointId>,
    },
    /// Take every program out and make every output safe, without forces; install no program any
    /// more.
    Halt,
}

/// A new configuration: the part that concerns the scan. The daemon makes it ready, because the
/// scan may neither open a device nor free one. What it replaces goes back to the daemon in it.
#[derive(Debug, Default)]
pub struct Reconfiguration {
    /// The number that comes back with it.
    pub ticket: u64,
    /// The time from one cycle to the next.
    pub period: Duration,
    /// The time without a cycle after which devices make their outputs safe by themselves; zero:
    /// never.
    pub stall: Duration,
    /// New settings for the programs on these seats. A seat that is empty by then is skipped.
    pub settings: Vec<(Seat, Settings)>,
    /// The new points and devices; `None` if points and devices stay.
    pub device_set: Option<DeviceSet>,
    /// Variables to create with these values, where no variable of that name exists yet.
    pub variables: Vec<(String, Variable)>,
    /// Variables that the config declares and that only the next start creates. Until then no
    /// program can give them another type. The list before comes back in its place.
    pub reserved: Vec<(String, VariableKind)>,
}

/// The points, and the devices that they belong to.
pub struct DeviceSet {
    /// All points. Points that stay keep their ids and their places.
    pub points: Arc<Points>,
    /// All devices, in the order that a point's `device` counts. Comes back empty.
    pub devices: Vec<Slot>,
    /// The devices that were replaced or have left; filled by the scan.
    pub removed: Vec<RemovedDevice>,
}

/// A device that was replaced by a new one, or that has left.
pub struct RemovedDevice {
    /// Its index among the devices before.
    pub place: usize,
    /// The driver, to be dropped on a thread where that may take time.
    pub driver: Box<dyn Driver>,
    /// Why the last write failed, which was to make the outputs safe that the device no longer has.
    pub fault: Option<Fault>,
}

/// Where a device of the new set comes from.
pub enum Slot {
    /// A device that stays; the number is its index before.
    Kept(usize),
    /// A device that begins anew.
    Opened(Box<dyn Driver>),
}

impl std::fmt::Debug for DeviceSet {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("DeviceSet")
            .field("points", &self.points.len())
            .field("devices", &self.devices.len())
            .field("removed", &self.removed.len())
            .finish()
    }
}

/// What the scan gives back: things that must not be dropped on its thread, and answers.
#[derive(Debug)]
#[allow(clippy::large_enum_variant, reason = "the scan may not allocate a box for a program")]
pub enum Return {
    /// A program that has left its seat, for whatever reason.
    Program(Program),
    /// A program that was not seated: the version before did not hand over its state, or the new
    /// one did not take it. There is no reason where the scan is being stopped or has no seat left.
    Refused(Box<Prepared>, Option<Refusal>),
    /// A new configuration that is now in force. What it brought comes back, with what it replaced.
    Reconfigured(Box<Reconfiguration>),
    /// A shadow run that gets no more frames.
    Feed(Feed),
    /// The answer to a command, a force or the end of a force.
    Answer {
        /// The number from the order.
        ticket: u64,
        /// Whether the device or the scan took it; if not, the reason.
        result: Result<(), &'static str>,
    },
    /// The answer to an [`Order::SetVariables`] or an [`Order::ResetVariables`].
    VariablesSet {
        /// The number from the order.
        ticket: u64,
        /// The values from the order, untouched.
        values: Vec<(String, Variable)>,
        /// The cycle that began with them.
        cycle: u64,
        /// Why none of them was written.
        result: Result<(), &'static str>,
    },
}

/// The facts about one program. They stay as they are until another instance takes the seat.
#[derive(Debug, Clone)]
pub struct ProgramFact {
    /// The seat.
    pub seat: Seat,
    /// The instance.
    pub generation: Generation,
    /// The module of the instance.
    pub hash: ModuleHash,
    /// The number of polls of this instance that returned well.
    pub polls: u64,
    /// The cycle in which it took its seat.
    pub since_cycle: u64,
    /// The time of that cycle, on the scan's clock.
    pub since: Duration,
    /// Whether it lacks an input that it requires, so that its outputs are safe.
    pub degraded: bool,
    /// Linear memory in bytes, read when it took its seat and every [`MEMORY_CYCLES`] cycles.
    pub memory_bytes: u64,
    /// The trap that ended it. A program with a trap is not polled any more.
    pub trap: Option<Arc<Trap>>,
    /// How it took its seat.
    pub takeover: Takeover,
    /// Whether its probation is over.
    pub is_proven: bool,
    /// The version before, as long as that is ready to resume.
    pub standby: Option<Generation>,
    /// The newest version that trapped on probation and was rolled back to this one, or to the one
    /// from which this one took over.
    pub rolled_back: Option<Arc<ProgramFact>>,
}

/// How often memory sizes are read, in cycles. Reading one costs more than a poll.
pub const MEMORY_CYCLES: u64 = 64;

/// The facts about one device.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct DeviceFact {
    /// Its present fault.
    pub fault: Option<Fault>,
    /// Whether it is known to have the outputs of this cycle.
    pub confirmed: bool,
}

/// The state of the scan at the end of one cycle.
#[derive(Debug, Clone)]
pub struct Snapshot {
    /// The number of the cycle. The first is 1; 0 means that no cycle has ended yet.
    pub cycle: u64,
    /// The cycle's instant on the scan's clock.
    pub now: Duration,
    /// Cycles that ended too late.
    pub overruns: u64,
    /// Cycles that did not take place because of overruns.
    pub missed: u64,
    /// Samples that were dropped because their queue was full.
    pub samples_lost: u64,
    /// Log lines of guests that were dropped because their queue was full.
    pub lines_lost: u64,
    /// The points that all lists of this snapshot refer to.
    pub points: Arc<Points>,
    /// The inputs that the programs saw.
    pub inputs: Inputs,
    /// The outputs that the devices were given.
    pub outputs: Vec<u8>,
    /// The owner of each output; by [`crate::process::image::PointId`].
    pub owners: Vec<Option<Seat>>,
    /// The delivery state of each output at its device; by [`crate::process::image::PointId`].
    pub deliveries: Vec<Delivery>,
    /// All variables.
    pub variables: Variables,
    /// Programs that run, in the order of polling, then those that trapped.
    pub programs: Roomy<ProgramFact>,
    /// The devices, in the order of [`Points::devices`].
    pub devices: Roomy<DeviceFact>,
    /// The forces.
    pub forces: Roomy<Force>,
    /// Whether [`Order::Halt`] was obeyed.
    pub halted: bool,
}

impl Snapshot {
    /// The snapshot before the first cycle, with room for the largest number of programs and
    /// devices.
    pub fn first(world: &World) -> Self {
        Self {
            cycle: 0,
            now: Duration::ZERO,
            overruns: 0,
            missed: 0,
            samples_lost: 0,
            lines_lost: 0,
            points: Arc::clone(&world.points),
            inputs: world.inputs.clone(),
            outputs: world.outputs.clone(),
            owners: world.owners.clone(),
            deliveries: vec![Delivery::Confirmed; world.owners.len()],
            variables: world.variables.clone(),
            programs: Roomy::with_capacity(MAX_PROGRAMS),
            devices: Roomy::with_capacity(MAX_DEVICES),
            forces: Roomy::with_capacity(MAX_FORCES),
            halted: false,
        }
    }

    /// Whether every device is known to have the outputs of this cycle.
    pub fn is_confirmed(&self) -> bool {
        self.devices.iter().all(|device| device.confirmed)
    }
}

/// A list whose copies keep its capacity, so that the scan can fill them without allocating.
#[derive(Debug)]
pub struct Roomy<T>(Vec<T>);

impl<T> Roomy<T> {
    fn with_capacity(capacity: usize) -> Self {
        Self(Vec::with_capacity(capacity))
    }

    /// The inner list, to be filled within its capacity.
    pub(super) fn list(&mut self) -> &mut Vec<T> {
        &mut self.0
    }
}

impl<T: Clone> Clone for Roomy<T> {
    fn clone(&self) -> Self {
        let mut copy = Self::with_capacity(self.0.capacity());
        copy.0.extend_from_slice(&self.0);
        copy
    }
}

impl<T> std::ops::Deref for Roomy<T> {
    type Target = [T];

    fn deref(&self) -> &[T] {
        &self.0
    }
}

/// The scan's ends of the queues. Only the scan's thread uses them.
#[derive(Debug)]
pub struct Ends {
    /// Orders. The daemon writes, the scan reads.
    pub orders: rtrb::Consumer<Order>,
    /// Things that must not be dropped here, and answers. The scan writes, the daemon reads.
    pub returns: rtrb::Producer<Return>,
    /// Measured times. The scan writes; the daemon reads, for the statistics.
    pub samples: rtrb::Producer<Sample>,
    /// The snapshot of each cycle. The scan writes, the daemon reads.
    pub latest: latest::Writer<Snapshot>,
    /// Whether a halt is on its way: orders in front of it need no cycle of their own. The daemon
    /// writes, the scan reads.
    pub halting: Arc<AtomicBool>,
    /// What the scan is doing. The scan writes, the daemon reads.
    pub position: Arc<Position>,
}

/// The daemon's ends of the queues: orders to the scan, and what comes back from it. Only the
/// daemon's loop uses them; [`Ends`] says who writes what.
#[derive(Debug)]
pub struct ScanHandle {
    /// Orders to the scan.
    pub orders: rtrb::Producer<Order>,
    /// Things that the scan gives back.
    pub returns: rtrb::Consumer<Return>,
    /// The snapshot of the latest cycle.
    pub latest: latest::Reader<Snapshot>,
    /// Set this before an [`Order::Halt`]: the halt then waits for no swap in front of it.
    pub halting: Arc<AtomicBool>,
    /// What the scan is doing; the scan writes, the daemon reads.
    pub position: Arc<Position>,
}

/// Makes the queues between a scan and the daemon, and the queue of measured times.
pub fn queues(first: &Snapshot) -> (Ends, ScanHandle, rtrb::Consumer<Sample>) {
    let (orders_in, orders) = rtrb::RingBuffer::new(MAX_ORDERS);
    let (returns, returns_out) = rtrb::RingBuffer::new(MAX_ORDERS + RETURNS_PER_CYCLE);
    let (samples, samples_out) = rtrb::RingBuffer::new(stats::MAX_SAMPLES);
    let (writer, reader) = latest::latest(first);
    let halting = Arc::new(AtomicBool::new(false));
    let position = Arc::new(Position::default());
    let ours = (Arc::clone(&halting), Arc::clone(&position));
    (
        Ends { orders, returns, samples, latest: writer, halting: ours.0, position: ours.1 },
        ScanHandle { orders: orders_in, returns: returns_out, latest: reader, halting, position },
        samples_out,
    )
}

/// A world with the values of `snapshot`, for a program that is being prepared.
pub fn rehearsal(snapshot: &Snapshot, period: Duration) -> Box<World> {
    let log = LogSink::List(Vec::new());
    let points = Arc::clone(&snapshot.points);
    let mut world = World::new(points, snapshot.variables.clone(), period, log);
    world.now = snapshot.now;
    world.inputs.clone_from(&snapshot.inputs);
    world.outputs.clone_from(&snapshot.outputs);
    world.driven.clone_from(&snapshot.outputs);
    Box::new(world)
}
