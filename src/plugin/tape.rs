//! The tape: what an instance was given and what it did, so that its end can be played again.
//!
//! A module without files, sockets and a clock of its own is a function of what the host tells it.
//! So it is enough to note, for each call into the guest, every call that it makes to the host:
//! which one, with which arguments, the bytes that the host took from its memory and put there, and
//! the code. Nothing here knows what the functions mean. A tape is a ring of bytes with room made
//! in advance: old sections fall out whole, and nothing allocates. Polls that call nothing are only
//! counted, and a row of them becomes one section.
//!
//! `bind.rs` writes it, `record.rs` decides from where it can be played, `tape/read.rs` reads it
//! back, `replay.rs` plays it; `tape/row.rs` counts the polls that call nothing.

use std::time::Duration;

pub use super::guest::Phase;
use super::offer::{self, Offer};
use crate::clock::nanos;

mod read;
mod row;
#[cfg(test)]
mod tests;

pub use read::{Called, Section, Sections, parse};
use row::Row;

/// Room of one tape. Two stretches of 100 polls fit with 600 bytes each, some twenty host calls; a
/// hundred programs have 12 MB.
const TAPE_BYTES: usize = 128 << 10;

/// The longest tape that is exported: all of the ring, and the row that is not on it
/// yet.
pub const MAX_EXPORT: usize = TAPE_BYTES + HEAD + 3 * LONGEST;

/// The most that one section may fill, so that there is always room for those before it. What a
/// guest does beyond that is not noted.
const MOST_SECTION: u64 = TAPE_BYTES as u64 / 2;

/// A section's head: length, phase, cycle, nanoseconds.
const HEAD: usize = 4 + 1 + 8 + 8;

/// In the byte of the phase: the section is not whole.
const CUT: u8 = 0x80;

/// What follows an entry's head: bytes that the host took, bytes that it gave, or its answer.
const ANSWER: u8 = 0;
const TAKEN: u8 = 1;
const GIVEN: u8 = 2;

/// A host function, as a tape names it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Tag {
    /// The position among all offers.
    pub(super) id: u8,
    /// What the host takes from memory is words for the log, and not kept.
    is_talk: bool,
}

impl Tag {
    /// The tag of an offered function.
    pub(super) fn of(module: &str, name: &str) -> Self {
        let is_it = |offer: Offer| offer.module == module && offer.name == name;
        let id = offer::offers().position(is_it).unwrap_or(usize::from(u8::MAX));
        Self { id: id as u8, is_talk: matches!(name, "wasm_log" | "fd_write") }
    }
}

/// The names of all functions, in the order of a tape's numbers.
pub fn functions() -> Vec<String> {
    offer::offers().map(|offer| offer.name.to_string()).collect()
}

/// The name of the function with this number.
pub fn name(function: u8) -> &'static str {
    offer::offers().nth(function.into()).map_or("", |offer| offer.name)
}

/// What an instance did last.
#[derive(Debug, Default)]
pub(super) struct Tape {
    /// Empty when nothing is recorded.
    ring: Box<[u8]>,
    /// Positions count all bytes that were ever written.
    head: u64,
    tail: u64,
    /// Where the open section begins.
    section: u64,
    /// Where the open entry begins.
    entry: u64,
    /// The call into the guest that is going on.
    call: Begun,
    is_open: bool,
    /// The head of the open section is there.
    is_begun: bool,
    is_within_call: bool,
    is_cut: bool,
    is_talk: bool,
    /// Behind the last section that is not whole.
    sound_from: u64,
    /// Polls that are not on the ring yet.
    row: Row,
}

/// The beginning of a call into the guest.
#[derive(Debug, Default, Clone, Copy)]
struct Begun {
    phase: Phase,
    cycle: u64,
    now: Duration,
}

impl Tape {
    /// An empty tape, or one that records nothing.
    pub(super) fn new(records: bool) -> Self {
        let room = if records { TAPE_BYTES } else { 0 };
        Self { ring: vec![0; room].into(), ..Self::default() }
    }

    /// Whether it records.
    pub(super) fn is_on(&self) -> bool {
        !self.ring.is_empty()
    }

    /// Where the next section will begin.
    pub(super) fn position(&mut self) -> u64 {
        self.put_row();
        self.tail
    }

    /// Bytes from a position to the end.
    pub(super) fn since(&self, position: u64) -> u64 {
        self.tail - position
    }

    /// Whether everything from `position` to the open section is there and whole.
    pub(super) fn reaches(&self, position: u64) -> bool {
        self.is_on() && position >= self.head.max(self.sound_from)
    }

    /// A call into the guest begins.
    pub(super) fn begin(&mut self, phase: Phase, cycle: u64, now: Duration) {
        if !self.is_on() {
            return;
        }
        if self.is_cut {
            // What is missing of the last section was not the end after all.
            self.sound_from = self.tail;
        }
        self.call = Begun { phase, cycle, now };
        (self.is_open, self.is_begun, self.is_cut, self.is_within_call) =
            (true, false, false, false);
    }

    /// It has ended, in whatever way. A section that fell short counts as the last thing on the
    /// tape and ends what can be played from before it.
    pub(super) fn end(&mut self) {
        if !std::mem::take(&mut self.is_open) {
            return;
        }
        if !self.is_begun {
            if self.call.phase == Phase::Poll {
                self.count();
                return;
            }
            self.put_head();
        }
        if self.is_within_call {
            self.cut();
        }
        self.close();
    }

    /// The poll that has ended called nothing.
    fn count(&mut self) {
        if !self.row.takes(&self.call) {
            self.put_row();
        }
        self.row.add(self.call);
    }

    /// Writes the row, if there is one.
    fn put_row(&mut self) {
        if let Some((section, len)) = self.row.section() {
            self.row = Row::default();
            self.section = self.tail;
            self.push(&[&section[..len]]);
        }
    }

    /// Begins a section, after the row before it.
    fn put_head(&mut self) {
        self.put_row();
        (self.section, self.entry, self.is_begun) = (self.tail, self.tail, true);
        self.push(&[&self.call.head(self.call.phase as u8)]);
    }

    /// Writes the length of the open section.
    fn close(&mut self) {
        let len = (self.tail - self.section) as u32;
        for (byte, at) in len.to_le_bytes().into_iter().zip(self.section..) {
            self.ring[place(at)] = byte;
        }
    }

    /// Forgets the last section, whose effect was undone; if it was not undone altogether, nothing
    /// before it can be played any more.
    pub(super) fn forget(&mut self, is_undone: bool) {
        if is_undone {
            self.tail = self.section;
            self.is_cut = false;
        } else {
            self.sound_from = self.tail;
        }
    }

    /// The guest calls a host function with these arguments.
    pub(super) fn call(&mut self, tag: Tag, words: &[u64]) {
        if !self.is_open || self.is_cut {
            return;
        }
        if !self.is_begun {
            self.put_head();
        }
        (self.entry, self.is_within_call, self.is_talk) = (self.tail, true, tag.is_talk);
        let mut head = [0; 2 + 9 * LONGEST];
        (head[0], head[1]) = (tag.id, words.len() as u8);
        let mut len = 2;
        for &word in words {
            len += number(word, &mut head[len..]);
        }
        self.push(&[&head[..len]]);
    }

    /// The host took these bytes from the guest's memory.
    pub(super) fn taken(&mut self, at: u32, bytes: &[u8]) {
        if !self.is_talk {
            self.moved(TAKEN, at, bytes);
        }
    }

    /// The host gave the guest these bytes.
    pub(super) fn given(&mut self, at: u32, bytes: &[u8]) {
        self.moved(GIVEN, at, bytes);
    }

    fn moved(&mut self, kind: u8, at: u32, bytes: &[u8]) {
        if !self.is_within_call || self.is_cut {
            return;
        }
        let mut head = [0; 1 + 2 * LONGEST];
        head[0] = kind;
        let mut len = 1 + number(at.into(), &mut head[1..]);
        len += number(bytes.len() as u64, &mut head[len..]);
        self.push(&[&head[..len], bytes]);
    }

    /// The host answers.
    pub(super) fn answer(&mut self, code: i32) {
        if !self.is_within_call || self.is_cut {
            return;
        }
        let mut head = [ANSWER; 1 + LONGEST];
        let len = 1 + number(code.cast_unsigned().into(), &mut head[1..]);
        self.push(&[&head[..len]]);
        self.is_within_call = false;
    }

    /// Everything from the oldest section on.
    pub(super) fn export(&self) -> Vec<u8> {
        let mut bytes: Vec<u8> = (self.head..self.tail).map(|at| self.ring[place(at)]).collect();
        if let Some((section, len)) = self.row.section() {
            bytes.extend(&section[..len]);
        }
        bytes
    }

    /// What of [`Tape::export`] lies before `position`.
    pub(super) fn exported_before(&self, position: u64) -> usize {
        position.saturating_sub(self.head) as usize
    }

    fn push(&mut self, pieces: &[&[u8]]) {
        let len: usize = pieces.iter().map(|piece| piece.len()).sum();
        let end = self.tail + len as u64;
        if end - self.section > MOST_SECTION {
            self.cut();
            return;
        }
        while end - self.head > TAPE_BYTES as u64 {
            let mut len = [0; 4];
            for (byte, at) in len.iter_mut().zip(self.head..) {
                *byte = self.ring[place(at)];
            }
            self.head += u64::from(u32::from_le_bytes(len));
        }
        for piece in pieces {
            let at = place(self.tail);
            let first = piece.len().min(TAPE_BYTES - at);
            self.ring[at..at + first].copy_from_slice(&piece[..first]);
            self.ring[..piece.len() - first].copy_from_slice(&piece[first..]);
            self.tail += piece.len() as u64;
        }
    }

    /// Notes nothing more of this section.
    fn cut(&mut self) {
        self.tail = self.entry;
        (self.is_cut, self.is_within_call) = (true, false);
        self.ring[place(self.section + 4)] |= CUT;
    }
}

impl Begun {
    /// The head of its section, still without the length.
    fn head(&self, kind: u8) -> [u8; HEAD] {
        let mut head = [0; HEAD];
        head[4] = kind;
        head[5..13].copy_from_slice(&self.cycle.to_le_bytes());
        head[13..].copy_from_slice(&nanos(self.now).to_le_bytes());
        head
    }
}

/// Where a position lies in the ring.
fn place(position: u64) -> usize {
    // Of a power of two: as quick as a mask.
    (position % TAPE_BYTES as u64) as usize
}

/// The longest number: seven bits to a byte.
const LONGEST: usize = 10;

/// Writes a number in as few bytes as it takes (LEB128); says how many.
fn number(mut value: u64, to: &mut [u8]) -> usize {
    let mut len = 0;
    loop {
        let is_last = value < 0x80;
        to[len] = value as u8 & 0x7f | if is_last { 0 } else { 0x80 };
        len += 1;
        if is_last {
            return len;
        }
        value >>= 7;
    }
}
