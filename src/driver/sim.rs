//! The simulated plant behind a simulated wire. The simulation serves three purposes: the quick
//! start, tests, and the practice of failures.
//!
//! ```text
//!   output image --write--> wire --> plant: tanks, signals, loopbacks, script
//!   input image  <--read--- wire <-----'
//! ```
//! - `sim/config.rs` has the keys of the `[[device]]` table in TOML.
//! - `sim/plant.rs` calculates the true values in the field.
//! - `sim/wire.rs` transfers the values between the plant and the images, with or without a
//!   failure.
//!
//! The simulated time depends only on the argument `now`. Therefore the same sequence of calls
//! always gives the same values. If `now` jumps ahead, the plant simulates the whole jump in a
//! limited number of steps. The simulation models neither single bits on the wire nor the timing of
//! a bus.
//!
//! One failure is not in the wire but in this file: a hang. In a hang, this driver blocks the scan
//! thread, although the trait `Driver` forbids drivers to wait on this thread. Without this
//! failure, operators could not practise a stall of the scan.

mod config;
mod delay;
mod plant;
mod script;
mod signal;
mod tank;
#[cfg(test)]
mod tests;
mod wire;
mod wiring;

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use self::config::MOST_HANG;
use self::plant::Plant;
use self::wire::Wire;
use super::export::Exports;
use super::{Command, Driver, Fault, Injection, Named, OpenError, Plan as Planned, Settings};
use crate::process::image::{Inputs, Points};

pub use self::config::{Config, Loopback, Plan, Script, Signal, Tank};

impl Settings for Config {
    fn plan(&self, points: &Arc<Points>, device: usize, _: &Exports) -> Result<Planned, OpenError> {
        let sim = Sim::open(self, points, device)?;
        Ok(Planned::new(move || Ok(sim)))
    }

    fn settle(&mut self, folder: &Path) {
        if let Some(script) = &mut self.script {
            script.file = folder.join(&script.file);
        }
    }

    fn files(&self) -> Vec<Named> {
        self.script.iter().map(|script| ("script.file", script.file.clone())).collect()
    }
}

/// A simulated device. The device allocates all of its memory when it is opened.
#[derive(Debug)]
pub struct Sim {
    plant: Plant,
    wire: Wire,
    /// The failure that the configuration plans. The plan is removed when a planned hang begins,
    /// when an operator ends a failure, and when an operator starts a failure other than a hang.
    plan: Option<Plan>,
    /// The `now` of the first call; `None` before the first call. The device measures its own time
    /// from this instant.
    start: Option<Duration>,
}

impl Sim {
    /// Opens device number `device` of the configuration and reads its script.
    ///
    /// # Errors
    /// When a point does not exist, belongs to another device, is driven twice or has the wrong
    /// type. When a number is out of range. When the script cannot be read or contains a mistake.
    pub fn open(config: &Config, points: &Arc<Points>, device: usize) -> Result<Self, OpenError> {
        let plant = Plant::open(config, points, device)?;
        let wire = Wire::new(points, device);
        Ok(Self { plant, wire, plan: config.fault, start: None })
    }

    /// Advances the wire and the planned failure to the time `now`. A planned hang blocks the
    /// thread here. Returns the time since the first call of the device.
    fn arrive(&mut self, now: Duration) -> Duration {
        let elapsed = now.saturating_sub(*self.start.get_or_insert(now));
        self.wire.deliver(now, &mut self.plant.outputs);
        if let Some(Plan { injection: Injection::Hang { lasting }, after, .. }) = self.plan
            && elapsed >= after
        {
            self.plan = None;
            std::thread::sleep(lasting);
        }
        if let Some(plan) = &self.plan
            && !matches!(plan.injection, Injection::Hang { .. })
            && plan.at(elapsed) != self.wire.failure()
        {
            self.wire.fail(plan.at(elapsed), &mut self.plant.outputs);
        }
        elapsed
    }

    /// Starts the failure that an operator has requested. If `failure` is `None`, ends the active
    /// failure. Every call cancels the planned failure of the configuration permanently.
    fn order(&mut self, failure: Option<Injection>) {
        self.plan = None;
        self.wire.fail(failure, &mut self.plant.outputs);
    }
}

impl Driver for Sim {
    fn read(&mut self, now: Duration, inputs: &mut Inputs) -> Result<(), Fault> {
        let elapsed = self.arrive(now);
        let field = self.plant.pass(elapsed);
        self.wire.read(now, field, inputs)
    }

    fn write(&mut self, now: Duration, outputs: &[u8]) -> Result<(), Fault> {
        self.arrive(now);
        self.wire.write(now, outputs, &mut self.plant.outputs)
    }

    fn command(&mut self, now: Duration, command: &Command) -> Result<(), &'static str> {
        let elapsed = self.arrive(now);
        // The plant is advanced first. Otherwise the new value would also apply to the time before
        // this command.
        self.plant.pass(elapsed);
        match command {
            Command::Set(point, value) => return self.plant.set(*point, *value),
            Command::Inject(Injection::Hang { lasting }) if *lasting > MOST_HANG => {
                return Err("a hang lasts for a minute at most");
            }
            Command::Inject(Injection::Hang { lasting }) => std::thread::sleep(*lasting),
            Command::Inject(injection) => self.order(Some(*injection)),
            Command::Clear => self.order(None),
        }
        Ok(())
    }

    fn is_confirmed(&self) -> bool {
        self.wire.is_confirmed()
    }
}
