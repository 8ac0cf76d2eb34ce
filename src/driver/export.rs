//! The values of this controller that other systems may see: all points and variables after a
//! recent cycle.
//!
//! ```text
//!   scan --Snapshot--> daemon --Export, at most 50 a second--> devices --> SCADA, broker
//!   scan <--order----- daemon <--VariableWrite---------------- devices <-- broker
//! ```
//! The daemon fills an [`Export`] from the scan's snapshot, at most fifty times a second. Devices
//! that show values to other systems read the export. This file does not decide which names a
//! device shows; the configuration of that device does. In the other direction, a device passes a
//! [`VariableWrite`] to the daemon, which orders the scan to write the variable.

use std::ops::{Deref, DerefMut};
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use tokio::sync::{mpsc, watch};

use crate::process::image::{Direction, Inputs, Points, Quality, Value};
use crate::process::variable::Variables;

/// All points and variables at the end of one cycle.
#[derive(Debug, Clone)]
pub struct Export {
    /// The number of the cycle; 0 before the first cycle.
    pub cycle: u64,
    /// The time of the cycle, on the scan's clock.
    pub now: Duration,
    /// The time of the cycle, on the wall clock.
    pub wall: SystemTime,
    /// All points of the configuration.
    pub points: Arc<Points>,
    /// The inputs as the programs saw them in the cycle.
    pub inputs: Inputs,
    /// The output image that the scan wrote to the devices in the cycle.
    pub outputs: Vec<u8>,
    /// All variables.
    pub variables: Variables,
    /// Whether the scan has stalled after the exported cycle. If the scan has stalled, no value is
    /// reliable any more.
    pub is_stalled: bool,
}

/// One value that other systems see.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Shown {
    /// The value, in the engineering unit of its point.
    pub value: Value,
    /// The quality of the value, that is, how reliable the value is.
    pub quality: Quality,
    /// For an input, the time at which its value was good last. For an output or a variable, the
    /// time of the exported cycle.
    pub at: SystemTime,
}

impl Export {
    /// Finds the point with this name or, if there is no such point, the variable with this name.
    /// Returns `None` if neither exists. While the scan is stalled, the quality of every value is
    /// bad.
    pub fn find(&self, name: &str) -> Option<Shown> {
        let shown = self.last(name)?;
        let stall = if self.is_stalled { Quality::NoComm } else { Quality::Good };
        Some(Shown { quality: shown.quality.max(stall), ..shown })
    }

    /// Finds a value as [`Export::find`] does, but with the shortest number that has the resolution
    /// of the point: 3.671 and not 3.6710000000000003. A device uses this value for the message,
    /// and the value of `find`, which costs less, to decide whether a message is due.
    pub fn shortest(&self, name: &str) -> Option<Shown> {
        let shown = self.find(name)?;
        let Some(id) = self.points.find(name) else { return Some(shown) };
        let point = &self.points[id];
        let raw = match point.direction {
            Direction::In => point.raw(&self.inputs.bytes),
            Direction::Out => point.raw(&self.outputs),
        };
        Some(Shown { value: point.shortest(&raw), ..shown })
    }

    /// Finds a value as [`Export::find`] does, but returns the quality that the value had at the
    /// end of the exported cycle. If the scan has stalled after this cycle, `find` makes the
    /// quality bad.
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

/// The maximum number of values that wait until the daemon writes them into variables. The daemon
/// takes the values about fifty times a second.
const MAX_WRITES: usize = 256;

/// A value that a device asks the daemon to write into a variable.
#[derive(Debug, Clone, PartialEq)]
pub struct VariableWrite {
    /// The name of the variable.
    pub name: String,
    /// The value.
    pub value: Value,
}

/// The connection of a device to the daemon: the receiver of the newest [`Export`], and the queue
/// for values that the daemon writes into variables. When the daemon sends the next export, the
/// receiver wakes the device.
#[derive(Debug, Clone)]
pub struct Exports {
    shown: watch::Receiver<Arc<Export>>,
    writes: mpsc::Sender<VariableWrite>,
}

impl Exports {
    /// Asks the daemon to write a value into a variable.
    ///
    /// # Errors
    /// When the queue is full, or when the daemon takes no values. The error is the reason.
    pub fn write_variable(&self, name: &str, value: Value) -> Result<(), &'static str> {
        let write = VariableWrite { name: name.to_owned(), value };
        self.writes.try_send(write).map_err(|error| match error {
            mpsc::error::TrySendError::Full(_) => "too many values wait until they are written",
            mpsc::error::TrySendError::Closed(_) => "the daemon writes no variables",
        })
    }
}

impl Deref for Exports {
    type Target = watch::Receiver<Arc<Export>>;

    fn deref(&self) -> &Self::Target {
        &self.shown
    }
}

impl DerefMut for Exports {
    fn deref_mut(&mut self) -> &mut Self::Target {
        &mut self.shown
    }
}

/// Makes a new channel for exports: the sender is for the daemon, the other end is for the devices.
/// The channel contains an empty export until the daemon sends the first export. No variable can be
/// written through this channel.
pub fn exports() -> (watch::Sender<Arc<Export>>, Exports) {
    let (shown, exports, _) = exports_and_writes();
    (shown, exports)
}

/// Makes the channel of [`exports`] together with the receiver of the values that the devices write
/// into variables.
pub fn exports_and_writes() -> (watch::Sender<Arc<Export>>, Exports, mpsc::Receiver<VariableWrite>)
{
    let (sender, shown) = watch::channel(Arc::default());
    let (writes, written) = mpsc::channel(MAX_WRITES);
    (sender, Exports { shown, writes }, written)
}
