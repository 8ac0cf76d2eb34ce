//! Log lines about programs, from the scan to the thread that writes the log.
//!
//! A line holds its texts in itself, without an allocation, because the scan makes the line inside
//! a cycle. This file writes nothing: the daemon writes the lines out. How many lines a program may
//! log is in `plugin/instance/pace.rs`.

use super::refused::RefusedCall;
use super::seat::Seat;
use crate::text::Text;

/// Longest text of one log line, in bytes; a longer text is cut to this length.
pub const MAX_LOG_BYTES: usize = 1024;

/// Longest file name in a log line, in bytes.
pub const MAX_FILE_BYTES: usize = 64;

/// The level that a guest gives to its line. The codes are those of `wasm_log`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[allow(missing_docs, reason = "the names are the levels")]
pub enum Level {
    Error,
    Warn,
    Info,
    Debug,
    Trace,
}

/// A log line about a program. The scan's thread makes it; another thread writes it out.
#[derive(Debug, Clone)]
pub struct Line {
    /// The seat of the program.
    pub seat: Seat,
    /// The cycle in which the line was made; 0 before the first poll.
    pub cycle: u64,
    /// The contents of the line.
    pub message: Message,
}

/// The contents of a [`Line`].
#[derive(Debug, Clone)]
#[allow(
    clippy::large_enum_variant,
    reason = "a line has its room where it is: nothing is allocated"
)]
pub enum Message {
    /// A text that the guest itself has logged.
    Said {
        /// The level of the line.
        level: Level,
        /// The guest's source file; may be empty.
        file: Text<MAX_FILE_BYTES>,
        /// The line in that file; 0 if unknown.
        line: u32,
        /// The text, as the guest gave it.
        text: Text<MAX_LOG_BYTES>,
    },
    /// The number of lines that were dropped because the guest had logged more than its rate limit.
    Dropped(u32),
    /// The first refused call of one kind and name.
    Refused(RefusedCall),
    /// The program is refused calls of more kinds and names than there are entries for.
    OthersRefused {
        /// Whether these refusals keep the program from doing something.
        is_denial: bool,
    },
}

/// Where log lines go.
#[derive(Debug)]
pub enum LogSink {
    /// To the thread that writes the log. If the queue is full, the line is dropped and counted.
    Queue {
        /// The queue to that thread. The scan's thread writes, that thread reads.
        queue: rtrb::Producer<Line>,
        /// Number of lines that found no room.
        lost: u64,
    },
    /// Into a list, for a program that is being prepared or tested.
    List(Vec<Line>),
}

/// Most log lines that are kept of one preparation or test. A guest with the default rate limit
/// cannot log so many in one burst.
const MAX_LISTED_LINES: usize = 1000;

impl LogSink {
    /// Number of lines that found no room in the queue.
    pub fn lost(&self) -> u64 {
        match self {
            Self::Queue { lost, .. } => *lost,
            Self::List(_) => 0,
        }
    }

    /// Puts a line into the queue or the list, or drops the line if there is no room.
    pub fn push(&mut self, line: Line) {
        match self {
            Self::Queue { queue, lost } => {
                if queue.push(line).is_err() {
                    *lost += 1;
                }
            }
            Self::List(list) if list.len() < MAX_LISTED_LINES => list.push(line),
            Self::List(_) => {}
        }
    }
}
