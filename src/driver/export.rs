//! The values that other systems may see of this controller: the points and variables after a
//! recent cycle.
//!
//! The daemon fills an [`Export`] from the scan's snapshot, at most fifty times a second. Devices
//! that serve or publish values read it. This file does not decide which names are shown: the
//! configuration of such a device does.

use std::sync::Arc;
use std::time::{Duration, SystemTime};

use tokio::sync::watch;

use crate::process::image::{Direction, Inputs, Points, Quality, Value};
use crate::process::variable::Variables;

/// All points and variables at one instant.
#[derive(Debug, Clone)]
pub struct Export {
    /// The number of the cycle; 0 before the first.
    pub cycle: u64,
    /// The instant of the cycle, on the scan's clock.
    pub now: Duration,
    /// The instant of the cycle, on the wall clock.
    pub wall: SystemTime,
    /// All points of the configuration.
    pub points: Arc<Points>,
    /// The inputs that the programs saw.
    pub inputs: Inputs,
    /// The outputs that the scan gave to the devices.
    pub outputs: Vec<u8>,
    /// All variables.
    pub variables: Variables,
    /// Whether the scan stands since that cycle. If so, no value can be relied on.
    pub is_stalled: bool,
}

/// One value that other systems see.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Shown {
    /// The value, in the unit of its point.
    pub value: Value,
    /// How far the value can be trusted.
    pub quality: Quality,
    /// When the value was good last.
    pub at: SystemTime,
}

impl Export {
    /// The point of this name or, if there is none, the variable. The quality of all of them is bad
    /// while the scan stands.
    pub fn find(&self, name: &str) -> Option<Shown> {
        let shown = self.last(name)?;
        let stall = if self.is_stalled { Quality::NoComm } else { Quality::Good };
        Some(Shown { quality: shown.quality.max(stall), ..shown })
    }

    /// The value as it was in that cycle, whether or not the scan stands since.
    fn last(&self, name: &str) -> Option<Shown> {
        let Some(id) = self.points.find(name) else {
            let value = Value::from(self.variables.read(name)?);
            return Some(Shown { value, quality: Quality::Good, at: self.wall });
        };
        let point = &self.points[id];
        let quality = self.inputs.quality[id.index()];
        Some(match point.direction {
            Direction::In => {
                let age = self.now.saturating_sub(self.inputs.good_at[id.index()]);
                let at = self.wall.checked_sub(age).unwrap_or(self.wall);
                Shown { value: point.read(&self.inputs.bytes), quality, at }
            }
            Direction::Out => Shown { value: point.read(&self.outputs), quality, at: self.wall },
        })
    }
}

impl Default for Export {
    fn default() -> Self {
        let points = Arc::new(Points::default());
        Self {
            cycle: 0,
            now: Duration::ZERO,
            wall: SystemTime::UNIX_EPOCH,
            inputs: Inputs::unread(&points),
            outputs: Vec::new(),
            variables: Variables::default(),
            is_stalled: false,
            points,
        }
    }
}

/// The receiver on which devices find the newest [`Export`] and are woken by the next one.
pub type Exports = watch::Receiver<Arc<Export>>;

/// A new channel for exports: the sender for the daemon, the receiver for devices. It holds an
/// empty export until the daemon sends the first.
pub fn exports() -> (watch::Sender<Arc<Export>>, Exports) {
    watch::channel(Arc::default())
}
