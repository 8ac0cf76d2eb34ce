//! Ranges, names and defaults: from single keys to the settings of `plugins`, `retain`, `state`,
//! `control`, `log` and the variables.
//!
//! `scan` is in `scan.rs`, points are in `points.rs` and `layout.rs`, grants and budgets of
//! programs in `grant.rs`, `plugins.swap` in `swap.rs`, `recovery` in `recovery.rs`.

use std::collections::HashMap;
use std::ffi::OsString;
use std::fmt::Display;
use std::ops::RangeInclusive;
use std::path::{Path, PathBuf};
use std::time::Duration;

use super::file::{ControlFile, LogFile, Maybe, PluginsFile, RetainFile, VariableFile};
use super::problem::{Report, Said};
use super::swap::swap;
use super::word::{Bytes, GrantWord, ModeWord};
use super::{ControlSettings, PluginPlaces, PluginRules, RetainSettings, StateSettings, socket};
use crate::log;
use crate::name;
use crate::plugin::Limits;
use crate::process::image::{Points, Value};
use crate::process::variable::{MAX_VARIABLES, Variable, VariableKind};
use crate::supervisor::RestartPolicy;

/// The shortest budget. Below 10 us the stop itself costs as much as the program.
pub(super) const LEAST_BUDGET: Duration = Duration::from_micros(10);

/// The longest `plugins.init_budget`: a program that needs a minute to start is broken.
const MOST_INIT_BUDGET: Duration = Duration::from_secs(60);

/// Range of `plugins.memory`: from one wasm page to the most that a 32-bit memory can have. The
/// last page of 4 GiB is never given, for a reason that stands in `plugin/instance/wasm.rs`.
const MEMORY: RangeInclusive<u64> = 64 << 10..=4 << 30;

/// Range of `plugins.table`. An operation on a table of 100 000 elements takes 0.1 ms. One on a
/// million elements takes 5 ms and cannot be stopped in between.
const TABLE: RangeInclusive<u64> = 0..=100_000;

/// Range of `plugins.stack`. The sandbox takes no less than 8 KiB. The most bounds how deep calls
/// go. A trap 65 000 calls deep takes about 16 ms of a cycle, and calls that only go deeper are not
/// stopped before that.
const STACK: RangeInclusive<u64> = 8 << 10..=1 << 20;

/// Range of `plugins.module`. An empty module has 8 bytes; one above 1 GiB could not be compiled in
/// the memory of the child process.
const MODULE: RangeInclusive<u64> = 8..=1 << 30;

/// Range of `plugins.code`. No plugin of a language with a library fits below 1 MiB, and no machine
/// that this runs on has more than 16 GiB for it.
const CODE: RangeInclusive<u64> = 1 << 20..=16 << 30;

/// Range of `plugins.functions`, up to the most that the implementation limits of the wasm
/// specification allow.
const FUNCTIONS: RangeInclusive<u64> = 1..=1_000_000;

/// Range of `plugins.log_rate`: the ring between scan and log holds a few thousand lines.
const LOG_RATE: RangeInclusive<u64> = 0..=10_000;

/// Range of waits before a restart. Longer waits are the operator's decision, made with hold and
/// release.
pub(super) const RESTART: RangeInclusive<Duration> = Duration::ZERO..=Duration::from_secs(3600);

/// Range of `plugins.restart.within`. Consider a program that traps at each of its starts. Below 1
/// s its traps could be further apart than the window, and each restart would be a first one, which
/// comes at once.
const WITHIN: RangeInclusive<Duration> = Duration::from_secs(1)..=Duration::from_secs(3600);

/// Range of `plugins.restart.first`. Zero doubled stays zero, and a wait that never grows is no
/// backoff.
const FIRST: RangeInclusive<Duration> = Duration::from_millis(1)..=Duration::from_secs(3600);

/// Range of `plugins.restart.max`. A program that always traps is never quarantined if `traps` is
/// large and `within` short. With 50 ms it is started twenty times a second at most.
const MAX: RangeInclusive<Duration> = Duration::from_millis(50)..=Duration::from_secs(3600);

/// Range of `plugins.restart.traps`. The daemon remembers every trap in the window.
const TRAPS: RangeInclusive<u64> = 1..=100;

/// Range of `retain.flush`. A disk cannot flush more often than every 5 ms, and a value that is
/// written once an hour is hardly retained.
const FLUSH: RangeInclusive<Duration> = Duration::from_millis(5)..=Duration::from_secs(3600);

/// Default of `retain.flush`. 5 s make 6 million writes a year at most, and an operator still
/// remembers what was set in the last 5 s.
const DEFAULT_FLUSH: Duration = Duration::from_secs(5);

/// Most bytes of a socket path: those of `sockaddr_un` less the final zero.
const MOST_SOCKET_BYTES: usize = 107;

/// What the settings depend on besides the file: its folder, the environment, the points in force.
pub(super) struct Surroundings<'e> {
    /// The folder of the configuration file.
    pub(super) folder: PathBuf,
    /// Looks up an environment variable.
    pub(super) env: &'e dyn Fn(&str) -> Option<OsString>,
    /// The points in force, if a daemon runs already.
    pub(super) before: &'e Points,
    /// Whether the daemon runs as root. It is then the machine's own daemon, not that of a user,
    /// and its state directory is not in a home.
    pub(super) is_root: bool,
}

impl Surroundings<'_> {
    /// The path of a key, relative to the folder of the file, or the default.
    fn path(&self, said: &Maybe<PathBuf>, default: PathBuf) -> PathBuf {
        said.as_ref().map_or(default, |said| self.folder.join(&said.value))
    }

    /// A folder from the environment.
    fn var(&self, name: &str) -> Option<PathBuf> {
        socket::folder(self.env, name)
    }

    /// Default of `plugins.cache`: systemd's folder, else the user's, else the machine's.
    fn cache(&self) -> PathBuf {
        self.var("CACHE_DIRECTORY")
            .or_else(|| Some(self.var("XDG_CACHE_HOME")?.join("camshaft")))
            .or_else(|| Some(self.var("HOME")?.join(".cache/camshaft")))
            .unwrap_or_else(|| "/var/cache/camshaft".into())
    }

    /// Default of `state.dir`, by the same rule; root has no folder in its home.
    fn state(&self) -> PathBuf {
        let home = || self.var("HOME").filter(|_| !self.is_root);
        self.var("STATE_DIRECTORY")
            .or_else(|| Some(self.var("XDG_STATE_HOME")?.join("camshaft")))
            .or_else(|| Some(home()?.join(".local/state/camshaft")))
            .unwrap_or_else(|| "/var/lib/camshaft".into())
    }

    /// Default of `control.socket`: the first place where a client looks for it.
    fn socket(&self) -> PathBuf {
        socket::sockets(self.env).remove(0)
    }
}

/// The value of a key, if it lies in `range`; otherwise the default, and a problem is reported.
pub(super) fn ranged<T: PartialOrd + Copy>(
    said: &Maybe<T>,
    range: RangeInclusive<T>,
    default: T,
    show: impl Fn(T) -> String,
    report: &Report<'_>,
) -> T {
    let Some(said) = said else { return default };
    if range.contains(&said.value) {
        return said.value;
    }
    let right = format!("from {} to {}", show(*range.start()), show(*range.end()));
    report.wrong_at(said, show(said.value), right);
    default
}

/// A duration as it is written in the file.
pub(super) fn show_duration(duration: Duration) -> String {
    humantime::format_duration(duration).to_string()
}

/// A size as it is written in the file.
fn show_bytes(bytes: u64) -> String {
    let exact = |shift: u32| bytes >= 1 << shift && bytes.trailing_zeros() >= shift;
    match [(30, "GiB"), (20, "MiB"), (10, "KiB")].into_iter().find(|&(shift, _)| exact(shift)) {
        Some((shift, unit)) => format!("{}{unit}", bytes >> shift),
        None => format!("{bytes} bytes"),
    }
}

pub(super) fn show_number(number: impl Display) -> String {
    number.to_string()
}

/// Whether a name can be typed on a command line and be part of a file name; if not, a problem is
/// reported.
pub(super) fn is_name(said: &Said<String>, report: &Report<'_>) -> bool {
    let good = name::is_name(&said.value);
    if !good {
        report.wrong_at(said, format!("{:?}", said.value), name::RULE);
    }
    good
}

/// Whether a name occurs for the first time; `lines` holds the line of each name so far. A second
/// one is reported.
pub(super) fn once<'f>(
    name: &'f Said<String>,
    lines: &mut HashMap<&'f str, usize>,
    what: &str,
    report: &Report<'_>,
) -> bool {
    if let Some(first) = lines.get(name.value.as_str()) {
        let found = format!("a second {what} {:?}, the first is on line {first}", name.value);
        report.wrong_at(name, found, "another name");
        return false;
    }
    lines.insert(&name.value, name.line);
    true
}

/// The settings of `[plugins]`; `period` is that of the scan, which bounds budgets.
pub(super) fn plugins(
    file: &PluginsFile,
    period: Duration,
    here: &Surroundings<'_>,
    report: &Report<'_>,
) -> (PluginRules, PluginPlaces) {
    let rules = PluginRules {
        grant_all: file.grant.as_ref().is_none_or(|said| said.value == GrantWord::All),
        poll_budget: budget(&file.poll_budget, period, period / 4, report),
        restart: restart(file, report),
        swap: swap(&file.swap, period, report),
    };
    let places = PluginPlaces {
        dir: here.path(&file.dir, here.folder.join("plugins")),
        limits: limits(file, report),
        compiler: file.compiler.as_ref().map(|said| said.value).unwrap_or_default(),
        cache: here.path(&file.cache, here.cache()),
    };
    (rules, places)
}

/// A poll budget; it cannot exceed the period of the scan.
pub(super) fn budget(
    said: &Maybe<Duration>,
    period: Duration,
    default: Duration,
    report: &Report<'_>,
) -> Duration {
    match said {
        Some(said) if said.value > period => {
            let found = format!("{}, longer than a cycle", show_duration(said.value));
            report.wrong_at(said, found, format!("at most {}, the period", show_duration(period)));
            default
        }
        said => ranged(said, LEAST_BUDGET..=period, default, show_duration, report),
    }
}

/// The limits of a module and its instance.
fn limits(file: &PluginsFile, report: &Report<'_>) -> Limits {
    let bytes = |said: &Maybe<_>, range, default| {
        let said = said.as_ref().map(|said: &Said<Bytes>| Said {
            value: said.value.0,
            line: said.line,
            key: said.key.clone(),
        });
        ranged(&said, range, default, show_bytes, report)
    };
    let count = |said, range, default: u32| {
        // The cast is safe: no range ends above u32::MAX.
        ranged(said, range, default.into(), show_number, report) as u32
    };
    let init = LEAST_BUDGET..=MOST_INIT_BUDGET;
    let default = Limits::default();
    Limits {
        init_budget: ranged(&file.init_budget, init, default.init_budget, show_duration, report),
        memory_bytes: bytes(&file.memory, MEMORY, default.memory_bytes),
        table_elements: count(&file.table, TABLE, default.table_elements),
        stack_bytes: bytes(&file.stack, STACK, default.stack_bytes as u64) as usize,
        module_bytes: bytes(&file.module, MODULE, default.module_bytes),
        code_bytes: bytes(&file.code, CODE, default.code_bytes),
        functions: count(&file.functions, FUNCTIONS, default.functions),
        log_lines_per_s: count(&file.log_rate, LOG_RATE, default.log_lines_per_s),
    }
}

/// The settings of `[plugins.restart]`; the longest wait cannot be shorter than the first.
fn restart(file: &PluginsFile, report: &Report<'_>) -> RestartPolicy {
    let (file, default) = (&file.restart, RestartPolicy::default());
    let first = ranged(&file.first, FIRST, default.delay, show_duration, report);
    let max = ranged(&file.max, MAX, default.delay_max.max(first), show_duration, report);
    if let (Some(said), true) = (&file.max, max < first) {
        let right = format!("at least `first`, which is {}", show_duration(first));
        report.wrong_at(said, show_duration(max), right);
    }
    let traps = ranged(&file.traps, TRAPS, default.traps.into(), show_number, report);
    RestartPolicy {
        delay: first,
        delay_max: max,
        // The cast is safe: TRAPS ends far below u32::MAX.
        traps: traps as u32,
        window: ranged(&file.within, WITHIN, default.window, show_duration, report),
        on_quarantine: file.on_quarantine.as_ref().map(|said| said.value).unwrap_or_default(),
    }
}

/// The declared variables with their first values, in the order of the file.
pub(super) fn variables(file: &[VariableFile], report: &Report<'_>) -> Vec<(String, Variable)> {
    let mut lines = HashMap::new();
    let mut all = Vec::new();
    for (index, variable) in file.iter().enumerate() {
        let Some(name) = &variable.name else { continue };
        is_name(name, report);
        once(name, &mut lines, "variable", report);
        if index == MAX_VARIABLES {
            let right = format!("at most {MAX_VARIABLES} variables");
            report.wrong(name.line, "variable", format!("variable {}", index + 1), right);
        }
        let Some(kind) = variable.kind.as_ref().map(|said| said.value) else { continue };
        let value = match &variable.initial {
            None => Some(Variable::initial(kind)),
            Some(said) => understood(kind, said, report),
        };
        all.extend(value.map(|value| (name.value.clone(), value)));
    }
    all
}

/// The first value of a variable; `None` once a problem was reported.
fn understood(kind: VariableKind, said: &Said<Value>, report: &Report<'_>) -> Option<Variable> {
    let value = Variable::from_value(kind, said.value).filter(|_| said.value.is_finite());
    if value.is_none() {
        let right = match kind {
            VariableKind::Boolean => "true or false, for type boolean",
            VariableKind::Int => "a whole number of 32 bits, for type int",
            VariableKind::Double => "a finite number, for type double",
        };
        report.wrong_at(said, said.value.to_string(), right);
    }
    value
}

pub(super) fn state(dir: &Maybe<PathBuf>, here: &Surroundings<'_>) -> StateSettings {
    StateSettings { dir: here.path(dir, here.state()) }
}

/// The settings of `[retain]`; `declared` are the `variables` of the file with their first values.
pub(super) fn retain(
    file: &RetainFile,
    variables: &[VariableFile],
    declared: &[(String, Variable)],
    report: &Report<'_>,
) -> RetainSettings {
    let is_retained = |name: &str| {
        let is_it = |variable: &&VariableFile| {
            variable.name.as_ref().is_some_and(|said| said.value == name)
        };
        let found = variables.iter().find(is_it).and_then(|variable| variable.retain.as_ref());
        found.is_some_and(|said| said.value)
    };
    RetainSettings {
        variables: declared.iter().filter(|(name, _)| is_retained(name)).cloned().collect(),
        flush: ranged(&file.flush, FLUSH, DEFAULT_FLUSH, show_duration, report),
        on_corrupt: file.on_corrupt.as_ref().map(|said| said.value).unwrap_or_default(),
        on_readonly: file.on_readonly.as_ref().map(|said| said.value).unwrap_or_default(),
    }
}

/// The settings of `[control]`.
pub(super) fn control(
    file: &ControlFile,
    here: &Surroundings<'_>,
    report: &Report<'_>,
) -> ControlSettings {
    let socket = here.path(&file.socket, here.socket());
    let bytes = socket.as_os_str().len();
    if let (Some(said), true) = (&file.socket, bytes > MOST_SOCKET_BYTES) {
        let right = format!("at most {MOST_SOCKET_BYTES} bytes, the limit of a socket's path");
        report.wrong_at(said, format!("a path of {bytes} bytes"), right);
    }
    let mode = match file.mode.as_ref().map(|said| said.value) {
        None | Some(ModeWord::Owner) => 0o600,
        Some(ModeWord::Group) => 0o660,
    };
    ControlSettings { socket, mode }
}

pub(super) fn log(file: &LogFile) -> log::Settings {
    log::Settings {
        level: file.level.as_ref().map(|said| said.value.clone()).unwrap_or_default(),
        format: file.format.as_ref().map(|said| said.value).unwrap_or_default(),
    }
}

/// The folder of a file; empty if the path has none.
pub(super) fn folder(path: &Path) -> PathBuf {
    path.parent().map(Path::to_owned).unwrap_or_default()
}
