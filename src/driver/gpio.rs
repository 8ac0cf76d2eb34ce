//! GPIO lines of this machine, by the kernel's character device, version 2.
//!
//! ```toml
//! [[device]]
//! name = "board"
//! driver = "gpio"
//! period = "1ms"                       # how often levels are read when no edge tells
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
//! `rising`, `falling`, `both`) from 0 at its start and wraps: programs take differences.
//!
//! `gpio/line.rs` is the meaning of one line, `gpio/chip.rs` finds it, `gpio/claim.rs` gets lines
//! from the kernel and tries again, `gpio/held.rs` is what it has given. Not here: sysfs, global
//! numbers, pulse width, and keeping a line over a restart of the daemon.

mod chip;
mod claim;
mod held;
mod line;

use std::collections::BTreeMap;
use std::future::poll_fn;
use std::ops::RangeInclusive;
use std::task::Poll;
use std::time::{Duration, Instant};

use gpiocdev::line::{Bias as KernelBias, Drive as KernelDrive};
use serde::Deserialize;
use tokio::time::{MissedTickBehavior, interval};

use self::claim::Retry;
use self::held::Held;
use self::line::Line;
use super::link::{Serve, Side};
use super::{Fault, OpenError, duration};
use crate::image::{Direction, Freshness, Points, Raw};

/// Quicker than this the thread would do nothing else; slower is no level that anybody waits for.
const PERIOD: RangeInclusive<Duration> = Duration::from_micros(100)..=Duration::from_secs(60);

/// So many edges at once are a storm: then only the next period is looked at, so that a line that
/// buzzes costs a bounded part of a CPU. Counters lose nothing by it.
const STORM: usize = 256;

/// How often the status is brought up to date. People read it.
const SHOWN_EVERY: Duration = Duration::from_millis(200);

/// A `[[device]]` of this driver.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Config {
    /// Between two readings of the levels.
    #[serde(default = "millisecond", with = "duration")]
    pub period: Duration,
    /// Where each point is.
    #[serde(default)]
    pub at: BTreeMap<String, At>,
}

fn millisecond() -> Duration {
    Duration::from_millis(1)
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

/// All lines of one device.
#[derive(Debug)]
pub(super) struct Board {
    /// Its name, which the kernel shows as that of the lines' consumer, too.
    device: String,
    period: Duration,
    lines: Vec<Line>,
    held: Vec<Held>,
    retry: Retry,
    /// What was logged last of the lines that are not to be had.
    told: Option<String>,
    shown_at: Option<Instant>,
}

impl Board {
    /// Finds out what each point of device number `device` is to be; looks at no chip.
    ///
    /// # Errors
    /// When a point has no line, two have the same, or a key does not go with the others.
    pub(super) fn plan(config: &Config, points: &Points, device: usize) -> Result<Self, OpenError> {
        if !PERIOD.contains(&config.period) {
            let found = format!("{:?}", config.period);
            return Err(OpenError::new("period", found, "from 100us to 60s"));
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
            told: None,
            shown_at: None,
        })
    }

    /// How long a value is believed: three readings, and ten until it is bad; two seconds at least,
    /// because the expander at the end of a slow bus is read more slowly than asked for.
    pub(super) fn freshness(&self) -> Freshness {
        let bad = (10 * self.period).max(Duration::from_secs(2));
        let stale = (3 * self.period).max(Duration::from_millis(100));
        Freshness { stale_after: Some(stale), bad_after: Some(bad) }
    }

    /// Reads edges and levels of all inputs; says how many edges there were.
    fn read(&mut self, side: &mut Side) -> usize {
        let (Self { lines, held, .. }, beats) = (self, side.beats());
        let mut edges = 0;
        held.retain_mut(|held| {
            if held.direction == Direction::Out {
                return true;
            }
            let read = held.edges(lines).and_then(|count| {
                edges += count;
                held.levels()
            });
            for seat in &held.seats {
                let line = &mut lines[seat.line];
                match &read {
                    Ok(levels) => {
                        let level = levels.get(seat.offset).is_some_and(bool::from);
                        side.put(line.id, line.sense(level, beats));
                    }
                    Err(error) => side.spoil(line.id, held::quality(error)),
                }
            }
            held.survives(read.err(), lines)
        });
        edges
    }

    /// Writes what the lines do not have, all outputs of a request at once.
    fn write(&mut self, side: &mut Side) {
        let Self { lines, held, .. } = self;
        held.retain(|held| {
            if held.direction == Direction::In {
                return true;
            }
            let outputs = || held.seats.iter().map(|seat| lines[seat.line].id);
            // They were requested because the scan wants something of them.
            let wanted: Vec<Raw> = outputs().filter_map(|id| side.wanted(id)).collect();
            if outputs().zip(&wanted).all(|(id, raw)| side.has(id, *raw)) {
                return true;
            }
            let written = held.write(&wanted);
            for (seat, raw) in held.seats.iter().zip(wanted) {
                match &written {
                    Ok(()) => side.confirm(lines[seat.line].id, raw),
                    Err(_) => side.doubt(lines[seat.line].id),
                }
            }
            held.survives(written.err(), lines)
        });
    }

    /// Looks whether the chips of the outputs are still there: writing finds out only when something
    /// changes, and older kernels do not wake who waits for a chip that has gone.
    fn probe(&mut self, side: &mut Side) {
        let Self { lines, held, .. } = self;
        held.retain(|held| {
            let error = match held.direction {
                Direction::Out => held.levels().err().filter(held::is_gone),
                Direction::In => return true,
            };
            if error.is_some() {
                held.seats.iter().for_each(|seat| side.doubt(lines[seat.line].id));
            }
            error.is_none() || held.survives(error, lines)
        });
    }

    /// Makes all of it known.
    fn publish(&mut self, side: &mut Side) {
        let is_shown_again = self.shown_at.is_none_or(|at| at.elapsed() >= SHOWN_EVERY);
        if is_shown_again {
            self.probe(side);
        }
        let in_trouble = self.lines.iter().filter(|line| line.trouble.is_some()).count();
        let is_dead = self.held.is_empty() && in_trouble > 0;
        side.fault(is_dead.then_some(Fault::Disconnected));
        side.publish();
        let beats = side.beats();
        self.lines.iter_mut().for_each(|line| line.published(beats));
        self.say(in_trouble);
        if is_shown_again {
            self.shown_at = Some(Instant::now());
            side.show(self.lines.iter().map(Line::part).collect());
        }
    }

    /// Logs what has become of lines that are not to be had, if that is news.
    fn say(&mut self, in_trouble: usize) {
        let device = &self.device;
        let first = self.lines.iter().find_map(|line| Some((&line.name, line.trouble.as_ref()?)));
        let Some((name, why)) = first else {
            if self.told.take().is_some() {
                tracing::info!(device, "device {device}: all GPIO lines are there");
            }
            return;
        };
        let said = format!("{in_trouble} of {} GPIO lines; {name}: {why}", self.lines.len());
        if self.told.as_ref() != Some(&said) {
            tracing::warn!(device, "device {device}: not to be had are {said}");
            self.told = Some(said);
        }
    }
}

impl Serve for Board {
    async fn serve(&mut self, side: &mut Side) {
        let mut readings = interval(self.period);
        readings.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut is_stormy = false;
        loop {
            self.claim(side);
            is_stormy = self.read(side) >= STORM || is_stormy;
            self.write(side);
            self.publish(side);
            let held = &self.held;
            let edges = poll_fn(|context| {
                let mut rings = held.iter().map(|held| held.poll_edges(context));
                if rings.any(|rings| rings) { Poll::Ready(()) } else { Poll::Pending }
            });
            tokio::select! {
                _ = readings.tick() => is_stormy = false,
                () = edges, if !is_stormy => {}
                () = side.changed() => {}
            }
        }
    }
}
