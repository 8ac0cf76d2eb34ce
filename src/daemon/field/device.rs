//! What the daemon knows about the devices: where each device reports its state, and which values
//! of the controller the devices may show.
//!
//! The daemon does not read or write devices: the scan does. `build.rs` opens the devices at the
//! start, `reload/devices.rs` opens those of a changed configuration. The watchdog that makes
//! outputs safe while the scan stands is in `driver/watchdog.rs`. How values reach a device that
//! shows them is in `driver/export.rs`.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use tokio::sync::watch;

use super::Field;
use crate::config::Config;
use crate::control::DeviceView;
use crate::daemon::link::ScanLink;
use crate::driver::export::{Export, Exports, exports};
use crate::driver::{Delivery, Driver, Monitor, Part};
use crate::scan::Snapshot;

/// The shortest time between two updates for devices that show values of the controller. A value in
/// SCADA can be older by this time. With a full image the updates cost a hundredth of a CPU.
const PACE: Duration = Duration::from_millis(20);

/// What the daemon knows about its devices, and the values that it shows to them.
#[derive(Debug)]
pub(in crate::daemon) struct Devices {
    /// The newest values for devices that show values of the controller. The loop writes them, the
    /// devices read them.
    shown: watch::Sender<Arc<Export>>,
    /// The readers' end of `shown`, which each new device gets.
    exports: Exports,
    /// The cycle and the instant of the values in `shown`.
    last: (u64, Duration),
    /// Where each device reports its parts and its watchdog, by the name of the device.
    monitors: BTreeMap<String, Monitor>,
    /// For each device: how often its watchdog had tripped and whether it was tripped, as last
    /// logged.
    told: BTreeMap<String, (u64, bool)>,
}

impl Devices {
    /// The state without any device.
    pub(in crate::daemon) fn new() -> Self {
        let (shown, exports) = exports();
        let (last, monitors, told) = ((0, Duration::ZERO), BTreeMap::new(), BTreeMap::new());
        Self { shown, exports, last, monitors, told }
    }

    /// The handle that a driver gets when it is opened, so that the device can show values.
    pub(in crate::daemon) fn exports(&self) -> &Exports {
        &self.exports
    }

    /// Remembers where the device `name` reports its parts and its watchdog.
    pub(in crate::daemon) fn add(&mut self, name: &str, driver: &dyn Driver) {
        match driver.monitor() {
            Some(monitor) => self.monitors.insert(name.to_owned(), monitor),
            None => self.monitors.remove(name),
        };
        // A new device has a new watchdog, whose counts begin with 0.
        self.told.remove(name);
    }

    /// Forgets the devices for which `is_there` is false.
    pub(in crate::daemon) fn retain(&mut self, is_there: impl Fn(&str) -> bool) {
        self.monitors.retain(|name, _| is_there(name));
        self.told.retain(|name, _| is_there(name));
    }

    /// The parts of a device, as its driver has reported them; empty if it reports none.
    pub(in crate::daemon) fn parts(&self, name: &str) -> Vec<Part> {
        self.monitors.get(name).map(Monitor::parts).unwrap_or_default()
    }

    /// Whether this device makes its outputs safe because the scan stands. The answer is also yes
    /// if the device would do so but its own thread is held up. If the answer is yes, the scan's
    /// facts about these outputs are out of date.
    pub(in crate::daemon) fn makes_safe(&self, name: &str, is_stalled: bool) -> bool {
        let watchdog = self.monitors.get(name).map(Monitor::watchdog);
        watchdog.is_some_and(|it| (is_stalled || it.is_tripped()) && it.outputs() > 0)
    }

    /// Logs which devices have begun to make their outputs safe because the scan stands, and which
    /// devices obey the scan again.
    pub(in crate::daemon) fn tell_of_stalls(&mut self) {
        for (name, watchdog) in self.monitors.iter().map(|(name, it)| (name, it.watchdog())) {
            let outputs = watchdog.outputs();
            if outputs == 0 {
                continue;
            }
            let (trips, is_tripped) = (watchdog.trips(), watchdog.is_tripped());
            let (told, was_tripped) = self.told.entry(name.clone()).or_default();
            if trips > *told {
                tracing::error!(
                    device = name,
                    outputs,
                    "device {name}: no cycle for longer than scan.stall; its outputs that have a \
                     safe value, {outputs}, are made safe"
                );
            }
            if !is_tripped && (*was_tripped || trips > *told) {
                tracing::warn!(device = name, "device {name}: its outputs are the scan's again");
            }
            (*told, *was_tripped) = (trips, is_tripped);
        }
    }

    /// Whether all devices have confirmed their safe outputs. The answer has a meaning only while
    /// the scan stands.
    pub(in crate::daemon) fn are_safe(&self) -> bool {
        self.monitors.values().all(|monitor| monitor.watchdog().unsafe_outputs() == 0)
    }

    /// Which outputs are not confirmed as safe, as text. The text does not speak of simulated
    /// devices, because they run in the scan's thread and stand with it.
    pub(in crate::daemon) fn safety(&self) -> String {
        let missing = |(name, monitor): (&String, &Monitor)| {
            let outputs = monitor.watchdog().unsafe_outputs();
            (outputs > 0).then(|| format!("{outputs} of {name}"))
        };
        let missing: Vec<_> = self.monitors.iter().filter_map(missing).collect();
        match missing.is_empty() {
            true => "all devices that have a thread of their own have confirmed their safe outputs"
                .into(),
            false => format!("safe outputs are UNCONFIRMED: {}", missing.join(", ")),
        }
    }

    /// Ends the time for which outputs may hold their values while the scan stands: the devices
    /// make them safe now.
    pub(in crate::daemon) fn make_safe_now(&self) {
        self.monitors.values().for_each(|monitor| monitor.watchdog().make_safe_now());
    }

    /// Shows new values to the devices, if a device watches the values. While the scan stands, the
    /// values stay, and a mark says that the scan stands.
    pub(in crate::daemon) fn show(&mut self, news: &Snapshot, is_stalled: bool) {
        // The daemon itself holds one receiver.
        let is_watched = self.shown.receiver_count() > 1;
        // A stall is shown at once, without the pace of new values.
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
    /// The views of all devices, in the order of the configuration.
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
                // The scan's facts are older than the safe outputs, so they say nothing about them.
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

/// The names of the outputs of a device that the device has not confirmed lately.
fn unconfirmed(news: &Snapshot, device: usize) -> Vec<String> {
    let ours = news.points.iter().filter(|(_, point)| point.device == device);
    let late = ours.filter(|(id, _)| news.deliveries[id.index()] == Delivery::Unconfirmed);
    late.map(|(_, point)| point.name.clone()).collect()
}
