//! Requests lines from the kernel, as many as possible in one request, and again if that fails or
//! the lines are lost.
//!
//! A line that is absent, or that another process has, does not affect its neighbours. They are
//! requested without it, and it comes later in a request of its own, because the kernel adds no
//! line to an existing request. There is one exception. If a daemon of the same name has the line,
//! the chip's lines wait, because that daemon is leaving after a reload. How a line is found is in
//! `chip.rs`, when it is requested again in `retry.rs`.

use std::collections::{BTreeMap, HashSet};
use std::path::{Path, PathBuf};

use gpiocdev::Error;
use nix::errno::Errno;

use super::board::Board;
use super::chip::{Survey, consumer};
use super::held::{Held, Seat, errno};
use super::retry::Retry;
use crate::driver::link::Side;
use crate::process::image::{Direction, Quality};

/// The maximum number of lines in one request: the kernel's limit (`GPIO_V2_LINES_MAX`). A call
/// carries one bit for each line.
const MAX_LINES: usize = 64;

/// The maximum length of a consumer's name that the kernel shows, in bytes.
const MAX_CONSUMER: usize = 31;

impl Board {
    /// Requests the lines that are missing, if an attempt is due. Outputs are not requested until
    /// the scan has said what it wants.
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

    /// Requests those lines of `missing` that are there and free.
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
                let why = "the daemon waits for its chip".to_owned();
                seats.iter().for_each(|seat| self.lack(seat.line, why.clone(), side));
                continue;
            }
            // The kernel's order is also that of the offsets.
            seats.sort_by_key(|seat| seat.offset);
            seats.chunks(MAX_LINES).for_each(|seats| self.take(&chip, seats, side));
        }
    }

    /// The chip and the offset of a line that can be requested. Otherwise the reason, with the chip
    /// if a daemon of the same name has the line.
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

    /// The consumer's name under which the kernel shows the lines.
    fn consumer(&self) -> String {
        let mut consumer = format!("camshaft {}", self.device);
        while consumer.len() > MAX_CONSUMER {
            consumer.pop();
        }
        consumer
    }

    /// Requests lines together. If that fails, it requests each half alone, so in the end an error
    /// concerns only the line that causes it. A chip without interrupts reports no edges. The
    /// levels of its lines are then read in every period, until the lines are requested again.
    fn take(&mut self, chip: &Path, seats: &[Seat], side: &mut Side) {
        let mut taken = self.try_to_take(chip, seats, side);
        if taken.as_ref().is_err_and(is_about_edges) && self.give_up_edges(seats) {
            taken = self.try_to_take(chip, seats, side);
        }
        let Err(error) = taken else { return };
        // The chip may refuse edges for one half only, so each half asks for them again.
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

    /// Makes one request for these lines. Outputs get the values that the scan wants, which are
    /// then confirmed.
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

    /// Gives up edges for the lines that can do without them. Returns whether any line could.
    fn give_up_edges(&mut self, seats: &[Seat]) -> bool {
        let given_up = seats.iter().filter(|seat| self.lines[seat.line].give_up_edges());
        given_up.count() > 0
    }

    /// Notes that a line cannot be had, and why.
    fn lack(&mut self, line: usize, why: String, side: &mut Side) {
        let line = &mut self.lines[line];
        (line.found, line.trouble) = (None, Some(why));
        match line.direction {
            Direction::In => side.spoil(line.id, Quality::NoComm),
            Direction::Out => side.doubt(line.id),
        }
    }
}

/// Whether a request may have failed because of edges. The kernel answers ENXIO for a chip without
/// interrupts. It answers EINVAL where interrupts cannot be had for this kind of edge.
fn is_about_edges(error: &Error) -> bool {
    matches!(errno(error), Some(Errno::ENXIO | Errno::EINVAL))
}
