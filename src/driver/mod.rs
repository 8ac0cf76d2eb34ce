//! A device in the field, seen by the scan: read it, write it, command it, ask whether it followed.
//!
//! Every function here runs on the scan thread, so it copies and returns: a driver that has to wait
//! for a wire does that elsewhere and hands over what it has. What a device *is* lies in the file
//! of its kind: `sim.rs` is the simulated plant.

use std::fmt;
use std::time::Duration;

use crate::image::{Inputs, PointId, Value};

/// How a device fails. It becomes state in the snapshot and the quality of its points, never a trap.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fault {
    /// Nobody answers.
    Disconnected,
    /// Somebody answers, too late.
    Timeout,
    /// The answer makes no sense.
    Garbage,
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Disconnected => "disconnected",
            Self::Timeout => "timeout",
            Self::Garbage => "garbage",
        })
    }
}

/// One device. Calls come from the scan thread only: none may wait, allocate or log.
pub trait Driver: Send {
    /// Copies the newest inputs of this device into the image and sets the quality of its points.
    ///
    /// # Errors
    /// A fault; then the values stay as they were and the driver has set their quality.
    fn read(&mut self, now: Duration, inputs: &mut Inputs) -> Result<(), Fault>;

    /// Takes the outputs of this device from the image.
    ///
    /// # Errors
    /// A fault; the scan writes again in the next cycle.
    fn write(&mut self, now: Duration, outputs: &[u8]) -> Result<(), Fault>;

    /// Does what an operator asks of a simulated device. Real devices refuse.
    ///
    /// # Errors
    /// Says why not.
    fn command(&mut self, now: Duration, command: &Command) -> Result<(), &'static str>;

    /// Whether the device is known to have the outputs of the last `write`.
    fn is_confirmed(&self) -> bool;
}

/// What an operator may ask of a device while it runs.
#[derive(Debug, Clone, PartialEq)]
pub enum Command {
    /// Give a simulated input this value until the device's own model changes it.
    Set(PointId, Value),
}
