//! Ranges, names and defaults: from single keys to `plugins`, `retain`, `state`, `control`, `log`,
//! variables.
//!
//! `scan` is in `scan.rs`, points are in `points.rs` and `layout.rs`, grants and budgets of
//! programs in `grant.rs`, `plugins.swap` in `swap.rs`.

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
use super::{ControlSettings, PluginsSettings, RetainSettings, StateSettings};
use crate::image::{Points, Value};
use crate::log;
use crate::plugin::Limits;
use crate::supervisor::RestartPolicy;
use crate::variable::{MAX_NAME_BYTES, MAX_VARIABLES, Variable, VariableKind};

/// Below 10 us the stop itself costs as much as the program.
pub(super) const LEAST_BUDGET: Duration = Duration::from_micros(10);

/// A program that needs a minute to start is broken.
const MOST_INIT_BUDGET: Duration = Duration::from_secs(60);

/// One wasm page, and all that a 32-bit memory can have; the last page of these is never given,
/// see `plugin/wasm.rs`.
const MEMORY: RangeInclusive<u64> = 64 << 10..=4 << 30;

/// An operation on a table of 100 000 elements takes 0.1 ms, one on a million takes 5 ms, and
/// cannot be stopped in between.
const TABLE: RangeInclusive<u64> = 0..=100_000;

/// The least that the sandbox takes. The most bounds how deep calls go: a trap 65 000 calls deep
/// takes some 16 ms of a cycle, and calls that only go deeper are not stopped before that.
const STACK: RangeInclusive<u64> = 8 << 10..=1 << 20;

/// An empty module has 8 bytes; a larger one than 1 GiB could not be compiled in the child's
/// memory.
const MODULE: RangeInclusive<u64> = 8..=1 << 30;

/// Less than 1 MiB is no plugin of any language with a library, more than 16 GiB no machine that
/// this runs on.
const CODE: RangeInclusive<u64> = 1 << 20..=16 << 30;

/// The most that the wasm specification's implementation limits let a module have.
const FUNCTIONS: RangeInclusive<u64> = 1..=1_000_000;

/// The ring between scan and log holds a few thousand lines.
const LOG_RATE: RangeInclusive<u64> = 0..=10_000;

/// Longer waits are an operator's business: hold and release.
pub(super) const RESTART: RangeInclusive<Duration> = Duration::ZERO..=Duration::from_secs(3600);

/// Below 1 s a program that falls over at each of its starts would be quiet for as long between two
/// traps, and every restart would be a first one, at once.
const WITHIN: RangeInclusive<Duration> = Duration::from_secs(1)..=Duration::from_secs(3600);

/// Nothing doubled stays nothing, and a wait that never grows is no backoff.
const FIRST: RangeInclusive<Duration> = Duration::from_millis(1)..=Duration::from_secs(3600);

/// So that a program that always traps and is never quarantined, because `traps` is large and
/// `within` short, is started twenty times a second at most.
const MAX: RangeInclusive<Duration> = Duration::from_millis(50)..=Duration::from_secs(3600);

/// Every trap in the window is remembered.
const TRAPS: RangeInclusive<u64> = 1..=100;

/// Quicker than a disk can flush makes no sense; what is written once an hour is nearly not kept.
const FLUSH: RangeInclusive<Duration> = Duration::from_millis(5)..=Duration::from_secs(3600);

/// 5 s: 6 million writes a year at most, and no more is lost than an operator remembers.
const DEFAULT_FLUSH: Duration = Duration::from_secs(5);

/// Bytes of a socket path in `sockaddr_un`, less the final zero.
const MOST_SOCKET_BYTES: usize = 107;

/// Where the process finds itself: what relative paths count from, and its environment.
pub(super) struct Surroundings<'e> {
    /// The folder of the configuration file.
    pub(super) folder: PathBuf,
    /// Looks up an environment variable.
    pub(super) env: &'e dyn Fn(&str) -> Option<OsString>,
    /// The points in force, if a daemon runs already.
    pub(super) before: &'e Points,
    /// Whether this is the machine's own daemon and not that of somebody with a home.
    pub(super) is_root: bool,
}

impl Surroundings<'_> {
    fn path(&self, said: &Maybe<PathBuf>, default: PathBuf) -> PathBuf {
        said.as_ref().map_or(default, |said| self.folder.join(&said.value))
    }

    /// A folder from the environment. Relative ones do not count, as the XDG specification has it;
    /// of the several that systemd may list, the first is ours.
    fn var(&self, name: &str) -> Option<PathBuf> {
        let value = (self.env)(name)?;
        std::env::split_paths(&value).next().filter(|path| path.is_absolute())
    }

    fn cache(&self) -> PathBuf {
        self.var("CACHE_DIRECTORY")
            .or_else(|| Some(self.var("XDG_CACHE_HOME")?.join("camshaft")))
            .or_else(|| Some(self.var("HOME")?.join(".cache/camshaft")))
            .unwrap_or_else(|| "/var/cache/camshaft".into())
    }

    fn state(&self) -> PathBuf {
        let home = || self.var("HOME").filter(|_| !self.is_root);
        self.var("STATE_DIRECTORY")
            .or_else(|| Some(self.var("XDG_STATE_HOME")?.join("camshaft")))
            .or_else(|| Some(home()?.join(".local/state/camshaft")))
            .unwrap_or_else(|| "/var/lib/camshaft".into())
    }

    fn socket(&self) -> PathBuf {
        self.var("RUNTIME_DIRECTORY")
            .or_else(|| Some(self.var("XDG_RUNTIME_DIR")?.join("camshaft")))
            .unwrap_or_else(|| "/run/camshaft".into())
            .join("control.sock")
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

/// A duration as the file would say it.
pub(super) fn show_duration(duration: Duration) -> String {
    humantime::format_duration(duration).to_string()
}

/// A size as the file would say it.
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

/// Whether a name can be typed on a command line and be part of a file name.
pub(super) fn is_name(name: &Said<String>, report: &Report<'_>) -> bool {
    let text = &name.value;
    let good = text.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"_-.".contains(&byte))
        && text.starts_with(|first: char| first.is_ascii_alphanumeric() || first == '_')
        && text.len() <= MAX_NAME_BYTES;
    if !good {
        let right = format!(
            "1 to {MAX_NAME_BYTES} of the characters A-Z a-z 0-9 _ - . with - and . not first"
        );
        report.wrong_at(name, format!("{text:?}"), right);
    }
    good
}

/// Whether a name occurs for the first time; `lines` remembers where that was.
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

pub(super) fn plugins(
    file: &PluginsFile,
    period: Duration,
    here: &Surroundings<'_>,
    report: &Report<'_>,
) -> PluginsSettings {
    PluginsSettings {
        dir: here.path(&file.dir, here.folder.join("plugins")),
        grant_all: file.grant.as_ref().is_none_or(|said| said.value == GrantWord::All),
        poll_budget: budget(&file.poll_budget, period, period / 4, report),
        limits: limits(file, report),
        restart: restart(file, report),
        swap: swap(&file.swap, period, report),
        compiler: file.compiler.as_ref().map(|said| said.value).unwrap_or_default(),
        cache: here.path(&file.cache, here.cache()),
    }
}

/// A poll budget; it cannot exceed the period.
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

/// `declared` are the same variables with their first values.
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

/// The folder of a file, which may be named without one.
pub(super) fn folder(path: &Path) -> PathBuf {
    path.parent().map(Path::to_owned).unwrap_or_default()
}
