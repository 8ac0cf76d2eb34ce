//! The list of all drivers, and the three operations on a device: plan it, check it, and open it.
//!
//! ```text
//!   plan:   keys of the device --(a thread, if the plan reads files)--> Plan
//!   check:  plan, then drop the plan                 (for `camshaft check` and a reload)
//!   open:   plan, then Plan::start                   (the device works from then on)
//! ```
//! A new driver needs one line in the list below. The trait [`Settings`] hides all differences
//! between drivers. Therefore the code that plans, checks and opens a device names no particular
//! driver.
//!
//! A plan may wait for files; `disk.rs` limits the number of plans that wait. A start never waits.
//! A plan does not access the field. Therefore a plan that becomes ready after the time limit can
//! be dropped without any effect on the field. `config/driver.rs` adds the line number in the
//! configuration file to an error in the keys of a device.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use serde::{Deserialize, Deserializer};

use super::disk::{GROUPS, no_answer};
use super::export::{Exports, exports};
use super::{Driver, OpenError, Plan, Settings};
use crate::patience::{self, PATIENCE};
use crate::process::image::Points;

/// Makes the enum [`Config`] from the list of drivers. Each line of the list has three parts. The
/// parts are the value of the key `driver`, the variant of the enum, and the Rust module with the
/// `Config` of the driver.
macro_rules! drivers {
    ($($(#[$doc:meta])* $word:literal => $kind:ident($($module:ident)::+),)+) => {
        /// The settings of one device. The variant is the kind of device. In TOML, the key `driver`
        /// names the kind.
        #[derive(Debug, Clone, PartialEq)]
        pub enum Config {
            $($(#[$doc])* $kind(Box<super::$($module::)+Config>),)+
        }

        impl Config {
            /// The values that the key `driver` can have.
            pub const DRIVERS: &[&str] = &[$($word),+];

            /// The name of the driver, with the spelling of the key `driver`.
            pub fn driver(&self) -> &'static str {
                match self {
                    $(Self::$kind(_) => $word,)+
                }
            }

            /// Returns the settings of the device as the trait that the settings of all drivers
            /// implement.
            pub fn settings(&self) -> &dyn Settings {
                match self {
                    $(Self::$kind(settings) => &**settings,)+
                }
            }

            /// Reads the settings of a device with this `driver` from the other keys of its table.
            /// Relative paths in the settings start at `folder`. Returns `None` if no driver has
            /// that name.
            ///
            /// # Errors
            /// An error about the first key that is wrong.
            pub fn read<'de, D: Deserializer<'de>>(
                driver: &str,
                keys: D,
                folder: &Path,
            ) -> Result<Option<Self>, D::Error> {
                match driver {
                    $($word => {
                        let mut settings = Box::<super::$($module::)+Config>::deserialize(keys)?;
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
    /// Files that contain a number as text, for example files of sysfs.
    "file" => File(file),
    /// GPIO lines of this machine.
    "gpio" => Gpio(gpio),
    /// Modbus units, which this device reads and writes as a client.
    "modbus" => Modbus(modbus::client),
    /// A Modbus TCP server, which a SCADA system reads and writes.
    "modbus_server" => ModbusServer(modbus::server),
    /// A session with an MQTT 5 broker.
    "mqtt" => Mqtt(mqtt),
}

/// Plans device number `device` of the configuration. If the plan reads files, this function waits
/// for the files for the time `limit` at most.
///
/// # Errors
/// When the device cannot work as its configuration requires, when its files do not answer in time,
/// or when too many plans already wait for files.
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
        let why = "not read, because reading the files of other devices took the whole time limit";
        return Err(no_answer(&files, &patience::late(why)));
    }
    let (config, points, exports) = (config.clone(), Arc::clone(points), exports.clone());
    let work = move || Ok(config.settings().plan(&points, device, &exports));
    GROUPS
        .places(&files)
        .and_then(|places| patience::wait_in(&places, limit, work))
        .unwrap_or_else(|error| Err(no_answer(&files, &error)))
}

/// Checks whether the device can work as its configuration requires: makes a plan and drops the
/// plan.
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

/// Plans a device and starts it. Waits for the device's files for [`PATIENCE`] at most.
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
