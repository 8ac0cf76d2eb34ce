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
//! Read on in `file.rs` (all keys), `points.rs` and `layout.rs` (the image), `grant.rs` (who may do
//! what), `check.rs` (ranges and defaults), `change.rs` (what differs after a reload), `note.rs`
//! (what is valid and almost certainly a slip), `disk.rs` (the file).

use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use crate::driver::MAX_DEVICES;
use crate::patience::PATIENCE;
use crate::plugin;
use crate::process::grant::Grant;
use crate::process::image::{PointId, Points};
use crate::process::variable::Variable;
use crate::retain::{OnCorrupt, OnReadonly};
use crate::stamp::Stamp;

mod change;
mod check;
mod disk;
mod driver;
mod file;
mod grant;
mod layout;
mod live;
mod note;
mod points;
mod problem;
mod read;
mod recovery;
mod scan;
mod socket;
mod swap;
#[cfg(test)]
mod tests;
mod word;

pub use change::{Change, Effect, How, Place, changes, has_other_field};
pub use disk::stamp;
pub use live::{Fixed, Live, PluginPlaces, PluginRules, ScanThread, ScanTimes};
pub use note::notes;
pub use problem::{Problem, Problems};
pub use recovery::RecoverySettings;
pub use socket::likely_sockets;

use check::Surroundings;
use file::ConfigFile;
use problem::Report;

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

/// A device in the field.
#[derive(Debug, Clone, PartialEq)]
pub struct Device {
    /// Its name, unique among devices.
    pub name: String,
    /// Its driver, with the settings of that driver.
    pub driver: crate::driver::Config,
}

/// The section `[state]`: where the daemon keeps what must outlive it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StateSettings {
    /// The folder, which no other daemon uses.
    pub dir: PathBuf,
}

/// The section `[retain]`: variables that outlive the daemon.
#[derive(Debug, Clone, PartialEq)]
pub struct RetainSettings {
    /// The variables marked `retain = true` with their first values, in the order of the file.
    pub variables: Vec<(String, Variable)>,
    /// The longest time until a changed value is on disk, not counting the write itself.
    pub flush: Duration,
    /// What the daemon does when no retain file is whole.
    pub on_corrupt: OnCorrupt,
    /// What the daemon does when the state directory takes no writes.
    pub on_readonly: OnReadonly,
}

/// The section `[control]`: how people reach the daemon.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ControlSettings {
    /// Path of the unix socket.
    pub socket: PathBuf,
    /// File mode of the socket: 0o600, or 0o660 to let its group in.
    pub mode: u32,
}

/// The section `[crash]`: reports of programs that trap.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct CrashSettings {
    /// Whether programs record what such a report needs.
    pub record: bool,
}

impl Config {
    /// Whether the configuration in force has a `[[variable]]` with this name.
    pub fn declares(&self, name: &str) -> bool {
        self.live.variables.iter().any(|(declared, _)| declared == name)
    }

    /// The settings of the plugin `name`, with or without an entry.
    ///
    /// A plugin without an entry is polled in every cycle, after the plugins that have one. It
    /// reads all inputs, and writes the outputs and variables that `[plugins] grant` leaves it.
    pub fn settings(&self, name: &str) -> plugin::Settings {
        let listed = self.live.programs.iter().find(|(listed, _)| listed == name);
        listed.map_or_else(
            || plugin::Settings {
                order: self.live.programs.len() as u32,
                every: 1,
                poll_budget: self.live.plugins.poll_budget,
                inputs: Grant::All,
                outputs: Grant::Only(self.live.unclaimed.clone()),
                variables: self.live.unlisted.clone(),
                hold: false,
                swap: self.live.plugins.swap,
                requires: Vec::new(),
                requires_timeout: Duration::ZERO,
            },
            |(_, settings)| settings.clone(),
        )
    }

    /// Whether the plugin `name` may write this output.
    pub fn may_write(&self, name: &str, output: PointId) -> bool {
        self.settings(name).outputs.allows(output)
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
    let here = Surroundings { folder: check::folder(path), env, before, is_root };
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
    let (rules, places) = check::plugins(&file.plugins, times.period, here, report);
    let names = points::names(file, here.before, report);
    let programs = grant::programs(&file.programs, &names, &rules, times.period, report);
    let devices = devices(file, here, report);
    let layout = layout::place(&file.devices, report);
    let variables = check::variables(&file.variables, report);
    let retain = check::retain(&file.retain, &file.variables, &variables, report);
    let recovery = recovery::recovery(&file.recovery, report);
    let control = check::control(&file.control, here, report);
    // `Points` accepts only correct points, so every check stands above this line.
    if !report.is_clean() {
        return None;
    }
    let points: Vec<_> = layout.points.into_iter().map(|p| (names[&*p.name].id, p)).collect();
    let names = devices.iter().map(|device| device.name.clone()).collect();
    let used = here.before.ids();
    let points = Points::numbered(points, used, names, layout.image_bytes).after(here.before);
    let points = Arc::new(points);
    try_devices(&file.devices, &devices, &points, report);
    let log = check::log(&file.log);
    let live = Live {
        scan: times,
        plugins: rules,
        programs: programs.listed,
        points,
        devices,
        variables,
        log_level: log.level,
        unclaimed: programs.unclaimed,
        unlisted: programs.unlisted,
    };
    let fixed = Fixed {
        scan: thread,
        plugins: places,
        state: check::state(&file.state, here),
        retain,
        recovery,
        control,
        crash: CrashSettings { record: file.crash.record.as_ref().is_none_or(|said| said.value) },
        log_format: log.format,
    };
    report.is_clean().then(|| Config { path: path.to_owned(), stamp: None, live, fixed })
}

fn devices(file: &ConfigFile<'_>, here: &Surroundings<'_>, report: &Report<'_>) -> Vec<Device> {
    let mut lines = std::collections::HashMap::new();
    let mut all = Vec::new();
    if let Some(device) = file.devices.get(MAX_DEVICES) {
        let found = format!("device {}", MAX_DEVICES + 1);
        report.wrong(device.rest.line, "device", found, format!("at most {MAX_DEVICES} devices"));
    }
    for device in &file.devices {
        let driver = driver::understand(device, &here.folder, report);
        if let Some(name) = &device.name {
            check::is_name(name, report);
            check::once(name, &mut lines, "device", report);
            all.extend(driver.map(|driver| Device { name: name.value.clone(), driver }));
        }
    }
    all
}

/// Asks each driver to check its device, because only the driver can tell whether what the device
/// names exists. All drivers together have [`PATIENCE`] to read their files.
fn try_devices(
    files: &[file::DeviceFile<'_>],
    devices: &[Device],
    points: &Arc<Points>,
    report: &Report<'_>,
) {
    let mut wires = std::collections::HashMap::new();
    let end = Instant::now() + PATIENCE;
    for (index, (file, device)) in files.iter().zip(devices).enumerate() {
        if let Some(wire) = device.driver.settings().wire()
            && let Some(other) = wires.insert(wire.clone(), &device.name)
        {
            let found = format!("{wire}, where device {other} is");
            let right = "one device with the units of both, which then share its connection";
            report.wrong(file.rest.line, &format!("{}.connect", file.rest.key), found, right);
        }
        let left = end.saturating_duration_since(Instant::now());
        let checked = crate::driver::check(&device.driver, points, index, left);
        let Err(error) = checked else { continue };
        let offset = driver::offset_of(&file.rest.value, &error.place);
        let mut line = offset.map_or(file.rest.line, |offset| report.line(offset));
        let mut key = file.rest.key.clone();
        let is_it = |point: &&file::PointFile<'_>| {
            point.name.as_ref().is_some_and(|said| Some(&said.value) == error.point.as_ref())
        };
        if let Some(point) = file.points.iter().find(is_it) {
            line = point.at.as_ref().map_or(point.place.line, |said| said.line);
            key = format!("{}.at", point.place.key);
        }
        if !error.place.is_empty() {
            key = format!("{key}.{}", error.place);
        }
        if error.is_late {
            report.late();
        }
        report.wrong(line, &key, error.found, error.wanted);
    }
}
