//! A shadow run: a new version of a plugin is polled with the same input values as the running
//! version, and the outputs of the new version go to no device.
//!
//! ```text
//!                 filled: frames of the running version's polls
//!   scan's thread ─────────────────────────────────────────────▶ run's thread
//!    (Feed)       ◀─────────────────────────────────────────────  (Frames)
//!                 free: frames to be filled again
//! ```
//!
//! For each poll of the running version, the scan fills a `Frame` and puts the frame into a ring
//! buffer. All frames are made in advance, and used frames return to the scan through a second ring
//! buffer. If no frame is free, the scan skips this poll in the shadow run, so the scan never
//! waits.
//!
//! The shadow run has its own thread. On this thread, a second instance of the new version is
//! polled with the values in each frame (`shadow/run.rs`). The report of the run is in
//! `shadow/report.rs`. The daemon decides which version gets a shadow run. `scan/shadow.rs` decides
//! when the scan fills frames.

mod report;
mod run;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use super::instance::program::Saved;
use super::{Generation, ModuleHash};
use crate::process::image::{Inputs, Points};
use crate::process::seat::Seat;
use crate::process::variable::Variables;
use crate::process::world::World;

pub use report::{Difference, MAX_DIFFERENCES, ShadowReport};
pub use run::{Shadow, ShadowOutcome};

/// Largest number of shadow runs at one time; further shadow runs wait until a shadow run has
/// ended. The limit exists because each run needs memory for its frames, and because the scan
/// copies the process image and the variables for each run at each poll of the running version.
pub const MAX_SHADOWS: usize = 4;

/// Largest number of feeds ([`Feed`]) in the scan. The number is larger than [`MAX_SHADOWS`],
/// because a new run may begin before the scan has seen the end of an earlier run.
pub const MAX_FEEDS: usize = 2 * MAX_SHADOWS;

/// Number of frames of one run. At a scan period of 10 ms, 64 frames cover 0.64 s. On a busy
/// machine, a thread without real-time priority may have to wait that long. Each frame has room for
/// all variables, so the frames of one run reserve 17 MB for variables. For a process image of the
/// largest size they reserve 30 MB more.
const FRAMES: usize = 64;

/// A frame: the values that one poll of the running version has read, and the outputs after that
/// poll.
#[derive(Debug)]
struct Frame {
    /// Number of the poll. A gap in the numbers of successive frames shows how many polls were
    /// skipped.
    poll: u64,
    cycle: u64,
    now: Duration,
    inputs: Inputs,
    /// The variables before the poll. The fields `committed`, `is_degraded` and `state` are also
    /// from before the poll. The scan fills all other fields after the poll.
    variables: Variables,
    /// The outputs before the poll.
    committed: Vec<u8>,
    /// Whether the running version is degraded, because a required input has had bad quality for
    /// longer than the configured time.
    is_degraded: bool,
    /// The output values that the scan wrote to the devices at the end of the last cycle.
    driven: Vec<u8>,
    /// The outputs after the poll.
    outputs: Vec<u8>,
    owners: Vec<Option<Seat>>,
    /// In the first frame, the result of `save` of the running version, called before the poll.
    /// `None` if one of the two versions has no `save` and `restore`, and in all later frames.
    state: Option<Saved>,
}

impl Frame {
    fn new(world: &World) -> Box<Self> {
        Box::new(Self {
            poll: 0,
            cycle: 0,
            now: Duration::ZERO,
            inputs: world.inputs.clone(),
            // The frame gets a copy of the variables now, so that a later cycle can write into this
            // memory without allocating.
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

/// The scan's part of a shadow run. The scan returns the feed to the daemon when the run ends, when
/// the running version loses its seat, or when the points change. The scan also returns a feed for
/// which the run cannot begin.
#[derive(Debug)]
pub struct Feed {
    /// The plugin's name.
    pub name: Arc<str>,
    /// The seat of the running version.
    pub seat: Seat,
    /// The module of the new version.
    pub hash: ModuleHash,
    /// Whether the new version can restore the saved state of the running version.
    pub takes_state: bool,
    /// The number that identifies the running version's instance.
    generation: Generation,
    /// The points for which the frames were made.
    points: Arc<Points>,
    /// Whether the points have changed after the run began. The scan's thread writes this flag; the
    /// run's thread reads it.
    is_outdated: Arc<AtomicBool>,
    /// The frame for the present poll, or for the next poll while no poll runs.
    frame: Box<Frame>,
    /// Ring buffer of filled frames. The scan's thread writes, the run's thread reads.
    filled: rtrb::Producer<Box<Frame>>,
    /// Ring buffer of frames that the run no longer needs. The run's thread writes, the scan's
    /// thread reads.
    free: rtrb::Consumer<Box<Frame>>,
}

impl Feed {
    /// Prepares the feed for the polls of this instance of the running version. `state` is the
    /// result of the instance's `save`, or `None` if `save` was not called.
    pub fn begin(&mut self, generation: Generation, state: Option<Saved>) {
        self.generation = generation;
        self.frame.state = state;
    }

    /// The number that identifies the running version's instance.
    pub fn generation(&self) -> Generation {
        self.generation
    }

    /// Whether the frames fit this world. The frames no longer fit if the world's points have
    /// changed.
    pub fn fits(&self, world: &World) -> bool {
        Arc::ptr_eq(&self.points, &world.points)
    }

    /// Marks the frames as outdated for the run's thread, because the points have changed.
    pub fn outdate(&self) {
        self.is_outdated.store(true, Ordering::Relaxed);
    }

    /// Whether the run has ended, so that no thread reads frames any more.
    pub fn is_over(&self) -> bool {
        self.filled.is_abandoned()
    }

    /// Copies the variables, the outputs and the flag `is_degraded` into the frame before a poll of
    /// the running version.
    pub fn before(&mut self, world: &World) {
        self.frame.variables.copy_from(&world.variables);
        self.frame.committed.copy_from_slice(&world.outputs);
        self.frame.is_degraded = world.overlay.degraded(self.seat, world.now).is_some();
    }

    /// Fills the rest of the frame after the poll, and sends the frame to the run. If no frame is
    /// free, the function sends nothing, and the gap in the poll numbers shows the skipped poll.
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
        debug_assert!(!full, "the ring has room for all frames");
    }
}

/// The part of a shadow run that the run's thread uses.
#[derive(Debug)]
pub struct Frames {
    /// Ring buffer of frames that the scan has filled. The scan's thread writes, the run's thread
    /// reads.
    filled: rtrb::Consumer<Box<Frame>>,
    /// Ring buffer of frames that the scan can fill again. The run's thread writes, the scan's
    /// thread reads.
    free: rtrb::Producer<Box<Frame>>,
    /// Whether the points have changed after the run began. The scan's thread writes, the run's
    /// thread reads.
    is_outdated: Arc<AtomicBool>,
}

/// Makes the two parts of a shadow run, with all frames: one part for the scan and one part for the
/// run's thread. `world` determines the size of the frames.
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
