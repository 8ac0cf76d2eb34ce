//! The keys of the configuration file: every key with its type.
//!
//! ```text
//! [scan] [plugins] [plugins.restart] [plugins.swap]    sections: at most one of each
//! [state] [retain] [recovery] [control] [crash] [log]
//! [[plugin]] [[variable]] [[device]] [[device.point]]  entries: any number of each
//! ```
//!
//! A key that is absent is `None` here: the defaults are added later. This Rust file has all keys
//! except the keys of drivers (`driver.rs`). The file of each section, such as `scan.rs` or
//! `points.rs`, checks whether the values fit together. `read.rs` turns text into keys, and
//! `word.rs` defines how a value is written.

use std::path::PathBuf;
use std::time::Duration;

use toml::Spanned;
use toml::de::{DeTable, DeValue};

use super::problem::Said;
use super::read::Section;
use super::word::{
    Address, Bytes, Cpus, DurationText, GrantWord, ModeWord, OnBadWord, OverflowWord, SafeWord,
};
use crate::log::{Format, Level};
use crate::name::{self, DeviceName, Name, PluginName, PointName, VariableName};
use crate::plugin::{Compiler, RollbackState};
use crate::process::image::{Direction, PointKind, Value};
use crate::process::variable::VariableKind;
use crate::retain::{OnCorrupt, OnReadonly};
use crate::supervisor::OnQuarantine;

/// A key that may be absent. If the key is present, its line is stored for messages.
pub(super) type Maybe<T> = Option<Said<T>>;

/// Texts for messages: descriptions of the types that many keys have.
const DURATION: &str = "a duration such as \"10ms\" or \"500us\"";
const SIZE: &str = "a size such as \"16MiB\", \"64KiB\" or a number of bytes";
const NAME: &str = "a name in quotes";
const PATH: &str = "a path in quotes";
const COUNT: &str = "a whole number, 0 or more";
const SWITCH: &str = "true or false";
const NUMBER: &str = "a number";
const POINTS: &str = "a list of point names, such as [\"tank.level\"]";
const VARIABLES: &str = "a list of variable names, such as [\"tank.setpoint\", \"tank.*\"]";

/// The whole configuration file.
pub(super) struct ConfigFile<'t> {
    pub(super) scan: ScanFile,
    pub(super) plugins: PluginsFile,
    pub(super) programs: Vec<ProgramFile>,
    pub(super) devices: Vec<DeviceFile<'t>>,
    pub(super) variables: Vec<VariableFile>,
    pub(super) state: Maybe<PathBuf>,
    pub(super) retain: RetainFile,
    pub(super) recovery: RecoveryFile,
    pub(super) control: ControlFile,
    pub(super) crash: CrashFile,
    pub(super) log: LogFile,
}

/// The section `[scan]`.
pub(super) struct ScanFile {
    pub(super) period: Maybe<Duration>,
    pub(super) priority: Maybe<u32>,
    pub(super) cpu: Maybe<Cpus>,
    pub(super) lock_memory: Maybe<bool>,
    pub(super) wake_latency: Maybe<Duration>,
    pub(super) stall: Maybe<Duration>,
    pub(super) stall_exit: Maybe<Duration>,
}

/// The section `[plugins]`.
pub(super) struct PluginsFile {
    pub(super) dir: Maybe<PathBuf>,
    pub(super) grant: Maybe<GrantWord>,
    pub(super) poll_budget: Maybe<Duration>,
    pub(super) init_budget: Maybe<Duration>,
    pub(super) memory: Maybe<Bytes>,
    pub(super) table: Maybe<u64>,
    pub(super) stack: Maybe<Bytes>,
    pub(super) module: Maybe<Bytes>,
    pub(super) code: Maybe<Bytes>,
    pub(super) functions: Maybe<u64>,
    pub(super) log_rate: Maybe<u64>,
    pub(super) restart: RestartFile,
    pub(super) swap: SwapFile,
    pub(super) compiler: Maybe<Compiler>,
    pub(super) cache: Maybe<PathBuf>,
}

/// The section `[plugins.restart]`.
pub(super) struct RestartFile {
    pub(super) first: Maybe<Duration>,
    pub(super) max: Maybe<Duration>,
    pub(super) traps: Maybe<u64>,
    pub(super) within: Maybe<Duration>,
    pub(super) on_quarantine: Maybe<OnQuarantine>,
}

/// The section `[plugins.swap]`.
pub(super) struct SwapFile {
    pub(super) budget: Maybe<Duration>,
    pub(super) probation: Maybe<Duration>,
    pub(super) polls: Maybe<u64>,
    pub(super) rollback_state: Maybe<RollbackState>,
    pub(super) shadow: Maybe<u64>,
    pub(super) admit_ratio: Maybe<f64>,
    pub(super) require_equal: Maybe<bool>,
}

/// An entry `[[plugin]]`.
pub(super) struct ProgramFile {
    pub(super) name: Maybe<PluginName>,
    pub(super) every: Maybe<u64>,
    pub(super) poll_budget: Maybe<Duration>,
    pub(super) inputs: Maybe<Vec<Spanned<String>>>,
    pub(super) outputs: Maybe<Vec<Spanned<String>>>,
    pub(super) variables: Maybe<Vec<Spanned<String>>>,
    pub(super) hold: Maybe<bool>,
    pub(super) requires: Maybe<Vec<Spanned<String>>>,
    pub(super) requires_timeout: Maybe<Duration>,
}

/// An entry `[[device]]`.
pub(super) struct DeviceFile<'t> {
    pub(super) name: Maybe<DeviceName>,
    pub(super) driver: Maybe<String>,
    pub(super) input: WindowFile,
    pub(super) output: WindowFile,
    pub(super) points: Vec<PointFile<'t>>,
    /// The keys that belong to the driver. `driver.rs` reads them.
    pub(super) rest: Said<DeTable<'t>>,
    /// The keys that all devices have. A message about an unknown key may suggest a key from this
    /// list.
    pub(super) known: Vec<&'static str>,
}

/// `input_start` and `input_bytes` of a device, or `output_start` and `output_bytes`.
pub(super) struct WindowFile {
    pub(super) start: Maybe<u64>,
    pub(super) bytes: Maybe<u64>,
}

/// An entry `[[device.point]]`.
pub(super) struct PointFile<'t> {
    /// Line and key of the entry.
    pub(super) place: Said<()>,
    pub(super) name: Maybe<PointName>,
    pub(super) direction: Maybe<Direction>,
    pub(super) kind: Maybe<PointKind>,
    pub(super) address: Maybe<Address>,
    pub(super) scale: Maybe<f64>,
    pub(super) offset: Maybe<f64>,
    pub(super) unit: Maybe<String>,
    pub(super) description: Maybe<String>,
    /// The raw numbers that mean "not available". They are not converted here, because a number in
    /// hexadecimal notation has another meaning than a decimal number.
    pub(super) nan: Maybe<Spanned<DeValue<'t>>>,
    pub(super) range: Maybe<Vec<Value>>,
    pub(super) on_overflow: Maybe<OverflowWord>,
    pub(super) invert: Maybe<bool>,
    pub(super) deadband: Maybe<f64>,
    pub(super) safe: Maybe<SafeWord>,
    pub(super) hold_for: Maybe<Duration>,
    pub(super) stale_after: Maybe<Duration>,
    pub(super) bad_after: Maybe<Duration>,
    pub(super) on_bad: Maybe<OnBadWord>,
    /// The first value of an input. The value is not converted here, because it becomes a key of
    /// the driver.
    pub(super) initial: Maybe<Spanned<DeValue<'t>>>,
    /// The position of the point in the device, such as a register. The position is not converted
    /// here, because it becomes a key of the driver.
    pub(super) at: Maybe<Spanned<DeValue<'t>>>,
}

/// An entry `[[variable]]`.
pub(super) struct VariableFile {
    pub(super) name: Maybe<VariableName>,
    pub(super) kind: Maybe<VariableKind>,
    pub(super) initial: Maybe<Value>,
    pub(super) retain: Maybe<bool>,
}

/// The section `[retain]`.
pub(super) struct RetainFile {
    pub(super) flush: Maybe<Duration>,
    pub(super) on_corrupt: Maybe<OnCorrupt>,
    pub(super) on_readonly: Maybe<OnReadonly>,
}

/// The section `[recovery]`.
pub(super) struct RecoveryFile {
    pub(super) ends: Maybe<u64>,
    pub(super) power_cuts: Maybe<u64>,
    pub(super) within: Maybe<Duration>,
}

/// The section `[control]`.
pub(super) struct ControlFile {
    pub(super) socket: Maybe<PathBuf>,
    pub(super) mode: Maybe<ModeWord>,
}

/// The section `[crash]`.
pub(super) struct CrashFile {
    pub(super) record: Maybe<bool>,
}

/// The section `[log]`.
pub(super) struct LogFile {
    pub(super) level: Maybe<Level>,
    pub(super) format: Maybe<Format>,
}

impl<'t> ConfigFile<'t> {
    /// Reads the whole file. The sections are read in the order in which `ConfigFile` lists them.
    pub(super) fn read(file: &mut Section<'_, 't>) -> Self {
        Self {
            scan: file.section("scan", ScanFile::read),
            plugins: file.section("plugins", PluginsFile::read),
            programs: file.list("plugin", ProgramFile::read),
            devices: file.list("device", DeviceFile::read),
            variables: file.list("variable", VariableFile::read),
            state: file.section("state", |state| state.take("dir", PATH)),
            retain: file.section("retain", |retain| RetainFile {
                flush: duration(retain, "flush"),
                on_corrupt: retain.take("on_corrupt", "\"cold\" or \"refuse\""),
                on_readonly: retain.take("on_readonly", "\"start\" or \"refuse\""),
            }),
            recovery: file.section("recovery", |recovery| RecoveryFile {
                ends: recovery.take("ends", COUNT),
                power_cuts: recovery.take("power_cuts", COUNT),
                within: duration(recovery, "within"),
            }),
            control: file.section("control", |control| ControlFile {
                socket: control.take("socket", PATH),
                mode: control.take("mode", "\"0600\" or \"0660\""),
            }),
            crash: file
                .section("crash", |crash| CrashFile { record: crash.take("record", SWITCH) }),
            log: file.section("log", |log| LogFile {
                level: log.take("level", "one of error, warn, info, debug, trace"),
                format: log.take("format", "one of auto, text, json, journal"),
            }),
        }
    }
}

impl ScanFile {
    fn read(scan: &mut Section<'_, '_>) -> Self {
        Self {
            period: duration(scan, "period"),
            priority: scan.take("priority", "a whole number from 1 to 98"),
            cpu: scan.take("cpu", "a CPU number such as 1, or a list such as [1, 2]"),
            lock_memory: scan.take("lock_memory", SWITCH),
            wake_latency: duration(scan, "wake_latency"),
            stall: duration(scan, "stall"),
            stall_exit: duration(scan, "stall_exit"),
        }
    }
}

impl PluginsFile {
    fn read(plugins: &mut Section<'_, '_>) -> Self {
        Self {
            dir: plugins.take("dir", PATH),
            grant: plugins.take("grant", "\"all\" or \"none\""),
            poll_budget: duration(plugins, "poll_budget"),
            init_budget: duration(plugins, "init_budget"),
            memory: plugins.take("memory", SIZE),
            table: plugins.take("table", COUNT),
            stack: plugins.take("stack", SIZE),
            module: plugins.take("module", SIZE),
            code: plugins.take("code", SIZE),
            functions: plugins.take("functions", COUNT),
            log_rate: plugins.take("log_rate", COUNT),
            restart: plugins.section("restart", |restart| RestartFile {
                first: duration(restart, "first"),
                max: duration(restart, "max"),
                traps: restart.take("traps", COUNT),
                within: duration(restart, "within"),
                on_quarantine: restart.take("on_quarantine", "\"last_good\" or \"safe\""),
            }),
            swap: plugins.section("swap", |swap| SwapFile {
                budget: duration(swap, "budget"),
                probation: duration(swap, "probation"),
                polls: swap.take("polls", COUNT),
                rollback_state: swap.take("rollback_state", "\"current\" or \"snapshot\""),
                shadow: swap.take("shadow", COUNT),
                admit_ratio: swap.take("admit_ratio", NUMBER),
                require_equal: swap.take("require_equal", SWITCH),
            }),
            compiler: plugins.take("compiler", "\"cranelift\" or \"singlepass\""),
            cache: plugins.take("cache", PATH),
        }
    }
}

impl ProgramFile {
    fn read(program: &mut Section<'_, '_>) -> Self {
        Self {
            name: name(program),
            every: program.take("every", COUNT),
            poll_budget: duration(program, "poll_budget"),
            inputs: program.take("inputs", POINTS),
            outputs: program.take("outputs", POINTS),
            variables: program.take("variables", VARIABLES),
            hold: program.take("hold", SWITCH),
            requires: program.take("requires", POINTS),
            requires_timeout: duration(program, "requires_timeout"),
        }
    }
}

impl<'t> DeviceFile<'t> {
    fn read(device: &mut Section<'_, 't>) -> Self {
        Self {
            name: name(device),
            driver: device.need("driver", "the name of a driver, such as \"sim\""),
            input: WindowFile {
                start: device.take("input_start", COUNT),
                bytes: device.take("input_bytes", COUNT),
            },
            output: WindowFile {
                start: device.take("output_start", COUNT),
                bytes: device.take("output_bytes", COUNT),
            },
            points: device.list("point", PointFile::read),
            known: device.known().to_vec(),
            rest: Said { value: device.rest(), line: device.line, key: device.key.clone() },
        }
    }
}

impl<'t> PointFile<'t> {
    fn read(point: &mut Section<'_, 't>) -> Self {
        Self {
            place: Said { value: (), line: point.line, key: point.key.clone() },
            name: name(point),
            direction: point.need("direction", "\"in\" or \"out\""),
            kind: point.need("type", "one of bool, u8, i8, u16, i16, u32, i32, u64, i64, f32, f64"),
            address: point
                .take("address", "a byte address such as 3, or byte and bit such as \"3.1\""),
            scale: point.take("scale", NUMBER),
            offset: point.take("offset", NUMBER),
            unit: point.take("unit", "a unit of measurement in quotes, such as \"l/min\""),
            description: point.take("description", "a text in quotes"),
            nan: point.raw("nan"),
            range: point.take("range", "two numbers, such as [0, 100]"),
            on_overflow: point.take("on_overflow", "\"refuse\" or \"clamp\""),
            invert: point.take("invert", SWITCH),
            deadband: point.take("deadband", NUMBER),
            safe: point.take("safe", "true, false, a number or \"hold\""),
            hold_for: duration(point, "hold_for"),
            stale_after: duration(point, "stale_after"),
            bad_after: duration(point, "bad_after"),
            on_bad: point.take("on_bad", "\"keep\", true, false or a number"),
            initial: point.raw("initial"),
            at: point.raw("at"),
        }
    }
}

impl VariableFile {
    /// Reads an entry. A key that is read with `need` must exist, and a key that is read with
    /// `take` may be absent.
    fn read(variable: &mut Section<'_, '_>) -> Self {
        Self {
            name: name(variable),
            kind: variable.need("type", "one of boolean, int, double"),
            initial: variable.take("initial", "true, false or a number"),
            retain: variable.take("retain", SWITCH),
        }
    }
}

/// Reads the key `name` of an entry. A missing or invalid name is reported, and the result is
/// `None`.
fn name<K: name::NameKind>(entry: &mut Section<'_, '_>) -> Maybe<Name<K>> {
    let text: Said<String> = entry.need("name", NAME)?;
    match text.value.parse() {
        Ok(value) => Some(Said { value, line: text.line, key: text.key }),
        Err(_) => {
            entry.report.wrong_at(&text, format!("{:?}", text.value), name::RULE);
            None
        }
    }
}

/// Reads a key whose value is a duration.
fn duration(section: &mut Section<'_, '_>, key: &'static str) -> Maybe<Duration> {
    let text: Said<DurationText> = section.take(key, DURATION)?;
    Some(Said { value: text.value.0, line: text.line, key: text.key })
}
