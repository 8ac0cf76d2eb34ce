//! A simulated plant behind a simulated wire: for the quick start, for tests, and to practise
//! failures.
//!
//! ```text
//!   output image --write--> wire --> plant: tanks, signals, loopbacks, script
//!   input image  <--read--- wire <-----'
//! ```
//! `config.rs` is its stanza in TOML, `plant.rs` what is true in the field, `wire.rs` what of it
//! can be seen and how it fails. Only `now` moves it: the same calls give the same values, and a
//! jump in time is covered whole, with bounded work. It does not simulate single bits or bus
//! timing. One failure is not of the wire but of the driver: a hang, in which it breaks the rule
//! that no driver waits, so that a scan that stands can be practised.

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

use std::sync::Arc;
use std::time::Duration;

use self::config::MOST_HANG;
use self::plant::Plant;
use self::wire::Wire;
use super::{Command, Driver, Fault, Injection, OpenError};
use crate::image::{Inputs, Points};

pub use self::config::{Config, Loopback, Plan, Script, Signal, Tank};

/// A simulated device. All its memory is allocated when it is opened.
#[derive(Debug)]
pub struct Sim {
    plant: Plant,
    wire: Wire,
    /// The failure of the configuration, until an operator decides otherwise.
    plan: Option<Plan>,
    /// The `now` of the first call; its own time counts from there.
    start: Option<Duration>,
}

impl Sim {
    /// The device number `device` of the configuration; reads its script.
    ///
    /// # Errors
    /// When a point is missing, not ours, driven twice or of the wrong type, a number is out of
    /// range, or the script cannot be read or played.
    pub fn open(config: &Config, points: &Arc<Points>, device: usize) -> Result<Self, OpenError> {
        let plant = Plant::open(config, points, device)?;
        let wire = Wire::new(points, device);
        Ok(Self { plant, wire, plan: config.fault, start: None })
    }

    /// Brings wire and plan to `now`; says how long the device has been running.
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

    /// What an operator orders outranks the plan, for good.
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
        // So that a value set now does not count for the time before.
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
