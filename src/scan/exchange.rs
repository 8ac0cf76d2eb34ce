//! What goes down to the scan and what comes up from it: orders, returns, the snapshot, their
//! queues.
//!
//! All of it is bounded and made in advance, because the scan's side may not allocate. What the
//! scan does with it is in `mod.rs`; the other side is the daemon.

use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::time::Duration;

use super::position::Position;
use super::stats::{self, Sample};
use crate::driver::{Command, Delivery, Driver, Fault, MAX_DEVICES};
use crate::image::{Inputs, PointId, Points};
use crate::latest;
use crate::plugin::overlay::{Force, MAX_FORCES};
use crate::plugin::program::{Prepared, Program, Takeover};
use crate::plugin::shadow::{Feed, MAX_FEEDS};
use crate::plugin::world::{LogSink, MAX_PROGRAMS, Seat, World};
use crate::plugin::{Generation, ModuleHash, Refusal, Settings, Trap};
use crate::variable::{Variable, VariableKind, Variables};

/// Room in the queue of orders: one for each program, so that all can be installed at once.
pub const MAX_ORDERS: usize = MAX_PROGRAMS;

/// The most that may come back in one cycle: from each seat two versions at a halt, and one more
/// when its poll fails or its probation ends; and every shadow run.
pub(super) const RETURNS_PER_CYCLE: usize = 3 * MAX_PROGRAMS + MAX_FEEDS;

/// What the scan is told to do. Obeyed in order, between two cycles.
#[derive(Debug)]
pub enum Order {
    /// Seat this program, in place of the one that sits there.
    Install(Box<Prepared>),
    /// Take the program from this seat; its outputs become safe.
    Remove(Seat),
    /// Take over a new configuration, all of it between the same two cycles.
    Reconfigure(Box<Reconfiguration>),
    /// Feed a shadow run of a new version with what the running one polls. It comes back when
    /// either ends, or at once if nobody else runs there.
    Shadow(Feed),
    /// Pass a command to a device and send the answer up with this ticket.
    Command {
        /// Comes back with the answer.
        ticket: u64,
        /// Index of the device.
        device: usize,
        /// What it is to do.
        command: Command,
    },
    /// Write these variables, all or none, and send the answer up with this ticket. One that is
    /// new is created.
    SetVariables {
        /// Comes back with the answer.
        ticket: u64,
        /// Names and values, at most [`crate::variable::MAX_VARIABLES`] of them; they come back
        /// as well, because the scan may not free them.
        values: Vec<(String, Variable)>,
    },
    /// Give these variables these values, which are in order of name, and forget all others; send
    /// the answer up with this ticket. Only when no program is in the scan.
    ResetVariables {
        /// Comes back with the answer.
        ticket: u64,
        /// Names and values.
        values: Vec<(String, Variable)>,
    },
    /// Give a point this value, whatever its device or program says, and send the answer up with
    /// this ticket.
    Force {
        /// Comes back with the answer.
        ticket: u64,
        /// What is forced, and for how long.
        force: Force,
    },
    /// End the force of this point, or all of them.
    Unforce {
        /// Comes back with the answer.
        ticket: u64,
        /// Which; `None` for all.
        point: Option<PointId>,
    },
    /// Take every program out and make every output safe, without forces; install nothing any more.
    Halt,
}

/// A new configuration, as far as it concerns the scan: made ready elsewhere, because the scan may
/// neither open a device nor free one. What it replaces goes back in it.
#[derive(Debug, Default)]
pub struct Reconfiguration {
    /// Comes back with it.
    pub ticket: u64,
    /// Time from one cycle to the next.
    pub period: Duration,
    /// After how long without a cycle devices make their outputs safe by themselves; zero for
    /// never.
    pub stall: Duration,
    /// New settings for the programs on these seats; whoever has left since needs none.
    pub settings: Vec<(Seat, Settings)>,
    /// Other points and devices, if there are such.
    pub device_set: Option<DeviceSet>,
    /// Variables that are created with these values, where there is none of the name yet.
    pub variables: Vec<(String, Variable)>,
    /// Variables that the file declares and that are created at the next start only: until then
    /// programs can give them no other type. Comes back with those before.
    pub reserved: Vec<(String, VariableKind)>,
}

/// The points and the devices that they are of.
pub struct DeviceSet {
    /// All points. Those that stay have their ids and their places.
    pub points: Arc<Points>,
    /// All devices, in the order that a point's `device` counts. Comes back empty.
    pub devices: Vec<Slot>,
    /// Comes back with those that have been replaced or have left.
    pub removed: Vec<RemovedDevice>,
}

/// A device that begins anew or is not there any more.
pub struct RemovedDevice {
    /// Its place among the devices before.
    pub place: usize,
    /// To be dropped where that may take time.
    pub driver: Box<dyn Driver>,
    /// Why it could not be told that those of its outputs are safe that it has no more.
    pub fault: Option<Fault>,
}

/// Where a device comes from.
pub enum Slot {
    /// It goes on, and was at this place before.
    Kept(usize),
    /// It begins anew.
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

/// What the scan gives back: whatever must not be dropped on its thread, and answers.
#[derive(Debug)]
#[allow(clippy::large_enum_variant, reason = "the scan may not allocate a box for a program")]
pub enum Return {
    /// A program that has left its seat, for whatever reason.
    Program(Program),
    /// A program that was not seated: the version before would not hand over its state or it would
    /// not take it; without a reason, because the scan is being stopped.
    Refused(Box<Prepared>, Option<Refusal>),
    /// A new configuration is in force. What it brought comes back, with what it replaced.
    Reconfigured(Box<Reconfiguration>),
    /// A shadow run that gets no more frames.
    Feed(Feed),
    /// How a device took a command.
    Answer {
        /// From the order.
        ticket: u64,
        /// What the device said.
        result: Result<(), &'static str>,
    },
    /// What became of an [`Order::SetVariables`].
    VariablesSet {
        /// From the order.
        ticket: u64,
        /// From the order, untouched.
        values: Vec<(String, Variable)>,
        /// The cycle that began with them.
        cycle: u64,
        /// Why none of them was written.
        result: Result<(), &'static str>,
    },
}

/// What is true about one program; a level that stays until another instance takes the seat.
#[derive(Debug, Clone)]
pub struct ProgramFact {
    /// Whose seat.
    pub seat: Seat,
    /// Which instance.
    pub generation: Generation,
    /// Of which module.
    pub hash: ModuleHash,
    /// Polls of this instance that returned well.
    pub polls: u64,
    /// The cycle in which it took its seat.
    pub since_cycle: u64,
    /// When that was, on the scan's clock.
    pub since: Duration,
    /// Whether it lacks an input that it requires, so that its outputs are safe.
    pub degraded: bool,
    /// Linear memory in bytes; read when it took its seat and every [`MEMORY_CYCLES`].
    pub memory_bytes: u64,
    /// How it failed; it is no longer polled then.
    pub trap: Option<Arc<Trap>>,
    /// How it took its seat.
    pub takeover: Takeover,
    /// Whether its probation is over.
    pub is_proven: bool,
    /// The version before, as long as that is ready to resume.
    pub standby: Option<Generation>,
    /// The newest version that this one, or the one that it took over from, has replaced again,
    /// because it trapped on probation.
    pub rolled_back: Option<Arc<ProgramFact>>,
}

/// Looking at a memory's size costs more than a poll; once in so many cycles is often enough.
pub const MEMORY_CYCLES: u64 = 64;

/// What is true about one device.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct DeviceFact {
    /// How it fails at present.
    pub fault: Option<Fault>,
    /// Whether it is known to have the outputs of this cycle.
    pub confirmed: bool,
}

/// The news of one cycle.
#[derive(Debug, Clone)]
pub struct Snapshot {
    /// Number of the cycle; the first is 1, and 0 means that none has ended yet.
    pub cycle: u64,
    /// The cycle's instant on the scan's clock.
    pub now: Duration,
    /// Cycles that ended too late.
    pub overruns: u64,
    /// Cycles that did not take place because of overruns.
    pub missed: u64,
    /// Samples that found the queue full.
    pub samples_lost: u64,
    /// Log lines of guests that found their queue full.
    pub lines_lost: u64,
    /// The points that all the rest is about.
    pub points: Arc<Points>,
    /// The inputs that the programs saw.
    pub inputs: Inputs,
    /// The outputs that the devices were given.
    pub outputs: Vec<u8>,
    /// By [`crate::image::PointId`].
    pub owners: Vec<Option<Seat>>,
    /// What is known of each output at its device; by [`crate::image::PointId`].
    pub deliveries: Vec<Delivery>,
    /// All variables.
    pub variables: Variables,
    /// Programs that run, in the order of polling, then those that trapped.
    pub programs: Roomy<ProgramFact>,
    /// In the order of [`Points::devices`].
    pub devices: Roomy<DeviceFact>,
    /// What is forced.
    pub forces: Roomy<Force>,
    /// Whether [`Order::Halt`] was obeyed.
    pub halted: bool,
}

impl Snapshot {
    /// What there is before the first cycle, with room for all programs and devices that may come.
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

/// A list whose copies keep its room, so that the scan can fill them without allocating.
#[derive(Debug)]
pub struct Roomy<T>(Vec<T>);

impl<T> Roomy<T> {
    fn with_capacity(capacity: usize) -> Self {
        Self(Vec::with_capacity(capacity))
    }

    /// The list, to be filled within its room.
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

/// The scan's ends of its queues.
#[derive(Debug)]
pub struct Ends {
    /// Orders come down here.
    pub orders: rtrb::Consumer<Order>,
    /// What must not be dropped here goes up there.
    pub returns: rtrb::Producer<Return>,
    /// Measured times go up there.
    pub samples: rtrb::Producer<Sample>,
    /// The news of each cycle.
    pub latest: latest::Writer<Snapshot>,
    /// Raised when a halt is on its way: nothing in front of it is worth a cycle any more.
    pub halting: Arc<AtomicBool>,
    /// Where the scan says what it is doing.
    pub position: Arc<Position>,
}

/// The other ends, for the daemon: orders to the scan, and what comes back from it.
#[derive(Debug)]
pub struct ScanHandle {
    /// Orders go down here.
    pub orders: rtrb::Producer<Order>,
    /// What the scan gives back.
    pub returns: rtrb::Consumer<Return>,
    /// The news of the latest cycle.
    pub latest: latest::Reader<Snapshot>,
    /// Raise this before an [`Order::Halt`]: it then waits for no swap in front of it.
    pub halting: Arc<AtomicBool>,
    /// What the scan is doing.
    pub position: Arc<Position>,
}

/// Queues between a scan and whoever directs it, and the one for measured times.
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

/// A world that looks like `snapshot`, for a program that is being prepared.
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
