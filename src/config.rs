//! The configuration: from a TOML file to settings that are true.
//!
//! There are two layers. `ConfigFile` is what the file says: keys and types. [`Config`] is what
//! follows from it: defaults are filled in, names are resolved and everything is checked against
//! everything. After a [`Config`] is built, nothing is checked again. All mistakes of a file are
//! reported at once, as [`Problems`].
//!
//! A driver decides itself what its own keys mean. Whether the machine has the CPU, the folder or
//! the rights is not checked here: the parts that use them find that out.
//!
//! Read on in `file.rs` (all keys), then in the file of a section: its settings, ranges and
//! defaults stand there together, as in `scan.rs` or `plugins.rs`. Entries are in `device.rs`,
//! `points.rs` and `layout.rs` (the image), `variable.rs`, and `grant.rs` (who may do what).
//! `change.rs` has what differs after a reload, `note.rs` what is valid and almost certainly a
//! slip, and `disk.rs` the file.

use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use crate::process::image::Points;
use crate::stamp::Stamp;

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

pub use change::{Change, Effect, How, Place, changes, has_other_field};
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
use problem::Report;
use surroundings::Surroundings;

/// The whole configuration of a daemon, checked and with all defaults.
#[derive(Debug, Clone)]
pub struct Config {
    /// Path of the file that it was read from.
    pub path: PathBuf,
    /// State of that file when it was read; `None` if the text did not come from a file.
    pub stamp: Option<Stamp>,
    /// What a reload takes over while the daemon runs.
    pub live: Live,
    /// What counts from the start of the daemon to its end.
    pub fixed: Fixed,
}

impl Config {
    /// Whether the configuration in force has a `[[variable]]` with this name.
    pub fn declares(&self, name: &str) -> bool {
        self.live.variables.iter().any(|(declared, _)| declared == name)
    }
}

/// Reads the configuration file at `path`.
///
/// # Errors
/// All problems of the file, or the reason why it cannot be read.
pub fn load(path: &Path) -> Result<Config, Problems> {
    load_after(&Points::default(), path)
}

/// Reads the configuration file at `path` while the points `before` are in force: a point that
/// stays keeps its id.
///
/// # Errors
/// All problems of the file, or the reason why it cannot be read.
pub fn load_after(before: &Points, path: &Path) -> Result<Config, Problems> {
    let (text, stamp) = disk::text(path).map_err(|why| Problems::unreadable(path, &why))?;
    let config = parse_with(&text, path, before, &|name| std::env::var_os(name))?;
    Ok(Config { stamp: Some(stamp), ..config })
}

/// Reads a configuration from `text`, as if it were the file at `path`.
///
/// # Errors
/// All problems of the text.
pub fn parse(text: &str, path: &Path) -> Result<Config, Problems> {
    parse_with(text, path, &Points::default(), &|name| std::env::var_os(name))
}

fn parse_with(
    text: &str,
    path: &Path,
    before: &Points,
    env: &dyn Fn(&str) -> Option<OsString>,
) -> Result<Config, Problems> {
    let report = Report::new(text);
    let is_root = nix::unistd::geteuid().is_root();
    let here = Surroundings { folder: surroundings::folder(path), env, before, is_root };
    let config = read::document(text, &report, ConfigFile::read)
        .and_then(|file| decide(&file, path, &here, &report));
    config.ok_or_else(|| report.into_problems(path))
}

/// Turns what the file says into what is true; `None` if there is a problem in the report.
fn decide(
    file: &ConfigFile<'_>,
    path: &Path,
    here: &Surroundings<'_>,
    report: &Report<'_>,
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
    // `Points` accepts only correct points, so every check stands above this line.
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
