//! Requests lines from the kernel, as many as possible in one request. Requests lines again if the
//! request has failed or if the lines were lost.
//!
//! ```text
//!   missing lines --Survey::find--> free lines, by chip and direction --Held::take--> held
//!         ^              |                              | fails
//!         |              +-- absent or in use --+       +--> each half alone, down to one line
//!         +------- retry.rs: a later attempt <--+-------------- a line that fails alone
//! ```
//! A line that is absent or used by another process does not affect the other lines. The other
//! lines are requested without the missing line. Later, the missing line gets a separate request,
//! because the kernel cannot add a line to an existing request.
//!
//! There is one exception: a device with the same name may still use the line, because that device
//! is ending after a reload. In this case all missing lines of the chip wait until the line is
//! free, for at most two seconds. `chip.rs` finds a line, `retry.rs` decides when to try again.

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

/// The maximum number of lines in one request. The kernel sets this limit (`GPIO_V2_LINES_MAX`):
/// its calls use a 64-bit number with one bit for each line.
const MAX_LINES: usize = 64;

/// The maximum length of a consumer's name in the kernel, in bytes.
const MAX_CONSUMER: usize = 31;

impl Board {
    /// Requests the missing lines, if an attempt is due. Outputs are requested only after the first
    /// cycle, because their wanted values are unknown before.
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

    /// Requests the lines of `missing` that exist and are free. For each other line of `missing`,
    /// records the reason why the line is not available.
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
                let why = format!(
                    "the device waits until the old device of the same name, which ends after a \
                     reload, releases its lines of {}",
                    chip.display()
                );
                seats.iter().for_each(|seat| self.lack(seat.line, why.clone(), side));
                continue;
            }
            // The lines of a request are sorted by offset, as in the kernel.
            seats.sort_by_key(|seat| seat.offset);
            seats.chunks(MAX_LINES).for_each(|seats| self.take(&chip, seats, side));
        }
    }

    /// Returns the chip and the offset of a line that can be requested. The error has two parts: a
    /// chip, and the reason why the line cannot be requested. The chip is set only if a device with
    /// the same name uses the line.
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
            return Err((None, format!("point {} already uses this line", twin.name)));
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

    /// The name under which the kernel lists this device as the user of its lines.
    fn consumer(&self) -> String {
        let mut consumer = format!("camshaft {}", self.device);
        while consumer.len() > MAX_CONSUMER {
            consumer.pop();
        }
        consumer
    }

    /// Requests lines together. If the request fails, requests each half of the lines separately.
    /// In the end, an error affects only the line that causes it.
    ///
    /// A chip without interrupts cannot report edges. If the request fails for this reason, all its
    /// lines are requested a second time. In the second request, the lines with mode `level` have
    /// no edge detection. A change of their levels is then seen at the next read of the levels.
    fn take(&mut self, chip: &Path, seats: &[Seat], side: &mut Side) {
        let mut taken = self.try_to_take(chip, seats, side);
        if taken.as_ref().is_err_and(is_about_edges) && self.give_up_edges(seats) {
            taken = self.try_to_take(chip, seats, side);
        }
        let Err(error) = taken else { return };
        // The chip may refuse edges for only one of the halves. Therefore each half requests edges
        // again.
        seats.iter().for_each(|seat| self.lines[seat.line].want_edges());
        if let [seat] = seats {
            let key = self.lines[seat.line].needs_edges().filter(|_| is_about_edges(&error));
            let hint = key.map(|key| {
                format!("; `{key}` needs edges, which this chip perhaps does not report")
            });
            let hint = hint.unwrap_or_default();
            let why = format!("{} line {}: {error}{hint}", chip.display(), seat.offset);
            self.lack(seat.line, why, side);
        } else {
            let (left, right) = seats.split_at(seats.len() / 2);
            self.take(chip, left, side);
            self.take(chip, right, side);
        }
    }

    /// Makes one request for these lines. The kernel sets outputs to the values that the scan
    /// wants, so these outputs are confirmed.
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

    /// Turns edge detection off for the inputs with mode `level`. Returns whether this has changed
    /// at least one line.
    fn give_up_edges(&mut self, seats: &[Seat]) -> bool {
        let given_up = seats.iter().filter(|seat| self.lines[seat.line].give_up_edges());
        given_up.count() > 0
    }

    /// Records the reason why a line is not available.
    fn lack(&mut self, line: usize, why: String, side: &mut Side) {
        let line = &mut self.lines[line];
        (line.found, line.trouble) = (None, Some(why));
        match line.direction {
            Direction::In => side.spoil(line.id, Quality::NoComm),
            Direction::Out => side.doubt(line.id),
        }
    }
}

/// Whether edges may be the reason why a request has failed. The kernel answers ENXIO for a chip
/// without interrupts. The kernel answers EINVAL if the chip has no interrupt for this kind of
/// edge.
fn is_about_edges(error: &Error) -> bool {
    matches!(errno(error), Some(Errno::ENXIO | Errno::EINVAL))
}
