//! What a program can see and touch during one call: the images, the variables, the time.
//!
//! The scan owns one [`World`] and lends it to each program in turn; between calls nobody has it
//! but the scan. A program that is being prepared gets a copy of the latest snapshot instead. How a
//! guest's requests are checked is in `guest.rs` and `abi.rs`.

use std::sync::Arc;
use std::time::Duration;

use crate::image::{Direction, Inputs, PointId, Points, Quality};
use crate::variable::Variables;

use super::Grant;
use super::overlay::{Overlay, make_safe};
use super::refused::RefusedCall;

/// The most programs at one time: a bound for every list that has an entry for each.
pub const MAX_PROGRAMS: usize = 256;

/// A program's place in the scan. It belongs to a plugin's name: a swap changes who sits on it, not
/// what the program owns.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Seat(pub u16);

/// Longest text of one log line in bytes; what is longer is cut there.
pub const MAX_LOG_BYTES: usize = 1024;

/// Longest file name in a log line in bytes.
pub const MAX_FILE_BYTES: usize = 64;

/// A short text with room of its own, because log lines are made inside a cycle.
#[derive(Clone, Copy)]
pub struct Text<const N: usize> {
    bytes: [u8; N],
    len: usize,
}

impl<const N: usize> Default for Text<N> {
    fn default() -> Self {
        Self { bytes: [0; N], len: 0 }
    }
}

impl<const N: usize> Text<N> {
    /// The text; a cut in the middle of a character drops that character.
    pub fn as_str(&self) -> &str {
        let bytes = &self.bytes[..self.len];
        match std::str::from_utf8(bytes) {
            Ok(text) => text,
            Err(error) => std::str::from_utf8(&bytes[..error.valid_up_to()])
                .expect("valid up to there by what the error says"),
        }
    }

    /// Adds as much of `more` as there is room for.
    pub fn push(&mut self, more: &[u8]) {
        let taken = more.len().min(N - self.len);
        self.bytes[self.len..][..taken].copy_from_slice(&more[..taken]);
        self.len += taken;
    }

    /// Whether nothing was put in.
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// Whether there is no more room.
    pub fn is_full(&self) -> bool {
        self.len == N
    }
}

impl<const N: usize> std::fmt::Debug for Text<N> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.as_str().fmt(f)
    }
}

/// How important a guest finds its line; the codes are those of `wasm_log`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[allow(missing_docs, reason = "the names are the levels")]
pub enum Level {
    Error,
    Warn,
    Info,
    Debug,
    Trace,
}

/// Something to be logged about a program, made on the scan thread and written elsewhere.
#[derive(Debug, Clone)]
pub struct Line {
    /// Which program.
    pub seat: Seat,
    /// In which cycle; 0 before the first poll.
    pub cycle: u64,
    /// What there is to say.
    pub message: Message,
}

/// What a [`Line`] says.
#[derive(Debug, Clone)]
#[allow(
    clippy::large_enum_variant,
    reason = "a line has its room where it is: nothing is allocated"
)]
pub enum Message {
    /// The guest's own words.
    Said {
        /// How important.
        level: Level,
        /// The guest's source file; may be empty.
        file: Text<MAX_FILE_BYTES>,
        /// The line in that file; 0 if unknown.
        line: u32,
        /// The words, as they came.
        text: Text<MAX_LOG_BYTES>,
    },
    /// This many lines over the rate limit were dropped.
    Dropped(u32),
    /// A call of it was refused, the first of this kind and name.
    Refused(RefusedCall),
    /// It is refused calls of more kinds and names than are told apart.
    OthersRefused {
        /// Whether they keep it from something.
        is_denial: bool,
    },
}

/// Where log lines go.
#[derive(Debug)]
pub enum LogSink {
    /// To the thread that writes them out. A full queue drops the line and counts it.
    Queue {
        /// The way there.
        queue: rtrb::Producer<Line>,
        /// Lines that found no room.
        lost: u64,
    },
    /// Into a list, for a program that is being prepared or tested.
    List(Vec<Line>),
}

/// The longest list of lines from one preparation; the rate limit is lower unless configured
/// otherwise.
const MAX_LISTED_LINES: usize = 1000;

impl LogSink {
    /// Lines that found no room.
    pub fn lost(&self) -> u64 {
        match self {
            Self::Queue { lost, .. } => *lost,
            Self::List(_) => 0,
        }
    }

    /// Passes a line on, or drops it.
    pub fn push(&mut self, line: Line) {
        match self {
            Self::Queue { queue, lost } => {
                if queue.push(line).is_err() {
                    *lost += 1;
                }
            }
            Self::List(list) if list.len() < MAX_LISTED_LINES => list.push(line),
            Self::List(_) => {}
        }
    }
}

/// What programs share.
#[derive(Debug)]
pub struct World {
    /// The instant of this cycle: a program's clock.
    pub now: Duration,
    /// The number of this cycle; the first is 1.
    pub cycle: u64,
    /// The scan period.
    pub period: Duration,
    /// All points.
    pub points: Arc<Points>,
    /// The inputs as latched at the start of the cycle.
    pub inputs: Inputs,
    /// The outputs as committed so far.
    pub outputs: Vec<u8>,
    /// The outputs as the devices were given them at the end of the last cycle.
    pub driven: Vec<u8>,
    /// What stands over the values of devices and programs.
    pub overlay: Overlay,
    /// Who owns each output, by [`PointId`].
    pub owners: Vec<Option<Seat>>,
    /// All variables.
    pub variables: Variables,
    /// Where log lines go.
    pub log: LogSink,
    /// Whether programs that begin here keep a tape, for a report of their end.
    pub is_recorded: bool,
}

impl World {
    /// A world in which nothing has happened: inputs unread, outputs safe (or 0 where safe means
    /// hold), nobody owns anything.
    pub fn new(points: Arc<Points>, variables: Variables, period: Duration, log: LogSink) -> Self {
        let mut outputs = vec![0; points.image_bytes(Direction::Out)];
        for (_, point) in points.iter() {
            make_safe(point, &mut outputs);
        }
        Self {
            now: Duration::ZERO,
            cycle: 0,
            period,
            inputs: Inputs::unread(&points),
            driven: outputs.clone(),
            overlay: Overlay::new(&points),
            outputs,
            owners: vec![None; points.ids()],
            variables,
            log,
            is_recorded: true,
            points,
        }
    }

    /// The same once more, with a listing log.
    pub fn twin(&self) -> Box<Self> {
        Box::new(Self {
            now: self.now,
            cycle: self.cycle,
            period: self.period,
            points: Arc::clone(&self.points),
            inputs: self.inputs.clone(),
            outputs: self.outputs.clone(),
            driven: self.driven.clone(),
            overlay: Overlay::new(&self.points),
            owners: self.owners.clone(),
            variables: self.variables.clone(),
            log: LogSink::List(Vec::new()),
            is_recorded: self.is_recorded,
        })
    }

    /// Makes every output of `seat` free for others, and safe: at once, or after the time that it
    /// is to hold.
    pub fn release_outputs(&mut self, seat: Seat) {
        self.give_up(seat, &Grant::Only(Vec::new()));
        self.overlay.lacks(seat, None);
    }

    /// The same for those outputs of `seat` that `grant` does not name.
    pub fn give_up(&mut self, seat: Seat, grant: &Grant) {
        if let Grant::Only(kept) = grant {
            self.give_up_unless(seat, |id| kept.contains(&id));
        }
    }

    /// The same for those outputs of `seat` that it does not keep.
    pub fn give_up_unless(&mut self, seat: Seat, mut keeps: impl FnMut(PointId) -> bool) {
        for (id, point) in self.points.iter() {
            let owner = &mut self.owners[id.index()];
            if *owner == Some(seat) && !keeps(id) {
                *owner = None;
                // What the device was given last counts, whatever the program wrote under a force
                // or while its outputs were safe.
                point.put_raw(&mut self.outputs, &point.raw(&self.driven));
                self.overlay.leave(self.now, id, point, &mut self.outputs);
            }
        }
    }

    /// Shows the inputs as the devices left them, so that they can go on from there.
    pub fn remove_overlay(&mut self) {
        self.overlay.remove(&self.points, &mut self.inputs);
    }

    /// Lays over the inputs what stands over them.
    pub fn apply_overlay(&mut self) {
        self.overlay.apply(self.now, &self.points, &mut self.inputs);
    }

    /// Settles what the devices are given in this cycle: [`World::driven`].
    pub fn drive(&mut self) {
        let Self { now, points, owners, outputs, driven, inputs, overlay, .. } = self;
        overlay.drive(*now, points, owners, (outputs, driven), &mut inputs.quality);
    }

    /// Makes every output safe that is on its way there.
    pub fn make_safe_now(&mut self) {
        self.overlay.make_safe_now(&self.points, &mut self.outputs);
        self.overlay.unforce(None);
    }

    /// Makes every output safe and free that `points` do not have any more: before others take
    /// over, so that its device can still be told.
    pub fn leave_out(&mut self, points: &Points) {
        for (id, point) in self.points.iter().filter(|(id, _)| points.get(*id).is_none()) {
            self.owners[id.index()] = None;
            make_safe(point, &mut self.outputs);
        }
    }

    /// The outputs as the device at this place is to have them last, before `points` take over:
    /// those that are another device's then are safe for this one.
    pub fn without_device(&self, place: usize, points: &Points) -> Vec<u8> {
        let mut outputs = self.driven.clone();
        let name = self.points.devices().get(place);
        for (id, point) in self.points.iter().filter(|(_, point)| point.device == place) {
            let stays = points.get(id).is_some_and(|new| points.devices().get(new.device) == name);
            if !stays {
                make_safe(point, &mut outputs);
            }
        }
        outputs
    }

    /// Takes over other points; gives back those before. A point that is among both has stayed in
    /// its place, and keeps its value and its owner. One that is new is unread or safe.
    pub fn take_points(&mut self, points: Arc<Points>) -> Arc<Points> {
        let before = std::mem::replace(&mut self.points, points);
        let points = &self.points;
        for (id, point) in before.iter().filter(|(id, _)| points.get(*id).is_none()) {
            match point.direction {
                Direction::In => point.clear(&mut self.inputs.bytes),
                Direction::Out => {
                    point.clear(&mut self.outputs);
                    point.clear(&mut self.driven);
                }
            }
            self.inputs.quality[id.index()] = Quality::Good;
        }
        self.overlay.take_points(points);
        self.owners.resize(points.ids(), None);
        self.inputs.quality.resize(points.ids(), Quality::Good);
        self.inputs.good_at.resize(points.ids(), Duration::ZERO);
        self.inputs.bytes.resize(points.image_bytes(Direction::In), 0);
        self.outputs.resize(points.image_bytes(Direction::Out), 0);
        self.driven.resize(points.image_bytes(Direction::Out), 0);
        for (id, point) in points.iter() {
            let is_new = before.get(id).is_none();
            match point.direction {
                Direction::In if is_new => {
                    point.clear(&mut self.inputs.bytes);
                    self.inputs.quality[id.index()] = Quality::Waiting;
                    self.inputs.good_at[id.index()] = Duration::ZERO;
                }
                // A program may have written where no point was.
                Direction::Out if is_new => point.clear(&mut self.outputs),
                _ => {}
            }
            // One that still holds for a while is made safe when that is over.
            if self.owners[id.index()].is_none() && !self.overlay.is_leaving(id) {
                make_safe(point, &mut self.outputs);
            }
            if is_new && point.direction == Direction::Out {
                point.put_raw(&mut self.driven, &point.raw(&self.outputs));
            }
        }
        before
    }
}
