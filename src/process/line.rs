//! Log lines about programs, from the scan to the thread that writes the log.
//!
//! A line holds its own room, because it is made inside a cycle. How a line is written out is
//! decided in the daemon, and how many lines a program may log in `plugin/instance/pace.rs`.

use super::refused::RefusedCall;
use super::seat::Seat;
use crate::text::Text;

/// Longest text of one log line, in bytes; a longer text is cut there.
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
    /// The guest's own text.
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
    /// This many lines over the rate limit were dropped.
    Dropped(u32),
    /// A call of the program was refused, the first of this kind and name.
    Refused(RefusedCall),
    /// The program is refused calls of more kinds and names than have entries of their own.
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

/// Most lines of one preparation. The rate limit of the log is lower, unless it is configured
/// otherwise.
const MAX_LISTED_LINES: usize = 1000;

impl LogSink {
    /// Number of lines that found no room in the queue.
    pub fn lost(&self) -> u64 {
        match self {
            Self::Queue { lost, .. } => *lost,
            Self::List(_) => 0,
        }
    }

    /// Passes a line on, or drops it if there is no room.
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
