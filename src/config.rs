//! The configuration: from a TOML file to settings that are true.
//!
//! Two layers. `ConfigFile` is what the file says: keys and types. [`Config`] is what follows from
//! it, with defaults filled in, names resolved and everything checked against everything: once it
//! is built, nothing is checked again. All that is wrong is reported at once, as [`Problems`]. What
//! a driver's own keys mean is left to the driver, and whether the machine has the CPU, the folder
//! or the rights is found out by those who use them.
//!
//! Read on in `file.rs` (all keys), `points.rs` and `layout.rs` (the image), `grant.rs` (who may do
//! what), `check.rs` (ranges and defaults), `change.rs` (what differs after a reload), `note.rs`
//! (what is lawful and nearly surely a slip), `disk.rs` (the file).

use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use crate::driver::MAX_DEVICES;
use crate::image::{PointId, Points};
use crate::log;
use crate::patience::PATIENCE;
use crate::plugin::{self, Compiler, Grant, Limits, SwapPolicy, VariableGrant};
use crate::retain::{OnCorrupt, OnReadonly};
use crate::scan::thread;
use crate::stamp::Stamp;
use crate::supervisor::RestartPolicy;
use crate::variable::Variable;

mod change;
mod check;
mod disk;
mod driver;
mod file;
mod grant;
mod layout;
mod note;
mod points;
mod problem;
mod read;
mod recovery;
mod scan;
mod swap;
#[cfg(test)]
mod tests;
mod word;

pub use change::{Change, Effect, How, Place, changes, has_other_field};
pub use disk::stamp;
pub use note::notes;
pub use problem::{Problem, Problems};
pub use recovery::RecoverySettings;

use check::Surroundings;
use file::ConfigFile;
use problem::Report;

/// Everything that is configured.
#[derive(Debug, Clone)]
pub struct Config {
    /// The file it came from.
    pub path: PathBuf,
    /// That file's state when it was read; `None` if it was never a file.
    pub stamp: Option<Stamp>,
    /// `[scan]`
    pub scan: thread::Settings,
    /// `[plugins]`
    pub plugins: PluginsSettings,
    /// The entries `[[plugin]]`, by the name of the file without `.wasm`, in their order.
    pub programs: Vec<(String, plugin::Settings)>,
    /// All points of all devices.
    pub points: Arc<Points>,
    /// The entries `[[device]]`, in their order: [`Point::device`](crate::image::Point) counts
    /// here.
    pub devices: Vec<Device>,
    /// The entries `[[variable]]` with their first values, in their order.
    pub variables: Vec<(String, Variable)>,
    /// `[state]`
    pub state: StateSettings,
    /// `[retain]`
    pub retain: RetainSettings,
    /// `[recovery]`
    pub recovery: RecoverySettings,
    /// `[control]`
    pub control: ControlSettings,
    /// `[crash]`
    pub crash: CrashSettings,
    /// `[log]`
    pub log: log::Settings,
    /// Outputs of a plugin that has no list of its own.
    unclaimed: Vec<crate::image::PointId>,
    /// Variables that a plugin without a list of its own may write.
    unlisted: VariableGrant,
}

/// What all plugins share.
#[derive(Debug, Clone, PartialEq)]
pub struct PluginsSettings {
    /// The watched folder.
    pub dir: PathBuf,
    /// Whether a plugin without a list of outputs, or of variables, gets all that nobody was
    /// granted by name.
    pub grant_all: bool,
    /// CPU time for one poll of a plugin that has no budget of its own.
    pub poll_budget: Duration,
    /// What a module may be and an instance may use.
    pub limits: Limits,
    /// When a program that traps is started again.
    pub restart: RestartPolicy,
    /// How a new version takes over from the one that runs.
    pub swap: SwapPolicy,
    /// Which compiler makes the artifacts.
    pub compiler: Compiler,
    /// Where the artifacts are kept.
    pub cache: PathBuf,
}

/// A device in the field.
#[derive(Debug, Clone, PartialEq)]
pub struct Device {
    /// Its name, unique among devices.
    pub name: String,
    /// Its driver, with the settings of that driver.
    pub driver: crate::driver::Config,
}

/// Where the daemon keeps what shall outlive it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StateSettings {
    /// A folder of this daemon alone.
    pub dir: PathBuf,
}

/// Variables that outlive the daemon.
#[derive(Debug, Clone, PartialEq)]
pub struct RetainSettings {
    /// The variables marked `retain = true` with their first values, in their order.
    pub variables: Vec<(String, Variable)>,
    /// A change of theirs is on disk after this time at the latest, and that of one write.
    pub flush: Duration,
    /// What to do when no whole file is left.
    pub on_corrupt: OnCorrupt,
    /// What to do when the state directory takes no writes.
    pub on_readonly: OnReadonly,
}

/// How people reach the daemon.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ControlSettings {
    /// Path of the unix socket.
    pub socket: PathBuf,
    /// Its mode: 0o600, or 0o660 to let its group in.
    pub mode: u32,
}

/// Reports of programs that trap.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct CrashSettings {
    /// Whether programs keep what such a report needs.
    pub record: bool,
}

impl Config {
    /// Whether a `[[variable]]` that counts has this name.
    pub fn declares(&self, name: &str) -> bool {
        self.variables.iter().any(|(declared, _)| declared == name)
    }

    /// Takes over from `new` what of its `changes` can change live. A variable that is gone keeps
    /// its value until the next restart.
    pub fn adopt(&mut self, new: &Self, changes: &[Change]) {
        for change in changes.iter().filter(|change| change.is_live()) {
            match &change.place {
                Place::Key("scan.period") => self.scan.period = new.scan.period,
                Place::Key("scan.stall") => self.scan.stall = new.scan.stall,
                Place::Key("scan.stall_exit") => self.scan.stall_exit = new.scan.stall_exit,
                Place::Key("plugins.grant") => self.plugins.grant_all = new.plugins.grant_all,
                Place::Key("plugins.poll_budget") => {
                    self.plugins.poll_budget = new.plugins.poll_budget;
                }
                Place::Key("plugins.restart") => self.plugins.restart = new.plugins.restart,
                Place::Key("plugins.swap") => self.plugins.swap = new.plugins.swap,
                Place::Key("log.level") => self.log.level.clone_from(&new.log.level),
                Place::Variable(name) => {
                    self.variables.retain(|(ours, _)| ours != name);
                    let theirs = new.variables.iter().find(|(theirs, _)| theirs == name);
                    self.variables.extend(theirs.cloned());
                }
                Place::Key(_) | Place::Plugin(..) | Place::Device(..) | Place::Point(..) => {}
            }
        }
        // What follows from several keys is taken over as a whole, or not at all.
        if !change::has_moved(changes) {
            self.programs.clone_from(&new.programs);
            self.unclaimed.clone_from(&new.unclaimed);
            self.unlisted.clone_from(&new.unlisted);
            if has_other_field(changes) {
                self.devices.clone_from(&new.devices);
                self.points = Arc::clone(&new.points);
            }
        }
    }

    /// The settings of the plugin `name`, whether it has an entry or not.
    ///
    /// Without an entry it is polled in every cycle after those that have one, reads all inputs,
    /// and writes the outputs and variables that `[plugins] grant` leaves it.
    pub fn settings(&self, name: &str) -> plugin::Settings {
        let listed = self.programs.iter().find(|(listed, _)| listed == name);
        listed.map_or_else(
            || plugin::Settings {
                order: self.programs.len() as u32,
                every: 1,
                poll_budget: self.plugins.poll_budget,
                inputs: Grant::All,
                outputs: Grant::Only(self.unclaimed.clone()),
                variables: self.unlisted.clone(),
                hold: false,
                swap: self.plugins.swap,
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
/// Everything that is wrong with it, or that it cannot be read.
pub fn load(path: &Path) -> Result<Config, Problems> {
    load_after(&Points::default(), path)
}

/// The same while these points are in force: those that stay keep their ids.
///
/// # Errors
/// As [`load`].
pub fn load_after(before: &Points, path: &Path) -> Result<Config, Problems> {
    let (text, stamp) = disk::text(path).map_err(|why| Problems::unreadable(path, &why))?;
    let config = parse_with(&text, path, before, &|name| std::env::var_os(name))?;
    Ok(Config { stamp: Some(stamp), ..config })
}

/// Reads a configuration from `text`, as if it were the file at `path`.
///
/// # Errors
/// Everything that is wrong with it.
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

/// Turns what the file says into what is true; `None` if anything was reported.
fn decide(
    file: &ConfigFile<'_>,
    path: &Path,
    here: &Surroundings<'_>,
    report: &Report<'_>,
) -> Option<Config> {
    let scan = scan::scan(&file.scan, report);
    let plugins = check::plugins(&file.plugins, scan.period, here, report);
    let names = points::names(file, here.before, report);
    let programs = grant::programs(&file.programs, &names, &plugins, scan.period, report);
    let devices = devices(file, here, report);
    let layout = layout::place(&file.devices, report);
    let variables = check::variables(&file.variables, report);
    let retain = check::retain(&file.retain, &file.variables, &variables, report);
    let recovery = recovery::recovery(&file.recovery, report);
    let control = check::control(&file.control, here, report);
    // Only now: `Points` takes nothing that is wrong.
    if !report.is_clean() {
        return None;
    }
    let points: Vec<_> = layout.points.into_iter().map(|p| (names[&*p.name].id, p)).collect();
    let names = devices.iter().map(|device| device.name.clone()).collect();
    let used = here.before.ids();
    let points = Points::numbered(points, used, names, layout.image_bytes).after(here.before);
    let points = Arc::new(points);
    try_devices(&file.devices, &devices, &points, report);
    report.is_clean().then(|| Config {
        path: path.to_owned(),
        stamp: None,
        scan,
        plugins,
        programs: programs.listed,
        points,
        devices,
        variables,
        state: check::state(&file.state, here),
        retain,
        recovery,
        control,
        crash: CrashSettings { record: file.crash.record.as_ref().is_none_or(|said| said.value) },
        log: check::log(&file.log),
        unclaimed: programs.unclaimed,
        unlisted: programs.unlisted,
    })
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

/// Asks each driver whether it could be, because only it can tell whether what it names exists. All
/// of them together have [`PATIENCE`] to read their files.
fn try_devices(
    files: &[file::DeviceFile<'_>],
    devices: &[Device],
    points: &Arc<Points>,
    report: &Report<'_>,
) {
    let mut wires = std::collections::HashMap::new();
    let end = Instant::now() + PATIENCE;
    for (index, (file, device)) in files.iter().zip(devices).enumerate() {
        if let Some(wire) = device.driver.wire()
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
