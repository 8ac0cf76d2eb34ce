//! The section `[plugins]`: the watched folder, the rules for all plugins, and the limits of a
//! module (the content of a `.wasm` file).
//!
//! This file checks the ranges and adds the defaults. The defaults of the limits are those of
//! [`Limits`], which `camshaft test` also uses without a configuration. The entries `[[plugin]]`
//! are in `grant.rs`, `[plugins.restart]` is in `restart.rs`, and `[plugins.swap]` is in `swap.rs`.
//!
//! The section in a file, with its defaults for a period of 10 ms:
//!
//! ```toml
//! [plugins]
//! dir = "plugins"               # beside the configuration file
//! grant = "all"
//! poll_budget = "2500us"        # a quarter of the period
//! init_budget = "500ms"
//! memory = "16MiB"
//! table = 10000
//! stack = "64KiB"
//! module = "16MiB"
//! code = "256MiB"
//! functions = 20000
//! log_rate = 100
//! compiler = "cranelift"
//! ```

use std::ops::RangeInclusive;
use std::path::PathBuf;
use std::time::Duration;

use super::check::{LEAST_BUDGET, budget, ranged, show_duration, show_number};
use super::file::{Maybe, PluginsFile};
use super::problem::{ProblemReport, Said};
use super::restart::restart;
use super::surroundings::Surroundings;
use super::swap::swap;
use super::word::{Bytes, GrantWord};
use crate::plugin::{Compiler, Limits, SwapPolicy};
use crate::supervisor::RestartPolicy;

/// The rules for all plugins. A reload can change these rules.
#[derive(Debug, Clone, PartialEq)]
pub struct PluginRules {
    /// If true, a plugin without a list may write all outputs and variables that no list names. If
    /// false, such a plugin may write no outputs and no variables.
    pub grant_all: bool,
    /// CPU time for one poll of a plugin whose entry has no key `poll_budget`, or that has no
    /// entry.
    pub poll_budget: Duration,
    /// The rules by which a program is restarted after a trap.
    pub restart: RestartPolicy,
    /// The rules by which a new version replaces the running version.
    pub swap: SwapPolicy,
}

/// The folder of the `.wasm` files, the folder of the artifacts (compiled modules), the limits of
/// modules, and the compiler. A change needs a restart of the daemon.
#[derive(Debug, Clone, PartialEq)]
pub struct PluginPlaces {
    /// The watched folder, which contains the modules.
    pub dir: PathBuf,
    /// Limits of a module and of its instance.
    pub limits: Limits,
    /// The compiler that translates modules into artifacts (machine code).
    pub compiler: Compiler,
    /// The folder in which artifacts are stored.
    pub cache: PathBuf,
}

/// The longest `plugins.init_budget`. A program that needs more than a minute for its start has a
/// defect.
const MOST_INIT_BUDGET: Duration = Duration::from_secs(60);

/// Range of `plugins.memory` in bytes: from one wasm page (64 KiB) to the largest 32-bit memory (4
/// GiB). With 4 GiB a program gets 4 GiB minus one page; `plugin/instance/wasm.rs` explains the
/// reason.
const MEMORY: RangeInclusive<u64> = 64 << 10..=4 << 30;

/// Range of `plugins.table` in elements. A guest cannot be stopped during an operation on its
/// table. Such an operation takes 0.1 ms for 100 000 elements, and 5 ms for a million elements.
const TABLE: RangeInclusive<u64> = 0..=100_000;

/// Range of `plugins.stack` in bytes. The sandbox needs at least 8 KiB. The upper limit bounds the
/// depth of calls. A chain of nested calls without a loop is stopped only when the stack is full. A
/// trap at a depth of 65 000 calls takes about 16 ms of a cycle.
const STACK: RangeInclusive<u64> = 8 << 10..=1 << 20;

/// Range of `plugins.module` in bytes. An empty module has 8 bytes. The compile worker (a child
/// process that only compiles) does not have enough memory to compile a module above 1 GiB.
const MODULE: RangeInclusive<u64> = 8..=1 << 30;

/// Range of `plugins.code` in bytes. The code of a plugin in a language with a standard library
/// does not fit into less than 1 MiB. No machine for this daemon has more than 16 GiB for compiled
/// code.
const CODE: RangeInclusive<u64> = 1 << 20..=16 << 30;

/// Range of `plugins.functions`. The upper limit is that of the implementation limits in the wasm
/// specification.
const FUNCTIONS: RangeInclusive<u64> = 1..=1_000_000;

/// Range of `plugins.log_rate` in log lines per second. Between two ticks of the daemon, the scan
/// has room for 1024 lines (`daemon/build.rs`).
const LOG_RATE: RangeInclusive<u64> = 0..=10_000;

/// Returns the settings of `[plugins]`. A budget cannot exceed `period`, the scan period.
pub(super) fn plugins(
    file: &PluginsFile,
    period: Duration,
    here: &Surroundings<'_>,
    report: &ProblemReport<'_>,
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

/// Returns the default of `plugins.cache`. These environment variables are tried in this order:
/// `CACHE_DIRECTORY` (set by systemd), `XDG_CACHE_HOME`, `HOME`. If none of them names a folder,
/// the default is `/var/cache/camshaft`.
fn usual_cache(here: &Surroundings<'_>) -> PathBuf {
    here.var("CACHE_DIRECTORY")
        .or_else(|| Some(here.var("XDG_CACHE_HOME")?.join("camshaft")))
        .or_else(|| Some(here.var("HOME")?.join(".cache/camshaft")))
        .unwrap_or_else(|| "/var/cache/camshaft".into())
}

/// Returns the limits of a module and of its instance.
fn limits(file: &PluginsFile, report: &ProblemReport<'_>) -> Limits {
    let bytes = |said: &Maybe<_>, range, default| {
        let said = said.as_ref().map(|said: &Said<Bytes>| Said {
            value: said.value.0,
            line: said.line,
            key: said.key.clone(),
        });
        ranged(&said, range, default, show_bytes, report)
    };
    let count = |said, range, default: u32| {
        // The cast is safe: all ranges end below u32::MAX.
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

/// Returns a size as a user writes it in the file, such as `64KiB`.
fn show_bytes(bytes: u64) -> String {
    let exact = |shift: u32| bytes >= 1 << shift && bytes.trailing_zeros() >= shift;
    match [(30, "GiB"), (20, "MiB"), (10, "KiB")].into_iter().find(|&(shift, _)| exact(shift)) {
        Some((shift, unit)) => format!("{}{unit}", bytes >> shift),
        None => format!("{bytes} bytes"),
    }
}
