//! The view of a plugin: whether it must run, its state, its versions and its last swap.
//!
//! This file has only data types. The rules for all views are in `status.rs`. The daemon fills in
//! the fields in `daemon/plugins/view.rs`. The rules that lead from one state to another are in
//! `supervisor.rs`.

use serde::{Deserialize, Serialize};

use super::version::ProbationView;
use crate::plugin::Trap;
use crate::scan::stats::Summary;

/// Whether a plugin must run, as the operator or the configuration has decided last.
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
    /// The first instance of the plugin is being compiled or started. No code of the plugin runs
    /// yet.
    Preparing,
    /// The program is polled. A newer file may be in preparation, or may be refused. In both cases
    /// [`PluginView::hash`] and [`PluginView::file_hash`] differ.
    Running,
    /// The program waits for its next start. Either the program trapped, or the daemon could not
    /// make its instance, for example because the file could not be read.
    Backoff,
    /// The version in the file is in quarantine, for example because it trapped too often, and no
    /// other version runs. The daemon does not run the plugin until its file has new content, or
    /// until an operator releases the plugin.
    Quarantined,
    /// The plugin is held: by the operator, or by the configuration.
    Held,
    /// The daemon cannot run the file, and no older version can run in its place.
    Refused,
}

impl PluginState {
    /// Returns the state as one word, the same word as in the JSON.
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

/// The view of one plugin.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct PluginView {
    /// The name of the plugin: the name of its file without `.wasm`.
    pub name: String,
    /// The name of the file in the plugin folder.
    pub file: String,
    /// Whether this plugin must run, as the operator or the configuration has decided last.
    pub want: Want,
    /// The state of the plugin.
    pub state: PluginState,
    /// The reason why the version in the file does not run, or the last trap of this version. The
    /// reason is `null` for a file with new content.
    pub reason: Option<String>,
    /// Whether the version in the file is in quarantine. Another version of the plugin may run in
    /// its place.
    #[serde(default)]
    pub quarantined: bool,
    /// The hash of the version that runs; `null` if no version runs.
    pub hash: Option<String>,
    /// The hash of the version in the file when the file was last read; `null` before the first
    /// read.
    pub file_hash: Option<String>,
    /// The number of the instance that runs or ran last. The daemon counts the instances of all
    /// plugins with one counter. The number 0 means that the plugin had no instance yet.
    pub generation: u64,
    /// The number of polls of this instance that returned without a trap.
    pub polls: u64,
    /// Whether a required input is bad for longer than `requires_timeout`. If so, the outputs of
    /// the plugin are safe.
    pub degraded: bool,
    /// Whether the running version is on probation. If the running version traps during its
    /// probation, the previous version runs again, if there is one.
    pub probation: bool,
    /// The remaining probation; `null` if the probation is over, or if the plugin does not run. A
    /// first version is on probation too, although there is no older version for a rollback.
    #[serde(default)]
    pub probation_left: Option<ProbationView>,
    /// The number of traps since the daemon's start, of all instances and versions of this plugin.
    pub traps: u64,
    /// The cycle in which this instance entered the scan; 0 if it has not entered the scan.
    pub since_cycle: u64,
    /// Milliseconds until the next start. The value is present only in the state `backoff`.
    pub restart_in_ms: Option<u64>,
    /// The size of the instance's linear memory in bytes; 0 if the plugin does not run.
    pub memory_bytes: u64,
    /// The CPU time that one poll may use, in microseconds.
    pub budget_us: u64,
    /// The number n if the scan polls the program in every n-th cycle; 1 means every cycle.
    pub every: u32,
    /// The statistics of the duration of the polls.
    pub poll: Summary,
    /// The latest trap of any version of this plugin.
    pub last_trap: Option<Trap>,
    /// The hash of the version that had the latest trap. `null` if no version has trapped, or if
    /// the version is not known.
    #[serde(default)]
    pub trapped_hash: Option<String>,
    /// The durations of the steps of the latest swap, and the state that it carried over.
    pub last_swap: Option<SwapView>,
    /// Whether a refused call prevents the plugin from doing its work. A refused call is a call of
    /// a host function that returned an error code. Every refused call prevents the work, except a
    /// read of a variable that does not exist yet.
    #[serde(default)]
    pub denied: bool,
    /// The refused calls of this instance, grouped by kind and name. The daemon removes a group
    /// when a call of the same kind and name has succeeded, or would succeed now. Calls whose
    /// refusal does not affect the plugin are last in the list. If the calls of a group were
    /// refused only before the first poll, the field `words` of the group reports this fact.
    #[serde(default)]
    pub refused: Vec<RefusedView>,
    /// The number of refused calls in groups that are not in the list, because the list is full.
    #[serde(default)]
    pub refused_others: u64,
    /// Warnings about the version that runs, or about the file if no version runs. Each warning is
    /// one sentence about something that is valid but probably a mistake, as in `camshaft check`.
    #[serde(default)]
    pub notes: Vec<String>,
    /// Path of the plugin's newest crash report since the daemon's start; `null` if there is none.
    #[serde(default)]
    pub report: Option<String>,
    /// The outputs that the plugin has owned, in its present version or in the previous version,
    /// and does not write any more. These outputs have no owner now and are safe.
    #[serde(default)]
    pub lost: Vec<String>,
}

/// A group of refused calls of one kind about one name.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RefusedView {
    /// The name of the function in the first call of the group, such as `wasm_point_write_int`.
    pub call: String,
    /// The error code that the function returned to the program, from 1 to 5.
    pub code: i32,
    /// The name of the point or variable; empty if the call has no name.
    pub name: String,
    /// The reason for the refusal, as text.
    pub words: String,
    /// The number of calls in the group.
    pub count: u64,
    /// The cycle of the last call of the group; 0 before the first poll.
    pub last_cycle: u64,
}

/// The durations of the steps of a swap, and the state that the swap carried over from the old
/// version.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct SwapView {
    /// The time from the change of the file to the end of reading it, in microseconds.
    pub detect_us: u64,
    /// The time to check and compile the module, or to read it from the cache, in microseconds.
    pub compile_us: u64,
    /// The time to make the instance and to run its `init`, in microseconds.
    pub prepare_us: u64,
    /// The time from the moment when the daemon passed the instance to the scan until the cycle in
    /// which the instance took over, in microseconds.
    pub boundary_us: u64,
    /// The number of cycles that the scan skipped because of the swap.
    pub missed_cycles: u64,
    /// Whether the compiled module came from the cache. If not, it was compiled for this swap.
    pub cached: bool,
    /// The size of the state that the old version saved for the new version, in bytes; `null` if
    /// the new version got no state.
    #[serde(default)]
    pub state_bytes: Option<u64>,
    /// The number of variables that existed before the swap.
    #[serde(default)]
    pub variables_carried: u64,
    /// The number of variables that the new version's `init` created.
    #[serde(default)]
    pub variables_new: u64,
    /// The number of variables that the new version's `init` wrote without effect. Either the
    /// variable has got another type in the meantime, or the plugin has no right to write the
    /// variable.
    #[serde(default)]
    pub variables_dropped: u64,
}
