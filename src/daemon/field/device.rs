//! The daemon's share of the devices: which values of the controller they may show, and where the
//! status finds the state of their parts.
//!
//! Reading and writing devices is the scan's work. `build.rs` and `reload.rs` open them.

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
/// SCADA can be older by this much. With a full image it costs a hundredth of a CPU.
const PACE: Duration = Duration::from_millis(20);

/// What the daemon knows of its devices, and the values that it shows to them.
#[derive(Debug)]
pub(in crate::daemon) struct Devices {
    /// The newest values for devices that show values of the controller. The loop writes, they
    /// read.
    shown: watch::Sender<Arc<Export>>,
    exports: Exports,
    /// The cycle and the instant of the values that are shown.
    last: (u64, Duration),
    /// Where each device reports its parts and its watchdog, by name.
    monitors: BTreeMap<String, Monitor>,
    /// Per device, how often its watchdog had tripped, and whether it was tripped, as last logged.
    told: BTreeMap<String, (u64, bool)>,
}

impl Devices {
    /// No devices yet.
    pub(in crate::daemon) fn new() -> Self {
        let (shown, exports) = exports();
        let (last, monitors, told) = ((0, Duration::ZERO), BTreeMap::new(), BTreeMap::new());
        Self { shown, exports, last, monitors, told }
    }

    /// The handle with which devices are opened, to show values of the controller.
    pub(in crate::daemon) fn exports(&self) -> &Exports {
        &self.exports
    }

    /// Remembers where the device `name` reports its parts.
    pub(in crate::daemon) fn add(&mut self, name: &str, driver: &dyn Driver) {
        match driver.monitor() {
            Some(monitor) => self.monitors.insert(name.to_owned(), monitor),
            None => self.monitors.remove(name),
        };
        // The watchdog of a new device begins anew.
        self.told.remove(name);
    }

    /// Forgets devices that are gone.
    pub(in crate::daemon) fn retain(&mut self, is_there: impl Fn(&str) -> bool) {
        self.monitors.retain(|name, _| is_there(name));
        self.told.retain(|name, _| is_there(name));
    }

    /// The parts of a device.
    pub(in crate::daemon) fn parts(&self, name: &str) -> Vec<Part> {
        self.monitors.get(name).map(Monitor::parts).unwrap_or_default()
    }

    /// Whether this device makes its outputs safe because the scan stands, or would if its thread
    /// were not held up as well. What the scan has noted of these outputs is then out of date.
    pub(in crate::daemon) fn makes_safe(&self, name: &str, is_stalled: bool) -> bool {
        let watchdog = self.monitors.get(name).map(Monitor::watchdog);
        watchdog.is_some_and(|it| (is_stalled || it.is_tripped()) && it.outputs() > 0)
    }

    /// Logs which devices make their outputs safe because the scan stands, and which have stopped
    /// that.
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

    /// Whether all devices have confirmed their safe outputs, while the scan stands.
    pub(in crate::daemon) fn are_safe(&self) -> bool {
        self.monitors.values().all(|monitor| monitor.watchdog().unsafe_outputs() == 0)
    }

    /// Which outputs are not confirmed as safe, as text. Simulated devices run in the scan's
    /// thread, and stand with it.
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

    /// Ends the time for which outputs may hold their values while the scan stands.
    pub(in crate::daemon) fn make_safe_now(&self) {
        self.monitors.values().for_each(|monitor| monitor.watchdog().make_safe_now());
    }

    /// Shows new values to the devices if one of them watches, or shows that the scan stands.
    pub(in crate::daemon) fn show(&mut self, news: &Snapshot, is_stalled: bool) {
        // One receiver is the daemon's own.
        let is_watched = self.shown.receiver_count() > 1;
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
                // What the scan knew before it stood is about other values.
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

/// The outputs of a device for which it has not confirmed a value lately.
fn unconfirmed(news: &Snapshot, device: usize) -> Vec<String> {
    let ours = news.points.iter().filter(|(_, point)| point.device == device);
    let late = ours.filter(|(id, _)| news.deliveries[id.index()] == Delivery::Unconfirmed);
    late.map(|(_, point)| point.name.clone()).collect()
}
