//! The fields of answers: plain data, the same for the JSON and for the command line.
//!
//! Under `/v1` no field gets another name or another meaning; new fields may be added. Durations
//! are whole numbers with their unit at the end of the name, and hashes are 64 hexadecimal digits.
//! Nothing is computed here: the daemon fills the fields in.

use serde::{Deserialize, Serialize};

use super::ProbationView;
use crate::driver::{Delivery, Part};
use crate::plugin::Trap;
use crate::process::image::{Class, Direction, Kind, Quality, Safe, Value};
use crate::process::variable::VariableKind;
use crate::scan::stats::Summary;

/// The state of the daemon.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct StatusView {
    /// Version of the daemon, such as `0.1.0`.
    pub version: String,
    /// Number of the daemon's process.
    pub pid: u32,
    /// Seconds since the daemon's start.
    pub uptime_s: u64,
    /// Path of the configuration file.
    pub config: String,
    /// What is wrong with the configuration file, so that the last good one stays in force, or
    /// `null`.
    pub config_refused: Option<String>,
    /// Changes in that file that need a restart of the daemon, such as `control.mode changed`.
    pub config_waiting: Vec<String>,
    /// Path of the control socket.
    pub socket: String,
    /// Path of the watched folder.
    pub folder: String,
    /// Whether the content of the folder is known at present.
    pub folder_ok: bool,
    /// Why it is not known: the folder cannot be read, does not answer, is another and an empty
    /// one, or may not be mounted yet; `null` if it is known. Programs that run go on meanwhile.
    #[serde(default)]
    pub folder_trouble: Option<String>,
    /// How many files of the folder are left out because there are too many; `null` if none are.
    #[serde(default)]
    pub folder_overlooked: Option<String>,
    /// Files that are ignored because of their names, such as `X.WASM`; each with the reason.
    #[serde(default)]
    pub folder_ignored: Vec<String>,
    /// Names of plugins that have an entry `[[plugin]]` in the configuration and no file in the
    /// folder. Empty also while the content of the folder is not known.
    #[serde(default)]
    pub plugins_missing: Vec<String>,
    /// Folder of compiled modules; `null` when none is kept.
    pub cache: Option<String>,
    /// Whether that folder gives no answer.
    #[serde(default)]
    pub cache_is_late: bool,
    /// Why the history would be lost with the daemon (its folder, its disk); `null` if it is
    /// written.
    pub history_trouble: Option<String>,
    /// Path of the state directory; `null` if it cannot be used.
    pub state: Option<String>,
    /// The scan period, in microseconds.
    pub period_us: u64,
    /// Number of the latest cycle; 0 before the first.
    pub cycle: u64,
    /// Facts of a scan that stands; `null` while it moves. Points and programs are then as they
    /// were in that cycle, and devices have made their outputs safe.
    #[serde(default)]
    pub stalled: Option<StallView>,
    /// Cycles that ended after their deadline.
    pub overruns: u64,
    /// Cycles that did not take place because of overruns.
    pub missed: u64,
    /// Time from the deadline of a cycle to its beginning.
    pub lateness: Summary,
    /// Time from the beginning of a cycle to its end.
    pub work: Summary,
    /// Measured times that were dropped because the queue was full.
    pub samples_lost: u64,
    /// Log lines that were lost. Lines of programs are lost if there are too many at once. Lines of
    /// the daemon are lost if the output does not read the earlier ones, or cannot be written.
    pub log_lines_lost: u64,
    /// Number of points that are forced.
    pub forces: u64,
    /// The reason why the daemon runs no plugin until `camshaft recover`; `null` if it runs them.
    pub recovery: Option<String>,
    /// The retained variables; `null` if no variable is marked `retain`.
    pub retain: Option<RetainView>,
    /// The devices, in the order of the configuration.
    pub devices: Vec<DeviceView>,
    /// The plugins, in the order of polling.
    pub plugins: Vec<PluginView>,
}

/// A scan that has not moved for `scan.stall`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct StallView {
    /// How long the scan has stood, in milliseconds.
    pub since_ms: u64,
    /// Milliseconds until the process ends, if the scan does not move before that.
    pub exit_in_ms: u64,
    /// What the scan was doing, such as `polling tank`.
    pub doing: String,
    /// Whether devices have confirmed their safe outputs, in words.
    #[serde(default)]
    pub safety: String,
}

/// One difference between the configuration file and the configuration in force.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ChangeView {
    /// A key such as `scan.period`, or an entry such as `device[plant]`.
    pub key: String,
    /// How the key or entry differs: `added`, `removed` or `changed`.
    pub how: String,
    /// What the change needs. `live`: it counts from the next cycle on. `device`: only this device
    /// starts, restarts or stops. `restart`: it counts after a restart of the daemon.
    pub effect: String,
}

/// The retained variables, which outlive the daemon.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RetainView {
    /// Number of variables that are marked `retain`.
    pub variables: u64,
    /// Number of writes to the disk since the first file was made.
    pub writes: u64,
    /// Bytes of all these writes.
    pub bytes: u64,
    /// Whole seconds for which writes have failed; `null` if they succeed.
    pub failing_s: Option<u64>,
    /// The reason why writes fail; `null` if they succeed.
    pub reason: Option<String>,
    /// What was wrong with the files at the start, and what the daemon did; `null` if nothing was.
    pub alarm: Option<String>,
}

/// One device.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct DeviceView {
    /// Name of the device.
    pub name: String,
    /// Name of its driver, such as `sim`.
    pub driver: String,
    /// The present failure of the device, such as `disconnected`; `null` if there is none.
    pub fault: Option<String>,
    /// Whether the device is known to have the outputs of the latest cycle.
    pub confirmed: bool,
    /// The outputs of which the device has acknowledged no value for a second.
    pub unconfirmed: Vec<String>,
    /// Parts of the device, such as the units on a bus; empty if it has none that matter to people.
    pub parts: Vec<Part>,
}

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

/// One point.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct PointView {
    /// Name of the point.
    pub name: String,
    /// Direction of the point: `in` or `out`.
    pub direction: Direction,
    /// Type of the point in the image.
    #[serde(rename = "type")]
    pub kind: Kind,
    /// Byte in the image of that direction; with `.bit` for a bool, such as `8.1`.
    pub address: String,
    /// The value, in the unit of the point; `nan`, `inf` or `-inf` as text if it is not finite.
    pub value: Value,
    /// Unit for people; may be empty.
    pub unit: String,
    /// How far the value can be trusted.
    pub quality: Class,
    /// The reason for this quality; for an output, whether it is forced.
    pub reason: Quality,
    /// The quality as a status code of OPC UA.
    pub opc_ua: u32,
    /// Milliseconds since the value was last good; `null` for an output, or if it never was.
    pub age_ms: Option<u64>,
    /// Whether the device has this value: `confirmed`, `under_way`, `unconfirmed`; inputs: `null`.
    pub delivery: Option<Delivery>,
    /// What the output becomes when no healthy program owns it; `null` for an input.
    pub safe: Option<SafeView>,
    /// Name of the plugin that writes the output; `null` if none does.
    pub owner: Option<String>,
    /// Name of the point's device.
    pub device: String,
}

/// What an output becomes when no healthy program owns it: a value, or the text `hold`.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(untagged)]
pub enum SafeView {
    /// The output gets this value.
    Value(Value),
    /// The output keeps its last value.
    Hold(HoldWord),
}

/// The text `hold`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum HoldWord {
    /// The only word of this type.
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
    /// Name of the variable.
    pub name: String,
    /// Type of the variable.
    #[serde(rename = "type")]
    pub kind: VariableKind,
    /// Its value; one of the texts `nan`, `inf` and `-inf` if it is no finite number.
    pub value: Value,
    /// Whether the variable is kept on the disk.
    pub retain: bool,
    /// The plugin that wrote it last; `null` if none did, or if an operator wrote it after that.
    #[serde(default)]
    pub writer: Option<String>,
    /// Whether that plugin runs; if not, there may be no program left that writes the variable.
    #[serde(default)]
    pub writer_runs: bool,
    /// Whether an operator or a reset wrote it last.
    #[serde(default)]
    pub set_by_operator: bool,
    /// Milliseconds since it was written; `null` while it has its first value.
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
