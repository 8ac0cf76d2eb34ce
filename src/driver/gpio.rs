//! The driver for GPIO lines of this machine, through version 2 of the kernel's character device.
//!
//! ```toml
//! [[device]]
//! name = "board"
//! driver = "gpio"
//! period = "10ms"                      # levels are read at each edge and every 10 ms
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
//! A line is identified by its name, or by a chip and an offset on that chip. A chip is identified
//! by its label, which never changes, or by its name, such as `gpiochip0`. After the next start of
//! the machine, the name may belong to another chip.
//!
//! If possible, one kernel request contains all inputs of a chip, and one contains all its outputs.
//! One call reads or writes all lines of a request, so their values are from the same instant. The
//! request for an output contains the wanted value, so the line starts as an output with this
//! value. All lines of a device wait for the slowest chip. Therefore a slow chip, such as an I2C
//! expander, should be a separate device.
//!
//! The key `mode` decides what an input shows. `"level"` is the level of the line. `"latched"`
//! shows each pulse, even the shortest, for at least one cycle. A pulse is a change to true or,
//! with `edge = "falling"`, to false. `"counter"`, of type u32, counts edges (`edge`: `rising`,
//! `falling`, `both`). A counter wraps to 0 after its maximum, so programs should subtract two
//! readings. A counter starts at 0 when a start or a reload opens its device. A counter may miss
//! edges while its quality is bad. Programs must use the next good value as a new base.
//!
//! `gpio/serve.rs` is the loop. `gpio/board.rs` has all lines of a device, `gpio/line.rs` has one
//! line. `gpio/chip.rs` finds lines, `gpio/claim.rs` requests lines, `gpio/retry.rs` decides when
//! to try again. `gpio/held.rs` has the granted lines, `gpio/notice.rs` limits the log. The driver
//! does not use sysfs or global line numbers, does no PWM, and releases its lines at a restart.

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

/// The `[[device]]` table of this driver.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Config {
    /// The levels are read once in this time, at each reported edge, and when the scan changes an
    /// output. If the chip reports edges, the reads in this rhythm only keep the values from
    /// becoming stale. If the chip reports no edges, a change of the level is seen at the next
    /// read.
    #[serde(default = "ten_milliseconds", with = "duration")]
    pub period: Duration,
    /// For each point, by its name, the value of its key `at`: the line and its settings.
    #[serde(default)]
    pub at: BTreeMap<String, LineAddress>,
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
pub struct LineAddress {
    /// The name of the line. If `chip` is set, the line must be on that chip.
    pub line: Option<String>,
    /// The label or the name of the chip, or the path of its device file.
    pub chip: Option<String>,
    /// The number of the line on the chip.
    pub offset: Option<u32>,
    /// Whether the value is true while the voltage of the line is low.
    #[serde(default)]
    pub active_low: bool,
    /// The bias of the line: the resistor that sets the level while no part drives the line.
    pub bias: Option<Bias>,
    /// The electrical type of an output.
    pub drive: Option<Drive>,
    /// The time for which an input must be stable before the kernel reports its new level. The
    /// kernel does the debouncing.
    #[serde(default, deserialize_with = "duration::some")]
    pub debounce: Option<Duration>,
    /// What the input shows: the level, pulses, or a count of edges. `None` means the level.
    pub mode: Option<Mode>,
    /// The edges that a counter counts, or the edge at which a latched pulse begins. `None` means
    /// the rising edge.
    pub edge: Option<Edge>,
}

/// The bias of a line: the resistor that sets the level while no part drives the line.
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

/// The electrical type of an output.
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
    /// The number of edges after the device was opened.
    Counter,
}

/// An edge of the logical value. If `active_low` is set, a falling voltage is a rising edge.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Edge {
    /// The value changes from false to true.
    #[default]
    Rising,
    /// The value changes from true to false.
    Falling,
    /// The value changes in either direction.
    Both,
}
