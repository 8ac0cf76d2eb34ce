//! The two halves of a configuration: the settings that a reload replaces, and the fixed settings.
//!
//! ```text
//! new file ─▶ Config { live, fixed }     live: in force after the reload, between two cycles
//!                                        fixed: compared only; in force after a restart
//! ```
//!
//! A reload replaces [`Live`]; [`Config::adopt`] lists the exceptions. No code writes to [`Fixed`].
//! The struct that contains a key decides whether a reload can change this key. The method `keys`
//! of each struct compares the struct with the struct of a new configuration. This method returns
//! every key, with a flag that is true if the two values differ. `change.rs` makes the list of all
//! differences from these flags and from the entries of plugins, devices, points and variables.

use std::sync::Arc;

use super::Config;
use super::change::{Change, ConfigPlace, Effect, has_moved, has_other_field};
use super::control::ControlSettings;
use super::crash::CrashSettings;
use super::device::Device;
use super::plugins::{PluginPlaces, PluginRules};
use super::recovery::RecoverySettings;
use super::retain::RetainSettings;
use super::scan::{ScanThread, ScanTimes};
use super::state::StateSettings;
use crate::log;
use crate::name::PluginName;
use crate::plugin::{self, Limits};
use crate::process::grant::VariableGrant;
use crate::process::image::{PointId, Points};
use crate::process::variable::Variable;
use crate::scan::thread;

/// The settings that a reload replaces between two cycles.
#[derive(Debug, Clone)]
pub struct Live {
    /// The period and the stall limits of the section `[scan]`.
    pub scan: ScanTimes,
    /// The rules of the section `[plugins]`.
    pub plugins: PluginRules,
    /// The entries `[[plugin]]` in the order of the file. The name of a plugin is the name of its
    /// file without `.wasm`.
    pub programs: Vec<(PluginName, plugin::Settings)>,
    /// All points of all devices.
    pub points: Arc<Points>,
    /// The entries `[[device]]` in the order of the file.
    /// [`Point::device`](crate::process::image::Point) is an index into this list.
    pub devices: Vec<Device>,
    /// The entries `[[variable]]` with their first values, in the order of the file. A change of an
    /// entry needs a restart if the old or the new file retains the variable, or if its type
    /// changes. A reload applies all other changes.
    pub variables: Vec<(String, Variable)>,
    /// The level of the log.
    pub log_level: log::Level,
    /// The outputs that a plugin without a list of outputs may write.
    pub(super) unclaimed: Vec<PointId>,
    /// The variables that a plugin without a list of variables may write.
    pub(super) unlisted: VariableGrant,
}

/// The settings that do not change from the start of the daemon to its end.
#[derive(Debug, Clone)]
pub struct Fixed {
    /// The settings of the scan thread, from the section `[scan]`.
    pub scan: ScanThread,
    /// The folders, the limits and the compiler of the section `[plugins]`.
    pub plugins: PluginPlaces,
    /// The section `[state]`.
    pub state: StateSettings,
    /// The section `[retain]`.
    pub retain: RetainSettings,
    /// The section `[recovery]`.
    pub recovery: RecoverySettings,
    /// The section `[control]`.
    pub control: ControlSettings,
    /// The section `[crash]`.
    pub crash: CrashSettings,
    /// The format of the log.
    pub log_format: log::Format,
}

impl Live {
    /// Returns the keys whose values are in `Live`. The flag of a key is true if its value differs
    /// in `new`. Entries, such as `[[plugin]]`, are compared in `change.rs`.
    pub(super) fn keys(&self, new: &Self) -> [(&'static str, bool); 8] {
        // This pattern has no `..`: a new field of `Live` is a compile error here until the list
        // below has a line for the field.
        let Live {
            scan: ScanTimes { period, stall, stall_exit },
            plugins: PluginRules { grant_all, poll_budget, restart, swap },
            log_level,
            programs: _,
            points: _,
            devices: _,
            variables: _,
            unclaimed: _,
            unlisted: _,
        } = self;
        let (scan, plugins) = (&new.scan, &new.plugins);
        [
            ("scan.period", *period != scan.period),
            ("scan.stall", *stall != scan.stall),
            ("scan.stall_exit", *stall_exit != scan.stall_exit),
            ("plugins.grant", *grant_all != plugins.grant_all),
            ("plugins.poll_budget", *poll_budget != plugins.poll_budget),
            ("plugins.restart", *restart != plugins.restart),
            ("plugins.swap", *swap != plugins.swap),
            ("log.level", *log_level != new.log_level),
        ]
    }
}

impl Fixed {
    /// Returns the keys whose values are in `Fixed`. The flag of a key is true if its value differs
    /// in `new`.
    pub(super) fn keys(&self, new: &Self) -> [(&'static str, bool); 24] {
        // This pattern has no `..`: a new field of `Fixed` is a compile error here until the list
        // below has a line for the field.
        let Fixed {
            scan: ScanThread { priority, cpus, lock_memory, wake_latency },
            plugins: PluginPlaces { dir, limits, compiler, cache },
            state,
            retain: RetainSettings { variables: _, flush, on_corrupt, on_readonly },
            recovery,
            control: ControlSettings { socket, mode },
            crash,
            log_format,
        } = self;
        let Limits {
            init_budget,
            memory_bytes,
            table_elements,
            stack_bytes,
            module_bytes,
            code_bytes,
            functions,
            log_lines_per_s,
        } = limits;
        let (plugins, new_limits) = (&new.plugins, &new.plugins.limits);
        [
            ("scan.priority", *priority != new.scan.priority),
            ("scan.cpu", *cpus != new.scan.cpus),
            ("scan.lock_memory", *lock_memory != new.scan.lock_memory),
            ("scan.wake_latency", *wake_latency != new.scan.wake_latency),
            ("plugins.dir", *dir != plugins.dir),
            ("plugins.init_budget", *init_budget != new_limits.init_budget),
            ("plugins.memory", *memory_bytes != new_limits.memory_bytes),
            ("plugins.table", *table_elements != new_limits.table_elements),
            ("plugins.stack", *stack_bytes != new_limits.stack_bytes),
            ("plugins.module", *module_bytes != new_limits.module_bytes),
            ("plugins.code", *code_bytes != new_limits.code_bytes),
            ("plugins.functions", *functions != new_limits.functions),
            ("plugins.log_rate", *log_lines_per_s != new_limits.log_lines_per_s),
            ("plugins.compiler", *compiler != plugins.compiler),
            ("plugins.cache", *cache != plugins.cache),
            ("state.dir", *state != new.state),
            ("retain.flush", *flush != new.retain.flush),
            ("retain.on_corrupt", *on_corrupt != new.retain.on_corrupt),
            ("retain.on_readonly", *on_readonly != new.retain.on_readonly),
            ("recovery", *recovery != new.recovery),
            ("control.socket", *socket != new.control.socket),
            ("control.mode", *mode != new.control.mode),
            ("crash.record", *crash != new.crash),
            ("log.format", *log_format != new.log_format),
        ]
    }
}

impl Config {
    /// Returns the settings of the scan, which come from `live` and from `fixed`.
    pub fn scan(&self) -> thread::Settings {
        let ScanTimes { period, stall, stall_exit } = self.live.scan;
        let ScanThread { priority, cpus, lock_memory, wake_latency } = self.fixed.scan.clone();
        thread::Settings { period, priority, cpus, lock_memory, wake_latency, stall, stall_exit }
    }

    /// Returns the settings of the log, which come from `live` and from `fixed`.
    pub fn log(&self) -> log::Settings {
        log::Settings { level: self.live.log_level.clone(), format: self.fixed.log_format }
    }

    /// Takes over the live settings of `new`. `changes` are the differences between the two
    /// configurations.
    ///
    /// There are three exceptions:
    /// - If a point has moved, only the log level is taken over. Programs know points by their
    ///   addresses, and each other key may depend on addresses.
    /// - A variable that needs a restart for its change is not changed.
    /// - If points and devices are equal in `new`, the present lists stay in use. The scan compares
    ///   the pointer of the point list, and does no work if the pointer is unchanged.
    pub fn adopt(&mut self, new: &Self, changes: &[Change]) {
        if has_moved(changes) {
            self.live.log_level.clone_from(&new.live.log_level);
            return;
        }
        let before = std::mem::replace(&mut self.live, new.live.clone());
        if !has_other_field(changes) {
            (self.live.points, self.live.devices) = (before.points, before.devices);
        }
        for waiting in changes.iter().filter(|change| change.effect == Effect::Restart) {
            if let ConfigPlace::Variable(name) = &waiting.place {
                self.live.variables.retain(|(ours, _)| ours != name);
                self.live
                    .variables
                    .extend(before.variables.iter().find(|(theirs, _)| theirs == name).cloned());
            }
        }
    }
}
