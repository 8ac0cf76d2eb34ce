//! Reads an exported tape and returns the recorded calls in order.
//!
//! The bytes may come from any file on disk, so the functions here check every number. This file
//! does not play the calls: `player.rs` does. `tape.rs` writes the bytes.

use std::time::Duration;

use super::row::{LONGEST_ROW, ROW};
use super::{ANSWER, CUT, GIVEN, HEAD, LONGEST, Phase, TAKEN};

/// A recorded call into the guest.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Section {
    /// The kind of the call.
    pub phase: Phase,
    /// The cycle of the call.
    pub cycle: u64,
    /// The time that the guest's clock showed during the call.
    pub now: Duration,
    /// Whether the section is incomplete: the guest made further calls to the host, which are not
    /// recorded.
    pub is_cut: bool,
    /// The guest's calls to the host, in order.
    pub calls: Vec<Called>,
}

/// A recorded call of a host function.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Called {
    /// Number of the host function: its index in the list of [`super::functions`].
    pub function: u8,
    /// The bits of the arguments.
    pub arguments: Vec<u64>,
    /// Bytes that the host read from the guest's memory, each part with its address.
    pub taken: Vec<(u32, Vec<u8>)>,
    /// Bytes that the host wrote into the guest's memory, each part with its address.
    pub given: Vec<(u32, Vec<u8>)>,
    /// The code that the host returned.
    pub code: i32,
}

/// The iterator over the sections of an exported tape, in order. Each item has the offset where its
/// section begins. The polls of one row have the same offset, and only the times of the first poll
/// and the last poll are exact. If a section is invalid, the iterator returns an error and then
/// ends.
///
/// The iterator makes one section at a time. A list of all sections could become very long, because
/// a row of only 24 bytes can represent a hundred polls.
#[derive(Debug, Clone)]
pub struct Sections<'a> {
    tape: &'a [u8],
    /// The offset where the next section begins.
    at: usize,
    /// The offset of the present row, and its polls that were not returned yet.
    row: Option<(usize, Polls)>,
}

/// Makes the iterator that reads the sections of an exported tape.
pub fn parse(tape: &[u8]) -> Sections<'_> {
    Sections { tape, at: 0, row: None }
}

impl Iterator for Sections<'_> {
    type Item = Result<(usize, Section), String>;

    fn next(&mut self) -> Option<Self::Item> {
        if let Some((at, polls)) = &mut self.row
            && let Some(poll) = polls.next()
        {
            return Some(Ok((*at, poll)));
        }
        let at = self.at;
        let rest = self.tape.get(at..).filter(|rest| !rest.is_empty())?;
        let len = rest.first_chunk().map_or(0, |len| u32::from_le_bytes(*len) as usize);
        let Some(part) = rest.get(..len).and_then(part) else {
            self.at = self.tape.len();
            return Some(Err(format!(
                "the tape of the report is invalid: the section at byte {at}"
            )));
        };
        self.at += len;
        match part {
            Part::One(section) => Some(Ok((at, section))),
            Part::Row(polls) => {
                self.row = Some((at, polls));
                self.next()
            }
        }
    }
}

/// The contents of one section on the tape: one call, or a row of polls.
enum Part {
    One(Section),
    Row(Polls),
}

/// The polls of one row. No poll of a row called the host. `next` is the number of the next poll to
/// be returned.
#[derive(Debug, Clone)]
struct Polls {
    next: u32,
    polls: u32,
    /// Cycle and time of the first poll of the row.
    cycle: u64,
    now: Duration,
    /// Cycles from one poll to the next.
    stride: u64,
    /// Nanoseconds from the first poll to the last poll.
    nanos: u64,
}

impl Polls {
    /// Makes the section of poll `n`, counted from 0; `None` if the cycle or the time is out of
    /// range.
    fn poll(&self, n: u32) -> Option<Section> {
        let cycle = self.cycle.checked_add(self.stride.checked_mul(n.into())?)?;
        let steps = u128::from(self.polls - 1).max(1);
        let passed = u128::from(self.nanos) * u128::from(n) / steps;
        let now = self.now.checked_add(Duration::from_nanos(u64::try_from(passed).ok()?))?;
        Some(Section { phase: Phase::Poll, cycle, now, is_cut: false, calls: Vec::new() })
    }
}

impl Iterator for Polls {
    type Item = Section;

    fn next(&mut self) -> Option<Section> {
        let n = self.next;
        (n < self.polls).then(|| self.next += 1)?;
        self.poll(n)
    }
}

/// Reads the bytes of one section: one call, or a row of polls. Returns `None` if the bytes are
/// invalid.
fn part(bytes: &[u8]) -> Option<Part> {
    let (head, entries) = bytes.split_at_checked(HEAD)?;
    let word = |at: usize| head[at..].first_chunk().map(|word| u64::from_le_bytes(*word));
    let (cycle, now) = (word(5)?, Duration::from_nanos(word(13)?));
    let mut reader = Reader(entries);
    let phase = match head[4] & !CUT {
        0 => Phase::Init,
        1 => Phase::Poll,
        2 => Phase::Save,
        3 => Phase::Restore,
        ROW => return reader.row(cycle, now).map(Part::Row),
        _ => return None,
    };
    let mut calls = Vec::new();
    while !reader.0.is_empty() {
        calls.push(reader.called()?);
    }
    Some(Part::One(Section { phase, cycle, now, is_cut: head[4] & CUT != 0, calls }))
}

struct Reader<'a>(&'a [u8]);

impl<'a> Reader<'a> {
    fn byte(&mut self) -> Option<u8> {
        let (first, rest) = self.0.split_first()?;
        self.0 = rest;
        Some(*first)
    }

    fn number(&mut self) -> Option<u64> {
        let mut value = 0;
        for n in 0..LONGEST {
            let byte = self.byte()?;
            value |= u64::from(byte & 0x7f).checked_shl(7 * n as u32)?;
            if byte < 0x80 {
                return Some(value);
            }
        }
        None
    }

    fn bytes(&mut self) -> Option<(u32, &'a [u8])> {
        let at = u32::try_from(self.number()?).ok()?;
        let len = usize::try_from(self.number()?).ok()?;
        let (bytes, rest) = self.0.split_at_checked(len)?;
        self.0 = rest;
        Some((at, bytes))
    }

    /// Reads the three numbers of a row. `cycle` and `now` are the cycle and the time of the first
    /// poll.
    fn row(&mut self, cycle: u64, now: Duration) -> Option<Polls> {
        let polls = u32::try_from(self.number()?).ok().filter(|n| (1..=LONGEST_ROW).contains(n))?;
        let (stride, nanos) = (self.number()?, self.number()?);
        let row = Polls { next: 0, polls, cycle, now, stride, nanos };
        // The cycle and the time grow from poll to poll. If the last poll is in range, all polls
        // are in range.
        (self.0.is_empty() && row.poll(polls - 1).is_some()).then_some(row)
    }

    fn called(&mut self) -> Option<Called> {
        let function = self.byte()?;
        let count = self.byte()?;
        let arguments = (0..count).map(|_| self.number()).collect::<Option<_>>()?;
        let (mut taken, mut given) = (Vec::new(), Vec::new());
        loop {
            let (list, (at, bytes)) = match self.byte()? {
                TAKEN => (&mut taken, self.bytes()?),
                GIVEN => (&mut given, self.bytes()?),
                ANSWER => break,
                _ => return None,
            };
            list.push((at, bytes.to_vec()));
        }
        let code = u32::try_from(self.number()?).ok()?.cast_signed();
        Some(Called { function, arguments, taken, given, code })
    }
}
