//! A shadow run: a new version polls what the running one polls, and nobody writes what it says.
//!
//! The scan lays a `Frame` of each poll of the running version into a ring, in frames that were
//! made in advance and come back through a second ring: it never waits, and where no frame is free
//! it leaves that poll out. On a thread of its own a second instance of the new version polls the
//! same (`run.rs`), and what comes of it is told in `report.rs`. Who is to be tried in this way is
//! decided by the daemon; when the scan fills frames is in `scan/shadow.rs`.

mod report;
mod run;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use super::program::Saved;
use super::world::{Seat, World};
use super::{Generation, ModuleHash};
use crate::image::{Inputs, Points};
use crate::variable::Variables;

pub use report::{Difference, MAX_DIFFERENCES, Report};
pub use run::{Outcome, Shadow};

/// Shadow runs at one time; others wait for their turn. Each has its frames, and costs the scan a
/// copy of the image and the variables in each cycle.
pub const MAX_SHADOWS: usize = 4;

/// Feeds that the scan has room for: the next run may begin before the scan has seen that another
/// has ended.
pub const MAX_FEEDS: usize = 2 * MAX_SHADOWS;

/// Frames of one run: 0.64 s at a period of 10 ms, as long as a busy machine may keep an ordinary
/// thread waiting. With room for all variables in each they take 12 MB at most.
const FRAMES: usize = 64;

/// What a poll of the running version saw, and what its outputs were after it.
#[derive(Debug)]
struct Frame {
    /// Number of the poll, without a gap unless frames were left out.
    poll: u64,
    cycle: u64,
    now: Duration,
    inputs: Inputs,
    /// Before the poll, as is the next; all the rest is the same before and after, or as it was
    /// after.
    variables: Variables,
    committed: Vec<u8>,
    /// Whether the running version lacks an input that it requires.
    is_degraded: bool,
    /// At the end of the last cycle.
    driven: Vec<u8>,
    outputs: Vec<u8>,
    owners: Vec<Option<Seat>>,
    /// In the first frame, the state of the running version before the poll, if it hands one over.
    state: Option<Saved>,
}

impl Frame {
    fn new(world: &World) -> Box<Self> {
        Box::new(Self {
            poll: 0,
            cycle: 0,
            now: Duration::ZERO,
            inputs: world.inputs.clone(),
            // A copy, so that its memory is there before a cycle writes to it.
            variables: world.variables.clone(),
            committed: world.outputs.clone(),
            is_degraded: false,
            driven: world.driven.clone(),
            outputs: world.outputs.clone(),
            owners: world.owners.clone(),
            state: None,
        })
    }
}

/// The scan's end of a shadow run. It gives it back when the run or the running version ends.
#[derive(Debug)]
pub struct Feed {
    /// Whose new version it is.
    pub name: Arc<str>,
    /// Where the running one sits.
    pub seat: Seat,
    /// The new version.
    pub hash: ModuleHash,
    /// Whether the new version can take the state of the running one.
    pub takes_state: bool,
    /// The instance that is watched.
    generation: Generation,
    /// The points that its frames have room for.
    points: Arc<Points>,
    /// Set when the world has other points by now.
    is_outdated: Arc<AtomicBool>,
    /// The frame of the poll that is next or under way.
    frame: Box<Frame>,
    filled: rtrb::Producer<Box<Frame>>,
    free: rtrb::Consumer<Box<Frame>>,
}

impl Feed {
    /// From now on it is about this instance, whose state is this.
    pub fn begin(&mut self, generation: Generation, state: Option<Saved>) {
        self.generation = generation;
        self.frame.state = state;
    }

    /// The instance that it is about.
    pub fn generation(&self) -> Generation {
        self.generation
    }

    /// Whether its frames are of this world, and not of one that had other points.
    pub fn fits(&self, world: &World) -> bool {
        Arc::ptr_eq(&self.points, &world.points)
    }

    /// Tells its run that they are not.
    pub fn outdate(&self) {
        self.is_outdated.store(true, Ordering::Relaxed);
    }

    /// Whether nobody wants frames any more.
    pub fn is_over(&self) -> bool {
        self.filled.is_abandoned()
    }

    /// Notes what is there before a poll.
    pub fn before(&mut self, world: &World) {
        self.frame.variables.copy_from(&world.variables);
        self.frame.committed.copy_from_slice(&world.outputs);
        self.frame.is_degraded = world.overlay.degraded(self.seat, world.now).is_some();
    }

    /// Notes the rest after it, and lets the frame go. A poll for which no frame is free is left
    /// out: the numbers tell.
    pub fn after(&mut self, poll: u64, world: &World) {
        let Ok(free) = self.free.pop() else { return };
        let mut frame = std::mem::replace(&mut self.frame, free);
        (frame.poll, frame.cycle, frame.now) = (poll, world.cycle, world.now);
        frame.inputs.bytes.copy_from_slice(&world.inputs.bytes);
        frame.inputs.quality.copy_from_slice(&world.inputs.quality);
        frame.inputs.good_at.copy_from_slice(&world.inputs.good_at);
        frame.driven.copy_from_slice(&world.driven);
        frame.outputs.copy_from_slice(&world.outputs);
        frame.owners.copy_from_slice(&world.owners);
        let full = self.filled.push(frame).is_err();
        debug_assert!(!full, "there are more frames than the ring has room for");
    }
}

/// The other end.
#[derive(Debug)]
pub struct Frames {
    filled: rtrb::Consumer<Box<Frame>>,
    free: rtrb::Producer<Box<Frame>>,
    is_outdated: Arc<AtomicBool>,
}

/// Both ends, with all frames that there will be; `world` says how large they are.
fn feed(name: &Arc<str>, seat: Seat, hash: ModuleHash, world: &World) -> (Feed, Frames) {
    let (filled, filled_out) = rtrb::RingBuffer::new(FRAMES);
    let (mut free_in, free) = rtrb::RingBuffer::new(FRAMES);
    while free_in.push(Frame::new(world)).is_ok() {}
    let is_outdated = Arc::new(AtomicBool::new(false));
    let feed = Feed {
        name: Arc::clone(name),
        seat,
        hash,
        takes_state: false,
        generation: Generation::default(),
        points: Arc::clone(&world.points),
        is_outdated: Arc::clone(&is_outdated),
        frame: Frame::new(world),
        filled,
        free,
    };
    (feed, Frames { filled: filled_out, free: free_in, is_outdated })
}
