//! All lines of one device, and their plan: everything that the configuration says about them.
//!
//! The plan checks all and looks at no chip; `camshaft check` ends here too. The loop that serves
//! the lines is in `serve.rs`. How lines are requested is in `claim.rs`, the meaning of a line in
//! `line.rs`.

use std::ops::RangeInclusive;
use std::time::{Duration, Instant};

use super::Config;
use super::held::Held;
use super::line::Line;
use super::notice::Notice;
use super::retry::Retry;
use crate::driver::{Location, OpenError};
use crate::process::image::{Freshness, PointId, Points};

/// The range of `period`. The runtime's timers count milliseconds; a level that is read less often
/// than this is of no use.
const PERIOD: RangeInclusive<Duration> = Duration::from_millis(1)..=Duration::from_secs(60);

/// The lines of the points of device number `device`. The kernel gives a line to one point only,
/// whether it is an input or an output.
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

/// All lines of one device.
#[derive(Debug)]
pub(super) struct Board {
    /// The device's name. The kernel shows it in the name of the lines' consumer.
    pub(super) device: String,
    /// The time between two reads of the levels.
    pub(super) period: Duration,
    pub(super) lines: Vec<Line>,
    /// What the kernel has given.
    pub(super) held: Vec<Held>,
    pub(super) retry: Retry,
    pub(super) notice: Notice,
    /// When the status was updated last.
    pub(super) shown_at: Option<Instant>,
}

impl Board {
    /// Plans the line of each point of device number `device`. It looks at no chip.
    ///
    /// # Errors
    /// When a point has no line, two points have the same line, or a key does not fit the others.
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
                let found = format!("the line of {}", twin.name);
                return Err(OpenError::at(&point.name, "", found, "a line for each point"));
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

    /// How long a value is trusted: three periods until it is stale, ten until it is bad. It is two
    /// seconds at least until a value is bad, because an expander on a slow bus is read more slowly
    /// than configured.
    pub(super) fn freshness(&self) -> Freshness {
        let bad = (10 * self.period).max(Duration::from_secs(2));
        let stale = (3 * self.period).max(Duration::from_millis(100));
        Freshness { stale_after: Some(stale), bad_after: Some(bad) }
    }
}
