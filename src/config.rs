//! Reads the configuration: turns a TOML file into the checked settings of a daemon.
//!
//! ```text
//! file ─ disk.rs ─▶ text ─ read.rs, file.rs ─▶ ConfigFile ─ decide ─▶ Config { live, fixed }
//! ```
//!
//! There are two layers. `ConfigFile` has the keys of the file with their types, and no defaults.
//! [`Config`] is built from `ConfigFile`: defaults are filled in, names are resolved, and the
//! values are checked against each other. After a [`Config`] is built, no code repeats these
//! checks. [`Problems`] contains all mistakes that were found in the file. After a syntax error,
//! nothing else is checked. The drivers check their devices only if no other mistake was found.
//!
//! Each driver defines the meaning of its own keys. The Rust files of this folder do not check
//! whether the machine has enough CPUs, whether the plugin folder exists, or whether the daemon has
//! the necessary rights. These errors are reported later, by the parts of the daemon that use the
//! CPUs, the folder or the rights.
//!
//! Read `file.rs` next (all keys), then the file of one section, such as `scan.rs` or `plugins.rs`.
//! The file of a section has its settings, their ranges and their defaults. The checks of the
//! entries (TOML tables in double brackets, such as `[[device]]`) are in these Rust files:
//! - `device.rs`: the devices; `points.rs` and `layout.rs`: the points and their addresses,
//! - `variable.rs`: the variables; `grant.rs`: the plugins and their rights.
//!
//! `change.rs` compares two configurations, for a reload and for `camshaft diff`. `note.rs` finds
//! entries that are valid but are probably mistakes.

use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use crate::process::image::Points;
use crate::stamp::Stamp;

mod bounds;
mod change;
mod check;
mod control;
mod crash;
mod device;
mod disk;
mod driver;
mod file;
mod grant;
mod layout;
mod live;
mod note;
mod plugins;
mod points;
mod problem;
mod read;
mod recovery;
mod restart;
mod retain;
mod scan;
mod state;
mod surroundings;
mod swap;
#[cfg(test)]
mod tests;
mod variable;
mod word;

pub use change::{Change, ConfigPlace, Effect, How, changes, has_other_field};
pub use control::{ControlSettings, likely_sockets};
pub use crash::CrashSettings;
pub use device::Device;
pub use disk::stamp;
pub use live::{Fixed, Live};
pub use note::notes;
pub use plugins::{PluginPlaces, PluginRules};
pub use problem::{Problem, Problems};
pub use recovery::RecoverySettings;
pub use retain::RetainSettings;
pub use scan::{ScanThread, ScanTimes};
pub use state::StateSettings;

use device::{devices, try_devices};
use file::ConfigFile;
use problem::ProblemReport;
use surroundings::Surroundings;

/// The whole configuration of a daemon: checked, and with all defaults filled in.
#[derive(Debug, Clone)]
pub struct Config {
    /// Path of the file from which the configuration was read.
    pub path: PathBuf,
    /// The stamp of the file (its identity, size and timestamps), taken just before the text was
    /// read; `None` if the text did not come from a file.
    pub stamp: Option<Stamp>,
    /// The settings that a reload replaces while the daemon runs.
    pub live: Live,
    /// The settings that do not change from the start of the daemon to its end.
    pub fixed: Fixed,
}

impl Config {
    /// Whether this configuration has a `[[variable]]` with this name.
    pub fn declares(&self, name: &str) -> bool {
        self.live.variables.iter().any(|(declared, _)| declared == name)
    }
}

/// Reads the configuration file at `path`. The daemon calls this function at its start, and so do
/// the commands that need a configuration but no daemon.
///
/// # Errors
/// All problems of the file, or the reason why the file cannot be read.
pub fn load(path: &Path) -> Result<Config, Problems> {
    load_after(&Points::default(), path)
}

/// Reads the configuration file at `path` for a reload. `before` are the points that the daemon
/// uses now. A point that is in `before`, or that an earlier reload has removed, gets its old id,
/// because programs may use that id.
///
/// # Errors
/// All problems of the file, or the reason why the file cannot be read.
pub fn load_after(before: &Points, path: &Path) -> Result<Config, Problems> {
    let (text, stamp) = disk::text(path).map_err(|why| Problems::unreadable(path, &why))?;
    let config = parse_with(&text, path, before, &|name| std::env::var_os(name))?;
    Ok(Config { stamp: Some(stamp), ..config })
}

/// Reads a configuration from `text`. Messages show `path` as the path of the configuration file.
/// Relative paths in `text` start from the folder of `path`.
///
/// # Errors
/// All problems of the text.
pub fn parse(text: &str, path: &Path) -> Result<Config, Problems> {
    parse_with(text, path, &Points::default(), &|name| std::env::var_os(name))
}

/// Reads a configuration from `text`. `before` are the points that the daemon uses now. `env`
/// returns the value of an environment variable; the tests pass their own function.
fn parse_with(
    text: &str,
    path: &Path,
    before: &Points,
    env: &dyn Fn(&str) -> Option<OsString>,
) -> Result<Config, Problems> {
    let report = ProblemReport::new(text);
    let is_root = nix::unistd::geteuid().is_root();
    let here = Surroundings { folder: surroundings::folder(path), env, before, is_root };
    let config = read::document(text, &report, ConfigFile::read)
        .and_then(|file| decide(&file, path, &here, &report));
    config.ok_or_else(|| report.into_problems(path))
}

/// Builds the configuration from the keys of the file. Returns `None` if the report contains a
/// problem.
///
/// The order of the calls matters: budgets need the scan period, and grants need the names of the
/// points. The drivers check their devices last, because they need the addresses of all points.
fn decide(
    file: &ConfigFile<'_>,
    path: &Path,
    here: &Surroundings<'_>,
    report: &ProblemReport<'_>,
) -> Option<Config> {
    let (times, thread) = scan::scan(&file.scan, report);
    let (rules, places) = plugins::plugins(&file.plugins, times.period, here, report);
    let names = points::names(file, here.before, report);
    let programs = grant::programs(&file.programs, &names, &rules, times.period, report);
    let devices = devices(&file.devices, here, report);
    let layout = layout::place(&file.devices, report);
    let variables = variable::variables(&file.variables, report);
    let retain = retain::retain(&file.retain, &file.variables, &variables, report);
    let recovery = recovery::recovery(&file.recovery, report);
    let control = control::control(&file.control, here, report);
    // `Points::numbered` panics on incorrect points, so all checks of points are above this line.
    if !report.is_clean() {
        return None;
    }
    let points: Vec<_> = layout.points.into_iter().map(|p| (names[&*p.name].id, p)).collect();
    let names = devices.iter().map(|device| device.name.to_string()).collect();
    let used = here.before.ids();
    let points = Points::numbered(points, used, names, layout.image_bytes).after(here.before);
    let points = Arc::new(points);
    try_devices(&file.devices, &devices, &points, report);
    let live = Live {
        scan: times,
        plugins: rules,
        programs: programs.listed,
        points,
        devices,
        variables,
        log_level: file.log.level.as_ref().map(|said| said.value.clone()).unwrap_or_default(),
        unclaimed: programs.unclaimed,
        unlisted: programs.unlisted,
    };
    let fixed = Fixed {
        scan: thread,
        plugins: places,
        state: state::state(&file.state, here),
        retain,
        recovery,
        control,
        crash: crash::crash(&file.crash),
        log_format: file.log.format.as_ref().map(|said| said.value).unwrap_or_default(),
    };
    report.is_clean().then(|| Config { path: path.to_owned(), stamp: None, live, fixed })
}
