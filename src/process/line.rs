//! Log lines about programs. The thread that runs a program creates the lines, in most cases the
//! scan's thread. The daemon logs them on another thread (`daemon/plugins/line.rs`).
//!
//! The scan creates a line inside a cycle, where no memory may be allocated. Therefore a line
//! contains its texts in arrays of fixed size. The limit for the number of lines of one program is
//! in `plugin/instance/pace.rs`.

use super::refused::RefusedCall;
use super::seat::Seat;
use crate::text::FixedText;

/// Longest text of one log line, in bytes; a longer text is cut to this length.
pub const MAX_LOG_BYTES: usize = 1024;

/// Longest file name in a log line, in bytes; a longer file name is cut to this length.
pub const MAX_FILE_BYTES: usize = 64;

/// The level of a line that a guest logs. The order of the levels is the order of their codes in
/// `wasm_log`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[allow(missing_docs, reason = "the names are the levels")]
pub enum Level {
    Error,
    Warn,
    Info,
    Debug,
    Trace,
}

/// A log line about a program. The thread that runs the program creates the line, and another
/// thread of the daemon logs it.
#[derive(Debug, Clone)]
pub struct Line {
    /// The seat of the program.
    pub seat: Seat,
    /// The number of the cycle in which the line was created; 0 before the first poll of the
    /// program.
    pub cycle: u64,
    /// The content of the line.
    pub message: Message,
}

/// The content of a [`Line`].
#[derive(Debug, Clone)]
#[allow(
    clippy::large_enum_variant,
    reason = "a line contains its texts itself, so no memory is allocated"
)]
pub enum Message {
    /// A text that the guest itself has logged.
    Said {
        /// The level of the line.
        level: Level,
        /// The source file of the guest that logged the line; may be empty.
        file: FixedText<MAX_FILE_BYTES>,
        /// The line number in that source file; 0 if unknown.
        line: u32,
        /// The text that the guest has logged.
        text: FixedText<MAX_LOG_BYTES>,
    },
    /// The number of lines that were dropped, because the guest has logged more lines than its rate
    /// limit allows.
    Dropped(u32),
    /// The first refused call of one kind and name. Later calls of this kind and name are only
    /// counted.
    Refused(RefusedCall),
    /// The program has more refused calls of different kinds and names than the table for denials,
    /// or the table for other refusals, has entries.
    OthersRefused {
        /// Whether these refusals are denials: the program did not get an effect or a value that it
        /// asked for.
        is_denial: bool,
    },
}

/// The destination of log lines.
#[derive(Debug)]
pub enum LogSink {
    /// A queue to the daemon, which logs the lines. If the queue is full, a new line is dropped and
    /// counted.
    Queue {
        /// The queue. The scan's thread puts lines in, and a thread of the daemon takes them out.
        queue: rtrb::Producer<Line>,
        /// Number of lines that were dropped because the queue was full.
        lost: u64,
    },
    /// A list, for a program that is prepared or tested outside of the scan.
    List(Vec<Line>),
}

/// Maximum number of log lines that are stored for one preparation or test; further lines are
/// dropped. A guest with the default rate limit cannot log this many lines in one burst.
const MAX_LISTED_LINES: usize = 1000;

impl LogSink {
    /// Returns the number of lines that were dropped because the queue was full. A list does not
    /// count its dropped lines.
    pub fn lost(&self) -> u64 {
        match self {
            Self::Queue { lost, .. } => *lost,
            Self::List(_) => 0,
        }
    }

    /// Puts a line into the queue or the list. If the queue or the list is full, the line is
    /// dropped.
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
