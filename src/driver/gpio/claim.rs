//! Getting lines from the kernel, as many as possible in one request, and again when they are not
//! to be had or have gone.
//!
//! A line that somebody else has, or that is not there, leaves its neighbours alone: they are
//! requested without it, and it comes later in a request of its own. The kernel adds no line to a
//! request. Only for a daemon like this one it waits, because that is on its way out of a reload.

use std::collections::{BTreeMap, HashSet};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use gpiocdev::Error;
use nix::errno::Errno;

use super::board::Board;
use super::chip::{Survey, consumer};
use super::held::{Held, Seat, errno};
use crate::driver::link::Side;
use crate::image::{Direction, Quality};

/// The kernel's limit (`GPIO_V2_LINES_MAX`): a call carries one bit for each line.
const MAX_LINES: usize = 64;

/// How long the lines of a chip wait for one that a daemon like this one has: twice as long as a
/// device that leaves takes at most.
const PATIENCE: Duration = Duration::from_secs(2);

/// Before the second attempt: a predecessor in a reload needs some milliseconds.
const FIRST_RETRY: Duration = Duration::from_millis(20);

/// Between later ones: whoever plugs an expander in again sees it come back before he wonders.
const LAST_RETRY: Duration = Duration::from_secs(3);

/// The longest consumer that the kernel shows.
const MAX_CONSUMER: usize = 31;

/// When to try again.
#[derive(Debug)]
pub(super) struct Retry {
    /// Of the first attempt since there was nothing to try.
    since: Option<Instant>,
    due: Option<Instant>,
    delay: Duration,
}

impl Default for Retry {
    fn default() -> Self {
        Self { since: None, due: None, delay: FIRST_RETRY }
    }
}

impl Retry {
    fn is_due(&mut self) -> bool {
        self.since.get_or_insert_with(Instant::now);
        self.due.is_none_or(|due| Instant::now() >= due)
    }

    fn is_patient(&self) -> bool {
        self.since.is_some_and(|since| since.elapsed() < PATIENCE)
    }

    /// Twice as late as last time, give or take a quarter: what was started at the same time does
    /// not come again at the same time.
    fn later(&mut self) {
        self.due = Some(Instant::now() + self.delay.mul_f64(0.75 + 0.5 * fastrand::f64()));
        self.delay = (2 * self.delay).min(LAST_RETRY);
    }
}

impl Board {
    /// Requests the lines that are missing, if it is time to. Outputs are left alone until it is
    /// known what the scan wants of them.
    pub(super) fn claim(&mut self, side: &mut Side) {
        let is_running = side.beats() > 0;
        let lines = self.lines.iter().enumerate();
        let missing: Vec<_> = lines
            .filter(|(_, line)| !line.is_held && (is_running || line.direction == Direction::In))
            .map(|(n, _)| n)
            .collect();
        if missing.is_empty() {
            self.retry = Retry::default();
            return;
        }
        if !self.retry.is_due() {
            return;
        }
        match Survey::take() {
            Ok(survey) => self.request(&survey, &missing, side),
            Err(error) => {
                missing.iter().for_each(|line| self.lack(*line, error.to_string(), side));
            }
        }
        self.retry.later();
    }

    /// Requests what of `missing` is there and free.
    fn request(&mut self, survey: &Survey, missing: &[usize], side: &mut Side) {
        let mut free: BTreeMap<(PathBuf, bool), Vec<Seat>> = BTreeMap::new();
        let mut awaited = HashSet::new();
        for line in missing.iter().copied() {
            match self.place(survey, line) {
                Ok((chip, offset)) => {
                    let is_output = self.lines[line].direction == Direction::Out;
                    self.lines[line].found = Some((chip.clone(), offset));
                    self.lines[line].want_edges();
                    free.entry((chip, is_output)).or_default().push(Seat { line, offset });
                }
                Err((predecessor, why)) => {
                    awaited.extend(predecessor);
                    self.lack(line, why, side);
                }
            }
        }
        for ((chip, _), mut seats) in free {
            if self.retry.is_patient() && awaited.contains(&chip) {
                let why = "its chip is waited for".to_owned();
                seats.iter().for_each(|seat| self.lack(seat.line, why.clone(), side));
                continue;
            }
            // The kernel's order is that of the offsets, too.
            seats.sort_by_key(|seat| seat.offset);
            seats.chunks(MAX_LINES).for_each(|seats| self.take(&chip, seats, side));
        }
    }

    /// Where a line is that can be requested; otherwise why not, with the chip if it is one of this
    /// daemon's predecessor.
    fn place(
        &self,
        survey: &Survey,
        line: usize,
    ) -> Result<(PathBuf, u32), (Option<PathBuf>, String)> {
        let line = &self.lines[line];
        let (chip, info) = survey.find(&line.place).map_err(|why| (None, why))?;
        let place = (chip.path.clone(), info.offset);
        let others = || self.lines.iter().filter(|other| other.id != line.id);
        if let Some(twin) = others().find(|other| other.found.as_ref() == Some(&place)) {
            return Err((None, format!("it is the line of {}, too", twin.name)));
        }
        if info.used {
            let is_ours = info.consumer == self.consumer();
            let why = format!(
                "{} line {} is in use by {}",
                chip.path.display(),
                info.offset,
                consumer(info)
            );
            return Err((is_ours.then(|| chip.path.clone()), why));
        }
        Ok(place)
    }

    /// Under which name the kernel shows the lines.
    fn consumer(&self) -> String {
        let mut consumer = format!("camshaft {}", self.device);
        while consumer.len() > MAX_CONSUMER {
            consumer.pop();
        }
        consumer
    }

    /// Requests lines together or, where that fails, in halves: what is wrong with one of them is
    /// that one's alone in the end. A chip without interrupts tells no edges: levels are read every
    /// period then, until they are claimed again.
    fn take(&mut self, chip: &Path, seats: &[Seat], side: &mut Side) {
        let mut taken = self.try_to_take(chip, seats, side);
        if taken.as_ref().is_err_and(is_about_edges) && self.give_up_edges(seats) {
            taken = self.try_to_take(chip, seats, side);
        }
        let Err(error) = taken else { return };
        // That it tells none may be true of a half.
        seats.iter().for_each(|seat| self.lines[seat.line].want_edges());
        if let [seat] = seats {
            let key = self.lines[seat.line].needs_edges().filter(|_| is_about_edges(&error));
            let hint = key.map(|key| format!("; perhaps it tells no edges, which `{key}` needs"));
            let hint = hint.unwrap_or_default();
            let why = format!("{} line {}: {error}{hint}", chip.display(), seat.offset);
            self.lack(seat.line, why, side);
        } else {
            let (left, right) = seats.split_at(seats.len() / 2);
            self.take(chip, left, side);
            self.take(chip, right, side);
        }
    }

    fn try_to_take(&mut self, chip: &Path, seats: &[Seat], side: &mut Side) -> Result<(), Error> {
        let outputs = seats.iter().map(|seat| &self.lines[seat.line]);
        let outputs = outputs.filter(|line| line.direction == Direction::Out);
        let levels = side.wanted_together(outputs.map(|line| line.id));
        let held = Held::take(&self.consumer(), chip, seats, &self.lines, &levels)?;
        seats.iter().for_each(|seat| self.lines[seat.line].take());
        for (seat, level) in seats.iter().zip(levels) {
            side.confirm(self.lines[seat.line].id, level);
        }
        self.held.push(held);
        Ok(())
    }

    /// Says whether there was something to give up.
    fn give_up_edges(&mut self, seats: &[Seat]) -> bool {
        let given_up = seats.iter().filter(|seat| self.lines[seat.line].give_up_edges());
        given_up.count() > 0
    }

    /// A line is not to be had.
    fn lack(&mut self, line: usize, why: String, side: &mut Side) {
        let line = &mut self.lines[line];
        (line.found, line.trouble) = (None, Some(why));
        match line.direction {
            Direction::In => side.spoil(line.id, Quality::NoComm),
            Direction::Out => side.doubt(line.id),
        }
    }
}

/// Whether a request may have failed because of edges: a chip without interrupts is told by ENXIO,
/// and one whose interrupts cannot be had for edges of this sort by EINVAL.
fn is_about_edges(error: &Error) -> bool {
    matches!(errno(error), Some(Errno::ENXIO | Errno::EINVAL))
}
