//! What answers look like: plain data, the same for the JSON and for the command line.
//!
//! A field is never renamed or given another meaning under `/v1`; new ones may come. Durations are
//! whole numbers with their unit at the end of the name, hashes are 64 hexadecimal digits. Nothing
//! here is computed: the daemon fills it in.

use serde::{Deserialize, Serialize};

use super::ProbationView;
use crate::driver::{Delivery, Part};
use crate::image::{Class, Direction, Kind, Quality, Safe, Value};
use crate::plugin::Trap;
use crate::scan::stats::Summary;
use crate::variable::VariableKind;

/// Everything about the daemon.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct StatusView {
    /// Of the daemon, such as `0.1.0`.
    pub version: String,
    /// Its process.
    pub pid: u32,
    /// Seconds since its start.
    pub uptime_s: u64,
    /// Path of the configuration.
    pub config: String,
    /// What is wrong with that file since it was changed, so that the last good configuration
    /// stays in force; `null` when nothing is.
    pub config_refused: Option<String>,
    /// What that file says that counts after a restart only, such as `control.mode changed`.
    pub config_waiting: Vec<String>,
    /// Path of the control socket.
    pub socket: String,
    /// Path of the watched folder.
    pub folder: String,
    /// Whether it is known what the folder holds at present.
    pub folder_ok: bool,
    /// Why it is not: the folder cannot be read, does not answer, is another and an empty one, or
    /// may not be mounted yet; `null` when it is. What runs goes on meanwhile.
    #[serde(default)]
    pub folder_trouble: Option<String>,
    /// How many files of the folder are not looked at because there are too many; `null` when all
    /// are.
    #[serde(default)]
    pub folder_overlooked: Option<String>,
    /// Files that are ignored for their names, such as `X.WASM`: each with the reason.
    #[serde(default)]
    pub folder_ignored: Vec<String>,
    /// Plugins that have an entry `[[plugin]]` in the configuration and no file in the folder, by
    /// name; empty also while it is not known what the folder holds.
    #[serde(default)]
    pub plugins_missing: Vec<String>,
    /// Folder of compiled modules; `null` when none is kept, or it gives no answer.
    pub cache: Option<String>,
    /// Why the history would be lost with the daemon: what is wrong with its folder or disk; `null`
    /// when it is written.
    pub history_trouble: Option<String>,
    /// Path of the state directory; `null` when it cannot be used.
    pub state: Option<String>,
    /// The scan period, in microseconds.
    pub period_us: u64,
    /// Number of the latest cycle; 0 before the first.
    pub cycle: u64,
    /// How the scan stands, if it does: then points and programs are as they were in that cycle,
    /// and devices have made their outputs safe.
    #[serde(default)]
    pub stalled: Option<StallView>,
    /// Cycles that ended after their deadline.
    pub overruns: u64,
    /// Cycles that did not take place because of overruns.
    pub missed: u64,
    /// From the deadline of a cycle to its beginning.
    pub lateness: Summary,
    /// From the beginning of a cycle to its end.
    pub work: Summary,
    /// Measured times that were dropped because the queue was full.
    pub samples_lost: u64,
    /// Log lines that were lost: of programs because there were too many at once, of the daemon
    /// because nobody read those before or they could not be written.
    pub log_lines_lost: u64,
    /// Points that are forced.
    pub forces: u64,
    /// Why no plugin is run until somebody says `camshaft recover`; `null` when they may run.
    pub recovery: Option<String>,
    /// The retained variables; `null` when none is marked so.
    pub retain: Option<RetainView>,
    /// In the order of the configuration.
    pub devices: Vec<DeviceView>,
    /// In the order of polling.
    pub plugins: Vec<PluginView>,
}

/// A scan that has not moved for `scan.stall`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct StallView {
    /// Since when, in milliseconds.
    pub since_ms: u64,
    /// When the process ends if the scan does not move until then, in milliseconds from now.
    pub exit_in_ms: u64,
    /// What the scan was doing, such as `polling tank`.
    pub doing: String,
    /// Whether devices have confirmed their safe outputs, in words.
    #[serde(default)]
    pub safety: String,
}

/// One difference between the configuration file and what is in force.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ChangeView {
    /// A key such as `scan.period`, or an entry such as `device[plant]`.
    pub key: String,
    /// `added`, `removed` or `changed`.
    pub how: String,
    /// `live`: it counts from the next cycle on; `device`: this device alone begins, begins anew or
    /// ends; `restart`: it counts after a restart of the daemon.
    pub effect: String,
}

/// Values that outlive the daemon.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RetainView {
    /// How many variables are marked.
    pub variables: u64,
    /// Writes to the disk, since the first file was made.
    pub writes: u64,
    /// Bytes of these writes.
    pub bytes: u64,
    /// Whole seconds for which nothing could be written; `null` when it can.
    pub failing_s: Option<u64>,
    /// Why nothing can be written.
    pub reason: Option<String>,
    /// What was wrong with the files at the start, and what was done; `null` when nothing was.
    pub alarm: Option<String>,
}

/// One device.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct DeviceView {
    /// Its name.
    pub name: String,
    /// Which driver it has, such as `sim`.
    pub driver: String,
    /// How it fails at present, such as `disconnected`; `null` when it does not.
    pub fault: Option<String>,
    /// Whether it is known to have the outputs of the latest cycle.
    pub confirmed: bool,
    /// The outputs of which it has acknowledged no value for a second.
    pub unconfirmed: Vec<String>,
    /// Its parts, such as the units on a bus; empty if it has none that are worth telling of.
    pub parts: Vec<Part>,
}

/// What the operator wants of a plugin.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Want {
    /// It shall run.
    Run,
    /// It shall not.
    Hold,
}

/// What is so.
///
/// ```text
///  new file -> Preparing -> Running <-> Backoff -> Quarantined
///                  |           \___________|___________/
///               Refused                  Held
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum PluginState {
    /// Its first instance is being compiled or started; nothing of it runs yet.
    Preparing,
    /// It is polled. A newer file may be in preparation or may have been refused meanwhile: compare
    /// [`PluginView::hash`] with [`PluginView::file_hash`].
    Running,
    /// It trapped, or could not be made by accident; see [`PluginView::restart_in_ms`].
    Backoff,
    /// It trapped too often, and is not run until its file changes or it is released.
    Quarantined,
    /// The operator holds it.
    Held,
    /// The file cannot be run, and there is no older version that could.
    Refused,
}

/// One plugin.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct PluginView {
    /// Its name: the file's, without `.wasm`.
    pub name: String,
    /// The file's name within the folder.
    pub file: String,
    /// What the operator wants.
    pub want: Want,
    /// What is so.
    pub state: PluginState,
    /// Why the bytes in the file do not run, or how they last trapped; `null` for new bytes.
    pub reason: Option<String>,
    /// Whether the bytes in the file are in quarantine; others may run in their place.
    #[serde(default)]
    pub quarantined: bool,
    /// What runs; `null` when nothing does.
    pub hash: Option<String>,
    /// What is in the file, as last read; `null` before it was.
    pub file_hash: Option<String>,
    /// Number of the instance that runs or ran last; counts up over all plugins, 0 before the
    /// first.
    pub generation: u64,
    /// Polls of this instance that returned well.
    pub polls: u64,
    /// Whether an input is bad that it requires, so that its outputs are safe.
    pub degraded: bool,
    /// Whether it is on probation: the version before resumes if it traps now.
    pub probation: bool,
    /// What is left until it has proved itself; `null` when it has, or when nothing runs. A first
    /// version must do so as well, though nothing could resume in its place.
    #[serde(default)]
    pub probation_left: Option<ProbationView>,
    /// Traps since the daemon's start, of all instances and versions.
    pub traps: u64,
    /// The cycle in which this instance took its seat; 0 when none has.
    pub since_cycle: u64,
    /// Milliseconds until the next start; only in backoff.
    pub restart_in_ms: Option<u64>,
    /// Its linear memory in bytes; 0 when nothing runs.
    pub memory_bytes: u64,
    /// CPU time for one poll, in microseconds.
    pub budget_us: u64,
    /// Polled in every n-th cycle.
    pub every: u32,
    /// How long its polls took.
    pub poll: Summary,
    /// The latest trap of any version.
    pub last_trap: Option<Trap>,
    /// The version that trapped then; `null` when none has, or when that is not known.
    #[serde(default)]
    pub trapped_hash: Option<String>,
    /// The latest swap.
    pub last_swap: Option<SwapView>,
    /// Whether a call is refused that keeps it from something: all but reads of variables that are
    /// not there yet.
    #[serde(default)]
    pub denied: bool,
    /// The calls that this instance is refused, by kind and name, without those whose like has gone
    /// well since or would by now; what denies it nothing comes last. Of what it was refused before
    /// its first poll and has not asked for since, the words say that it is over.
    #[serde(default)]
    pub refused: Vec<RefusedView>,
    /// Refused calls of more kinds and names than are told apart.
    #[serde(default)]
    pub refused_others: u64,
    /// What is lawful in the version that runs, or in the file while none does, and nearly surely
    /// not meant: a sentence each, the same as those of `camshaft check`.
    #[serde(default)]
    pub notes: Vec<String>,
    /// The newest crash report of it since the daemon's start.
    #[serde(default)]
    pub report: Option<String>,
    /// Outputs that it, or the version before, owned and that it does not write any more: they are
    /// nobody's now, and safe.
    #[serde(default)]
    pub lost: Vec<String>,
}

/// Calls of one kind, about one name, that a program was refused.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RefusedView {
    /// The function that was called first, such as `wasm_point_write_int`.
    pub call: String,
    /// The code that it gets, 1 to 5.
    pub code: i32,
    /// The point or variable; empty if there is none.
    pub name: String,
    /// What is wrong, in words.
    pub words: String,
    /// How often.
    pub count: u64,
    /// The cycle of the last; 0 before the first poll.
    pub last_cycle: u64,
}

/// The five times of a swap.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct SwapView {
    /// From the file's change to the moment its bytes were read, in microseconds.
    pub detect_us: u64,
    /// Checking and compiling, or fetching from the cache, in microseconds.
    pub compile_us: u64,
    /// Making the instance and running its `init`, in microseconds.
    pub prepare_us: u64,
    /// From there to the cycle in which it took over, in microseconds.
    pub boundary_us: u64,
    /// Cycles that did not take place because of the swap.
    pub missed_cycles: u64,
    /// Whether the compiled module came from the cache.
    pub cached: bool,
    /// Size of the state that the version before handed over; `null` if the new one began without.
    #[serde(default)]
    pub state_bytes: Option<u64>,
    /// Variables that were there before.
    #[serde(default)]
    pub variables_carried: u64,
    /// Variables that its `init` has made.
    #[serde(default)]
    pub variables_new: u64,
    /// Variables that its `init` wrote in vain, because they have another type.
    #[serde(default)]
    pub variables_dropped: u64,
}

/// One point.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct PointView {
    /// Its name.
    pub name: String,
    /// `in` or `out`.
    pub direction: Direction,
    /// Its type in the image.
    #[serde(rename = "type")]
    pub kind: Kind,
    /// Byte in the image of that direction; with `.bit` for a bool, such as `8.1`.
    pub address: String,
    /// In its unit; one of the texts `nan`, `inf` and `-inf` when it is no finite number.
    pub value: Value,
    /// Unit for people; may be empty.
    pub unit: String,
    /// How far the value can be believed.
    pub quality: Class,
    /// Why; of an output, whether it is forced.
    pub reason: Quality,
    /// The same as a status code of OPC UA.
    pub opc_ua: u32,
    /// Milliseconds since it was good last; `null` for an output, and for an input that never was.
    pub age_ms: Option<u64>,
    /// Whether the device has this value of an output: `confirmed`, `under_way` or `unconfirmed`;
    /// `null` for an input.
    pub delivery: Option<Delivery>,
    /// What an output becomes when nobody good owns it; `null` for an input.
    pub safe: Option<SafeView>,
    /// Name of the plugin that writes it; `null` when none does.
    pub owner: Option<String>,
    /// Name of its device.
    pub device: String,
}

/// What an output becomes when nobody good owns it: a value, or the text `hold`.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(untagged)]
pub enum SafeView {
    /// This value.
    Value(Value),
    /// The last one.
    Hold(HoldWord),
}

/// The text `hold`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum HoldWord {
    /// The only one.
    Hold,
}

impl From<Safe> for SafeView {
    fn from(safe: Safe) -> Self {
        match safe {
            Safe::Hold => Self::Hold(HoldWord::Hold),
            Safe::Value(value) => Self::Value(value),
        }
    }
}

/// One variable.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct VarView {
    /// Its name.
    pub name: String,
    /// Its type.
    #[serde(rename = "type")]
    pub kind: VariableKind,
    /// Its value; one of the texts `nan`, `inf` and `-inf` when it is no finite number.
    pub value: Value,
    /// Whether it is kept on the disk.
    pub retain: bool,
    /// The plugin that wrote it last; `null` when none has, or an operator has since.
    #[serde(default)]
    pub writer: Option<String>,
    /// Whether that plugin runs; if not, nobody may be left who writes it.
    #[serde(default)]
    pub writer_runs: bool,
    /// Whether an operator, or a reset, has written it last.
    #[serde(default)]
    pub set_by_operator: bool,
    /// Milliseconds since it was written; `null` while it has the value that it began with.
    #[serde(default)]
    pub age_ms: Option<u64>,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_point_may_be_survives_json() {
        fn check(value: Value, safe: Option<SafeView>, expected: &str) {
            let point = PointView {
                name: "p".into(),
                direction: Direction::Out,
                kind: Kind::F64,
                address: "8".into(),
                value,
                unit: "°C".into(),
                quality: Class::Good,
                reason: Quality::Good,
                opc_ua: 0,
                age_ms: None,
                delivery: Some(Delivery::Confirmed),
                safe,
                owner: None,
                device: "d".into(),
            };
            let text = serde_json::to_string(&point).unwrap();
            assert!(text.contains(expected), "{text} has no {expected}");
            assert_eq!(serde_json::from_str::<PointView>(&text).unwrap(), point);
        }
        let hold = Some(Safe::Hold.into());
        check(Value::Bool(true), hold, r#""value":true"#);
        check(Value::Real(3.0), hold, r#""safe":"hold""#);
        check(Value::Int(u64::MAX.into()), None, r#""value":18446744073709551615"#);
        check(Value::Int(0), Some(Safe::Value(Value::Int(-7)).into()), r#""safe":-7"#);
        check(Value::Int(0), Some(Safe::Value(Value::Bool(false)).into()), r#""safe":false"#);
        check(Value::Real(f64::NEG_INFINITY), hold, r#""value":"-inf""#);
    }
}
