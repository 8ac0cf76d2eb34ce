//! One line: what the configuration says of it, and what its levels and edges mean to the scan.
//!
//! This file is pure. It is given levels, edges and the beats of the scan, and returns raw values.
//! It makes no call to the kernel; `held.rs` does.

use std::fmt;
use std::ops::RangeInclusive;
use std::path::PathBuf;
use std::time::Duration;

use gpiocdev::line::{self as kernel, EdgeDetection, EdgeEvent, Offset};

use super::{At, Edge, Mode};
use crate::driver::{OpenError, Part};
use crate::process::image::{Direction, Kind, Point, PointId, Raw};

/// The range of `debounce`. The kernel counts microseconds; a program can wait for longer times
/// itself.
const DEBOUNCE: RangeInclusive<Duration> = Duration::from_micros(1)..=Duration::from_secs(1);

/// The maximum length of a chip's or a line's name in the kernel, in bytes, without the final zero.
const MAX_NAME: usize = 31;

/// The place of a line, as the configuration names it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Place {
    /// A line of this name, on this chip or, without one, on any chip.
    Named(Option<String>, String),
    /// The line with this offset, on the chip of this label or name.
    Numbered(String, Offset),
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Named(None, line) => write!(f, "line {line:?}"),
            Self::Named(Some(chip), line) => write!(f, "line {line:?} of {chip}"),
            Self::Numbered(chip, offset) => write!(f, "line {offset} of {chip}"),
        }
    }
}

/// One line.
#[derive(Debug)]
pub(super) struct Line {
    pub(super) id: PointId,
    /// The point's name.
    pub(super) name: String,
    pub(super) direction: Direction,
    pub(super) place: Place,
    /// The settings that the kernel is asked for.
    config: kernel::Config,
    /// Whether the line is requested without edges. Its level is then read once in a period only.
    is_without_edges: bool,
    sense: Sense,
    /// Where the line was found: the chip's file and the offset on it.
    pub(super) found: Option<(PathBuf, Offset)>,
    pub(super) is_held: bool,
    /// Why the line does not work, if it does not.
    pub(super) trouble: Option<String>,
    /// The number of edges that the kernel has seen.
    edges: u64,
    /// The number of those edges for which the kernel's buffer had no room.
    dropped: u64,
    /// The number of edges without room over all lines of the same request. If it is greater than
    /// the sum of `dropped` of these lines, some line has had no edge since its loss.
    dropped_together: u64,
    /// The kernel's number of the line's last edge since it was requested. It counts from 1 and
    /// wraps.
    last: u32,
}

/// What the scan sees of an input.
#[derive(Debug, PartialEq)]
enum Sense {
    Level,
    /// Shows `pulse` from the edge on until the scan has read it. A cycle that begins after the
    /// publication ends with the second beat after it. The first beat may belong to a cycle that
    /// began before. Only a pulse that was sensed counts as published: without the levels nothing
    /// is published.
    Latched {
        pulse: bool,
        latch: Latch,
    },
    Counter,
}

/// The state of a latched input.
///
/// ```text
///   Open --edge--> Sprung --sensed--> Sensed --published--> Shown(until) --beats reach it--> Open
///                  ^-------edge---------'---------edge-----------'
/// ```
#[derive(Debug, PartialEq, Clone, Copy)]
enum Latch {
    /// The input shows its level.
    Open,
    /// An edge has come that no read of the levels has shown yet.
    Sprung,
    /// A read of the levels shows the pulse, but it is not published yet.
    Sensed,
    /// The pulse is published, and is shown until the scan has written `until` times.
    Shown { until: u64 },
}

impl Line {
    /// Plans the line of `point`.
    pub(super) fn plan(id: PointId, point: &Point, at: &At) -> Result<Self, OpenError> {
        let wrong = |key: &str, found: &dyn std::fmt::Display, wanted: &str| {
            OpenError::at(&point.name, key, found.to_string(), wanted)
        };
        let mut config = kernel::Config {
            active_low: at.active_low,
            bias: at.bias.map(Into::into),
            ..kernel::Config::default()
        };
        let (mut sense, mut kind) = (Sense::Level, Kind::Bool);
        if point.direction == Direction::Out {
            let only_in = [
                ("mode", at.mode.is_some()),
                ("edge", at.edge.is_some()),
                ("debounce", at.debounce.is_some()),
            ];
            if let Some((key, _)) = only_in.into_iter().find(|(_, is_said)| *is_said) {
                return Err(wrong(key, &"an output", "this key at inputs only"));
            }
            config.direction = Some(kernel::Direction::Output);
            config.drive = at.drive.map(Into::into);
        } else {
            if at.drive.is_some() {
                return Err(wrong("drive", &"an input", "this key at outputs only"));
            }
            if let Some(long) = at.debounce.filter(|time| !DEBOUNCE.contains(time)) {
                return Err(wrong("debounce", &format!("{long:?}"), "from 1us to 1s"));
            }
            config.direction = Some(kernel::Direction::Input);
            config.debounce_period = at.debounce;
            let mode = at.mode.unwrap_or_default();
            sense = Sense::new(mode, at.edge)
                .map_err(|(key, found, wanted)| OpenError::at(&point.name, key, found, wanted))?;
            config.edge_detection = Some(edge_detection(mode, at.edge.unwrap_or_default()));
            if sense == Sense::Counter {
                kind = Kind::U32;
            }
        }
        if point.kind != kind {
            let found = format!("type {} of the point", point.kind);
            return Err(wrong("", &found, &format!("type {kind} for this line")));
        }
        Ok(Self {
            id,
            name: point.name.clone(),
            direction: point.direction,
            place: place(point, at)?,
            config,
            is_without_edges: false,
            sense,
            found: None,
            is_held: false,
            trouble: None,
            edges: 0,
            dropped: 0,
            dropped_together: 0,
            last: 0,
        })
    }

    /// The settings that the kernel is asked for, without edges if these were given up.
    pub(super) fn config(&self) -> kernel::Config {
        let mut config = self.config.clone();
        config.edge_detection = self.edge_detection();
        config
    }

    /// The edges for which the next request asks, if it asks for any.
    fn edge_detection(&self) -> Option<EdgeDetection> {
        self.config.edge_detection.filter(|_| !self.is_without_edges)
    }

    /// Lets the next request ask for edges again, as planned.
    pub(super) fn want_edges(&mut self) {
        self.is_without_edges = false;
    }

    /// Lets the next request do without edges, if the line works by reads alone. Returns whether
    /// this is a change.
    pub(super) fn give_up_edges(&mut self) -> bool {
        let is_news = self.sense == Sense::Level && self.edge_detection().is_some();
        self.is_without_edges |= is_news;
        is_news
    }

    /// The key for which this line needs edges, if there is one. Most chips leave debouncing to the
    /// kernel, which needs edges for it too.
    pub(super) fn needs_edges(&self) -> Option<&'static str> {
        match (&self.sense, self.config.debounce_period) {
            (Sense::Latched { .. } | Sense::Counter, _) => Some("mode"),
            (Sense::Level, Some(_)) => Some("debounce"),
            (Sense::Level, None) => None,
        }
    }

    /// Notes that the line was requested. The kernel counts its edges anew.
    pub(super) fn take(&mut self) {
        (self.is_held, self.trouble, self.last) = (true, None, 0);
    }

    /// Counts an edge of this line. The kernel numbers each line's edges before it puts them into a
    /// buffer that may be full. Therefore edges that were dropped are counted too.
    pub(super) fn edge(&mut self, event: &EdgeEvent) {
        let passed = event.line_seqno.wrapping_sub(self.last);
        self.last = event.line_seqno;
        self.edges += u64::from(passed);
        self.dropped += u64::from(passed.saturating_sub(1));
        if let Sense::Latched { latch, .. } = &mut self.sense {
            *latch = Latch::Sprung;
        }
    }

    /// Counts edges for which the kernel had no room, over all lines of the same request.
    pub(super) fn miss(&mut self, dropped: u32) {
        self.dropped_together += u64::from(dropped);
    }

    /// The raw value that the scan is to see while the line is at `level` and the scan has written
    /// `beats` times. The caller must put it before the next publication.
    pub(super) fn sense(&mut self, level: bool, beats: u64) -> Raw {
        let mut raw = Raw::default();
        match &mut self.sense {
            Sense::Level => raw[0] = u8::from(level),
            Sense::Latched { pulse, latch } => {
                if let Latch::Shown { until } = *latch
                    && beats >= until
                {
                    *latch = Latch::Open;
                }
                if *latch == Latch::Sprung {
                    *latch = Latch::Sensed;
                }
                raw[0] = u8::from(if *latch == Latch::Open { level } else { *pulse });
            }
            // A counter wraps, so its value is the low half of the count.
            Sense::Counter => raw[..4].copy_from_slice(&self.edges.to_le_bytes()[..4]),
        }
        raw
    }

    /// Notes that the sensed value is published. The scan has written `beats` times by now.
    pub(super) fn published(&mut self, beats: u64) {
        if let Sense::Latched { latch, .. } = &mut self.sense
            && *latch == Latch::Sensed
        {
            *latch = Latch::Shown { until: beats + 2 };
        }
    }

    /// The line as the status shows it.
    pub(super) fn part(&self) -> Part {
        let state = match (&self.trouble, &self.found) {
            (Some(why), _) => why.clone(),
            (None, Some((chip, offset))) if self.is_held => {
                let mode = if self.edge_detection().is_some() { "edges" } else { "polled" };
                let mode = if self.direction == Direction::Out { "output" } else { mode };
                format!("{} line {offset}, {mode}", chip.display())
            }
            _ => "waits for the first cycle".to_owned(),
        };
        let mut facts = Vec::new();
        if self.edge_detection().is_some() {
            facts.push(("edges".to_owned(), self.edges as f64));
            facts.push(("edges_dropped".to_owned(), self.dropped as f64));
            facts.push(("request_edges_dropped".to_owned(), self.dropped_together as f64));
        }
        if self.sense == Sense::Counter {
            facts.push(("wraps".to_owned(), (self.edges >> 32) as f64));
        }
        Part { name: self.name.clone(), ok: self.is_held && self.trouble.is_none(), state, facts }
    }
}

impl Sense {
    /// The sense of an input with these keys. The error is the key, what was found, and what is
    /// expected.
    fn new(
        mode: Mode,
        edge: Option<Edge>,
    ) -> Result<Self, (&'static str, &'static str, &'static str)> {
        match (mode, edge) {
            (Mode::Level, None) => Ok(Self::Level),
            (Mode::Level, Some(_)) => {
                Err(("edge", "a level", "this key with mode latched or counter"))
            }
            (Mode::Latched, Some(Edge::Both)) => {
                Err(("edge", "both", "rising for pulses, or falling for dips"))
            }
            (Mode::Latched, edge) => {
                Ok(Self::Latched { pulse: edge != Some(Edge::Falling), latch: Latch::Open })
            }
            (Mode::Counter, _) => Ok(Self::Counter),
        }
    }
}

/// The edges that the kernel is asked for. A latched line asks for one kind only. If asked for
/// both, the kernel looks at the level when its thread runs, and takes the start of a short pulse
/// for its end.
fn edge_detection(mode: Mode, edge: Edge) -> EdgeDetection {
    match (mode, edge) {
        (Mode::Level, _) | (_, Edge::Both) => EdgeDetection::BothEdges,
        (_, Edge::Rising) => EdgeDetection::RisingEdge,
        (_, Edge::Falling) => EdgeDetection::FallingEdge,
    }
}

/// The place that the key `at` of a point names.
fn place(point: &Point, at: &At) -> Result<Place, OpenError> {
    for (key, name) in [("line", &at.line), ("chip", &at.chip)] {
        if let Some(name) = name
            && !(1..=MAX_NAME).contains(&name.len())
        {
            let wanted = format!("a name of 1 to {MAX_NAME} bytes");
            return Err(OpenError::at(&point.name, key, format!("{name:?}"), wanted));
        }
    }
    match (&at.line, &at.chip, at.offset) {
        (Some(line), chip, None) => Ok(Place::Named(chip.clone(), line.clone())),
        (None, Some(chip), Some(offset)) => Ok(Place::Numbered(chip.clone(), offset)),
        (Some(_), _, Some(_)) => {
            Err(OpenError::at(&point.name, "offset", "a line by its name, too", "one of them"))
        }
        (None, None, Some(_)) => {
            Err(OpenError::at(&point.name, "chip", "nothing", "the chip that the offset is on"))
        }
        (None, _, None) => {
            Err(OpenError::at(&point.name, "line", "nothing", "a line, or a chip and an offset"))
        }
    }
}

#[cfg(test)]
mod tests;
