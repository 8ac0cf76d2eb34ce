//! Decides from which position the tape of a program can be replayed, so that a trap can be
//! examined afterwards. While the program runs, the recorder takes checkpoints (copies of the
//! memory and the globals), from which the program's tape can be played. After a trap, the code
//! here collects the post-mortem data: trap, backtrace, tape, checkpoint and memory.
//!
//! The recorder stores two checkpoints. After at most 100 polls, a new checkpoint replaces the
//! older checkpoint. If the tape gets many bytes, the new checkpoint is taken earlier. So at a
//! trap, some polls have run after the older checkpoint, and a replay from this checkpoint shows
//! these polls. Exceptions: a program that has just started has only one checkpoint, and a program
//! with a large memory may have none.
//!
//! The format of a tape is in `tape.rs`, and the contents of a checkpoint in `checkpoint.rs`.
//! `crash.rs` makes the crash report from the post-mortem data.

use std::sync::Arc;

use wasmer::{RuntimeError, Store};

use super::backtrace::{Frame, readable};
use super::checkpoint::{NotTaken, Noted, Parts, Picture, Room};
use super::spare;
use super::tape::Tape;
use crate::plugin::Trap;
use crate::plugin::module::hidden::Hidden;
use crate::process::seat::Seat;

/// Largest number of polls from one checkpoint to the next. The most expensive checkpoint takes
/// about 50 us. With 100 polls between two checkpoints, this is less than a thousandth of the time,
/// even at a scan period of 1 ms.
const POLLS: u32 = 100;

/// Largest number of bytes that the tape should get between two checkpoints. The recorder takes a
/// checkpoint before the hundredth poll if the tape would otherwise get more bytes. A tape must
/// have room for more than twice this number, because two checkpoints must stay usable.
const STRETCH_BYTES: u64 = 48 << 10;

/// Number of polls from one check of the tape's length to the next. The number is also the smallest
/// number of polls between two checkpoints, because a checkpoint in every cycle would be expensive.
/// A check in every cycle would be expensive too, because the data for the check is seldom in the
/// CPU's cache.
const LOOK_POLLS: u32 = 10;

/// Largest number of frames in a backtrace, counted from the innermost call. A longer backtrace
/// usually comes from a deep recursion, whose frames are all alike.
const MAX_FRAMES: usize = 64;

/// Largest number of memory bytes in a crash report. The value is the default limit of an
/// instance's memory.
pub(in crate::plugin) const MAX_MEMORY: usize = 16 << 20;

/// Returns the backtrace of an error. The innermost call comes first.
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

/// The failure of a call into a guest.
#[derive(Debug, Clone)]
pub(in crate::plugin) struct CallError {
    pub(in crate::plugin) trap: Arc<Trap>,
    pub(in crate::plugin) frames: Vec<Frame>,
    /// Whether the call failed because it had used up its budget.
    pub(in crate::plugin) is_over: bool,
}

/// The recorder: decides when to take a checkpoint, and stores the last two checkpoints.
#[derive(Debug)]
pub(in crate::plugin) struct Recorder {
    /// Memory for two checkpoints, the older one first, each with its position on the tape. With
    /// `None` as the position, this memory contains no usable checkpoint. The error is the reason
    /// why the first checkpoint was not taken; the recorder then takes no further ones.
    rooms: Result<[(Option<u64>, Room); 2], NotTaken>,
    /// Number of polls without a trap after the newest checkpoint. Until the second checkpoint, the
    /// count begins at a number that depends on the seat.
    polls: u32,
}

impl Recorder {
    /// Makes a recorder for an instance that has run its `init`. The recorder takes a first
    /// checkpoint, if the memory is small enough.
    pub(in crate::plugin) fn new(
        parts: &Parts,
        store: &mut Store,
        position: u64,
        seat: Seat,
    ) -> Self {
        spare::fill();
        let mut newer = Room::new(parts);
        let taken = parts.note(store, &mut newer, spare::make);
        // The older room gets its blocks now, so that the scan seldom needs spare ones.
        let older = taken.and_then(|()| newer.same_size());
        let rooms = older.map(|older| [(None, older), (Some(position), newer)]);
        // The poll count begins at a different number for each seat. So programs that start
        // together take their checkpoints in different cycles.
        Self { rooms, polls: u32::from(seat.0) * 37 % POLLS }
    }

    /// Counts a poll that ended without a trap. Returns whether the caller must now take a
    /// checkpoint. `since` returns the number of bytes on the tape after a position.
    pub(in crate::plugin) fn is_due(&mut self, since: impl FnOnce(u64) -> u64) -> bool {
        self.polls += 1;
        let newest = || self.rooms.as_ref().ok().and_then(|[_, (at, _)]| *at);
        // The caller must take a checkpoint now if the tape is likely to have too many bytes at the
        // next check.
        let is_filled =
            |bytes| bytes + bytes / u64::from(self.polls) * u64::from(LOOK_POLLS) >= STRETCH_BYTES;
        self.polls.is_multiple_of(LOOK_POLLS)
            && newest().is_some_and(|at| self.polls >= POLLS || is_filled(since(at)))
    }

    /// Takes a new checkpoint, which replaces the older checkpoint. If the memory has become too
    /// large for a checkpoint, the recorder takes no further checkpoints. Returns the position from
    /// which a replay needs the tape, if this position has changed.
    pub(in crate::plugin) fn take(
        &mut self,
        parts: &Parts,
        store: &mut Store,
        position: u64,
    ) -> Option<u64> {
        self.polls = 0;
        let rooms = self.rooms.as_mut().ok()?;
        let (at, room) = &mut rooms[0];
        let taken = parts.note(store, room, spare::take);
        *at = taken.is_ok().then_some(position);
        if taken == Err(NotTaken::NoBlock) {
            // The next check tries again. Until then, the newest checkpoint is the only one.
            self.polls = POLLS - LOOK_POLLS;
        } else {
            rooms.swap(0, 1);
        }
        rooms[0].0
    }
}

/// The position from which a tape can be played.
#[derive(Debug, Clone)]
pub enum Start {
    /// From the first call into the instance, because every call is still on the tape.
    Birth,
    /// From a checkpoint.
    Checkpoint {
        /// Number of bytes on the exported tape before the checkpoint.
        tape_at: usize,
        /// The contents of the checkpoint.
        noted: Noted,
    },
    /// The tape cannot be played, for this reason.
    Nowhere(String),
}

/// The post-mortem data of a program that has trapped. A crash report is made from these data.
#[derive(Debug, Clone)]
pub struct PostMortem {
    /// The trap with which the program failed.
    pub trap: Arc<Trap>,
    /// The backtrace, with the innermost call first.
    pub frames: Vec<Frame>,
    /// Whether the call failed because it had used up its budget.
    pub is_over: bool,
    /// The exported tape, in the format that [`super::tape::parse`] reads. The last section is the
    /// call that trapped. Without recording, this vector is empty.
    pub tape: Vec<u8>,
    /// The position from which the tape can be played.
    pub start: Start,
    /// The memory after the trap, at most 16 MiB of it.
    pub memory: Picture,
}

impl PostMortem {
    /// Collects the post-mortem data of an instance. `fall` is the failure of the last call.
    pub(in crate::plugin) fn new(
        fall: CallError,
        recorder: Option<Recorder>,
        tape: &Tape,
        parts: &Parts,
        store: &Store,
    ) -> Self {
        let start = match recorder {
            _ if !tape.is_on() => Start::Nowhere("recording is off in the [crash] section".into()),
            _ if tape.reaches(0) => Start::Birth,
            None => Start::Nowhere(
                "the start of the program made more host calls than the tape can store".into(),
            ),
            Some(Recorder { rooms: Err(NotTaken::TooLarge), .. }) => {
                Start::Nowhere(TOO_LARGE.into())
            }
            Some(Recorder { rooms: Err(NotTaken::NoBlock), .. }) => Start::Nowhere(NO_BLOCK.into()),
            Some(Recorder { rooms: Ok(rooms), .. }) => {
                let noted = rooms.into_iter().find_map(|(at, room)| {
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

/// Text of the reason why a tape cannot be played, if the memory was too large for the first
/// checkpoint.
const TOO_LARGE: &str = "the program uses more memory than a checkpoint can store (256 KiB in use, \
                         in a memory of at most 2 MiB), and the tape no longer has the calls of \
                         the program's start";

/// Text of the reason why a tape cannot be played, if other programs used all memory for tapes and
/// checkpoints at the start of the program.
const NO_BLOCK: &str = "the crash records of all programs together used 64 MiB at the program's \
                        start, and the tape no longer has the calls of this start";

/// Text of the reason why a tape cannot be played, if the tape no longer has all calls after the
/// newest usable checkpoint.
const TOO_MUCH: &str = "the tape no longer has all calls after a checkpoint: either the last polls \
                        exchanged more data with the host than a tape can store, or the program's \
                        memory is too large for a checkpoint (256 KiB in use, in a memory of at \
                        most 2 MiB)";
