//! The daemon's knowledge about the devices. Each device reports its state on a monitor. Some
//! devices show values of the controller to other systems, for example to SCADA.
//!
//! The daemon does not read or write devices; only the scan does. `build.rs` opens the devices at
//! the start, and `reload/devices.rs` opens devices of a new configuration. The watchdog that makes
//! outputs safe during a stall of the scan is in `driver/watchdog.rs`. The file `driver/export.rs`
//! describes how a device gets the values that it shows to other systems.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use tokio::sync::watch;

use super::{Field, VariableWrites};
use crate::config::Config;
use crate::control::DeviceView;
use crate::daemon::link::ScanLink;
use crate::driver::export::{Export, Exports, exports_and_writes};
use crate::driver::{Delivery, Driver, Monitor, Part};
use crate::scan::Snapshot;

/// The shortest time between two updates for devices that show values of the controller. A value in
/// SCADA can be older than the value in the controller by this time plus one `TICK` of the main
/// loop. Updates of a full process image at this rate use one percent of a CPU.
const PACE: Duration = Duration::from_millis(20);

/// The monitors of the devices, and the values for devices that show values of the controller.
#[derive(Debug)]
pub(in crate::daemon) struct Devices {
    /// The newest values for devices that show values of the controller. The main loop writes the
    /// values, and the devices read the values.
    shown: watch::Sender<Arc<Export>>,
    /// The receiver of `shown`. Each new device gets a clone of this receiver.
    exports: Exports,
    /// The values that devices write into variables.
    writes: VariableWrites,
    /// The cycle and the time of the values in `shown`.
    last: (u64, Duration),
    /// The monitor of each device, by name. On its monitor, a device reports its parts and its
    /// watchdog.
    monitors: BTreeMap<String, Monitor>,
    /// The last logged state of each device's watchdog, by name: the number of trips, and whether
    /// the watchdog was tripped.
    logged: BTreeMap<String, (u64, bool)>,
}

impl Devices {
    /// Returns a [`Devices`] value without devices.
    pub(in crate::daemon) fn new() -> Self {
        let (shown, exports, writes) = exports_and_writes();
        let writes = VariableWrites::new(writes);
        let (last, monitors, logged) = ((0, Duration::ZERO), BTreeMap::new(), BTreeMap::new());
        Self { shown, exports, writes, last, monitors, logged }
    }

    /// Returns the receiver that a driver gets when it is opened. The device needs it to show
    /// values.
    pub(in crate::daemon) fn exports(&self) -> &Exports {
        &self.exports
    }

    /// Sends to the scan the values that devices write into variables.
    pub(in crate::daemon) fn pursue_writes(&mut self, link: &mut ScanLink) {
        self.writes.pursue(link);
    }

    /// Stores the monitor of the device `name`. If the driver has no monitor, the function removes
    /// the monitor of an earlier device with this name.
    pub(in crate::daemon) fn add(&mut self, name: &str, driver: &dyn Driver) {
        match driver.monitor() {
            Some(monitor) => self.monitors.insert(name.to_owned(), monitor),
            None => self.monitors.remove(name),
        };
        // A new device has a new watchdog, so its count of trips starts again at 0.
        self.logged.remove(name);
    }

    /// Removes the monitors and the logged watchdog states of all devices for whose names
    /// `is_there` returns false. These devices are no longer in the configuration.
    pub(in crate::daemon) fn retain(&mut self, is_there: impl Fn(&str) -> bool) {
        self.monitors.retain(|name, _| is_there(name));
        self.logged.retain(|name, _| is_there(name));
    }

    /// Returns the parts of a device, such as the Modbus units on a bus; empty if its driver
    /// reports no parts.
    pub(in crate::daemon) fn parts(&self, name: &str) -> Vec<Part> {
        self.monitors.get(name).map(Monitor::parts).unwrap_or_default()
    }

    /// Whether the device of this name makes its outputs safe because of a stall. If so, the scan's
    /// facts about these outputs are out of date. During a stall the result is true even if the
    /// thread of the device has not reacted yet. For a device without outputs or without a monitor,
    /// the result is false.
    pub(in crate::daemon) fn makes_safe(&self, name: &str, is_stalled: bool) -> bool {
        let watchdog = self.monitors.get(name).map(Monitor::watchdog);
        watchdog.is_some_and(|it| (is_stalled || it.is_tripped()) && it.outputs() > 0)
    }

    /// Logs which devices have begun to make their outputs safe because of a stall, and which
    /// devices obey the scan again.
    pub(in crate::daemon) fn log_stalls(&mut self) {
        for (name, watchdog) in self.monitors.iter().map(|(name, it)| (name, it.watchdog())) {
            let outputs = watchdog.outputs();
            if outputs == 0 {
                continue;
            }
            let (trips, is_tripped) = (watchdog.trips(), watchdog.is_tripped());
            let (logged, was_tripped) = self.logged.entry(name.clone()).or_default();
            if trips > *logged {
                tracing::error!(
                    device = name,
                    outputs,
                    "device {name}: the scan has made no cycle for longer than scan.stall; outputs \
                     that are made safe: {outputs}"
                );
            }
            if !is_tripped && (*was_tripped || trips > *logged) {
                tracing::warn!(device = name, "device {name}: the scan controls its outputs again");
            }
            (*logged, *was_tripped) = (trips, is_tripped);
        }
    }

    /// Whether all devices have confirmed their safe outputs. The result is meaningful only while
    /// the scan is stalled.
    pub(in crate::daemon) fn are_safe(&self) -> bool {
        self.monitors.values().all(|monitor| monitor.watchdog().unsafe_outputs() == 0)
    }

    /// Returns a text with the number of unconfirmed safe outputs of each device. The text does not
    /// include simulated devices: they run in the scan's thread and are stalled with the scan.
    pub(in crate::daemon) fn safety(&self) -> String {
        let missing = |(name, monitor): (&String, &Monitor)| {
            let outputs = monitor.watchdog().unsafe_outputs();
            (outputs > 0).then(|| format!("{outputs} of {name}"))
        };
        let missing: Vec<_> = self.monitors.iter().filter_map(missing).collect();
        match missing.is_empty() {
            true => "all devices with a separate thread have confirmed their safe outputs".into(),
            false => format!("safe outputs are UNCONFIRMED: {}", missing.join(", ")),
        }
    }

    /// Orders all devices to make their outputs safe now. During a stall, some outputs may
    /// otherwise stay at their last values for a configured time.
    pub(in crate::daemon) fn make_safe_now(&self) {
        self.monitors.values().for_each(|monitor| monitor.watchdog().make_safe_now());
    }

    /// Sends new values to the devices that show values of the controller, if there are such
    /// devices, and if [`PACE`] has passed since the last values. While the scan is stalled, the
    /// values stay the same and carry the mark `is_stalled`.
    pub(in crate::daemon) fn show(&mut self, news: &Snapshot, is_stalled: bool) {
        // The daemon itself has one receiver. If the count is larger, at least one device gets the
        // values.
        let is_watched = self.shown.receiver_count() > 1;
        // The devices get the mark of a stall at once, without the pause [`PACE`].
        if is_stalled && is_watched && !self.shown.borrow().is_stalled {
            self.shown.send_modify(|export| Arc::make_mut(export).is_stalled = true);
        }
        if !is_watched || news.cycle == self.last.0 || news.now < self.last.1 + PACE {
            return;
        }
        self.last = (news.cycle, news.now);
        self.shown.send_replace(Arc::new(Export {
            cycle: news.cycle,
            now: news.now,
            wall: SystemTime::now(),
            points: Arc::clone(&news.points),
            inputs: news.inputs.clone(),
            outputs: news.outputs.clone(),
            variables: news.variables.clone(),
            is_stalled,
        }));
    }
}

impl Field {
    /// Returns the views of all devices, in the order of the configuration.
    pub(in crate::daemon) fn views(
        &self,
        news: &Snapshot,
        config: &Config,
        link: &ScanLink,
    ) -> Vec<DeviceView> {
        let view = |device: &crate::config::Device| {
            let index = news.points.devices().iter().position(|name| *name == device.name);
            let fact = index.and_then(|index| news.devices.get(index));
            let makes_safe = self.devices.makes_safe(&device.name, link.stall.is_on());
            DeviceView {
                name: device.name.to_string(),
                driver: device.driver.driver().into(),
                fault: fact.and_then(|fact| fact.fault).map(|fault| fault.to_string()),
                confirmed: fact.is_some_and(|fact| fact.confirmed) && !makes_safe,
                // The scan's facts are older than the stall and do not describe the safe outputs.
                unconfirmed: match index.filter(|_| !makes_safe) {
                    Some(index) => unconfirmed(news, index),
                    None => Vec::new(),
                },
                parts: self.devices.parts(&device.name),
            }
        };
        config.live.devices.iter().map(view).collect()
    }
}

/// Returns the names of those outputs of a device that the device has not confirmed in time.
fn unconfirmed(news: &Snapshot, device: usize) -> Vec<String> {
    let ours = news.points.iter().filter(|(_, point)| point.device == device);
    let late = ours.filter(|(id, _)| news.deliveries[id.index()] == Delivery::Unconfirmed);
    late.map(|(_, point)| point.name.clone()).collect()
}
