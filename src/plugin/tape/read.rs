//! Reads an exported tape: what a guest was given and what it did, call by call.
//!
//! Its bytes may come from anybody's file, so nothing in them is believed. How they are written is
//! in `tape.rs`.

use std::time::Duration;

use super::row::{LONGEST_ROW, ROW};
use super::{ANSWER, CUT, GIVEN, HEAD, LONGEST, Phase, TAKEN};

/// A call into the guest, as it was recorded.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Section {
    /// What the call was.
    pub phase: Phase,
    /// In which cycle.
    pub cycle: u64,
    /// The guest's clock.
    pub now: Duration,
    /// The guest did more than is here.
    pub is_cut: bool,
    /// What the guest asked of the host, in order.
    pub calls: Vec<Called>,
}

/// A call of a host function, as it was recorded.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Called {
    /// Number of the function, see [`super::functions`].
    pub function: u8,
    /// Its arguments as bits.
    pub arguments: Vec<u64>,
    /// Bytes that the host took, each with its place in memory.
    pub taken: Vec<(u32, Vec<u8>)>,
    /// Bytes that the host gave, likewise.
    pub given: Vec<(u32, Vec<u8>)>,
    /// What the host answered.
    pub code: i32,
}

/// Reads an exported tape; each section comes with the place where it begins. Polls of one row have
/// the same place, and of their times only the first and the last are exact.
///
/// # Errors
/// Where it makes no sense.
pub fn parse(tape: &[u8]) -> Result<Vec<(usize, Section)>, String> {
    let mut found = Vec::new();
    let mut at = 0;
    while at < tape.len() {
        let wrong = || format!("the section at byte {at} of its tape makes no sense");
        let rest = &tape[at..];
        let len = rest.first_chunk().map_or(0, |len| u32::from_le_bytes(*len) as usize);
        let sections = rest.get(..len).and_then(sections).ok_or_else(wrong)?;
        found.extend(sections.into_iter().map(|section| (at, section)));
        at += len;
    }
    Ok(found)
}

/// The one section in these bytes, or a row of them.
fn sections(bytes: &[u8]) -> Option<Vec<Section>> {
    let (head, entries) = bytes.split_at_checked(HEAD)?;
    let word = |at: usize| head[at..].first_chunk().map(|word| u64::from_le_bytes(*word));
    let (cycle, now) = (word(5)?, Duration::from_nanos(word(13)?));
    let mut reader = Reader(entries);
    let phase = match head[4] & !CUT {
        0 => Phase::Init,
        1 => Phase::Poll,
        2 => Phase::Save,
        3 => Phase::Restore,
        ROW => return reader.row(cycle, now),
        _ => return None,
    };
    let mut calls = Vec::new();
    while !reader.0.is_empty() {
        calls.push(reader.called()?);
    }
    Some(vec![Section { phase, cycle, now, is_cut: head[4] & CUT != 0, calls }])
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

    /// The polls of a row whose first one was in this cycle, at this time.
    fn row(&mut self, cycle: u64, now: Duration) -> Option<Vec<Section>> {
        let polls = u32::try_from(self.number()?).ok().filter(|n| (1..=LONGEST_ROW).contains(n))?;
        let (stride, nanos) = (self.number()?, self.number()?);
        let poll = |n: u32| {
            let cycle = cycle.checked_add(stride.checked_mul(n.into())?)?;
            let passed = u128::from(nanos) * u128::from(n) / u128::from(polls - 1).max(1);
            let now = now.checked_add(Duration::from_nanos(u64::try_from(passed).ok()?))?;
            Some(Section { phase: Phase::Poll, cycle, now, is_cut: false, calls: Vec::new() })
        };
        self.0.is_empty().then(|| (0..polls).map(poll).collect())?
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
