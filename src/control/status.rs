//! The views of the daemon, its devices and its configuration. The JSON answers and the command
//! line use the same data types.
//!
//! Rules for all views:
//! - Under `/v1`, no field changes its name or its meaning. New fields may be added.
//! - A duration is a whole number, and the field name ends with its unit, such as `_ms`.
//! - A hash has 64 hexadecimal digits.
//!
//! This file computes nothing: `daemon/view.rs` and `daemon/field/device.rs` fill in the fields.
//! The view of a plugin is in `plugin.rs`. The views of points and variables are in `point.rs`.

use serde::{Deserialize, Serialize};

use super::plugin::PluginView;
use crate::driver::Part;
use crate::scan::stats::Summary;

/// The state of the daemon: the answer to `GET /v1/status`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct StatusView {
    /// The version of the daemon, such as `0.1.0`.
    pub version: String,
    /// The process number of the daemon.
    pub pid: u32,
    /// Seconds since the daemon's start.
    pub uptime_s: u64,
    /// Path of the configuration file.
    pub config: String,
    /// The reason why the daemon refuses the configuration file; `null` if the file is not refused.
    /// The reason is an error in the file, a file system that gave no answer, or a stall of the
    /// scan during the reload. While the file is refused, the last correct configuration stays in
    /// force.
    pub config_refused: Option<String>,
    /// The changes in the configuration file that need a restart of the daemon, such as
    /// `control.mode changed`.
    pub config_waiting: Vec<String>,
    /// Path of the control socket.
    pub socket: String,
    /// Path of the plugin folder, which the daemon watches.
    pub folder: String,
    /// Whether the daemon knows the present content of the plugin folder.
    pub folder_ok: bool,
    /// The reason why the content of the plugin folder is not known; `null` if the content is
    /// known. Examples: the folder cannot be read, does not answer, was replaced by an empty
    /// folder, or is not mounted yet. Running programs continue meanwhile.
    #[serde(default)]
    pub folder_trouble: Option<String>,
    /// A text with the number of files that the daemon ignores because the plugin folder has too
    /// many files; `null` if the daemon ignores no file for this reason.
    #[serde(default)]
    pub folder_overlooked: Option<String>,
    /// The files that the daemon ignores because of their names, such as `X.WASM`. Each entry has
    /// the reason.
    #[serde(default)]
    pub folder_ignored: Vec<String>,
    /// The plugins that have an entry `[[plugin]]` in the configuration but no file in the plugin
    /// folder. The list is also empty while the content of the folder is not known.
    #[serde(default)]
    pub plugins_missing: Vec<String>,
    /// The folder of the compile cache; `null` if the daemon has no cache.
    pub cache: Option<String>,
    /// Whether the file system of the cache folder does not answer.
    #[serde(default)]
    pub cache_is_late: bool,
    /// The reason why the history is only in memory and will be lost when the daemon ends; `null`
    /// if the daemon writes the history to the disk.
    pub history_trouble: Option<String>,
    /// Path of the state directory; `null` if the daemon cannot use it.
    pub state: Option<String>,
    /// The scan period, in microseconds.
    pub period_us: u64,
    /// The number of the latest cycle; 0 before the first cycle.
    pub cycle: u64,
    /// The facts of a stall; `null` while the scan moves. During a stall the shown points and
    /// programs are from the last cycle, and the devices make their outputs safe. The field
    /// `safety` of [`StallView`] says whether the devices have confirmed this.
    #[serde(default)]
    pub stalled: Option<StallView>,
    /// The number of overruns: cycles that ended after the planned start of the next cycle.
    pub overruns: u64,
    /// The number of cycles that the scan skipped because of overruns.
    pub missed: u64,
    /// The statistics of the lateness: the time by which a cycle began after its planned start.
    pub lateness: Summary,
    /// The statistics of the time from the beginning of a cycle to its end.
    pub work: Summary,
    /// The number of measured durations that were dropped because their queue was full.
    pub samples_lost: u64,
    /// The number of lost log lines. Lines of programs are lost if too many come at one time. Lines
    /// of the daemon are lost if the log output is blocked or cannot be written.
    pub log_lines_lost: u64,
    /// The number of forced points.
    pub forces: u64,
    /// The reason for recovery, in which the daemon runs no plugin until `camshaft recover`; `null`
    /// if the daemon is not in recovery.
    pub recovery: Option<String>,
    /// The state of the retained variables; `null` if no variable is marked `retain`.
    pub retain: Option<RetainView>,
    /// The devices, in the order of the configuration.
    pub devices: Vec<DeviceView>,
    /// The plugins, in the order in which the scan polls them.
    pub plugins: Vec<PluginView>,
}

/// The facts of a stall: the scan has not moved for `scan.stall` or longer.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct StallView {
    /// Milliseconds since the scan last moved.
    pub since_ms: u64,
    /// Milliseconds until the daemon ends its process. The daemon does not end the process if the
    /// scan moves before this time.
    pub exit_in_ms: u64,
    /// The step of the scan in which the daemon detected the stall, such as `polling tank`.
    pub doing: String,
    /// A text that says whether all devices have confirmed their safe outputs.
    #[serde(default)]
    pub safety: String,
}

/// One difference between the configuration file and the configuration in force.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ChangeView {
    /// The name of a key such as `scan.period`, or of an entry such as `device[plant]`.
    pub key: String,
    /// The kind of the difference: `added`, `removed` or `changed`.
    pub how: String,
    /// The effect of the change. `live`: the change is active from the next cycle on. `device`:
    /// only this device starts, restarts or stops. `restart`: the change is active after a restart
    /// of the daemon.
    pub effect: String,
}

/// The state of the retained variables, whose values outlive the daemon.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RetainView {
    /// The number of variables that are marked `retain`.
    pub variables: u64,
    /// The number of writes to the disk since the first file was created.
    pub writes: u64,
    /// The total number of bytes of all these writes.
    pub bytes: u64,
    /// The time since writes began to fail, in whole seconds; `null` if writes succeed.
    pub failing_s: Option<u64>,
    /// The reason why writes fail; `null` if they succeed.
    pub reason: Option<String>,
    /// A text about files that were damaged at the daemon's start, and about the values that the
    /// daemon used instead; `null` if no file was damaged, and after a successful reset of the
    /// variables.
    pub alarm: Option<String>,
}

/// The view of one device.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct DeviceView {
    /// The name of the device.
    pub name: String,
    /// The name of the device's driver, such as `sim`.
    pub driver: String,
    /// The present fault of the device, such as `disconnected`; `null` if the device has no fault.
    pub fault: Option<String>,
    /// Whether the device has confirmed the outputs of the latest cycle; false while the device
    /// makes its outputs safe because of a stall.
    pub confirmed: bool,
    /// The names of the outputs for which the device has not confirmed any value for one second;
    /// empty while the device makes its outputs safe because of a stall.
    pub unconfirmed: Vec<String>,
    /// The parts of the device, such as the units on a Modbus bus; empty if the driver reports no
    /// parts.
    pub parts: Vec<Part>,
}
