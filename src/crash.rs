//! Crash reports: what is known of a program that trapped, in one file, and the replay of it.
//!
//! A report holds the module, the trap with its backtrace, what the program was given and did in
//! its last cycles, and what it knew before: enough to run it again on another machine, where it
//! must trap at the same place. A report tells of one program only; the plant, the other programs
//! and the devices are not in it, because a program sees them only through calls that are on its
//! tape.
//!
//! `file.rs` has the format, `brought.rs` what of a stranger's report is not believed, `store.rs`
//! the folder and its limits, `history.rs` the tape in words, `verdict.rs` the replay and what it
//! proves.

mod brought;
mod file;
mod history;
mod store;
mod verdict;

use std::path::PathBuf;
use std::time::{Duration, SystemTime};

use serde::{Deserialize, Serialize};

use crate::image::{Direction, Kind, Point, PointId, Points};
use crate::plugin::checkpoint::{Number, Picture};
use crate::plugin::record::{Frame, PostMortem, Start};
use crate::plugin::{Compiler, Grant, Limits, ModuleHash, Settings, Trap, tape};

pub use history::{Cycle, history};
pub use store::{MAX_FILES, MAX_FOLDER_BYTES, ReportStore};
pub use verdict::{Judgement, Verdict, replay};

/// The format that this program writes and reads.
const VERSION: u32 = 1;

/// What begins every report.
const FORMAT: &str = "camshaft crash report";

/// The largest module that is put into a report: the default limit of the configuration. Of a
/// larger one there is only its name.
const MAX_MODULE: usize = 16 << 20;

/// The most points of a report, by their ids: those that a configuration can have, and those that
/// were gone already.
const MAX_POINTS: usize = 1 << 16;

/// The most frames of a backtrace: four times as many as are written.
const MAX_FRAMES: usize = 256;

/// The most names of functions: the tape has one byte for the number of one.
const MAX_FUNCTIONS: usize = 256;

/// The most globals of a checkpoint: the largest number that the limits of a module allow, and some
/// that are added.
const MAX_GLOBALS: usize = 1 << 15;

/// The most blocks of a memory: as many as the largest report has room for.
const MAX_BLOCKS: usize = file::MAX_REPORT as usize / Picture::BLOCK;

/// What stands in front of a report, as one line of JSON.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Head {
    format: String,
    version: u32,
    /// Version of the program that wrote it.
    pub camshaft: String,
    /// When it was written, by the clock on the wall, in UTC.
    pub written: String,
    /// The plugin's name.
    pub plugin: String,
    /// BLAKE3 of the module.
    pub hash: String,
    /// How it failed.
    pub trap: Trap,
    /// Where, from the innermost call on.
    #[serde(deserialize_with = "brought::list::<MAX_FRAMES, _, _>")]
    pub frames: Vec<Frame>,
    /// Whether its time was over.
    pub is_over: bool,
    /// Polls that returned well.
    pub polls: u64,
    /// CPU time for one poll.
    pub poll_budget: Duration,
    /// Polled in every n-th cycle.
    pub every: u32,
    /// Names of the inputs that it may read; absent means all.
    #[serde(deserialize_with = "brought::optional_list::<MAX_POINTS, _, _>")]
    pub inputs: Option<Vec<String>>,
    /// Names of the outputs that it may write; absent means all.
    #[serde(deserialize_with = "brought::optional_list::<MAX_POINTS, _, _>")]
    pub outputs: Option<Vec<String>>,
    /// What an instance may use.
    pub limits: Limits,
    /// Which compiler made its code.
    pub compiler: Compiler,
    /// Where the module came from.
    pub path: PathBuf,
    /// Names of the functions on the tape, in the order of their numbers.
    #[serde(deserialize_with = "brought::list::<MAX_FUNCTIONS, _, _>")]
    functions: Vec<String>,
    /// All points by id; those that were gone already are `null`.
    #[serde(deserialize_with = "brought::list::<MAX_POINTS, _, _>")]
    points: Vec<Option<PointHead>>,
    /// From where the tape can be played.
    start: StartHead,
    /// The memory after the trap.
    memory: PictureHead,
    /// Bytes of the parts that follow.
    lengths: Lengths,
}

/// A point, as far as it explains bytes.
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

/// From where the tape can be played.
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

/// A memory, whose bytes follow.
#[derive(Debug, Clone, Serialize, Deserialize)]
struct PictureHead {
    bytes: u64,
    /// Numbers of the blocks that are not empty.
    #[serde(deserialize_with = "brought::list::<MAX_BLOCKS, _, _>")]
    blocks: Vec<u32>,
    is_cut: bool,
}

/// Bytes of each part, in the order of the parts.
#[derive(Debug, Clone, Copy, Default, Serialize, Deserialize)]
struct Lengths {
    module: usize,
    tape: usize,
    checkpoint: usize,
    memory: usize,
}

/// A report.
#[derive(Debug, Clone)]
pub struct Report {
    /// What stands in front.
    pub head: Head,
    /// The module, if it was at hand.
    pub module: Option<Vec<u8>>,
    tape: Vec<u8>,
    checkpoint: Vec<u8>,
    memory: Vec<u8>,
}

/// What a report says about a program besides what is left of it.
#[derive(Debug, Clone)]
pub struct About {
    /// The plugin's name.
    pub plugin: String,
    /// The module's identity.
    pub hash: ModuleHash,
    /// Polls that returned well.
    pub polls: u64,
    /// How it took part in the scan.
    pub settings: Settings,
    /// What an instance may use.
    pub limits: Limits,
    /// Which compiler made its code.
    pub compiler: Compiler,
    /// Where the module should be.
    pub path: PathBuf,
}

impl Report {
    /// Of the remains of a program. The module is taken along if these are its bytes.
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

/// The names of granted points, as far as they are still there; `None` for all.
fn granted(grant: &Grant, points: &Points) -> Option<Vec<String>> {
    match grant {
        Grant::All => None,
        Grant::Only(ids) => {
            let names = ids.iter().filter_map(|&id| Some(points.get(id)?.name.clone()));
            Some(names.collect())
        }
    }
}

/// A picture as head and bytes.
fn split(picture: Picture) -> (PictureHead, Vec<u8>) {
    let Picture { memory_bytes, blocks, mut bytes, is_cut } = picture;
    bytes.truncate(blocks.len() * Picture::BLOCK);
    (PictureHead { bytes: memory_bytes, blocks, is_cut }, bytes)
}

/// And back.
fn join(head: &PictureHead, bytes: &[u8]) -> Picture {
    let PictureHead { bytes: memory_bytes, blocks, is_cut } = head.clone();
    Picture { memory_bytes, blocks, bytes: bytes.to_vec(), is_cut }
}

impl PointHead {
    fn of(point: &Point) -> Self {
        let Point { name, direction, kind, byte, bit, scale, offset, .. } = point.clone();
        Self { name, direction, kind, byte, bit, scale, offset }
    }

    /// The point at the start of an image of its own.
    fn alone(&self) -> Point {
        let Self { name, direction, kind, bit, scale, offset, .. } = self.clone();
        Point { bit, scale, offset, ..Point::new(name, direction, kind) }
    }
}
