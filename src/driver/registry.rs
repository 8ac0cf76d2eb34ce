//! The list of drivers: how a device of each kind is planned and started.
//!
//! A plan may wait for files. A start waits for nothing. A plan touches nothing in the field, so a
//! plan that comes too late is dropped without a trace. The files that a configuration names may be
//! on a disk that does not answer. Therefore a thread of its own makes the plan of such a device,
//! within a time limit. Files that a device reads later, on its own thread, are not handled here.
//! The contract of a device is in `mod.rs`.

use std::collections::{BTreeMap, HashMap};
use std::fmt;
use std::io;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use super::export::{Exports, exports};
use super::link::Link;
use super::{Config, Driver, Named, OpenError, file, gpio, modbus, modbus_server, mqtt, sim};
use crate::image::Points;
use crate::patience::{self, PATIENCE, Places};

/// The maximum number of plans that wait for the same files at one time. A reload makes one plan
/// after the other. After this many failed tries the answer is known without another one.
const MAX_PLANS: usize = 4;

/// The maximum number of groups of files for which plans wait at one time. A group is the files of
/// one device. Each new configuration may name other files. Each group has places of its own, so
/// files on a disk that hangs take no place from files on a disk that answers.
const MAX_GROUPS: usize = 32;

/// The waiting places of each group of files. The waiting threads outlive the device, so this
/// belongs to the process.
static GROUPS: Groups = Groups(Mutex::new(BTreeMap::new()));

/// Waiting places, by the paths of a group's files.
struct Groups(Mutex<BTreeMap<Vec<PathBuf>, Places>>);

/// A device that is ready to be started.
pub struct Plan(Box<dyn FnOnce() -> io::Result<Box<dyn Driver>> + Send>);

impl fmt::Debug for Plan {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Plan")
    }
}

impl Plan {
    fn new<D: Driver + 'static>(start: impl FnOnce() -> io::Result<D> + Send + 'static) -> Self {
        Self(Box::new(|| Ok(Box::new(start()?) as Box<dyn Driver>)))
    }

    /// Starts the device, which works on its wire from then on. The scan must not call this.
    ///
    /// # Errors
    /// When the system has no thread or no descriptor to give. A device that does not answer is no
    /// error here, because it may answer later.
    pub fn start(self) -> Result<Box<dyn Driver>, OpenError> {
        let failed =
            |error| OpenError::new("driver", format!("{error}"), "threads and descriptors");
        (self.0)().map_err(failed)
    }
}

/// Plans device number `device` of the configuration. Waits for the device's files, at most
/// `limit`.
///
/// # Errors
/// When the device cannot be what its configuration says, or when its files do not answer.
pub fn plan(
    config: &Config,
    points: &Arc<Points>,
    device: usize,
    exports: &Exports,
    limit: Duration,
) -> Result<Plan, OpenError> {
    let files = config.files();
    if files.is_empty() {
        return plan_now(config, points, device, exports);
    }
    if limit.is_zero() {
        let why = "not read: the files of the devices before have taken all the time";
        return Err(no_answer(&files, &patience::late(why)));
    }
    let (config, points, exports) = (config.clone(), Arc::clone(points), exports.clone());
    let work = move || Ok(plan_now(&config, &points, device, &exports));
    GROUPS
        .places(&files)
        .and_then(|places| patience::wait_in(&places, limit, work))
        .unwrap_or_else(|error| Err(no_answer(&files, &error)))
}

impl Groups {
    /// The waiting places for plans that need these files.
    fn places(&self, files: &[Named]) -> io::Result<Places> {
        let files: Vec<_> = files.iter().map(|(_, path)| path.clone()).collect();
        // The map is never left half changed, so a panic in another thread does not spoil it.
        let mut groups = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        groups.retain(|_, places| !places.are_idle());
        if groups.len() >= MAX_GROUPS && !groups.contains_key(&files) {
            let why = format!("the files of {MAX_GROUPS} other devices still give no answer");
            return Err(patience::late(why));
        }
        Ok(groups.entry(files).or_insert_with(|| Places::new(MAX_PLANS)).clone())
    }
}

/// Checks whether the device can be what its configuration says: plans it and drops the plan.
///
/// # Errors
/// The errors of [`plan`].
pub fn check(
    config: &Config,
    points: &Arc<Points>,
    device: usize,
    limit: Duration,
) -> Result<(), OpenError> {
    plan(config, points, device, &exports().1, limit).map(drop)
}

/// Plans a device and starts it. Waits for the device's files, at most [`PATIENCE`].
///
/// # Errors
/// The errors of [`plan`] and [`Plan::start`].
pub fn open(
    config: &Config,
    points: &Arc<Points>,
    device: usize,
    exports: &Exports,
) -> Result<Box<dyn Driver>, OpenError> {
    plan(config, points, device, exports, PATIENCE)?.start()
}

/// The error for files that do not answer, or that may not be waited for.
pub(super) fn no_answer(files: &[Named], error: &io::Error) -> OpenError {
    let keys: Vec<_> = files.iter().map(|(key, _)| *key).collect();
    let paths: Vec<_> = files.iter().map(|(_, path)| path.display().to_string()).collect();
    let found = format!("{}: {error}", paths.join(", "));
    OpenError::new(keys.join(", "), found, "files on a disk that answers").caused_by(error)
}

/// Plans a device on the calling thread, which may have to wait for files.
fn plan_now(
    config: &Config,
    points: &Arc<Points>,
    device: usize,
    exports: &Exports,
) -> Result<Plan, OpenError> {
    let all = Arc::clone(points);
    Ok(match config {
        Config::Sim(config) => {
            let sim = sim::Sim::open(config, points, device)?;
            Plan::new(move || Ok(sim))
        }
        Config::File(config) => {
            let files = file::Files::plan(config, points, device)?;
            Plan::new(move || Link::start(&all, device, files.freshness(), files))
        }
        Config::Gpio(config) => {
            let board = gpio::Board::plan(config, points, device)?;
            Plan::new(move || Link::start(&all, device, board.freshness(), board))
        }
        Config::Modbus(config) => {
            let client = modbus::Client::plan(config, points, device)?;
            let known = client.freshness();
            let limits = move |id| known.get(&id).copied().unwrap_or_default();
            Plan::new(move || Link::start_with(&all, device, limits, client))
        }
        Config::ModbusServer(config) => {
            let server = modbus_server::Server::plan(config, points, device, exports)?;
            let limits: HashMap<_, _> =
                points.iter().map(|(id, _)| (id, server.freshness(id))).collect();
            Plan::new(move || Link::start_with(&all, device, |id| limits[&id], server))
        }
        Config::Mqtt(config) => {
            let mqtt = mqtt::Mqtt::plan(config, points, device, exports)?;
            Plan::new(move || Link::start(&all, device, mqtt.freshness(), mqtt))
        }
    })
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc::channel;

    use super::*;

    /// The script of a device was on a disk that did not answer. After some reloads every other
    /// configuration was refused, even one on a disk that answers.
    #[test]
    fn files_that_hang_keep_no_others_out() {
        let groups = Groups(Mutex::default());
        let of = |file: &str| groups.places(&[("script", PathBuf::from(file))]);
        let hung = of("/hung/script").unwrap();
        let (hold, held) = channel::<()>();
        let held = Arc::new(Mutex::new(held));
        for _ in 0..MAX_PLANS {
            let held = Arc::clone(&held);
            let hang = move || held.lock().unwrap().recv().map_err(io::Error::other);
            patience::wait_in(&hung, Duration::from_millis(1), hang).unwrap_err();
        }
        let limit = Duration::from_millis(10);
        let again = patience::wait_in(&of("/hung/script").unwrap(), limit, || Ok(())).unwrap_err();
        assert!(again.to_string().contains("4 earlier calls"), "{again}");
        patience::wait_in(&of("/sound/script").unwrap(), limit, || Ok(())).unwrap();
        let others: Vec<_> = (0..MAX_GROUPS).map(|n| of(&format!("/sound/{n}"))).collect();
        let (last, others) = others.split_last().unwrap();
        assert!(others.iter().all(Result::is_ok));
        assert!(patience::is_late(last.as_ref().unwrap_err()), "there are enough");
        of("/hung/script").expect("it waits already");
        drop(hold);
    }
}
