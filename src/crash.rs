//! Crash reports: one file for each trap of a program, and the replay of such a file. The file has
//! all that is known of the program that trapped.
//!
//! A report holds the module, the trap with its backtrace, the program's inputs and actions in its
//! last cycles, and its state before them. With a report, `camshaft` can run the program again on
//! another machine, where the program must trap at the same place. A report is about one program
//! only. The plant, the devices and other programs are not in the report, because a program sees
//! them only through calls to the host, and the report has a record of these calls, the tape.
//!
//! Where to look next: `file.rs` has the format, `brought.rs` the limits for reports from other
//! machines, `store.rs` the folder of reports and its limits. `history.rs` shows the tape in words,
//! and `verdict.rs` has the replay and what it proves.

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
use crate::process::image::{Direction, Kind, Point, PointId, Points};

pub use history::{Cycle, history};
pub use store::{MAX_FILES, MAX_FOLDER_BYTES, ReportStore};
pub use verdict::{Judgement, Verdict, replay};

/// Version of the format that this program writes and reads.
const VERSION: u32 = 1;

/// The text at the beginning of every report.
const FORMAT: &str = "camshaft crash report";

/// The largest module that a report contains, in bytes. The value is the default limit of the
/// configuration. A report of a larger module has only the module's hash.
const MAX_MODULE: usize = 16 << 20;

/// Most points of a report, counted by their ids: the points that a configuration can have, and
/// points that were removed earlier.
const MAX_POINTS: usize = 1 << 16;

/// Most frames of a backtrace: four times as many as a report of this program has.
const MAX_FRAMES: usize = 256;

/// Most names of functions. The limit is 256 because the tape has one byte for a function's number.
const MAX_FUNCTIONS: usize = 256;

/// Most globals of a checkpoint: the largest number that the limits of a module allow, and some
/// globals that the compile service adds.
const MAX_GLOBALS: usize = 1 << 15;

/// Most blocks of a memory: as many as the largest report has room for.
const MAX_BLOCKS: usize = file::MAX_REPORT as usize / Picture::BLOCK;

/// The head of a report, which is one line of JSON at its beginning.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Head {
    format: String,
    version: u32,
    /// Version of the program that wrote the report.
    pub camshaft: String,
    /// When the report was written, by the wall clock in UTC.
    pub written: String,
    /// Name of the plugin.
    pub plugin: String,
    /// BLAKE3 of the module, in hexadecimal digits.
    pub hash: String,
    /// Kind and place of the trap.
    pub trap: Trap,
    /// The backtrace, from the innermost call on.
    #[serde(deserialize_with = "brought::list::<MAX_FRAMES, _, _>")]
    pub frames: Vec<Frame>,
    /// Whether the host stopped the call because its budget was used up.
    pub is_over: bool,
    /// Number of polls of the instance that returned well.
    pub polls: u64,
    /// CPU time that one poll may use.
    pub poll_budget: Duration,
    /// The program was polled in every n-th cycle.
    pub every: u32,
    /// Names of the inputs that the program may read; absent means all.
    #[serde(deserialize_with = "brought::optional_list::<MAX_POINTS, _, _>")]
    pub inputs: Option<Vec<String>>,
    /// Names of the outputs that the program may write; absent means all.
    #[serde(deserialize_with = "brought::optional_list::<MAX_POINTS, _, _>")]
    pub outputs: Option<Vec<String>>,
    /// Limits of the instance.
    pub limits: Limits,
    /// The compiler that made the artifact.
    pub compiler: Compiler,
    /// Path of the module's file.
    pub path: PathBuf,
    /// Names of the functions on the tape, in the order of their numbers.
    #[serde(deserialize_with = "brought::list::<MAX_FUNCTIONS, _, _>")]
    functions: Vec<String>,
    /// All points by id; `null` for a point that was removed earlier.
    #[serde(deserialize_with = "brought::list::<MAX_POINTS, _, _>")]
    points: Vec<Option<PointHead>>,
    /// Where a replay of the tape starts.
    start: StartHead,
    /// The memory after the trap.
    memory: PictureHead,
    /// Length of each part that follows the head.
    lengths: Lengths,
}

/// The facts of a point that give meaning to bytes of an image.
#[derive(Debug, Clone, Serialize, Deserialize)]
struct PointHead {
    name: String,
    direction: Direction,
    #[serde(rename = "type")]
    kind: Kind,
    byte: u32,
    bit: u8,
    scale: f64,
    offset: f64,
}

/// Where a replay of the tape starts: at the birth of the instance, at a checkpoint, or nowhere. In
/// the last case the tape cannot be replayed, for the reason that is given.
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

/// The shape of a memory picture, whose bytes are a part of the report.
#[derive(Debug, Clone, Serialize, Deserialize)]
struct PictureHead {
    bytes: u64,
    /// Numbers of the blocks that are not empty.
    #[serde(deserialize_with = "brought::list::<MAX_BLOCKS, _, _>")]
    blocks: Vec<u32>,
    is_cut: bool,
}

/// Length of each part in bytes, in the order of the parts.
#[derive(Debug, Clone, Copy, Default, Serialize, Deserialize)]
struct Lengths {
    module: usize,
    tape: usize,
    checkpoint: usize,
    memory: usize,
}

/// A report: its head and its parts.
#[derive(Debug, Clone)]
pub struct Report {
    /// The head.
    pub head: Head,
    /// The bytes of the module, if the file could be read when the report was made.
    pub module: Option<Vec<u8>>,
    tape: Vec<u8>,
    checkpoint: Vec<u8>,
    memory: Vec<u8>,
}

/// The facts for a report that the post-mortem does not contain.
#[derive(Debug, Clone)]
pub struct About {
    /// Name of the plugin.
    pub plugin: String,
    /// Hash of the module.
    pub hash: ModuleHash,
    /// Number of polls of the instance that returned well.
    pub polls: u64,
    /// Settings of the program in the scan.
    pub settings: Settings,
    /// Limits of the instance.
    pub limits: Limits,
    /// The compiler that made the artifact.
    pub compiler: Compiler,
    /// Path where the module's file should be.
    pub path: PathBuf,
}

impl Report {
    /// Makes a report from the post-mortem of a program. `module` becomes part of the report if its
    /// hash is right and it is not too large.
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

/// The names of the granted points that still exist; `None` for all points.
fn granted(grant: &Grant, points: &Points) -> Option<Vec<String>> {
    match grant {
        Grant::All => None,
        Grant::Only(ids) => {
            let names = ids.iter().filter_map(|&id| Some(points.get(id)?.name.clone()));
            Some(names.collect())
        }
    }
}

/// Splits a picture into its head and its bytes.
fn split(picture: Picture) -> (PictureHead, Vec<u8>) {
    let Picture { memory_bytes, blocks, mut bytes, is_cut } = picture;
    bytes.truncate(blocks.len() * Picture::BLOCK);
    (PictureHead { bytes: memory_bytes, blocks, is_cut }, bytes)
}

/// Joins a head and its bytes to a picture: the inverse of [`split`].
fn join(head: &PictureHead, bytes: &[u8]) -> Picture {
    let PictureHead { bytes: memory_bytes, blocks, is_cut } = head.clone();
    Picture { memory_bytes, blocks, bytes: bytes.to_vec(), is_cut }
}

impl PointHead {
    fn of(point: &Point) -> Self {
        let Point { name, direction, kind, byte, bit, scale, offset, .. } = point.clone();
        Self { name, direction, kind, byte, bit, scale, offset }
    }

    /// This point, moved to byte 0 of an image of its own.
    fn alone(&self) -> Point {
        let Self { name, direction, kind, bit, scale, offset, .. } = self.clone();
        Point { bit, scale, offset, ..Point::new(name, direction, kind) }
    }
}
