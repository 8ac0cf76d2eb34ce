//! Plugins: from a file in the watched folder to a program in the scan.
//!
//! This file holds what the rest of the house must know: identity, limits, refusals, traps. The
//! machinery lies beside it: `folder.rs` watches the folder, `compile.rs` makes artifacts in a
//! child process with the looks and routines of `flag.rs`, `wasm.rs` runs them, `stop.rs` ends what
//! runs too long. The contract with a guest is listed in `offer.rs` and carried out in `abi.rs`.

mod abi;
mod bind;
pub mod cache;
pub mod check;
pub mod checkpoint;
mod code;
pub mod compile;
mod culprit;
mod flag;
pub mod folder;
mod frame;
mod guest;
mod hidden;
pub mod note;
pub mod offer;
pub mod overlay;
mod pace;
pub mod program;
pub mod record;
pub mod refused;
pub mod replay;
mod rights;
mod routine;
mod scratch;
pub mod shadow;
mod size;
mod state;
pub mod stop;
mod stretch;
mod tables;
pub mod tape;
mod trap;
pub mod versions;
mod wasi;
mod wasm;
pub mod world;

use std::fmt;
use std::io::{self, Read};
use std::path::Path;
use std::time::Duration;

use serde::{Deserialize, Serialize, Serializer};

use crate::file;
use crate::text::legible_up_to;

pub use rights::{VariableGrant, VariableNames};

/// The identity of a module: BLAKE3 of its bytes. What runs is decided by this, never by a time
/// stamp.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct ModuleHash(blake3::Hash);

impl ModuleHash {
    /// The identity of `bytes`.
    pub fn of(bytes: &[u8]) -> Self {
        Self(blake3::hash(bytes))
    }

    /// The identity that these 64 hexadecimal digits mean.
    pub fn from_hex(digits: &str) -> Option<Self> {
        blake3::Hash::from_hex(digits).ok().map(Self)
    }
}

impl fmt::Display for ModuleHash {
    /// The first 16 hexadecimal digits, or all 64 with `{:#}`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let hex = self.0.to_hex();
        f.write_str(if f.alternate() { &hex } else { &hex[..16] })
    }
}

impl Serialize for ModuleHash {
    /// All 64 hexadecimal digits.
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(&format_args!("{self:#}"))
    }
}

/// Counts instances: every one that is prepared gets the next number, so a late fact about an old
/// instance cannot be taken for one about its successor.
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Serialize, Deserialize,
)]
pub struct Generation(pub u64);

/// Which compiler makes the artifacts.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Compiler {
    /// Fast code; the default.
    #[default]
    Cranelift,
    /// Compiles several times faster, the code runs at half the speed.
    Singlepass,
}

/// What a module may be and an instance may use. Part of the configuration; the defaults are those
/// of the contract.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Limits {
    /// CPU time for start section, `_initialize` and `init` together.
    pub init_budget: Duration,
    /// Linear memory of one instance, in bytes.
    pub memory_bytes: u64,
    /// Elements in all tables of one instance together.
    pub table_elements: u32,
    /// Guest stack in bytes. It bounds how deep calls go, and so what a trap costs the scan: some
    /// 0.25 us for each call, and a call takes 16 bytes at the least.
    pub stack_bytes: usize,
    /// Size of the file in bytes.
    pub module_bytes: u64,
    /// Compiled code of all instances together, in bytes.
    pub code_bytes: u64,
    /// Functions in one module.
    pub functions: u32,
    /// Log lines per second and program; also the burst.
    pub log_lines_per_s: u32,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            init_budget: Duration::from_millis(500),
            memory_bytes: 16 << 20,
            table_elements: 10_000,
            stack_bytes: 64 << 10,
            module_bytes: 16 << 20,
            code_bytes: 256 << 20,
            functions: 20_000,
            log_lines_per_s: 100,
        }
    }
}

/// Reads a module from a regular file, and of a longer one one byte more than `limits` allow, which
/// whoever checks it then refuses. The file may be anybody's: a pipe may have no writer.
///
/// # Errors
/// As [`file::open`].
pub fn read_module(path: &Path, limits: &Limits) -> io::Result<Vec<u8>> {
    let mut module = Vec::new();
    file::open(path)?.take(limits.module_bytes.saturating_add(1)).read_to_end(&mut module)?;
    Ok(module)
}

/// Which points a program may touch.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub enum Grant {
    /// Every point of that direction that is not granted to somebody by name.
    #[default]
    All,
    /// These points and no others; the list may be empty.
    Only(Vec<crate::image::PointId>),
}

impl Grant {
    /// Whether this point of that direction may be used.
    pub fn allows(&self, id: crate::image::PointId) -> bool {
        match self {
            Self::All => true,
            Self::Only(ids) => ids.contains(&id),
        }
    }
}

/// How a new version takes over from one that runs, and how long it is on trial before and after.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct SwapPolicy {
    /// CPU time for `save` of the old and `restore` of the new version, both together.
    pub budget: Duration,
    /// The old version stays ready at least so long.
    pub probation: Duration,
    /// And until the new one has been polled so often.
    pub polls: u32,
    /// What the old version finds when it has to resume.
    pub rollback_state: RollbackState,
    /// Before the swap it polls in the shadow of the running one so often; 0 for not at all.
    pub shadow: u32,
    /// The part of its poll budget that its p99 in the shadow run must not exceed.
    pub admit_ratio: f64,
    /// Whether its outputs must be the same as those of the running one.
    pub require_equal: bool,
}

/// What an old version finds when it resumes because the new one failed. Its own memory is always
/// as it was at the swap: nobody has touched it, and what a failed version would save is not to be
/// trusted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum RollbackState {
    /// The variables as they are now.
    #[default]
    Current,
    /// The variables that the new version has written, as they were at the swap.
    Snapshot,
}

impl Default for SwapPolicy {
    /// For a period of 10 ms: half of it for the hand-over.
    fn default() -> Self {
        Self {
            budget: Duration::from_millis(5),
            probation: Duration::from_secs(5),
            polls: 100,
            rollback_state: RollbackState::Current,
            shadow: 0,
            admit_ratio: 0.7,
            require_equal: false,
        }
    }
}

/// How one program takes part in the scan: its entry in the configuration, or the defaults.
#[derive(Debug, Clone, PartialEq)]
pub struct Settings {
    /// Position in the order of polling: entries of the configuration come first, in their order.
    pub order: u32,
    /// Polled in every n-th cycle; at least 1.
    pub every: u32,
    /// CPU time for one poll.
    pub poll_budget: Duration,
    /// Inputs that it may read.
    pub inputs: Grant,
    /// Outputs that it may write.
    pub outputs: Grant,
    /// Variables that it may write; it may read all of them.
    pub variables: VariableGrant,
    /// Held from the start, until an operator releases it.
    pub hold: bool,
    /// How its versions take over from each other.
    pub swap: SwapPolicy,
    /// Inputs without which it cannot do its work: while one of them is bad, its outputs are safe.
    pub requires: Vec<crate::image::PointId>,
    /// For how long one of them may be bad before that.
    pub requires_timeout: Duration,
}

impl Default for Settings {
    /// For a plugin without an entry, at a period of 10 ms.
    fn default() -> Self {
        Self {
            order: u32::MAX,
            every: 1,
            poll_budget: Duration::from_micros(2500),
            inputs: Grant::All,
            outputs: Grant::All,
            variables: VariableGrant::default(),
            hold: false,
            swap: SwapPolicy::default(),
            requires: Vec::new(),
            requires_timeout: Duration::ZERO,
        }
    }
}

/// Why a module is not run: names the reason and the remedy. The module's name is added by whoever
/// logs it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Refusal {
    /// What is wrong, for example `imports env.foo (i32) -> ()`.
    pub reason: String,
    /// What would be right, for example `offered are: ...`.
    pub remedy: String,
    /// Whether it is no verdict about the module but a passing trouble of the machine: a file that
    /// could not be read, a worker that was killed, a time that was over, room that others take.
    /// The same module may be run at the next attempt.
    #[serde(skip)]
    pub is_accidental: bool,
    /// Whether that trouble is that its bytes are nowhere to be had any more, or damaged.
    #[serde(skip)]
    pub is_lost: bool,
}

/// Longest reason. It may quote a module, whose names are up to 100 000 bytes of anything.
const MAX_REASON_BYTES: usize = 512;

impl Refusal {
    /// A refusal with its remedy. What the reason quotes is made legible.
    pub fn new(reason: impl AsRef<str>, remedy: impl Into<String>) -> Self {
        let reason = legible_up_to(MAX_REASON_BYTES, reason.as_ref());
        Self { reason, remedy: remedy.into(), is_accidental: false, is_lost: false }
    }

    /// The same as no verdict about the module.
    #[must_use]
    pub fn by_accident(self) -> Self {
        Self { is_accidental: true, ..self }
    }

    /// The same as no verdict about the module, whose bytes are lost.
    #[must_use]
    pub fn of_lost_bytes(self) -> Self {
        Self { is_lost: true, ..self.by_accident() }
    }
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}; {}", self.reason, self.remedy)
    }
}

impl std::error::Error for Refusal {}

/// How a program failed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Trap {
    /// What happened, for example `unreachable` or `budget of 2.5ms exceeded`.
    pub kind: String,
    /// The innermost function, if the module has a name section; otherwise its index as `#12`.
    pub function: Option<String>,
    /// Byte offset in the module, as `wasm-objdump` prints it. With Singlepass it is that of the
    /// function, or of an operand, where the compiler keeps no better one.
    pub offset: Option<u32>,
    /// The cycle in which it happened; 0 before the first poll.
    pub cycle: u64,
}

impl Trap {
    /// The same with what would help, where a limit of the configuration has ended it.
    pub fn explained(&self) -> String {
        let key = match &*self.kind {
            kind if kind.starts_with("budget of ") => {
                "plugins.poll_budget, or that of its [[plugin]],"
            }
            "stack overflow" => "plugins.stack",
            _ => return self.to_string(),
        };
        format!("{self}; {key} is the limit")
    }
}

impl fmt::Display for Trap {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.kind)?;
        if let Some(function) = &self.function {
            write!(f, " in {function}")?;
        }
        if let Some(offset) = self.offset {
            write!(f, " at offset {offset:#x}")?;
        }
        write!(f, ", cycle {}", self.cycle)
    }
}

impl std::error::Error for Trap {}
