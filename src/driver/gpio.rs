//! GPIO lines of this machine, by the kernel's character device, version 2.
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
//! A line has a name, or a chip and an offset there; a chip is named by its label, which stays, or
//! by `gpiochip0`, which may be another chip after the next start. All inputs of a chip are read in
//! one call and all its outputs are written in one, so each is a picture of one instant. An output
//! is requested with the value that the scan wants of it, in one step.
//!
//! An input is a `mode = "level"`; or `"latched"`, which shows even the shortest pulse for at least
//! one cycle (`edge = "falling"`: a dip); or a `"counter"` of type u32 that counts edges (`edge`:
//! `rising`, `falling`, `both`) and wraps: programs take differences. It begins anew at 0 when its
//! device is opened again, by a reload that changes it or a restart, and while it is bad edges pass
//! unseen; so a program takes the first good value after a bad one as its new base.
//!
//! The lines of one device are served in turn: a chip that answers slowly, such as an expander on
//! I2C, holds up the others, so it should be a device of its own.
//!
//! `gpio/board.rs` is the loop, `gpio/line.rs` the meaning of one line, `gpio/chip.rs` finds it,
//! `gpio/claim.rs` gets lines from the kernel and tries again, `gpio/held.rs` is what it has given,
//! `gpio/notice.rs` what the log is told. Not here: sysfs, global numbers, pulse width, and keeping
//! a line over a restart of the daemon.

mod board;
mod chip;
mod claim;
mod held;
mod line;
mod notice;

use std::collections::BTreeMap;
use std::time::Duration;

use gpiocdev::line::{Bias as KernelBias, Drive as KernelDrive};
use serde::Deserialize;

use super::duration;

pub(super) use board::{Board, places};

/// A `[[device]]` of this driver.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Config {
    /// Between two readings of the levels. With edges it only keeps them fresh; a chip that tells
    /// no edges is seen through it.
    #[serde(default = "ten_milliseconds", with = "duration")]
    pub period: Duration,
    /// Where each point is.
    #[serde(default)]
    pub at: BTreeMap<String, At>,
}

fn ten_milliseconds() -> Duration {
    Duration::from_millis(10)
}

/// The key `at` of a point.
#[derive(Debug, Clone, PartialEq, Eq, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct At {
    /// The name of the line; with `chip`, there.
    pub line: Option<String>,
    /// The label or the name of the chip.
    pub chip: Option<String>,
    /// The number of the line on that chip.
    pub offset: Option<u32>,
    /// Whether the line is true while its voltage is low.
    #[serde(default)]
    pub active_low: bool,
    /// What holds the line while nobody drives it.
    pub bias: Option<Bias>,
    /// How an output drives.
    pub drive: Option<Drive>,
    /// How long an input must rest until it counts. The kernel's affair.
    #[serde(default, deserialize_with = "duration::some")]
    pub debounce: Option<Duration>,
    /// What an input shows.
    pub mode: Option<Mode>,
    /// What a counter counts, or which pulses are latched.
    pub edge: Option<Edge>,
}

/// What holds a line while nobody drives it.
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

/// How an output drives.
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
    /// What it is.
    #[default]
    Level,
    /// The same, and every pulse for at least one cycle.
    Latched,
    /// How many edges there were.
    Counter,
}

/// An edge, in terms of true and false: `active_low` is taken into account.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Edge {
    /// It becomes true.
    #[default]
    Rising,
    /// It becomes false.
    Falling,
    /// Both count.
    Both,
}
