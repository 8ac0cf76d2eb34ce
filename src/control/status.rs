//! The state of the daemon, its devices and its configuration, as people see it: plain data, the
//! same for the JSON and for the command line.
//!
//! Under `/v1` no field gets another name or another meaning; new fields may be added. Durations
//! are whole numbers with their unit at the end of the name, and hashes are 64 hexadecimal digits.
//! That holds for all views. Nothing is computed here: `daemon/view.rs` and
//! `daemon/field/device.rs` fill the fields in. Views of a plugin are in `plugin.rs`, and those of
//! points and variables in `point.rs`.

use serde::{Deserialize, Serialize};

use super::plugin::PluginView;
use crate::driver::Part;
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
