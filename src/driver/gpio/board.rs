//! All lines of one device, and the plan of the lines.
//!
//! The plan checks all settings of the lines, but accesses no chip. `camshaft check` makes only the
//! plan. The loop that serves the lines is in `serve.rs`. `claim.rs` requests lines from the
//! kernel. `line.rs` converts levels and edges to values.

use std::ops::RangeInclusive;
use std::time::{Duration, Instant};

use super::Config;
use super::held::Held;
use super::line::Line;
use super::notice::Notice;
use super::retry::Retry;
use crate::driver::{Location, OpenError};
use crate::process::image::{Freshness, PointId, Points};

/// The range of `period`. The minimum is the resolution of the runtime's timers, one millisecond.
/// With a longer period than the maximum, a level would be too old to be useful.
const PERIOD: RangeInclusive<Duration> = Duration::from_millis(1)..=Duration::from_secs(60);

/// Returns each point of device number `device` with its place in the field, which is its GPIO
/// line. A point whose key `at` is missing or wrong is left out. The kernel grants a line to only
/// one request. Therefore an input and an output cannot share a line.
pub(super) fn locations(
    config: &Config,
    points: &Points,
    device: usize,
) -> Vec<(PointId, Location)> {
    let ours = points.iter().filter(|(_, point)| point.device == device);
    let lines =
        ours.filter_map(|(id, point)| Line::plan(id, point, config.at.get(&point.name)?).ok());
    let place = |line: Line| {
        let words = line.place.to_string();
        (line.id, Location { within: words.clone(), cells: 0..1, words })
    };
    lines.map(place).collect()
}

/// All lines of one device, with their state.
#[derive(Debug)]
pub(super) struct Board {
    /// The device's name. The kernel shows this name as the consumer of the lines.
    pub(super) device: String,
    /// The time between two reads of the levels, if no edge and no change of an output causes a
    /// read earlier.
    pub(super) period: Duration,
    pub(super) lines: Vec<Line>,
    /// The requests that the kernel has granted.
    pub(super) held: Vec<Held>,
    pub(super) retry: Retry,
    pub(super) notice: Notice,
    /// The time of the last update of the status; `None` before the first update.
    pub(super) shown_at: Option<Instant>,
}

impl Board {
    /// Plans the line of each point of device number `device`. The plan accesses no chip.
    ///
    /// # Errors
    /// When the period or another value is out of range. When a point has no line or the wrong
    /// type. When two points have the same line, or two keys contradict each other.
    pub(super) fn plan(config: &Config, points: &Points, device: usize) -> Result<Self, OpenError> {
        if !PERIOD.contains(&config.period) {
            let found = format!("{:?}", config.period);
            return Err(OpenError::new("period", found, "from 1ms to 60s"));
        }
        let mut lines: Vec<Line> = Vec::new();
        for (id, point) in points.iter().filter(|(_, point)| point.device == device) {
            let wanted = "{ line = \"GPIO17\" } or { chip = \"gpiochip0\", offset = 17 }";
            let at = config.at.get(&point.name);
            let at = at.ok_or_else(|| OpenError::at(&point.name, "", "nothing", wanted))?;
            let line = Line::plan(id, point, at)?;
            if let Some(twin) = lines.iter().find(|twin| twin.place == line.place) {
                let found = format!("the line that point {} uses", twin.name);
                return Err(OpenError::at(
                    &point.name,
                    "",
                    found,
                    "a line that no other point uses",
                ));
            }
            lines.push(line);
        }
        Ok(Self {
            device: points.devices().get(device).cloned().unwrap_or_default(),
            period: config.period,
            lines,
            held: Vec::new(),
            retry: Retry::default(),
            notice: Notice::default(),
            shown_at: None,
        })
    }

    /// The default age limits of the inputs. A value is stale after three periods, but not before
    /// 100 ms. A value is bad after ten periods, but not before two seconds. The minimum is two
    /// seconds, because an expander on a slow bus may need more time for a read than the configured
    /// period.
    pub(super) fn freshness(&self) -> Freshness {
        let bad = (10 * self.period).max(Duration::from_secs(2));
        let stale = (3 * self.period).max(Duration::from_millis(100));
        Freshness { stale_after: Some(stale), bad_after: Some(bad) }
    }
}
