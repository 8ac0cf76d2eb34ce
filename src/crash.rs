//! Crash reports: one file for each trap of a program, and the replay of such a file.
//!
//! The module is the .wasm file of the program. A crash report contains the module, the trap with
//! its backtrace, and the record of the program's last cycles: the tape. The report has no module
//! if the .wasm file could not be read, is too large, or was replaced by another file. The tape
//! contains every call from the host into the module and every call from the module to the host,
//! with all values. If the tape does not begin with the start of the instance, the report usually
//! also contains a checkpoint: the memory and globals of the instance at a place on the tape.
//! Without a checkpoint such a tape cannot be replayed, and the report names the reason. With a
//! report, `camshaft replay` runs the program again on another machine. There the program must trap
//! at the same place:
//!
//! ```text
//! state before --> tape: init, poll, poll, ... --> trap
//!                  replay: the same calls with the same answers --> the same trap?
//! ```
//! A report is about one program. The program gets data of devices and of other programs only
//! through calls to the host. The tape has the results of these calls, so a replay needs no device
//! and no other program.
//!
//! Where to look next: `crash/file.rs` has the format of a report, and `crash/store.rs` has the
//! folder of reports. `crash/brought.rs` has the limits for reports from other machines.
//! `crash/history.rs` shows the tape as text. `crash/verdict.rs` has the replay and its verdict.

mod brought;
mod file;
mod history;
mod store;
mod verdict;

use std::path::PathBuf;
use std::time::{Duration, SystemTime};

use serde::{Deserialize, Serialize};

use crate::plugin::trace::backtrace::Frame;
use crate::plugin::trace::checkpoint::{Number, Picture};
use crate::plugin::trace::record::{PostMortem, Start};
use crate::plugin::trace::tape;
use crate::plugin::{Compiler, Limits, ModuleHash, Settings, Trap};
use crate::process::grant::Grant;
use crate::process::image::{Direction, Point, PointId, PointKind, Points};

pub use history::{Cycle, history};
pub use store::{MAX_FILES, MAX_FOLDER_BYTES, ReportStore};
pub use verdict::{Judgement, Verdict, replay};

/// The version of the report format that this `camshaft` writes and reads.
const VERSION: u32 = 1;

/// The text at the beginning of every report.
const FORMAT: &str = "camshaft crash report";

/// The maximum size of a module in a report, in bytes. This size is the default of the limit
/// `plugins.module` in the configuration. For a larger module, the report contains only the hash.
const MAX_MODULE: usize = 16 << 20;

/// The maximum number of ids of points in a report. There is an id for each point of the
/// configuration, and for each point that an earlier reload has removed.
const MAX_POINTS: usize = 1 << 16;

/// The maximum number of frames of a backtrace: four times as many as the daemon writes.
const MAX_FRAMES: usize = 256;

/// The maximum number of function names. The tape stores the number of a function in one byte.
const MAX_FUNCTIONS: usize = 256;

/// The maximum number of globals in a checkpoint. The number has room for all globals that the
/// limits of a module allow, and for a few globals that the compile service adds.
const MAX_GLOBALS: usize = 1 << 15;

/// The maximum number of stored blocks of a memory: as many as fit into the largest report.
const MAX_BLOCKS: usize = file::MAX_REPORT as usize / Picture::BLOCK;

/// The head of a report. It is one line of JSON at the start of the file.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Head {
    /// The text `FORMAT`. It identifies the file as a report.
    format: String,
    /// The version of the format.
    version: u32,
    /// Version of the `camshaft` that wrote the report.
    pub camshaft: String,
    /// Time at which the report was made, by the wall clock, in UTC.
    pub written: String,
    /// Name of the plugin.
    pub plugin: String,
    /// BLAKE3 hash of the module, in hexadecimal digits.
    pub hash: String,
    /// Kind and place of the trap.
    pub trap: Trap,
    /// The backtrace. The innermost call comes first.
    #[serde(deserialize_with = "brought::list::<MAX_FRAMES, _, _>")]
    pub frames: Vec<Frame>,
    /// Whether the host stopped the call because its budget was exceeded.
    pub is_over: bool,
    /// Number of polls of the instance that returned without a trap.
    pub polls: u64,
    /// Budget of one poll: the CPU time that it may use.
    pub poll_budget: Duration,
    /// Number of cycles from one poll of the program to its next poll.
    pub every: u32,
    /// Names of the input points that the program may read, without points that no longer exist.
    /// `None` if the program may read all input points.
    #[serde(deserialize_with = "brought::optional_list::<MAX_POINTS, _, _>")]
    pub inputs: Option<Vec<String>>,
    /// Names of the output points that the program may write, without points that no longer exist.
    /// `None` if the program may write all output points.
    #[serde(deserialize_with = "brought::optional_list::<MAX_POINTS, _, _>")]
    pub outputs: Option<Vec<String>>,
    /// Limits of the instance, such as its memory and its stack.
    pub limits: Limits,
    /// The compiler that made the machine code.
    pub compiler: Compiler,
    /// Path of the .wasm file on the machine that made the report.
    pub path: PathBuf,
    /// Names of the functions on the tape. The index of a name is the function's number on the
    /// tape.
    #[serde(deserialize_with = "brought::list::<MAX_FUNCTIONS, _, _>")]
    functions: Vec<String>,
    /// All points by their ids. A point that an earlier reload has removed is `null`.
    #[serde(deserialize_with = "brought::list::<MAX_POINTS, _, _>")]
    points: Vec<Option<PointHead>>,
    /// The place on the tape at which a replay starts.
    start: StartHead,
    /// The size and the stored blocks of the instance's memory after the trap. The bytes of the
    /// blocks are in [`CrashReport::memory`].
    memory: PictureHead,
    /// Length of each part of the report after the head.
    lengths: Lengths,
}

/// The properties of a point that are needed to decode its bytes in an image.
#[derive(Debug, Clone, Serialize, Deserialize)]
struct PointHead {
    name: String,
    direction: Direction,
    #[serde(rename = "type")]
    kind: PointKind,
    byte: u32,
    bit: u8,
    scale: f64,
    offset: f64,
}

/// The place at which a replay of the tape starts: at the start of the instance or at a checkpoint.
/// With `Nowhere`, the tape cannot be replayed, and `reason` is the reason as text.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
enum StartHead {
    Birth,
    Checkpoint {
        tape_at: usize,
        memory: PictureHead,
        #[serde(deserialize_with = "brought::list::<MAX_GLOBALS, _, _>")]
        globals: Vec<Number>,
    },
    Nowhere {
        reason: String,
    },
}

/// Describes a stored copy of a memory: the size of the whole memory, and the numbers of the blocks
/// that are stored. The bytes of the blocks are in
/// [`CrashReport::checkpoint`] or [`CrashReport::memory`].
#[derive(Debug, Clone, Serialize, Deserialize)]
struct PictureHead {
    /// The size of the whole memory, in bytes.
    bytes: u64,
    /// Numbers of the blocks that are stored. A block in which all bytes are zero is not stored.
    #[serde(deserialize_with = "brought::list::<MAX_BLOCKS, _, _>")]
    blocks: Vec<u32>,
    /// Whether some blocks are missing, because the copy had no room for these blocks.
    is_cut: bool,
}

/// Length of each part, in bytes. The parts follow the head in the order of these fields.
#[derive(Debug, Clone, Copy, Default, Serialize, Deserialize)]
struct Lengths {
    module: usize,
    tape: usize,
    checkpoint: usize,
    memory: usize,
}

/// A report: the head and the parts.
#[derive(Debug, Clone)]
pub struct CrashReport {
    /// The head.
    pub head: Head,
    /// The bytes of the .wasm file. `None` if the file could not be read, was too large for a
    /// report, or had another hash than the module that trapped.
    pub module: Option<Vec<u8>>,
    /// The tape: the record of the last calls, in the format of `plugin/trace/tape.rs`.
    tape: Vec<u8>,
    /// The bytes of the memory at the checkpoint. Empty if there is no checkpoint.
    checkpoint: Vec<u8>,
    /// The bytes of the memory after the trap.
    memory: Vec<u8>,
}

/// The facts for a report that `PostMortem`, the data from the trapped instance, does not contain.
#[derive(Debug, Clone)]
pub struct About {
    /// Name of the plugin.
    pub plugin: String,
    /// Hash of the module.
    pub hash: ModuleHash,
    /// Number of polls of the instance that returned without a trap.
    pub polls: u64,
    /// Settings of the program in the scan.
    pub settings: Settings,
    /// Limits of the instance.
    pub limits: Limits,
    /// The compiler that made the artifact.
    pub compiler: Compiler,
    /// Path at which the .wasm file is expected.
    pub path: PathBuf,
}

impl CrashReport {
    /// Makes a report. `post_mortem` contains the data from the instance that trapped. The report
    /// contains `module` only if its hash is `about.hash` and its size is at most `MAX_MODULE`.
    pub fn new(
        about: About,
        post_mortem: PostMortem,
        points: &Points,
        module: Option<Vec<u8>>,
    ) -> Self {
        let module =
            module.filter(|bytes| bytes.len() <= MAX_MODULE && ModuleHash::of(bytes) == about.hash);
        let (start, checkpoint) = match post_mortem.start {
            Start::Birth => (StartHead::Birth, Vec::new()),
            Start::Nowhere(reason) => (StartHead::Nowhere { reason }, Vec::new()),
            Start::Checkpoint { tape_at, noted } => {
                let (memory, bytes) = split(noted.picture);
                (StartHead::Checkpoint { tape_at, memory, globals: noted.globals }, bytes)
            }
        };
        let (memory_head, memory) = split(post_mortem.memory);
        let lengths = Lengths {
            module: module.as_ref().map_or(0, Vec::len),
            tape: post_mortem.tape.len(),
            checkpoint: checkpoint.len(),
            memory: memory.len(),
        };
        let head = Head {
            format: FORMAT.into(),
            version: VERSION,
            camshaft: env!("CARGO_PKG_VERSION").into(),
            written: humantime::format_rfc3339_seconds(SystemTime::now()).to_string(),
            plugin: about.plugin,
            hash: format!("{:#}", about.hash),
            trap: Trap::clone(&post_mortem.trap),
            frames: post_mortem.frames,
            is_over: post_mortem.is_over,
            polls: about.polls,
            poll_budget: about.settings.poll_budget,
            every: about.settings.every,
            inputs: granted(&about.settings.inputs, points),
            outputs: granted(&about.settings.outputs, points),
            limits: about.limits,
            compiler: about.compiler,
            path: about.path,
            functions: tape::functions(),
            points: (0..points.ids() as u16)
                .map(|id| points.get(PointId(id)).map(PointHead::of))
                .collect(),
            start,
            memory: memory_head,
            lengths,
        };
        Self { head, module, tape: post_mortem.tape, checkpoint, memory }
    }
}

/// Returns the names of the granted points that still exist. `None` means all points.
fn granted(grant: &Grant, points: &Points) -> Option<Vec<String>> {
    match grant {
        Grant::All => None,
        Grant::Only(ids) => {
            let names = ids.iter().filter_map(|&id| Some(points.get(id)?.name.clone()));
            Some(names.collect())
        }
    }
}

/// Splits a copy of a memory into its head and its bytes.
fn split(picture: Picture) -> (PictureHead, Vec<u8>) {
    let Picture { memory_bytes, blocks, mut bytes, is_cut } = picture;
    bytes.truncate(blocks.len() * Picture::BLOCK);
    (PictureHead { bytes: memory_bytes, blocks, is_cut }, bytes)
}

/// Makes a copy of a memory from its head and its bytes. It is the inverse of [`split`].
fn join(head: &PictureHead, bytes: &[u8]) -> Picture {
    let PictureHead { bytes: memory_bytes, blocks, is_cut } = head.clone();
    Picture { memory_bytes, blocks, bytes: bytes.to_vec(), is_cut }
}

impl PointHead {
    fn of(point: &Point) -> Self {
        let Point { name, direction, kind, byte, bit, scale, offset, .. } = point.clone();
        Self { name, direction, kind, byte, bit, scale, offset }
    }

    /// Returns a [`Point`] with these properties. It is at byte 0 of an image that contains no
    /// other point.
    fn alone(&self) -> Point {
        let Self { name, direction, kind, bit, scale, offset, .. } = self.clone();
        Point { bit, scale, offset, ..Point::new(name, direction, kind) }
    }
}
