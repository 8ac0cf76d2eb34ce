//! How a device of each kind comes to be: planned, which may wait for files, and then started,
//! which waits for nobody.
//!
//! A plan touches nothing in the field, so one that comes too late is dropped without a trace. The
//! files that a configuration names may lie on a disk that gives no answer; therefore the plan of
//! such a device is made on a thread of its own and has a limit. What a device reads later, on its
//! own thread, is its own affair.

use std::collections::HashMap;
use std::fmt;
use std::io;
use std::sync::Arc;
use std::time::Duration;

use super::export::{Exports, exports};
use super::link::Link;
use super::{Config, Driver, Named, OpenError, file, gpio, modbus, modbus_server, mqtt, sim};
use crate::image::Points;
use crate::patience::{self, PATIENCE};

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

    /// Starts the device, which from then on works on its wire. Not for the scan.
    ///
    /// # Errors
    /// When the system has no thread to give. That a device does not answer is no error: it may
    /// later.
    pub fn start(self) -> Result<Box<dyn Driver>, OpenError> {
        let failed =
            |error| OpenError::new("driver", format!("{error}"), "threads and descriptors");
        (self.0)().map_err(failed)
    }
}

/// Plans device number `device` of the configuration. Waits for its files, up to `limit`.
///
/// # Errors
/// When the device cannot be what its configuration says, or its files give no answer.
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
        return Err(no_answer(&files, &io::Error::new(io::ErrorKind::TimedOut, why)));
    }
    let (config, points, exports) = (config.clone(), Arc::clone(points), exports.clone());
    let work = move || Ok(plan_now(&config, &points, device, &exports));
    patience::wait(limit, work).unwrap_or_else(|error| Err(no_answer(&files, &error)))
}

/// Whether the device can be what its configuration says, as [`plan`] finds it out.
///
/// # Errors
/// As [`plan`].
pub fn check(
    config: &Config,
    points: &Arc<Points>,
    device: usize,
    limit: Duration,
) -> Result<(), OpenError> {
    plan(config, points, device, &exports().1, limit).map(drop)
}

/// Plans a device and starts it. Waits for its files, up to [`PATIENCE`].
///
/// # Errors
/// As [`plan`] and [`Plan::start`].
pub fn open(
    config: &Config,
    points: &Arc<Points>,
    device: usize,
    exports: &Exports,
) -> Result<Box<dyn Driver>, OpenError> {
    plan(config, points, device, exports, PATIENCE)?.start()
}

/// What is wrong with files that cannot be waited for.
pub(super) fn no_answer(files: &[Named], error: &io::Error) -> OpenError {
    let keys: Vec<_> = files.iter().map(|(key, _)| *key).collect();
    let paths: Vec<_> = files.iter().map(|(_, path)| path.display().to_string()).collect();
    let found = format!("{}: {error}", paths.join(", "));
    OpenError::new(keys.join(", "), found, "files on a disk that answers")
}

/// May wait for files.
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
