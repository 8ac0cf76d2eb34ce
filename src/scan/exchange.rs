//! The exchange between the scan and the daemon: orders, returns, the snapshot and their queues.
//!
//! Every queue and list here is bounded and allocated in advance, because the scan may not
//! allocate. `mod.rs` says what the scan does with an order. [`Ends`] has the scan's ends of the
//! queues, and [`ScanHandle`] the daemon's ends.
//!
//! ```text
//! daemon ── Order ────▶ queue ─────────▶ scan, at the beginning of a cycle
//! daemon ◀── Return ─── queue ◀───────── scan, at any time of a cycle
//! daemon ◀── Snapshot ─ triple buffer ◀─ scan, at the end of a cycle
//! ```

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

/// Room in the queue of orders. There is room for one order for each program, so that all programs
/// can be installed at once.
pub const MAX_ORDERS: usize = MAX_PROGRAMS;

/// The most returns in one cycle. At a halt, each seat gives back two versions, and one more
/// version when its poll fails or its probation ends. Each shadow run gives back its feed once.
pub(super) const RETURNS_PER_CYCLE: usize = 3 * MAX_PROGRAMS + MAX_FEEDS;

/// An order to the scan. The scan obeys orders in the sequence of the queue, at the beginning of a
/// cycle.
#[derive(Debug)]
pub enum Order {
    /// Seat this program, in place of the program that sits there.
    Install(Box<Prepared>),
    /// Take the program from this seat. The program's outputs become safe.
    Remove(Seat),
    /// Take over a new configuration. All parts of it take effect between the same two cycles.
    Reconfigure(Box<Reconfiguration>),
    /// Feed a shadow run with the inputs and results of the running version's polls. The feed comes
    /// back when one of the two ends, or at once if no other version of the plugin has the seat.
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
        /// back with the answer, because the scan may not free them.
        values: Vec<(String, Variable)>,
    },
    /// Give these variables these values, sorted by name, forget all other variables, and return
    /// the answer under this ticket. The daemon orders this only while the scan has no program.
    ResetVariables {
        /// The number that comes back with the answer.
        ticket: u64,
        /// Names and values, sorted by name.
        values: Vec<(String, Variable)>,
    },
    /// Force a point to this value over the value of its device or program, and return the answer
    /// under this ticket.
    Force {
        /// The number that comes back with the answer.
        ticket: u64,
        /// The point, its value, and the time that the force lasts.
        force: Force,
    },
    /// End the force of this point, or all forces.
    Unforce {
        /// The number that comes back with the answer.
        ticket: u64,
        /// The point; `None` for all points.
        point: Option<PointId>,
    },
    /// Take every program out and make every output safe, and end all forces. After this order the
    /// scan installs no program.
    Halt,
}

/// The part of a new configuration that concerns the scan. The daemon prepares it, because the scan
/// may neither open nor free a device. The scan gives it back, filled with the replaced parts.
#[derive(Debug, Default)]
pub struct Reconfiguration {
    /// The number that comes back with the configuration.
    pub ticket: u64,
    /// The time from one cycle to the next.
    pub period: Duration,
    /// The time without a cycle after which devices make their outputs safe by themselves. With
    /// zero they never do so.
    pub stall: Duration,
    /// New settings for the programs on these seats. The scan skips a seat that is empty.
    pub settings: Vec<(Seat, Settings)>,
    /// The new points and devices; `None` if points and devices stay.
    pub device_set: Option<DeviceSet>,
    /// Variables to create with these values. A variable that exists keeps its value.
    pub variables: Vec<(String, Variable)>,
    /// Variables that the configuration declares but that only the next start creates. No program
    /// can create them with another type. The former list comes back in the place of this one.
    pub reserved: Vec<(String, VariableKind)>,
}

/// The points, and the devices that the points belong to.
pub struct DeviceSet {
    /// All points. Points that stay keep their ids and their addresses in the image.
    pub points: Arc<Points>,
    /// All devices; a point's `device` is an index in this list. The list comes back empty.
    pub devices: Vec<Slot>,
    /// The devices that were replaced or have left. The scan fills this list.
    pub removed: Vec<RemovedDevice>,
}

/// A device that was replaced by a new device, or that has left the configuration.
pub struct RemovedDevice {
    /// The index of the device in the set before.
    pub place: usize,
    /// The driver. The daemon drops it on a thread that may wait.
    pub driver: Box<dyn Driver>,
    /// The fault of the last write; `None` if it succeeded. The last write makes safe the outputs
    /// that the device no longer has.
    pub fault: Option<Fault>,
}

/// The origin of a device in the new set.
pub enum Slot {
    /// A device that stays. The number is its index in the set before.
    Kept(usize),
    /// A device that was opened anew.
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

/// The things that the scan gives back to the daemon: answers, and things that must not be dropped
/// on the scan's thread.
#[derive(Debug)]
#[allow(clippy::large_enum_variant, reason = "the scan may not allocate a box for a program")]
pub enum Return {
    /// A program that has left its seat, for any reason.
    Program(Program),
    /// A program that did not get a seat. The refusal says why: the version before did not hand
    /// over its state, or the new version did not take it. `None` if the scan is halted or has no
    /// free seat.
    Refused(Box<Prepared>, Option<Refusal>),
    /// A new configuration that is now in force. The structure has the parts that were replaced.
    Reconfigured(Box<Reconfiguration>),
    /// The feed of a shadow run that gets no more frames.
    Feed(Feed),
    /// The answer to a command, a force or the end of a force.
    Answer {
        /// The number from the order.
        ticket: u64,
        /// Whether the device or the scan accepted the order; the error is the reason why not.
        result: Result<(), &'static str>,
    },
    /// The answer to an [`Order::SetVariables`] or an [`Order::ResetVariables`].
    VariablesSet {
        /// The number from the order.
        ticket: u64,
        /// The values from the order, untouched.
        values: Vec<(String, Variable)>,
        /// The cycle that began with the new values.
        cycle: u64,
        /// The reason why no variable was written, if the order failed.
        result: Result<(), &'static str>,
    },
}

/// The facts about one program. The facts stay as they are until another instance takes the seat.
#[derive(Debug, Clone)]
pub struct ProgramFact {
    /// The seat of the program.
    pub seat: Seat,
    /// The generation of the instance.
    pub generation: Generation,
    /// The module of the instance.
    pub hash: ModuleHash,
    /// The number of polls of this instance that returned well.
    pub polls: u64,
    /// The cycle in which the program took its seat.
    pub since_cycle: u64,
    /// The time of that cycle, on the scan's clock.
    pub since: Duration,
    /// Whether the program lacks an input that it requires. If so, its outputs are safe.
    pub degraded: bool,
    /// Size of the linear memory in bytes. The scan reads it when the program takes its seat, and
    /// then every [`MEMORY_CYCLES`] cycles.
    pub memory_bytes: u64,
    /// The trap that ended the program. A program with a trap is not polled any more.
    pub trap: Option<Arc<Trap>>,
    /// How the program took its seat.
    pub takeover: Takeover,
    /// Whether the program's probation is over.
    pub is_proven: bool,
    /// The version before, as long as it is ready to resume.
    pub standby: Option<Generation>,
    /// The newest version that trapped on probation and was rolled back to this program, or to the
    /// version from which this program took over.
    pub rolled_back: Option<Arc<ProgramFact>>,
}

/// Number of cycles between two reads of memory sizes. They are read seldom, because reading one
/// size costs more than a poll.
pub const MEMORY_CYCLES: u64 = 64;

/// The facts about one device.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct DeviceFact {
    /// The present fault of the device's driver.
    pub fault: Option<Fault>,
    /// Whether the device is known to have the outputs of this cycle.
    pub confirmed: bool,
}

/// The state of the scan at the end of one cycle.
#[derive(Debug, Clone)]
pub struct Snapshot {
    /// The number of the cycle. The first is 1; 0 means that no cycle has ended yet.
    pub cycle: u64,
    /// The cycle's instant on the scan's clock.
    pub now: Duration,
    /// Number of cycles that ended too late.
    pub overruns: u64,
    /// Number of cycles that were left out because of overruns.
    pub missed: u64,
    /// Number of samples that were dropped because their queue was full.
    pub samples_lost: u64,
    /// Number of guests' log lines that were dropped because their queue was full.
    pub lines_lost: u64,
    /// The points that all lists of this snapshot refer to.
    pub points: Arc<Points>,
    /// The inputs that the programs saw.
    pub inputs: Inputs,
    /// The outputs that the scan gave to the devices.
    pub outputs: Vec<u8>,
    /// The owner of each output, indexed by [`crate::process::image::PointId`].
    pub owners: Vec<Option<Seat>>,
    /// The delivery state of each output, indexed by [`crate::process::image::PointId`].
    pub deliveries: Vec<Delivery>,
    /// All variables.
    pub variables: Variables,
    /// The programs that run, in the order of polling, and after them the programs that trapped.
    pub programs: Roomy<ProgramFact>,
    /// The devices, in the order of [`Points::devices`].
    pub devices: Roomy<DeviceFact>,
    /// The forces that hold in this cycle.
    pub forces: Roomy<Force>,
    /// Whether the scan has obeyed [`Order::Halt`].
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

/// A list whose clones keep its capacity, so that the scan can fill a clone without allocating.
#[derive(Debug)]
pub struct Roomy<T>(Vec<T>);

impl<T> Roomy<T> {
    fn with_capacity(capacity: usize) -> Self {
        Self(Vec::with_capacity(capacity))
    }

    /// The inner list. The scan fills it within its capacity.
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
    /// The queue of orders. The daemon writes, the scan reads.
    pub orders: rtrb::Consumer<Order>,
    /// The queue of answers, and of things that must not be dropped on the scan's thread. The scan
    /// writes, the daemon reads.
    pub returns: rtrb::Producer<Return>,
    /// The queue of measured times. The scan writes; the daemon reads, for the statistics.
    pub samples: rtrb::Producer<Sample>,
    /// The snapshot of each cycle. The scan writes, the daemon reads.
    pub latest: latest::Writer<Snapshot>,
    /// Whether a halt is in the queue. If so, the orders in front of it need no cycles of their
    /// own. The daemon writes, the scan reads.
    pub halting: Arc<AtomicBool>,
    /// The position of the scan in its cycle. The scan writes, the daemon reads.
    pub position: Arc<Position>,
}

/// The daemon's ends of the queues to and from the scan. Only the daemon's loop uses them; [`Ends`]
/// says for each queue which side writes.
#[derive(Debug)]
pub struct ScanHandle {
    /// Orders to the scan.
    pub orders: rtrb::Producer<Order>,
    /// The queue of answers and things that the scan gives back.
    pub returns: rtrb::Consumer<Return>,
    /// The snapshot of the latest cycle.
    pub latest: latest::Reader<Snapshot>,
    /// The daemon sets this before it queues an [`Order::Halt`]. The halt then does not wait for
    /// swaps in front of it.
    pub halting: Arc<AtomicBool>,
    /// The position of the scan in its cycle. The scan writes, the daemon reads.
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
