//! What the status tells of the parts of a device: units on a bus, a session with a broker.
//!
//! A driver's thread writes it when it likes, the daemon reads it when somebody asks; the scan has
//! nothing to do with it. What programs shall see of it is an input like any other.

use std::sync::{Arc, Mutex, PoisonError};

use serde::{Deserialize, Serialize};

/// One part of a device, as the status shows it.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
pub struct Part {
    /// Its name, unique in the device.
    pub name: String,
    /// Whether it does what it should.
    pub ok: bool,
    /// Its state in a word or a few, such as `online`.
    pub state: String,
    /// Counters and measured values, in the order in which they are shown. A name ends with its
    /// unit, such as `rtt_p50_us`.
    pub facts: Vec<(String, f64)>,
}

/// A window on a device's parts. Clones look at the same.
#[derive(Debug, Clone, Default)]
pub struct Monitor(Arc<Mutex<Vec<Part>>>);

impl Monitor {
    /// The parts, as they were told last.
    pub fn parts(&self) -> Vec<Part> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    pub(super) fn set(&self, parts: Vec<Part>) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = parts;
    }
}
