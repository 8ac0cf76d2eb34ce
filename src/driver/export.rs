//! What of this controller other systems may see: the points and variables after a recent cycle.
//!
//! The daemon fills it from the scan's news, some ten times a second; devices that serve or publish
//! values look here. Which names they show is their configuration's affair.

use std::sync::Arc;
use std::time::{Duration, SystemTime};

use tokio::sync::watch;

use crate::image::{Direction, Inputs, Points, Quality, Value};
use crate::variable::Variables;

/// Everything at one instant.
#[derive(Debug, Clone)]
pub struct Export {
    /// Number of the cycle; 0 before the first.
    pub cycle: u64,
    /// Its instant, on the scan's clock.
    pub now: Duration,
    /// The same instant on the wall clock.
    pub wall: SystemTime,
    /// All points.
    pub points: Arc<Points>,
    /// The inputs that the programs saw.
    pub inputs: Inputs,
    /// The outputs that the devices were given.
    pub outputs: Vec<u8>,
    /// All variables.
    pub variables: Variables,
    /// Whether the scan stands since: then nothing of it is as it was.
    pub is_stalled: bool,
}

/// One value of it.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Shown {
    /// In its unit.
    pub value: Value,
    /// How far it can be believed.
    pub quality: Quality,
    /// When it was good last.
    pub at: SystemTime,
}

impl Export {
    /// The point or, if there is none of that name, the variable. All are bad while the scan
    /// stands.
    pub fn find(&self, name: &str) -> Option<Shown> {
        let shown = self.last(name)?;
        let stall = if self.is_stalled { Quality::NoComm } else { Quality::Good };
        Some(Shown { quality: shown.quality.max(stall), ..shown })
    }

    /// As it was in that cycle.
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

/// Where devices find the newest [`Export`], and hear of another.
pub type Exports = watch::Receiver<Arc<Export>>;

/// A place for exports: the half that fills it, and the one that devices get.
pub fn exports() -> (watch::Sender<Arc<Export>>, Exports) {
    watch::channel(Arc::default())
}
