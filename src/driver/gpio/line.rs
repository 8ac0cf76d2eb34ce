//! One GPIO line: its settings, and the conversion of its levels and edges to values for the scan.
//!
//! This file makes no call to the kernel; `held.rs` does. The functions return raw values. Their
//! arguments are levels, edges and the number of the scan's writes (the beats). Therefore tests
//! need no hardware.

use std::fmt;
use std::ops::RangeInclusive;
use std::path::PathBuf;
use std::time::Duration;

use gpiocdev::line::{self as kernel, EdgeDetection, EdgeEvent, Offset};

use super::{Edge, LineAddress, Mode};
use crate::driver::{OpenError, Part};
use crate::process::image::{Direction, Point, PointId, PointKind, Raw};

/// The range of `debounce`. The kernel counts in microseconds. For times above the maximum, a
/// program can do the debouncing.
const DEBOUNCE: RangeInclusive<Duration> = Duration::from_micros(1)..=Duration::from_secs(1);

/// The maximum length of a chip's or a line's name in the kernel, in bytes, without the final zero.
const MAX_NAME: usize = 31;

/// The place of a line, as the configuration names it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum LinePlace {
    /// A line with this name. If a chip is named, the line must be on that chip; otherwise it may
    /// be on any chip.
    Named(Option<String>, String),
    /// The line with this offset on the chip with this label, name or path of the device file.
    Numbered(String, Offset),
}

impl fmt::Display for LinePlace {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Named(None, line) => write!(f, "line {line:?}"),
            Self::Named(Some(chip), line) => write!(f, "line {line:?} of {chip}"),
            Self::Numbered(chip, offset) => write!(f, "line {offset} of {chip}"),
        }
    }
}

/// One line: its settings and its state.
#[derive(Debug)]
pub(super) struct Line {
    pub(super) id: PointId,
    /// The point's name.
    pub(super) name: String,
    pub(super) direction: Direction,
    pub(super) place: LinePlace,
    /// The settings for the kernel's request.
    config: kernel::Config,
    /// Whether the line is requested without edge detection. `give_up_edges` sets this field, and
    /// `want_edges` resets it. Without edge detection, a change of the level causes no read, so the
    /// change is seen at the next read.
    is_without_edges: bool,
    sense: Sense,
    /// The chip's device file and the offset at which the line was found; `None` while the line is
    /// not available.
    pub(super) found: Option<(PathBuf, Offset)>,
    pub(super) is_held: bool,
    /// The reason why the line does not work. `None` if it works, and before the first attempt to
    /// request the line.
    pub(super) trouble: Option<String>,
    /// The number of edges that the kernel has detected, including the dropped edges.
    edges: u64,
    /// The number of edges of this line that did not fit into the kernel's buffer.
    dropped: u64,
    /// The number of edges that did not fit into the buffer, summed over all lines of the request.
    /// This number may be greater than the sum of `dropped` over these lines. In that case, at
    /// least one line has lost edges and has had no later edge, so the `dropped` of that line is
    /// not updated yet.
    dropped_together: u64,
    /// The kernel's sequence number of the line's last edge. The number starts at 1 with each
    /// request and wraps.
    last: u32,
}

/// How an input turns levels and edges into a value for the scan.
#[derive(Debug, PartialEq)]
enum Sense {
    Level,
    /// After an edge, shows the value `pulse` until the scan has certainly read the pulse. A beat
    /// is one write of the scan. Two beats must follow the publication. The first beat may belong
    /// to a cycle that began, and read its inputs, before the publication. The second beat belongs
    /// to a later cycle, which has read the pulse.
    ///
    /// A publication shows the pulse only if a read of the levels came before the publication.
    /// Therefore `published` changes the latch only in the state `Sensed`.
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
    /// No pulse is latched. The input shows its level.
    Open,
    /// The kernel has reported an edge. No read of the levels has followed yet.
    Sprung,
    /// A read of the levels has followed the edge, so the input shows the pulse. The value is not
    /// published yet.
    Sensed,
    /// The pulse is published. The input shows the pulse until the number of beats reaches `until`.
    Shown { until: u64 },
}

impl Line {
    /// Plans the line of `point` from the key `at` of the point. Returns an error if the line is
    /// not named, if the point has the wrong type, if a key does not fit the point or another key,
    /// or if a value is out of range.
    pub(super) fn plan(id: PointId, point: &Point, at: &LineAddress) -> Result<Self, OpenError> {
        let wrong = |key: &str, found: &dyn std::fmt::Display, wanted: &str| {
            OpenError::at(&point.name, key, found.to_string(), wanted)
        };
        let mut config = kernel::Config {
            active_low: at.active_low,
            bias: at.bias.map(Into::into),
            ..kernel::Config::default()
        };
        let (mut sense, mut kind) = (Sense::Level, PointKind::Bool);
        if point.direction == Direction::Out {
            let only_in = [
                ("mode", at.mode.is_some()),
                ("edge", at.edge.is_some()),
                ("debounce", at.debounce.is_some()),
            ];
            if let Some((key, _)) = only_in.into_iter().find(|(_, is_said)| *is_said) {
                return Err(wrong(key, &"an output", "an input for this key"));
            }
            config.direction = Some(kernel::Direction::Output);
            config.drive = at.drive.map(Into::into);
        } else {
            if at.drive.is_some() {
                return Err(wrong("drive", &"an input", "an output for this key"));
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
                kind = PointKind::U32;
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

    /// The settings for the next request. The settings have no edge detection if `give_up_edges`
    /// has turned it off.
    pub(super) fn config(&self) -> kernel::Config {
        let mut config = self.config.clone();
        config.edge_detection = self.edge_detection();
        config
    }

    /// The edge detection of the next request; `None` if the request needs none.
    fn edge_detection(&self) -> Option<EdgeDetection> {
        self.config.edge_detection.filter(|_| !self.is_without_edges)
    }

    /// Resets the line to its configured edge detection, for the next request.
    pub(super) fn want_edges(&mut self) {
        self.is_without_edges = false;
    }

    /// Turns edge detection off for the next request, if the line is an input with mode `level`.
    /// Returns whether the function has changed the line.
    pub(super) fn give_up_edges(&mut self) -> bool {
        let is_news = self.sense == Sense::Level && self.edge_detection().is_some();
        self.is_without_edges |= is_news;
        is_news
    }

    /// The key that makes edges necessary for this line; `None` if the line works without edges.
    /// `debounce` makes edges necessary, because for most chips the kernel does the debouncing, and
    /// for this work the kernel needs edges.
    pub(super) fn needs_edges(&self) -> Option<&'static str> {
        match (&self.sense, self.config.debounce_period) {
            (Sense::Latched { .. } | Sense::Counter, _) => Some("mode"),
            (Sense::Level, Some(_)) => Some("debounce"),
            (Sense::Level, None) => None,
        }
    }

    /// Records that the kernel has granted the line. The kernel counts the edges of the line from 1
    /// again.
    pub(super) fn take(&mut self) {
        (self.is_held, self.trouble, self.last) = (true, None, 0);
    }

    /// Counts an edge of this line. The kernel gives each edge of a line a number before it stores
    /// the edge in the buffer. If the buffer is full, the edge is dropped, but no other edge gets
    /// its number. Therefore the gap between two numbers is the number of dropped edges, and this
    /// function counts these edges.
    pub(super) fn edge(&mut self, event: &EdgeEvent) {
        let passed = event.line_seqno.wrapping_sub(self.last);
        self.last = event.line_seqno;
        self.edges += u64::from(passed);
        self.dropped += u64::from(passed.saturating_sub(1));
        if let Sense::Latched { latch, .. } = &mut self.sense {
            *latch = Latch::Sprung;
        }
    }

    /// Adds `dropped` to the number of edges that all lines of the request have lost together.
    pub(super) fn miss(&mut self, dropped: u32) {
        self.dropped_together += u64::from(dropped);
    }

    /// The raw value that the scan should see. `level` is the present level of the line, and
    /// `beats` is the number of the scan's writes. The caller must pass this value to `Side::put`
    /// before the next publication.
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
            // A counter wraps at 2^32, so its value is the lower 32 bits of the count.
            Sense::Counter => raw[..4].copy_from_slice(&self.edges.to_le_bytes()[..4]),
        }
        raw
    }

    /// Records that the sensed value was published. `beats` is the number of the scan's writes at
    /// this time.
    pub(super) fn published(&mut self, beats: u64) {
        if let Sense::Latched { latch, .. } = &mut self.sense
            && *latch == Latch::Sensed
        {
            *latch = Latch::Shown { until: beats + 2 };
        }
    }

    /// Makes the part of the status that describes the line.
    pub(super) fn part(&self) -> Part {
        let state = match (&self.trouble, &self.found) {
            (Some(why), _) => why.clone(),
            (None, Some((chip, offset))) if self.is_held => {
                let mode = if self.edge_detection().is_some() { "edges" } else { "polled" };
                let mode = if self.direction == Direction::Out { "output" } else { mode };
                format!("{} line {offset}, {mode}", chip.display())
            }
            _ => "waits for the first cycle of the scan".to_owned(),
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
    /// Decides, from the keys of an input, how it turns levels and edges into a value. The error
    /// has three parts: the key, the value found, and the value expected.
    fn new(
        mode: Mode,
        edge: Option<Edge>,
    ) -> Result<Self, (&'static str, &'static str, &'static str)> {
        match (mode, edge) {
            (Mode::Level, None) => Ok(Self::Level),
            (Mode::Level, Some(_)) => {
                Err(("edge", "mode level", "mode latched or counter for this key"))
            }
            (Mode::Latched, Some(Edge::Both)) => {
                Err(("edge", "both", "rising for pulses to true, or falling for pulses to false"))
            }
            (Mode::Latched, edge) => {
                Ok(Self::Latched { pulse: edge != Some(Edge::Falling), latch: Latch::Open })
            }
            (Mode::Counter, _) => Ok(Self::Counter),
        }
    }
}

/// The edge detection for the kernel's request. A latched line detects only the edge at the start
/// of a pulse. With detection of both edges, a separate kernel thread reads the level some time
/// after the edge. If a short pulse ends before this read, the kernel reports the start of the
/// pulse as its end.
fn edge_detection(mode: Mode, edge: Edge) -> EdgeDetection {
    match (mode, edge) {
        (Mode::Level, _) | (_, Edge::Both) => EdgeDetection::BothEdges,
        (_, Edge::Rising) => EdgeDetection::RisingEdge,
        (_, Edge::Falling) => EdgeDetection::FallingEdge,
    }
}

/// The place of the line that the key `at` of a point names.
fn place(point: &Point, at: &LineAddress) -> Result<LinePlace, OpenError> {
    for (key, name) in [("line", &at.line), ("chip", &at.chip)] {
        if let Some(name) = name
            && !(1..=MAX_NAME).contains(&name.len())
        {
            let wanted = format!("a name of 1 to {MAX_NAME} bytes");
            return Err(OpenError::at(&point.name, key, format!("{name:?}"), wanted));
        }
    }
    match (&at.line, &at.chip, at.offset) {
        (Some(line), chip, None) => Ok(LinePlace::Named(chip.clone(), line.clone())),
        (None, Some(chip), Some(offset)) => Ok(LinePlace::Numbered(chip.clone(), offset)),
        (Some(_), _, Some(_)) => Err(OpenError::at(
            &point.name,
            "offset",
            "both `line` and `offset`",
            "either `line` or `offset`",
        )),
        (None, None, Some(_)) => {
            Err(OpenError::at(&point.name, "chip", "nothing", "the chip to which `offset` belongs"))
        }
        (None, _, None) => Err(OpenError::at(
            &point.name,
            "line",
            "nothing",
            "`line`, or both `chip` and `offset`",
        )),
    }
}

#[cfg(test)]
mod tests;
