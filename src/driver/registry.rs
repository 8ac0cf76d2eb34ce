//! The list of drivers, and what is done with each device of it: plan it, check it, open it.
//!
//! A new driver is one line in the list below. Whatever differs from driver to driver is a function
//! of [`Settings`], so nothing else in this file, and nothing outside of a driver's own folder,
//! knows one of them by name.
//!
//! A plan may wait for files: `disk.rs`. A start waits for nothing. A plan touches nothing in the
//! field, so a plan that comes too late is dropped without a trace. `config/driver.rs` gives a
//! mistake in a device's keys its line.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use serde::{Deserialize, Deserializer};

use super::disk::{GROUPS, no_answer};
use super::export::{Exports, exports};
use super::{Driver, OpenError, Plan, Settings, file, gpio, modbus, mqtt, sim};
use crate::patience::{self, PATIENCE};
use crate::process::image::Points;

/// Makes [`Config`] of the list of drivers. A line has the word of the key `driver`, the variant,
/// and the module with the driver's own `Config`.
macro_rules! drivers {
    ($($(#[$doc:meta])* $word:literal => $kind:ident($($module:ident)::+),)+) => {
        /// The settings of one device. The variant is the kind of device; in TOML the key `driver`
        /// names it.
        #[derive(Debug, Clone, PartialEq)]
        pub enum Config {
            $($(#[$doc])* $kind(Box<$($module::)+Config>),)+
        }

        impl Config {
            /// The words that the key `driver` can have.
            pub const DRIVERS: &[&str] = &[$($word),+];

            /// The name of the driver, as the key `driver` spells it.
            pub fn driver(&self) -> &'static str {
                match self {
                    $(Self::$kind(_) => $word,)+
                }
            }

            /// The settings, whatever their driver is.
            pub fn settings(&self) -> &dyn Settings {
                match self {
                    $(Self::$kind(settings) => &**settings,)+
                }
            }

            /// Reads the settings of a device with this `driver` from its other keys. Relative
            /// paths in them count from `folder`. `None` if no driver has that name.
            ///
            /// # Errors
            /// The first key that is wrong.
            pub fn read<'de, D: Deserializer<'de>>(
                driver: &str,
                keys: D,
                folder: &Path,
            ) -> Result<Option<Self>, D::Error> {
                match driver {
                    $($word => {
                        let mut settings = Box::<$($module::)+Config>::deserialize(keys)?;
                        settings.settle(folder);
                        Ok(Some(Self::$kind(settings)))
                    })+
                    _ => Ok(None),
                }
            }
        }
    };
}

drivers! {
    /// A simulated plant.
    "sim" => Sim(sim),
    /// Files whose text is a number, for example files of sysfs.
    "file" => File(file),
    /// GPIO lines of this machine.
    "gpio" => Gpio(gpio),
    /// Units on a Modbus, which this device reads and writes as a client.
    "modbus" => Modbus(modbus::client),
    /// A Modbus TCP server, which a SCADA system reads and writes.
    "modbus_server" => ModbusServer(modbus::server),
    /// A session with an MQTT 5 broker.
    "mqtt" => Mqtt(mqtt),
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
    let files = config.settings().files();
    if files.is_empty() {
        return config.settings().plan(points, device, exports);
    }
    if limit.is_zero() {
        let why = "not read: the files of earlier devices took all the time";
        return Err(no_answer(&files, &patience::late(why)));
    }
    let (config, points, exports) = (config.clone(), Arc::clone(points), exports.clone());
    let work = move || Ok(config.settings().plan(&points, device, &exports));
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
