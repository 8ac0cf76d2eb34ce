//! The driver for GPIO lines of this machine, through version 2 of the kernel's character device.
//!
//! ```toml
//! [[device]]
//! name = "board"
//! driver = "gpio"
//! period = "10ms"                      # levels are read at each edge, and this often
//! [[device.point]]
//! name = "button"
//! direction = "in"
//! type = "bool"
//! at = { line = "GPIO17", bias = "pull_up", active_low = true, debounce = "5ms" }
//! [[device.point]]
//! name = "relay"
//! direction = "out"
//! type = "bool"
//! safe = false
//! at = { chip = "pinctrl-bcm2711", offset = 18, drive = "push_pull" }
//! ```
//! A line is identified by its name, or by a chip and an offset on it. A chip is identified by its
//! label, which stays, or by a name like `gpiochip0`, which may be another chip after the next
//! start. One call reads all inputs of a chip and one call writes all its outputs, so each call is
//! one instant. An output is requested with the value that the scan wants, in one step.
//!
//! An input has a `mode`. `"level"` shows the level. `"latched"` shows even the shortest pulse for
//! at least one cycle (`edge = "falling"`: a dip). `"counter"`, of type u32, counts edges (`edge`:
//! `rising`, `falling`, `both`) and wraps, so programs take differences. A counter starts again at
//! 0 when its device is opened again, by a reload that changes it or by a restart. It does not see
//! edges while it is bad. Therefore a program takes the first good value after a bad one as its new
//! base.
//!
//! The lines of one device are served in turn. A chip that answers slowly, such as an expander on
//! I2C, delays the others, so it should be a device of its own.
//!
//! `gpio/serve.rs` is the loop over `gpio/board.rs`, which is all lines of a device, and
//! `gpio/line.rs` the meaning of one line. `gpio/chip.rs` finds a line, `gpio/claim.rs` requests
//! lines from the kernel, `gpio/retry.rs` says when to try again, and `gpio/held.rs` is what the
//! kernel has given. `gpio/notice.rs` decides what is logged. Not here: sysfs, global numbers,
//! pulse width modulation, and keeping a line over a restart of the daemon.

mod board;
mod chip;
mod claim;
mod held;
mod line;
mod notice;
mod retry;
mod serve;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use gpiocdev::line::{Bias as KernelBias, Drive as KernelDrive};
use serde::Deserialize;

use super::export::Exports;
use super::link::Link;
use super::{Location, OpenError, Plan, Settings, duration};
use crate::process::image::{PointId, Points};
use board::Board;

/// A `[[device]]` of this driver.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Config {
    /// The time between two reads of the levels. On a chip that reports edges, these reads only
    /// keep the values fresh. On a chip that does not, they are the only way to see a change.
    #[serde(default = "ten_milliseconds", with = "duration")]
    pub period: Duration,
    /// The key `at` of each point, by the point's name.
    #[serde(default)]
    pub at: BTreeMap<String, At>,
}

impl Settings for Config {
    fn plan(&self, points: &Arc<Points>, device: usize, _: &Exports) -> Result<Plan, OpenError> {
        let board = Board::plan(self, points, device)?;
        let points = Arc::clone(points);
        Ok(Plan::new(move || Link::start(&points, device, board.freshness(), board)))
    }

    fn locations(&self, points: &Points, device: usize) -> Vec<(PointId, Location)> {
        board::locations(self, points, device)
    }
}

fn ten_milliseconds() -> Duration {
    Duration::from_millis(10)
}

/// The key `at` of a point.
#[derive(Debug, Clone, PartialEq, Eq, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct At {
    /// The name of the line, on `chip` if that is given.
    pub line: Option<String>,
    /// The label or the name of the chip.
    pub chip: Option<String>,
    /// The number of the line on that chip.
    pub offset: Option<u32>,
    /// Whether the line is true while its voltage is low.
    #[serde(default)]
    pub active_low: bool,
    /// The bias of the line, which holds its level while nothing drives it.
    pub bias: Option<Bias>,
    /// How an output drives its line.
    pub drive: Option<Drive>,
    /// How long an input must be stable before it counts. The kernel does the debouncing.
    #[serde(default, deserialize_with = "duration::some")]
    pub debounce: Option<Duration>,
    /// What an input shows.
    pub mode: Option<Mode>,
    /// Which edges a counter counts, or which pulses are latched.
    pub edge: Option<Edge>,
}

/// The bias of a line, which holds its level while nothing drives it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
#[allow(missing_docs, reason = "the names are the kernel's")]
pub enum Bias {
    PullUp,
    PullDown,
    Disabled,
}

impl From<Bias> for KernelBias {
    fn from(bias: Bias) -> Self {
        match bias {
            Bias::PullUp => Self::PullUp,
            Bias::PullDown => Self::PullDown,
            Bias::Disabled => Self::Disabled,
        }
    }
}

/// How an output drives its line.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
#[allow(missing_docs, reason = "the names are the kernel's")]
pub enum Drive {
    PushPull,
    OpenDrain,
    OpenSource,
}

impl From<Drive> for KernelDrive {
    fn from(drive: Drive) -> Self {
        match drive {
            Drive::PushPull => Self::PushPull,
            Drive::OpenDrain => Self::OpenDrain,
            Drive::OpenSource => Self::OpenSource,
        }
    }
}

/// What an input shows.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Mode {
    /// The level of the line.
    #[default]
    Level,
    /// The level of the line, and each pulse for at least one cycle.
    Latched,
    /// The number of edges since the device was opened.
    Counter,
}

/// An edge, in terms of true and false: `active_low` is taken into account.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Edge {
    /// The line becomes true.
    #[default]
    Rising,
    /// The line becomes false.
    Falling,
    /// The line becomes true or false.
    Both,
}
