//! Plugins: from a .wasm file in the watched folder to a program in the scan.
//!
//! This file has the types that the rest of the daemon uses for plugins: identity, limits,
//! settings, refusals and traps. The function [`read_module`] here only reads the bytes of a .wasm
//! file. The folders below check the bytes, compile them and run the code. Each folder may use the
//! folders that are listed before it:
//!
//! - `module` handles modules as bytes and never runs them: it watches the plugin folder, checks
//!   and compiles modules, and stores modules and artifacts (compiled code).
//! - `trace` records the calls between a program and the host, so that a trap can be examined
//!   later.
//! - `instance` makes an instance of an artifact, calls the instance, and stops a call that runs
//!   too long. The program that the scan polls is in `instance/program.rs`.
//! - `shadow` polls a new version of a plugin beside the running version; the outputs of the new
//!   version go to no device. `replay.rs` runs a module again with the recorded calls of a tape.

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

/// The identity of a WebAssembly module: the BLAKE3 hash of the module's bytes. Two .wasm files
/// with equal bytes contain the same module, whatever their names and time stamps are.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct ModuleHash(blake3::Hash);

impl ModuleHash {
    /// Computes the identity of `bytes`.
    pub fn of(bytes: &[u8]) -> Self {
        Self(blake3::hash(bytes))
    }

    /// Reads an identity from its 64 hexadecimal digits; returns `None` for any other text.
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

/// The number that identifies an instance. Each instance that is prepared gets the next number.
/// When a message about an instance reaches the supervisor late, this number shows whether the
/// message is about an old instance or about the instance that replaced it.
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Serialize, Deserialize,
)]
pub struct Generation(pub u64);

/// The wasmer compiler that makes the artifacts (compiled code).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Compiler {
    /// Makes fast code; the default.
    #[default]
    Cranelift,
    /// Compiles several times faster than Cranelift, but the compiled code runs at half the speed.
    Singlepass,
}

/// The limits of a module and of an instance. The limits come from the configuration. A limit that
/// the configuration does not set has the value from [`Limits::default`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Limits {
    /// Largest CPU time of the start section, `_initialize` and `init` together.
    pub init_budget: Duration,
    /// Largest linear memory of one instance, in bytes.
    pub memory_bytes: u64,
    /// Largest number of elements in all tables of one instance together.
    pub table_elements: u32,
    /// Size of the stack on which the code of a module runs, in bytes. The size limits how deep
    /// calls can be nested, because one call takes at least 16 bytes of the stack. A trap costs the
    /// scan about 0.25 us for each call on the stack.
    pub stack_bytes: usize,
    /// Largest size of a .wasm file, in bytes.
    pub module_bytes: u64,
    /// Largest size of the compiled code of all instances together, in bytes.
    pub code_bytes: u64,
    /// Largest number of functions in one module.
    pub functions: u32,
    /// Rate at which one program may log, in log lines per second. After one second without log
    /// lines, the program may log this number of lines in one burst.
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

/// Reads a module from a regular file. If the file is longer than `limits` allow, the function
/// reads one byte more than the limit and stops. The check of the module then finds the module too
/// long and refuses it. Any user may have made the file, so `path` may name a pipe to which no
/// process writes. The function then returns an error and does not wait for a writer.
///
/// # Errors
/// The errors of [`file::open`], and any error while the file is read.
pub fn read_module(path: &Path, limits: &Limits) -> io::Result<Vec<u8>> {
    let mut module = Vec::new();
    file::open(path)?.take(limits.module_bytes.saturating_add(1)).read_to_end(&mut module)?;
    Ok(module)
}

/// The settings of a swap: how a new version takes over from the running version, and how long the
/// new version is tested before and after the swap.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct SwapPolicy {
    /// Largest CPU time of `save` of the old version and `restore` of the new version together.
    pub budget: Duration,
    /// Shortest duration of probation, the time after a swap in which the old version stays ready
    /// to resume.
    pub probation: Duration,
    /// Smallest number of polls without a trap of the new version during probation. The new version
    /// passes its probation when both this number of polls and the time [`SwapPolicy::probation`]
    /// are reached.
    pub polls: u32,
    /// The values that the variables get if the old version has to resume.
    pub rollback_state: RollbackState,
    /// Number of shadow polls before the swap. In a shadow poll, the new version runs beside the
    /// running version, and the outputs of the new version go to no device. With 0, the swap has no
    /// shadow run.
    pub shadow: u32,
    /// Share of the poll budget that the new version may use in the shadow run, for example 0.7. Of
    /// 100 polls, 99 must end within this share.
    pub admit_ratio: f64,
    /// Whether the new version is refused if its outputs in the shadow run differ from the outputs
    /// of the running version.
    pub require_equal: bool,
}

/// The values of the variables after a rollback, in which an old version resumes because the new
/// version failed. The old version's linear memory stays as it was at the swap, because the old
/// version does not run between the swap and the rollback. The old version does not get the state
/// of the failed version, because that state cannot be trusted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum RollbackState {
    /// All variables retain their present values.
    #[default]
    Current,
    /// A variable that existed at the swap, and that the new version has written, gets back the
    /// value that it had at the swap. All other variables retain their present values.
    Snapshot,
}

impl Default for SwapPolicy {
    /// The policy for a scan period of 10 ms. The budget of `save` and `restore` together is half
    /// of the period.
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

/// The settings of one program in the scan. The settings come from the plugin's `[[plugin]]` entry
/// in the configuration. Without an entry, the configuration's defaults for all plugins apply.
#[derive(Debug, Clone, PartialEq)]
pub struct Settings {
    /// Position in the order of polling. Plugins with an entry in the configuration come first, in
    /// the order of their entries.
    pub order: u32,
    /// Number `n`, at least 1: the program is polled in every n-th cycle.
    pub every: u32,
    /// Largest CPU time of one poll.
    pub poll_budget: Duration,
    /// Input points that the program may read.
    pub inputs: Grant,
    /// Output points that the program may write.
    pub outputs: Grant,
    /// Variables that the program may write. Every program may read all variables.
    pub variables: VariableGrant,
    /// Whether the daemon puts the plugin on hold when it finds the plugin, or when a reload sets
    /// this key. A plugin on hold has no program in the scan until an operator or a reload releases
    /// the plugin.
    pub hold: bool,
    /// The settings of a swap from one version of the program to another.
    pub swap: SwapPolicy,
    /// Input points that the program requires. If at least one of them has had bad quality in every
    /// cycle for the time in `requires_timeout`, the program is degraded until none of them has bad
    /// quality. The outputs of a degraded program become safe (`process/overlay.rs`).
    pub requires: Vec<crate::process::image::PointId>,
    /// How long required inputs may have bad quality before the program is degraded.
    pub requires_timeout: Duration,
}

impl Default for Settings {
    /// The settings of a plugin that has no entry in the configuration, for a scan period of 10 ms.
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

/// The refusal of a module: the reason why the daemon does not run the module, and the remedy. The
/// text does not contain the module's name. The caller that logs the refusal adds the name.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Refusal {
    /// What is wrong, for example `imports env.foo (i32) -> ()`.
    pub reason: String,
    /// The remedy: what would be accepted or what the user can do, for example `offered are: ...`.
    pub remedy: String,
    /// Whether the cause is temporary, and not a fault of the module. Examples are a file that
    /// could not be read, a killed compiler process, an expired time limit, and a limit on compiled
    /// code that other plugins have used up. The next attempt with the same module may succeed.
    #[serde(skip)]
    pub is_accidental: bool,
    /// Whether the module's bytes are lost: the bytes are damaged, or no file with these bytes can
    /// be read any more.
    #[serde(skip)]
    pub is_lost: bool,
}

/// Longest reason, in bytes. A longer reason is cut and gets a `…` at its end. The limit exists
/// because a reason may quote a name from the module, and such a name can have 100 000 arbitrary
/// bytes.
const MAX_REASON_BYTES: usize = 512;

impl Refusal {
    /// Makes a refusal with its remedy. The reason may quote bytes of a module, so unprintable
    /// characters in the reason are escaped.
    pub fn new(reason: impl AsRef<str>, remedy: impl Into<String>) -> Self {
        let reason = legible_up_to(MAX_REASON_BYTES, reason.as_ref());
        Self { reason, remedy: remedy.into(), is_accidental: false, is_lost: false }
    }

    /// Marks the cause of this refusal as temporary, and not a fault of the module.
    #[must_use]
    pub fn by_accident(self) -> Self {
        Self { is_accidental: true, ..self }
    }

    /// Marks this refusal as caused by lost bytes of the module. The cause of such a refusal is
    /// also marked as temporary.
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

/// A trap: the failure of a program, with the position in the code where the program failed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Trap {
    /// The kind of failure, for example `unreachable` or `budget of 2.5ms exceeded`.
    pub kind: String,
    /// Name of the function in which the program failed. If the program ended itself, for example
    /// by a panic, this is the function that called the library. If the module has no name for the
    /// function, the field has the name of the function's export. Without an export, the field has
    /// the function's index, for example `#12`. `None` if the position of the failure is unknown.
    pub function: Option<String>,
    /// Byte offset in the module of the instruction that failed in `function`, as `wasm-objdump`
    /// prints offsets. The Singlepass compiler stores no exact offset for some operators. For an
    /// operator without an exact offset, the field has the offset of the function or of an operand.
    pub offset: Option<u32>,
    /// The number of the cycle in which the trap happened. For a trap during the preparation of an
    /// instance, the number comes from the copy of the world that the preparation uses.
    pub cycle: u64,
}

impl Trap {
    /// Returns the text of the trap. If the call used up its budget or overflowed its stack, the
    /// text also names the configuration key of this limit.
    pub fn explained(&self) -> String {
        let key = match &*self.kind {
            kind if kind.starts_with("budget of ") => {
                "poll_budget in the plugin's [[plugin]] entry, or without that key \
                 plugins.poll_budget"
            }
            "stack overflow" => "plugins.stack",
            _ => return self.to_string(),
        };
        format!("{self}; the limit is {key}")
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
