//! A plugin, as people see it: what is wanted of it, its state, its versions and its last swap.
//!
//! This is plain data, by the rules of all views, which stand in `status.rs`. The daemon fills the
//! fields in (`daemon/plugins/view.rs`). What a state means for the program is in `supervisor.rs`.

use serde::{Deserialize, Serialize};

use super::version::ProbationView;
use crate::plugin::Trap;
use crate::scan::stats::Summary;

/// What the operator wants of a plugin.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Want {
    /// The plugin must run.
    Run,
    /// The plugin must not run.
    Hold,
}

/// The state of a plugin.
///
/// ```text
///  new file -> Preparing -> Running <-> Backoff -> Quarantined
///                  |           \___________|___________/
///               Refused                  Held
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum PluginState {
    /// The first instance of the plugin is being compiled or started, and no code of it runs yet.
    Preparing,
    /// The program is polled. A newer file may be in preparation or refused: then
    /// [`PluginView::hash`] and [`PluginView::file_hash`] differ.
    Running,
    /// The program trapped or could not be made by accident, and waits for its next start.
    Backoff,
    /// The program trapped too often. It is not run until its file changes, or until a release.
    Quarantined,
    /// The operator holds the plugin.
    Held,
    /// The file cannot be run, and no older version can run in its place.
    Refused,
}

impl PluginState {
    /// The state as one word, as the JSON has it.
    pub fn name(self) -> &'static str {
        match self {
            Self::Preparing => "preparing",
            Self::Running => "running",
            Self::Backoff => "backoff",
            Self::Quarantined => "quarantined",
            Self::Held => "held",
            Self::Refused => "refused",
        }
    }
}

/// One plugin.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct PluginView {
    /// Name of the plugin: that of its file, without `.wasm`.
    pub name: String,
    /// Name of the file in the folder.
    pub file: String,
    /// What the operator wants.
    pub want: Want,
    /// The state of the plugin.
    pub state: PluginState,
    /// The reason why the file's version does not run, or its last trap; `null` for new bytes.
    pub reason: Option<String>,
    /// Whether the version in the file is in quarantine; another version may run in its place.
    #[serde(default)]
    pub quarantined: bool,
    /// Hash of the version that runs; `null` if none does.
    pub hash: Option<String>,
    /// Hash of the version in the file, as last read; `null` before the first read.
    pub file_hash: Option<String>,
    /// Number of the instance that runs or ran last, over all plugins; 0 before the first.
    pub generation: u64,
    /// Polls of this instance that returned well.
    pub polls: u64,
    /// Whether a required input is bad, so that the outputs of the plugin are safe.
    pub degraded: bool,
    /// Whether the version is on probation: if it traps now, the version before it resumes.
    pub probation: bool,
    /// What is left of the probation; `null` if it is over, or if nothing runs. A first version has
    /// a probation as well, although no version could resume in its place.
    #[serde(default)]
    pub probation_left: Option<ProbationView>,
    /// Traps since the daemon's start, of all instances and versions.
    pub traps: u64,
    /// The cycle in which this instance took its seat; 0 if none did.
    pub since_cycle: u64,
    /// Milliseconds until the next start; only in backoff.
    pub restart_in_ms: Option<u64>,
    /// Size of its linear memory in bytes; 0 if nothing runs.
    pub memory_bytes: u64,
    /// CPU time for one poll, in microseconds.
    pub budget_us: u64,
    /// The program is polled in every n-th cycle.
    pub every: u32,
    /// Duration of its polls.
    pub poll: Summary,
    /// The latest trap of any version.
    pub last_trap: Option<Trap>,
    /// The version that had the latest trap; `null` if none had, or if that is not known.
    #[serde(default)]
    pub trapped_hash: Option<String>,
    /// The times of the latest swap.
    pub last_swap: Option<SwapView>,
    /// Whether the plugin is kept from something because a call is refused. Reads of variables that
    /// do not exist yet are the only refused calls that do not count.
    #[serde(default)]
    pub denied: bool,
    /// The calls that this instance was refused, by kind and name. A kind is left out if such a
    /// call has succeeded since, or would by now. Calls that keep the plugin from nothing come
    /// last. The words say it if a call was refused only before the first poll.
    #[serde(default)]
    pub refused: Vec<RefusedView>,
    /// Number of refused calls whose kinds and names are not listed, because there are too many.
    #[serde(default)]
    pub refused_others: u64,
    /// What is valid in the version that runs (or in the file, if none runs) and probably not
    /// meant: one sentence each, as in `camshaft check`.
    #[serde(default)]
    pub notes: Vec<String>,
    /// The newest crash report of the plugin since the daemon's start.
    #[serde(default)]
    pub report: Option<String>,
    /// Outputs that this version, or the version before it, owned and that the plugin does not
    /// write any more. They have no owner now and are safe.
    #[serde(default)]
    pub lost: Vec<String>,
}

/// Refused calls of one kind, about one name.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RefusedView {
    /// The function that was called first, such as `wasm_point_write_int`.
    pub call: String,
    /// The code that the program gets, 1 to 5.
    pub code: i32,
    /// Name of the point or variable; empty if there is none.
    pub name: String,
    /// What is wrong, in words.
    pub words: String,
    /// Number of such calls.
    pub count: u64,
    /// Cycle of the last such call; 0 before the first poll.
    pub last_cycle: u64,
}

/// The five times of a swap, and the state that it carried over.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct SwapView {
    /// From the change of the file to the moment when its bytes were read, in microseconds.
    pub detect_us: u64,
    /// Time to check and compile the module, or to fetch it from the cache, in microseconds.
    pub compile_us: u64,
    /// Time to make the instance and run its `init`, in microseconds.
    pub prepare_us: u64,
    /// From then to the cycle in which the instance took over, in microseconds.
    pub boundary_us: u64,
    /// Cycles that did not take place because of the swap.
    pub missed_cycles: u64,
    /// Whether the compiled module came from the cache.
    pub cached: bool,
    /// Bytes of the state that the version before handed over; `null` if the new one got none.
    #[serde(default)]
    pub state_bytes: Option<u64>,
    /// Variables that existed before.
    #[serde(default)]
    pub variables_carried: u64,
    /// Variables that the new version's `init` created.
    #[serde(default)]
    pub variables_new: u64,
    /// Variables that its `init` wrote in vain: of another type by now, or without the right.
    #[serde(default)]
    pub variables_dropped: u64,
}
