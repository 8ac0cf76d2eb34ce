//! The list of drivers: how a device of each kind is planned and started.
//!
//! A plan may wait for files: `disk.rs`. A start waits for nothing. A plan touches nothing in the
//! field, so a plan that comes too late is dropped without a trace. The contract of a device is in
//! `mod.rs`.

use std::collections::HashMap;
use std::fmt;
use std::io;
use std::sync::Arc;
use std::time::Duration;

use super::disk::{GROUPS, no_answer};
use super::export::{Exports, exports};
use super::link::Link;
use super::{Config, Driver, OpenError, file, gpio, modbus, modbus_server, mqtt, sim};
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
