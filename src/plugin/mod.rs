//! Plugins: from a file in the watched folder to a program in the scan.
//!
//! This file holds what the rest of the daemon must know about plugins: identity, limits, settings,
//! refusals and traps. It loads nothing and runs nothing. The work is done in the folders, of which
//! each may use those listed before it:
//!
//! - `module` handles modules as bytes that it never runs: it watches the folder, and checks,
//!   compiles and keeps modules.
//! - `trace` records what a program got from the host and did, so that a trap can be examined.
//! - `instance` makes an instance of an artifact, calls it, and ends a call that runs too long. The
//!   program in the scan is `instance/program.rs`.
//! - `shadow` lets a new version poll beside the running one without effect, and `replay.rs` runs a
//!   module on a tape.

pub mod instance;
pub mod module;
pub mod replay;
pub mod shadow;
pub mod trace;

use std::fmt;
use std::io::{self, Read};
use std::path::Path;
use std::time::Duration;

use serde::{Deserialize, Serialize, Serializer};

use crate::file;
use crate::process::grant::{Grant, VariableGrant};
use crate::text::legible_up_to;

/// The identity of a module: the BLAKE3 hash of its bytes. This hash decides what runs, never a
/// time stamp.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct ModuleHash(blake3::Hash);

impl ModuleHash {
    /// The identity of `bytes`.
    pub fn of(bytes: &[u8]) -> Self {
        Self(blake3::hash(bytes))
    }

    /// The identity that these 64 hexadecimal digits stand for; `None` for any other text.
    pub fn from_hex(digits: &str) -> Option<Self> {
        blake3::Hash::from_hex(digits).ok().map(Self)
    }
}

impl fmt::Display for ModuleHash {
    /// Writes the first 16 hexadecimal digits, or all 64 with `{:#}`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let hex = self.0.to_hex();
        f.write_str(if f.alternate() { &hex } else { &hex[..16] })
    }
}

impl Serialize for ModuleHash {
    /// Writes all 64 hexadecimal digits.
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(&format_args!("{self:#}"))
    }
}

/// The number of an instance. Each instance that is prepared gets the next number. So the
/// supervisor cannot take a late fact about an old instance for a fact about its successor.
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Serialize, Deserialize,
)]
pub struct Generation(pub u64);

/// The compiler that makes the artifacts.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Compiler {
    /// Makes fast code; the default.
    #[default]
    Cranelift,
    /// Compiles several times faster, but its code runs at half the speed.
    Singlepass,
}

/// The limits of a module and of an instance. The limits are part of the configuration; the
/// defaults are those of the contract.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Limits {
    /// CPU time for the start section, `_initialize` and `init` together.
    pub init_budget: Duration,
    /// Largest linear memory of one instance, in bytes.
    pub memory_bytes: u64,
    /// Most elements in all tables of one instance together.
    pub table_elements: u32,
    /// Size of the guest's stack, in bytes. The size limits how deep calls go, because one call
    /// takes at least 16 bytes of the stack. A trap costs the scan about 0.25 us for each call on
    /// the stack.
    pub stack_bytes: usize,
    /// Largest size of the file, in bytes.
    pub module_bytes: u64,
    /// Most compiled code of all instances together, in bytes.
    pub code_bytes: u64,
    /// Most functions in one module.
    pub functions: u32,
    /// Log lines per second and program; also the size of a burst.
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

/// Reads a module from a regular file. If the file is longer than `limits` allow, only one byte
/// more than allowed is read, and the check of the module then refuses it. The file may belong to
/// any user, so it may be a pipe without a writer. The call does not wait for such a pipe.
///
/// # Errors
/// Those of [`file::open`], and an error of reading.
pub fn read_module(path: &Path, limits: &Limits) -> io::Result<Vec<u8>> {
    let mut module = Vec::new();
    file::open(path)?.take(limits.module_bytes.saturating_add(1)).read_to_end(&mut module)?;
    Ok(module)
}

/// How a new version takes over from a running one, and how long it is on trial before and after.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct SwapPolicy {
    /// CPU time for `save` of the old version and `restore` of the new one, together.
    pub budget: Duration,
    /// The least time for which the old version stays ready to resume.
    pub probation: Duration,
    /// The least number of polls of the new version during which the old version stays ready to
    /// resume. Probation ends when both this number and [`SwapPolicy::probation`] are reached.
    pub polls: u32,
    /// The variables that the old version finds when it has to resume.
    pub rollback_state: RollbackState,
    /// The number of shadow polls before the swap: the new version polls beside the running one
    /// without effect. 0 means that there is no shadow run.
    pub shadow: u32,
    /// The part of the poll budget, as a ratio, that the new version may use in the shadow run: 99
    /// of 100 polls must end within it.
    pub admit_ratio: f64,
    /// Whether the outputs of the new version in the shadow run must equal those of the running
    /// one.
    pub require_equal: bool,
}

/// The variables that an old version finds when it resumes because the new version failed. The old
/// version's own memory is always as it was at the swap, because nothing has changed it since. The
/// old version gets no state of the failed version, because that state cannot be trusted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum RollbackState {
    /// The variables as they are now.
    #[default]
    Current,
    /// The variables that the new version has written are as they were at the swap; the others are
    /// as they are now.
    Snapshot,
}

impl Default for SwapPolicy {
    /// The policy for a period of 10 ms: half of the period is for the hand-over.
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
    /// Position in the order of polling. Plugins with an entry in the configuration come first, in
    /// the order of their entries.
    pub order: u32,
    /// The program is polled in every n-th cycle; at least 1.
    pub every: u32,
    /// CPU time for one poll.
    pub poll_budget: Duration,
    /// Inputs that the program may read.
    pub inputs: Grant,
    /// Outputs that the program may write.
    pub outputs: Grant,
    /// Variables that the program may write. It may read all variables.
    pub variables: VariableGrant,
    /// Whether the program is held from the start, until an operator releases it.
    pub hold: bool,
    /// How the versions of the program take over from each other.
    pub swap: SwapPolicy,
    /// Inputs without which the program cannot do its work. While one of these inputs is bad, the
    /// program's outputs are safe.
    pub requires: Vec<crate::process::image::PointId>,
    /// The time for which a required input may be bad before the outputs become safe.
    pub requires_timeout: Duration,
}

impl Default for Settings {
    /// The settings of a plugin without an entry, at a period of 10 ms.
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

/// Why a module is not run: the reason and the remedy. The text does not name the module; the
/// caller that logs it adds the name.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Refusal {
    /// What is wrong, for example `imports env.foo (i32) -> ()`.
    pub reason: String,
    /// What would be right, for example `offered are: ...`.
    pub remedy: String,
    /// Whether the reason is a passing trouble of the machine, and not the module. Examples are a
    /// file that could not be read, a killed worker, an expired time limit, and memory that other
    /// programs take. The same module may be run at the next attempt.
    #[serde(skip)]
    pub is_accidental: bool,
    /// Whether the module's bytes are lost: they are damaged, or can no longer be read from any
    /// place.
    #[serde(skip)]
    pub is_lost: bool,
}

/// Longest reason, in bytes. A reason may quote the module, whose names can be 100 000 arbitrary
/// bytes long.
const MAX_REASON_BYTES: usize = 512;

impl Refusal {
    /// A refusal with its remedy. Quoted bytes in the reason are made legible.
    pub fn new(reason: impl AsRef<str>, remedy: impl Into<String>) -> Self {
        let reason = legible_up_to(MAX_REASON_BYTES, reason.as_ref());
        Self { reason, remedy: remedy.into(), is_accidental: false, is_lost: false }
    }

    /// This refusal, marked as passing trouble and not as a fault of the module.
    #[must_use]
    pub fn by_accident(self) -> Self {
        Self { is_accidental: true, ..self }
    }

    /// This refusal, marked as passing trouble: the bytes of the module are lost.
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
    /// The kind of failure, for example `unreachable` or `budget of 2.5ms exceeded`.
    pub kind: String,
    /// The innermost function by its name, if the module has a name section; otherwise its index,
    /// as `#12`.
    pub function: Option<String>,
    /// Byte offset in the module, as `wasm-objdump` prints it. The Singlepass compiler keeps no
    /// exact offset for some operators; then this is the offset of the function or of an operand.
    pub offset: Option<u32>,
    /// The cycle in which the trap happened; 0 before the first poll.
    pub cycle: u64,
}

impl Trap {
    /// The text of the trap. If a limit of the configuration ended the call, the text names its
    /// key.
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
