//! A shadow run: a new version polls on the same values as the running one, and its outputs go to
//! no device.
//!
//! ```text
//!                 filled: frames of the running version's polls
//!   scan's thread ─────────────────────────────────────────────▶ run's thread
//!    (Feed)       ◀─────────────────────────────────────────────  (Frames)
//!                 free: frames to be filled again
//! ```
//!
//! For each poll of the running version, the scan fills a `Frame` and puts it into a ring. The
//! frames were made in advance and come back through a second ring. So the scan never waits: if no
//! frame is free, the scan leaves that poll out. On a thread of its own, a second instance of the
//! new version polls on the frames (`shadow/run.rs`). The result of the run is in
//! `shadow/report.rs`. The daemon decides which version has a shadow run, and `scan/shadow.rs` when
//! the scan fills frames.

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

pub use report::{Difference, MAX_DIFFERENCES, Report};
pub use run::{Outcome, Shadow};

/// Most shadow runs at one time; others wait for their turn. Each run has frames of its own, and
/// costs the scan a copy of the image and the variables in each cycle.
pub const MAX_SHADOWS: usize = 4;

/// Most feeds in the scan. A run may begin before the scan has seen that another has ended.
pub const MAX_FEEDS: usize = 2 * MAX_SHADOWS;

/// Frames of one run: enough for 0.64 s at a period of 10 ms. A busy machine may keep an ordinary
/// thread waiting for so long. Each frame has room for all variables, and the frames of a run take
/// at most 12 MB.
const FRAMES: usize = 64;

/// A frame: the data that a poll of the running version read, and the outputs after the poll.
#[derive(Debug)]
struct Frame {
    /// Number of the poll. The numbers of the frames have a gap only where polls were left out.
    poll: u64,
    cycle: u64,
    now: Duration,
    inputs: Inputs,
    /// The variables before the poll. Of the other fields, only `committed` and `is_degraded` are
    /// from before the poll. The remaining fields do not change during the poll, or are from after
    /// the poll.
    variables: Variables,
    /// The outputs before the poll.
    committed: Vec<u8>,
    /// Whether the running version lacks an input that it requires.
    is_degraded: bool,
    /// The outputs as they were driven at the end of the last cycle.
    driven: Vec<u8>,
    /// The outputs after the poll.
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
            // The frame gets a copy of the variables, so that its memory is allocated before a
            // cycle writes to it.
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

/// The scan's end of a shadow run. The scan gives it back when the run or the running version ends.
#[derive(Debug)]
pub struct Feed {
    /// The plugin's name.
    pub name: Arc<str>,
    /// The seat of the running version.
    pub seat: Seat,
    /// The new version.
    pub hash: ModuleHash,
    /// Whether the new version can take the state of the running one.
    pub takes_state: bool,
    /// The instance of the running version.
    generation: Generation,
    /// The points that the frames have room for.
    points: Arc<Points>,
    /// Whether the world has other points by now. The scan's thread writes this; the run's thread
    /// reads it.
    is_outdated: Arc<AtomicBool>,
    /// The frame of the present or the next poll.
    frame: Box<Frame>,
    /// Frames for the run. The scan's thread writes, the run's thread reads.
    filled: rtrb::Producer<Box<Frame>>,
    /// Frames that the run no longer needs. The run's thread writes, the scan's thread reads.
    free: rtrb::Consumer<Box<Frame>>,
}

impl Feed {
    /// Begins to record this instance of the running version, with its present state.
    pub fn begin(&mut self, generation: Generation, state: Option<Saved>) {
        self.generation = generation;
        self.frame.state = state;
    }

    /// The instance of the running version.
    pub fn generation(&self) -> Generation {
        self.generation
    }

    /// Whether the frames fit this world; they do not if its points have changed.
    pub fn fits(&self, world: &World) -> bool {
        Arc::ptr_eq(&self.points, &world.points)
    }

    /// Marks the frames as outdated for the run's thread, because the points have changed.
    pub fn outdate(&self) {
        self.is_outdated.store(true, Ordering::Relaxed);
    }

    /// Whether the run has ended and takes no more frames.
    pub fn is_over(&self) -> bool {
        self.filled.is_abandoned()
    }

    /// Notes the variables and outputs before a poll of the running version.
    pub fn before(&mut self, world: &World) {
        self.frame.variables.copy_from(&world.variables);
        self.frame.committed.copy_from_slice(&world.outputs);
        self.frame.is_degraded = world.overlay.degraded(self.seat, world.now).is_some();
    }

    /// Notes the rest of the frame after the poll, and sends the frame. If no frame is free, the
    /// poll is left out, and a gap in the poll numbers shows this.
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

/// The run's end of a shadow run.
#[derive(Debug)]
pub struct Frames {
    /// Frames that the scan has filled. The scan's thread writes, the run's thread reads.
    filled: rtrb::Consumer<Box<Frame>>,
    /// Frames to be filled again. The run's thread writes, the scan's thread reads.
    free: rtrb::Producer<Box<Frame>>,
    /// Whether the world has other points by now. The scan's thread writes, the run's thread reads.
    is_outdated: Arc<AtomicBool>,
}

/// Makes both ends, with all their frames; `world` gives the frames' size.
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
