//! The exchange between the scan and the daemon: orders, returns, the snapshot and their queues.
//!
//! Every queue and list in this file is allocated in advance, so that the scan allocates no memory
//! for it. `mod.rs` carries out the orders. [`Ends`] has the scan's ends of the queues, and
//! [`ScanHandle`] has the daemon's ends.
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

/// Capacity of the queue of orders. The scan carries out a few orders in a cycle. If the queue is
/// full, the daemon gives an order of its own again later, and refuses a request.
pub const MAX_ORDERS: usize = 256;

/// The largest number of returns in one cycle. A halt returns two versions of each seat, and a
/// third version if a poll fails or a probation ends. Each shadow run returns one feed.
pub(super) const RETURNS_PER_CYCLE: usize = 3 * MAX_PROGRAMS + MAX_FEEDS;

/// An order from the daemon to the scan. The scan carries out orders at the beginning of a cycle,
/// in the sequence of the queue.
#[derive(Debug)]
pub enum Order {
    /// Put this program on its seat, in place of the program that has the seat now, if any.
    Install(Box<Prepared>),
    /// Remove the program from this seat. The program's outputs become safe.
    Remove(Seat),
    /// Take over a new configuration. All parts of it take effect between the same two cycles.
    Reconfigure(Box<Reconfiguration>),
    /// Record the inputs and results of the running version's polls for a shadow run. The scan
    /// returns the feed when this version or the shadow run ends, or when the points change. If the
    /// recording cannot begin (`shadow.rs`), the scan returns the feed at once.
    Shadow(Feed),
    /// Pass a command to a device, and return the answer of its driver.
    Command {
        /// The number that the answer to this order will have.
        ticket: u64,
        /// The index of the device.
        device: usize,
        /// The command for the driver.
        command: Command,
    },
    /// Write these variables. If one write is refused, no variable changes. A variable that does
    /// not exist yet is created.
    SetVariables {
        /// The number that the answer to this order will have.
        ticket: u64,
        /// At most [`crate::process::variable::MAX_VARIABLES`] names with values. The answer
        /// returns this list, because the scan may not free memory.
        values: Vec<(String, Variable)>,
    },
    /// Write these variables and delete all other variables; if one write is refused, nothing
    /// changes. The daemon sends this order only while the scan has no program.
    ResetVariables {
        /// The number that the answer to this order will have.
        ticket: u64,
        /// Names and values, sorted by name.
        values: Vec<(String, Variable)>,
    },
    /// Force a point: the point has the forced value instead of the value of its device or program.
    Force {
        /// The number that the answer to this order will have.
        ticket: u64,
        /// The point, the forced value, and the end time of the force.
        force: Force,
    },
    /// End the force of this point, or all forces.
    Unforce {
        /// The number that the answer to this order will have.
        ticket: u64,
        /// The point. `None` means all points.
        point: Option<PointId>,
    },
    /// Remove every program, make every output safe, and end all forces. After this order the scan
    /// installs no program.
    Halt,
}

/// The part of a new configuration that concerns the scan. The daemon prepares this structure,
/// because the scan may not open or free a device. The scan puts the old parts
/// into this structure and returns it, so that the daemon can free them.
#[derive(Debug, Default)]
pub struct Reconfiguration {
    /// The number of the order. The returned structure has the same number.
    pub ticket: u64,
    /// The time from one cycle to the next.
    pub period: Duration,
    /// If no cycle begins for this time, devices make their outputs safe. Zero means never.
    pub stall: Duration,
    /// The new settings of the programs, by seat. The scan ignores the settings for an empty seat.
    pub settings: Vec<(Seat, Settings)>,
    /// The new points and devices. `None` means that the points and devices do not change.
    pub device_set: Option<DeviceSet>,
    /// Variables to create with these values. The value of an existing variable does not change.
    pub variables: Vec<(String, Variable)>,
    /// Variables that the configuration declares, but that the daemon creates at its next start. No
    /// program can create them with another type. The scan returns the old list in this field.
    pub reserved: Vec<(String, VariableKind)>,
}

/// The points and devices of one configuration.
pub struct DeviceSet {
    /// All points. A point that also exists in the old set has the same id and image address.
    pub points: Arc<Points>,
    /// All devices; a point's `device` is an index in this list. The scan empties the list.
    pub devices: Vec<Slot>,
    /// The devices that were replaced or removed. The scan fills this list.
    pub removed: Vec<RemovedDevice>,
}

/// A device that was replaced by a new device, or that was removed from the configuration.
pub struct RemovedDevice {
    /// The index of the device in the old set.
    pub place: usize,
    /// The driver. The daemon drops it on a thread that may wait for the device.
    pub driver: Box<dyn Driver>,
    /// The fault of the last write; `None` if the write succeeded. In this write, the outputs that
    /// the device no longer has are safe.
    pub fault: Option<Fault>,
}

/// One device of the new set: an old device or a new device.
pub enum Slot {
    /// A device that does not change. The number is its index in the old set.
    Kept(usize),
    /// A device that the daemon has opened for this configuration.
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

/// A message from the scan to the daemon: an answer, or an object that the scan thread must not
/// free.
#[derive(Debug)]
#[allow(clippy::large_enum_variant, reason = "the scan may not allocate a box for a program")]
pub enum Return {
    /// A program that no longer has a seat, for any reason.
    Program(Program),
    /// A program that did not get a seat. The refusal is the reason: the old version did not save
    /// its state, or the new version did not restore it. `None` means that the scan is halting, or
    /// has no free seat.
    Refused(Box<Prepared>, Option<Refusal>),
    /// A new configuration is active. The structure now contains the replaced parts.
    Reconfigured(Box<Reconfiguration>),
    /// The feed of a shadow run. The scan will fill no more frames of this feed.
    Feed(Feed),
    /// The answer to [`Order::Command`], [`Order::Force`] or [`Order::Unforce`].
    Answer {
        /// The ticket of the order.
        ticket: u64,
        /// Success, or the reason why the device or the scan refused the order.
        result: Result<(), &'static str>,
    },
    /// The answer to an [`Order::SetVariables`] or an [`Order::ResetVariables`].
    VariablesSet {
        /// The ticket of the order.
        ticket: u64,
        /// The list from the order, unchanged.
        values: Vec<(String, Variable)>,
        /// The number of the cycle in which the scan carried out the order.
        cycle: u64,
        /// Success, or the reason why no variable was written.
        result: Result<(), &'static str>,
    },
}

/// The facts about one program that has a seat, or that trapped and has no successor yet.
#[derive(Debug, Clone)]
pub struct ProgramFact {
    /// The seat of the program.
    pub seat: Seat,
    /// The generation of the instance: the number that identifies the instance.
    pub generation: Generation,
    /// The hash of the instance's module.
    pub hash: ModuleHash,
    /// Number of polls of this instance that ended without a trap.
    pub polls: u64,
    /// The cycle in which the program took its seat.
    pub since_cycle: u64,
    /// The instant at which the program took its seat, on the scan's clock.
    pub since: Duration,
    /// Whether a required input is bad for longer than the timeout (`require.rs`).
    pub degraded: bool,
    /// Size of the linear memory in bytes. The scan updates this value when the program takes its
    /// seat, and then every [`MEMORY_CYCLES`] cycles.
    pub memory_bytes: u64,
    /// The trap that ended the program; `None` if the program has not trapped.
    pub trap: Option<Arc<Trap>>,
    /// The size of the state that the program restored on its seat, and counts of variables.
    pub takeover: Takeover,
    /// Whether the program has passed its probation.
    pub is_proven: bool,
    /// The generation of the old version that stands by for a rollback; `None` if none stands by.
    pub standby: Option<Generation>,
    /// The newest version of this seat that trapped on probation and was rolled back. The rollback
    /// returned to this program, or to an earlier program of the seat.
    pub rolled_back: Option<Arc<ProgramFact>>,
}

/// Number of cycles between two updates of `memory_bytes`. One update takes longer than a poll, so
/// the scan does not update the size in every cycle.
pub const MEMORY_CYCLES: u64 = 64;

/// The facts about one device.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct DeviceFact {
    /// The fault of the driver's read or write in this cycle; `None` if the driver works.
    pub fault: Option<Fault>,
    /// Whether the device has confirmed the outputs of this cycle.
    pub confirmed: bool,
}

/// The state of the scan at the end of one cycle.
#[derive(Debug, Clone)]
pub struct Snapshot {
    /// The number of the cycle. The first cycle is 1; 0 means that no cycle has ended yet.
    pub cycle: u64,
    /// The instant of the cycle on the scan's clock.
    pub now: Duration,
    /// Number of cycles that ended after the deadline of the next cycle.
    pub overruns: u64,
    /// Number of cycles that did not run because a cycle before them was too long.
    pub missed: u64,
    /// Number of time measurements that the scan dropped because the sample queue was full.
    pub samples_lost: u64,
    /// Number of log lines of programs that were dropped because the log queue was full.
    pub lines_lost: u64,
    /// The points. All lists of this snapshot refer to these points.
    pub points: Arc<Points>,
    /// The input image that the programs read in this cycle.
    pub inputs: Inputs,
    /// The output image that the scan passed to the devices.
    pub outputs: Vec<u8>,
    /// The seat that owns each output, if any, indexed by [`crate::process::image::PointId`].
    pub owners: Vec<Option<Seat>>,
    /// The delivery state of each output, indexed by [`crate::process::image::PointId`].
    pub deliveries: Vec<Delivery>,
    /// All variables.
    pub variables: Variables,
    /// The running programs in the order of polling, then the trapped programs.
    pub programs: Roomy<ProgramFact>,
    /// The devices, in the order of [`Points::devices`].
    pub devices: Roomy<DeviceFact>,
    /// The forces that are active in this cycle.
    pub forces: Roomy<Force>,
    /// Whether the scan has carried out [`Order::Halt`].
    pub halted: bool,
}

impl Snapshot {
    /// Makes the snapshot before the first cycle. Its lists have their full capacity.
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

    /// Whether every device has confirmed the outputs of this cycle.
    pub fn is_confirmed(&self) -> bool {
        self.devices.iter().all(|device| device.confirmed)
    }
}

/// A list whose clones have the capacity of the original, so that filling a clone allocates
/// nothing.
#[derive(Debug)]
pub struct Roomy<T>(Vec<T>);

impl<T> Roomy<T> {
    fn with_capacity(capacity: usize) -> Self {
        Self(Vec::with_capacity(capacity))
    }

    /// The inner list. The scan never fills it beyond its capacity.
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

/// The scan's ends of the queues. Only the scan's thread uses these ends.
#[derive(Debug)]
pub struct Ends {
    /// The queue of orders. The daemon writes to this queue, the scan reads from it.
    pub orders: rtrb::Consumer<Order>,
    /// The queue of returns. The scan writes to this queue, the daemon reads from it.
    pub returns: rtrb::Producer<Return>,
    /// The queue of time measurements. The scan writes to this queue, the daemon reads from it.
    pub samples: rtrb::Producer<Sample>,
    /// The snapshots. The scan writes one in each cycle, the daemon reads the newest.
    pub latest: latest::Writer<Snapshot>,
    /// Whether an [`Order::Halt`] is in the queue. If true, the scan carries out all orders in one
    /// cycle. The daemon writes this flag, the scan reads it.
    pub halting: Arc<AtomicBool>,
    /// The scan's present call, cycle count and thread. The scan writes, the daemon reads.
    pub position: Arc<Position>,
}

/// The daemon's ends of the queues. Only the daemon's loop uses these ends. The comments of
/// [`Ends`] name the writer of each queue.
#[derive(Debug)]
pub struct ScanHandle {
    /// The queue of orders to the scan.
    pub orders: rtrb::Producer<Order>,
    /// The queue of returns from the scan.
    pub returns: rtrb::Consumer<Return>,
    /// The newest snapshot.
    pub latest: latest::Reader<Snapshot>,
    /// The daemon sets this flag before it queues an [`Order::Halt`]. The scan then carries out all
    /// orders in one cycle, so that swaps do not delay the halt.
    pub halting: Arc<AtomicBool>,
    /// The scan's present call, cycle count and thread. The scan writes, the daemon reads.
    pub position: Arc<Position>,
}

/// Makes the queues. The third value is the daemon's end of the queue of time measurements.
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

/// Makes a world with the values of `snapshot`, for `init` of a program outside of the scan.
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
