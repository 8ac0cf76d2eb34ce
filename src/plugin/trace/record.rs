//! The recording of a running program, so that a trap can be examined afterwards. The recorder
//! keeps checkpoints, from which the program's tape can be played. This file also makes the
//! post-mortem after a trap.
//!
//! The recorder keeps two checkpoints and replaces the older one after every hundredth poll or
//! earlier. So when the program traps, the older checkpoint has some polls after it, unless the
//! program has just begun. What a tape holds is in `tape.rs`, and what a checkpoint holds in
//! `checkpoint.rs`. The crash report, which is made from the post-mortem, is in `crash.rs`.

use std::sync::Arc;

use wasmer::{RuntimeError, Store};

use super::backtrace::{Frame, readable};
use super::checkpoint::{Noted, Parts, Picture, Room};
use super::tape::Tape;
use crate::plugin::Trap;
use crate::plugin::module::hidden::Hidden;
use crate::process::seat::Seat;

/// Polls from one checkpoint to the next. Even at a period of 1 ms the most expensive copy, about
/// 50 us, then costs less than a thousandth of the time.
const POLLS: u32 = 100;

/// Bytes on the tape after which a checkpoint is due before the hundredth poll. A tape must have
/// room for a little more than twice as many bytes.
const STRETCH_BYTES: u64 = 48 << 10;

/// Polls from one look at the tape to the next, which is also the least number of polls between two
/// checkpoints. A checkpoint in every cycle would be expensive. A look in every cycle would be
/// expensive too, because the data for it is seldom in the CPU's cache.
const LOOK_POLLS: u32 = 10;

/// Most frames of a backtrace, from the innermost on. A longer backtrace is mostly a deep
/// recursion, which repeats itself.
const MAX_FRAMES: usize = 64;

/// Most bytes of a memory that a report has: the default limit of an instance.
pub(in crate::plugin) const MAX_MEMORY: usize = 16 << 20;

/// The backtrace of an error, from the innermost call on.
pub(in crate::plugin) fn frames(error: &RuntimeError, hidden: &Hidden) -> Vec<Frame> {
    let name = |frame: &wasmer::FrameInfo| {
        let index = frame.func_index();
        let name = frame.function_name().or_else(|| hidden.export_of(index));
        name.map_or_else(|| format!("#{index}"), readable)
    };
    let frame = |(frame, offset): (&wasmer::FrameInfo, u32)| Frame {
        function: name(frame),
        index: frame.func_index(),
        offset,
    };
    hidden.frames(error).take(MAX_FRAMES).map(frame).collect()
}

/// How a call failed.
#[derive(Debug, Clone)]
pub(in crate::plugin) struct CallError {
    pub(in crate::plugin) trap: Arc<Trap>,
    pub(in crate::plugin) frames: Vec<Frame>,
    /// Whether the call failed because its budget was used up.
    pub(in crate::plugin) is_over: bool,
}

/// The recorder: decides when a checkpoint is due, and keeps two.
#[derive(Debug)]
pub(in crate::plugin) struct Recorder {
    /// Room for two checkpoints, the older one first, each with its position on the tape. A room
    /// without a position is empty. The list is empty if the first checkpoint did not fit.
    rooms: Vec<(Option<u64>, Room)>,
    /// Good polls since the newest checkpoint.
    polls: u32,
}

impl Recorder {
    /// A recorder for an instance that has run its `init`, with a first checkpoint if it fits.
    pub(in crate::plugin) fn new(
        parts: &Parts,
        store: &mut Store,
        position: u64,
        seat: Seat,
    ) -> Self {
        let mut room = Room::new(parts);
        let mut rooms = Vec::new();
        if parts.note(store, &mut room) {
            rooms = vec![(None, Room::new(parts)), (Some(position), room)];
        }
        // The count begins at another number for each seat, so that programs that start together do
        // not take their checkpoints in the same cycle.
        Self { rooms, polls: u32::from(seat.0) * 37 % POLLS }
    }

    /// Notes that a poll has ended well. Returns whether a checkpoint is due. `since` gives the
    /// bytes on the tape from a position on.
    pub(in crate::plugin) fn is_due(&mut self, since: impl FnOnce(u64) -> u64) -> bool {
        self.polls += 1;
        let newest = || self.rooms.last().and_then(|(at, _)| *at);
        // A checkpoint is due now if the tape may have too many bytes at the next look.
        let is_filled =
            |bytes| bytes + bytes / u64::from(self.polls) * u64::from(LOOK_POLLS) >= STRETCH_BYTES;
        self.polls.is_multiple_of(LOOK_POLLS)
            && newest().is_some_and(|at| self.polls >= POLLS || is_filled(since(at)))
    }

    /// Takes a checkpoint in place of the older one. If the memory does not fit any more, the
    /// recorder takes no further checkpoints.
    pub(in crate::plugin) fn take(&mut self, parts: &Parts, store: &mut Store, position: u64) {
        self.polls = 0;
        if let [(at, room), _] = &mut self.rooms[..] {
            *at = parts.note(store, room).then_some(position);
            self.rooms.swap(0, 1);
        }
    }
}

/// The place from which a tape can be played.
#[derive(Debug, Clone)]
pub enum Start {
    /// The first call into the instance: every call is on the tape.
    Birth,
    /// A checkpoint.
    Checkpoint {
        /// Bytes of the tape before the checkpoint.
        tape_at: usize,
        /// The contents of the checkpoint.
        noted: Noted,
    },
    /// The tape cannot be played, for this reason.
    Nowhere(String),
}

/// The post-mortem of a program that has trapped: the material of a crash report.
#[derive(Debug, Clone)]
pub struct PostMortem {
    /// How the program failed.
    pub trap: Arc<Trap>,
    /// The backtrace, from the innermost call on.
    pub frames: Vec<Frame>,
    /// Whether the call failed because its budget was used up.
    pub is_over: bool,
    /// The exported tape, for [`super::tape::parse`]. Its last section is the call that trapped.
    pub tape: Vec<u8>,
    /// The place from which the tape can be played.
    pub start: Start,
    /// The memory after the trap.
    pub memory: Picture,
}

impl PostMortem {
    /// The post-mortem of an instance; `fall` says how the last call failed.
    pub(in crate::plugin) fn new(
        fall: CallError,
        recorder: Option<Recorder>,
        tape: &Tape,
        parts: &Parts,
        store: &Store,
    ) -> Self {
        let start = match recorder {
            _ if !tape.is_on() => {
                Start::Nowhere("the [crash] section has it record nothing".into())
            }
            _ if tape.reaches(0) => Start::Birth,
            None => Start::Nowhere("its start did more than its tape holds".into()),
            Some(recorder) if recorder.rooms.is_empty() => Start::Nowhere(TOO_LARGE.into()),
            Some(recorder) => {
                let mut rooms = recorder.rooms.into_iter();
                let noted = rooms.find_map(|(at, room)| {
                    let at = at.filter(|at| tape.reaches(*at))?;
                    Some((tape.exported_before(at), room.into_noted()))
                });
                match noted {
                    Some((tape_at, noted)) => Start::Checkpoint { tape_at, noted },
                    None => Start::Nowhere(TOO_MUCH.into()),
                }
            }
        };
        let CallError { trap, frames, is_over } = fall;
        let memory = parts.picture(store, MAX_MEMORY);
        Self { trap, frames, is_over, tape: tape.export(), start, memory }
    }
}

/// The reason why a tape cannot be played: the memory was too large for a checkpoint from the
/// start.
const TOO_LARGE: &str = "it uses more memory than a checkpoint holds (256 KiB of at most 2 MiB), \
                         and its tape does not reach back to its start";

/// The reason why a tape cannot be played: the tape no longer holds the calls after the newest
/// usable checkpoint.
const TOO_MUCH: &str = "its tape does not reach back to a checkpoint: either its last polls \
                        exchanged more with the host than a tape holds, or its memory has outgrown \
                        a checkpoint (256 KiB in use, of at most 2 MiB)";
