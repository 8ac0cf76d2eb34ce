//! The section `[plugins]`: the watched folder, the rules for all plugins, the limits of modules.
//!
//! The defaults of the limits are those of [`Limits`], which hold without a configuration too. The
//! entries `[[plugin]]` are in `grant.rs`, `[plugins.restart]` is in `restart.rs` and
//! `[plugins.swap]` in `swap.rs`.

use std::ops::RangeInclusive;
use std::path::PathBuf;
use std::time::Duration;

use super::check::{LEAST_BUDGET, budget, ranged, show_duration, show_number};
use super::file::{Maybe, PluginsFile};
use super::problem::{Report, Said};
use super::restart::restart;
use super::surroundings::Surroundings;
use super::swap::swap;
use super::word::{Bytes, GrantWord};
use crate::plugin::{Compiler, Limits, SwapPolicy};
use crate::supervisor::RestartPolicy;

/// The rules that all plugins share.
#[derive(Debug, Clone, PartialEq)]
pub struct PluginRules {
    /// Whether a plugin without a list of outputs or of variables gets all those that no other
    /// plugin's list names.
    pub grant_all: bool,
    /// CPU time for one poll of a plugin that has no budget of its own.
    pub poll_budget: Duration,
    /// The rule by which a program that trapped is started again.
    pub restart: RestartPolicy,
    /// The rule by which a new version takes over from the running one.
    pub swap: SwapPolicy,
}

/// Where modules come from, what they may be, and what makes artifacts of them.
#[derive(Debug, Clone, PartialEq)]
pub struct PluginPlaces {
    /// The watched folder.
    pub dir: PathBuf,
    /// Limits of a module and of its instance.
    pub limits: Limits,
    /// The compiler that makes the artifacts.
    pub compiler: Compiler,
    /// The folder of the artifacts.
    pub cache: PathBuf,
}

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
        restart: restart(&file.restart, report),
        swap: swap(&file.swap, period, report),
    };
    let places = PluginPlaces {
        dir: here.path(&file.dir, here.folder.join("plugins")),
        limits: limits(file, report),
        compiler: file.compiler.as_ref().map(|said| said.value).unwrap_or_default(),
        cache: here.path(&file.cache, usual_cache(here)),
    };
    (rules, places)
}

/// Default of `plugins.cache`: systemd's folder, else the user's, else the machine's.
fn usual_cache(here: &Surroundings<'_>) -> PathBuf {
    here.var("CACHE_DIRECTORY")
        .or_else(|| Some(here.var("XDG_CACHE_HOME")?.join("camshaft")))
        .or_else(|| Some(here.var("HOME")?.join(".cache/camshaft")))
        .unwrap_or_else(|| "/var/cache/camshaft".into())
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

/// A size as it is written in the file.
fn show_bytes(bytes: u64) -> String {
    let exact = |shift: u32| bytes >= 1 << shift && bytes.trailing_zeros() >= shift;
    match [(30, "GiB"), (20, "MiB"), (10, "KiB")].into_iter().find(|&(shift, _)| exact(shift)) {
        Some((shift, unit)) => format!("{}{unit}", bytes >> shift),
        None => format!("{bytes} bytes"),
    }
}
