//! The tape: a record of what an instance got from the host and what it did, so that its last calls
//! can be played again.
//!
//! A module has no files, no sockets and no clock of its own. So the module's behaviour depends
//! only on what the host gives it. For each call into the guest, the tape notes every call that the
//! guest makes to the host: the function, the arguments, the code, and the bytes that the host took
//! from the memory and put there. This file does not know what the functions mean.
//!
//! A tape is a ring of bytes, made in advance: old sections fall out whole, and recording allocates
//! nothing. A section holds one call into the guest. Polls without a call to the host are only
//! counted, and a row of such polls becomes one section (`tape/row.rs`).
//!
//! `instance/bind.rs` writes the tape, and `tape/read.rs` reads it back. `record.rs` decides from
//! which position the tape can be played, and `player.rs` plays it.

use std::time::Duration;

use crate::clock::nanos;
use crate::plugin::module::offer::{self, Offer};
use crate::process::call::Phase;

mod read;
mod row;
#[cfg(test)]
mod tests;

pub use read::{Called, Section, Sections, parse};
use row::Row;

/// Bytes of one tape. This is enough for two times 100 polls, if each poll takes 600 bytes, which
/// is some twenty host calls. The tapes of a hundred programs take 12 MB.
const TAPE_BYTES: usize = 128 << 10;

/// The longest tape that is exported, in bytes: the whole ring, and the row that is not on the ring
/// yet.
pub const MAX_EXPORT: usize = TAPE_BYTES + HEAD + 3 * LONGEST;

/// Most bytes of one section, so that the ring always has room for earlier sections. The tape does
/// not note what a guest does beyond this limit.
const MOST_SECTION: u64 = TAPE_BYTES as u64 / 2;

/// Bytes of a section's head: length, phase, cycle, nanoseconds.
const HEAD: usize = 4 + 1 + 8 + 8;

/// Flag in the byte of the phase: the section is not whole.
const CUT: u8 = 0x80;

/// The kinds of pieces that follow an entry's head: the host's answer, bytes that the host took, or
/// bytes that the host gave.
const ANSWER: u8 = 0;
const TAKEN: u8 = 1;
const GIVEN: u8 = 2;

/// A host function, as a tape identifies it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::plugin) struct Tag {
    /// The function's position among all offers.
    pub(in crate::plugin) id: u8,
    /// Whether the function takes only text for the log from the memory. The tape does not keep
    /// these bytes.
    is_talk: bool,
}

impl Tag {
    /// The tag of an offered function.
    pub(in crate::plugin) fn of(module: &str, name: &str) -> Self {
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

/// The tape of one instance: its last calls.
#[derive(Debug, Default)]
pub(in crate::plugin) struct Tape {
    /// The bytes of the tape. The ring is empty if the tape records nothing.
    ring: Box<[u8]>,
    /// The position of the oldest byte. Positions count all bytes that were ever written.
    head: u64,
    tail: u64,
    state: State,
    /// The position after the last incomplete section that further calls have followed. Play cannot
    /// begin before this position.
    sound_from: u64,
    /// Polls that are not on the ring yet.
    row: Row,
}

/// How far the recording of a call into the guest has come. Each position is that of a first byte.
///
/// ```text
///                begin           call             answer
///   Whole, Torn -------> Quiet ---------> Calling <-------> Open
///                          |               |  |     call     |
///                          | end   no room |  | end          | end
///                          v               v  |              v
///                        Whole           Full |            Whole
///                                      end |  |
///                                          v  v     forget
///                                          Torn ------------> Whole
/// ```
#[derive(Debug, Clone, Copy)]
enum State {
    /// The guest does not run. The last section on the ring is whole.
    Whole { section: u64 },
    /// The guest does not run. The last section is not whole, so a tape can only end with this
    /// section.
    Torn { section: u64 },
    /// The guest runs and has not called the host yet: this call is not on the ring.
    Quiet(Begun),
    /// The guest runs, and each of its calls to the host has an answer.
    Open { section: u64 },
    /// The host carries out the call that `entry` holds. If `is_talk`, the host takes only text for
    /// the log.
    Calling { section: u64, entry: u64, is_talk: bool },
    /// The guest runs on, and its section has no room for further calls.
    Full { section: u64 },
}

impl Default for State {
    fn default() -> Self {
        Self::Whole { section: 0 }
    }
}

/// The beginning of a call into the guest.
#[derive(Debug, Default, Clone, Copy)]
struct Begun {
    phase: Phase,
    cycle: u64,
    now: Duration,
}

impl Tape {
    /// An empty tape; it records nothing unless `records` is set.
    pub(in crate::plugin) fn new(records: bool) -> Self {
        let room = if records { TAPE_BYTES } else { 0 };
        Self { ring: vec![0; room].into(), ..Self::default() }
    }

    /// Whether the tape records.
    pub(super) fn is_on(&self) -> bool {
        !self.ring.is_empty()
    }

    /// The position where the next section will begin.
    pub(in crate::plugin) fn position(&mut self) -> u64 {
        self.put_row();
        self.tail
    }

    /// Bytes from a position to the end.
    pub(in crate::plugin) fn since(&self, position: u64) -> u64 {
        self.tail - position
    }

    /// Whether every section from `position` to the open section is on the ring and whole.
    pub(super) fn reaches(&self, position: u64) -> bool {
        self.is_on() && position >= self.head.max(self.sound_from)
    }

    /// Notes that a call into the guest begins.
    pub(in crate::plugin) fn begin(&mut self, phase: Phase, cycle: u64, now: Duration) {
        if !self.is_on() {
            return;
        }
        if let State::Torn { .. } = self.state {
            // A further call begins, so the incomplete section is not the last one.
            self.sound_from = self.tail;
        }
        self.state = State::Quiet(Begun { phase, cycle, now });
    }

    /// Notes that the call into the guest has ended, in whatever way. If the section of the call is
    /// not whole, the tape can be played up to this section. After a further call, no section
    /// before the incomplete one can be played.
    pub(in crate::plugin) fn end(&mut self) {
        self.state = match self.state {
            State::Quiet(begun) if begun.phase == Phase::Poll => {
                self.count(begun);
                State::Whole { section: self.tail }
            }
            State::Quiet(begun) => {
                let section = self.put_head(begun);
                self.close(section);
                State::Whole { section }
            }
            State::Open { section } => {
                self.close(section);
                State::Whole { section }
            }
            State::Calling { section, entry, .. } => {
                self.cut(section, entry);
                self.close(section);
                State::Torn { section }
            }
            State::Full { section } => {
                self.close(section);
                State::Torn { section }
            }
            ended @ (State::Whole { .. } | State::Torn { .. }) => ended,
        };
    }

    /// Counts a poll that has not called the host.
    fn count(&mut self, poll: Begun) {
        if !self.row.takes(&poll) {
            self.put_row();
        }
        self.row.add(poll);
    }

    /// Writes the row, if there is one.
    fn put_row(&mut self) {
        if let Some((section, len)) = self.row.section() {
            self.row = Row::default();
            self.push(&[&section[..len]]);
        }
    }

    /// Begins a section, after writing the row before it. Returns the position where the section
    /// begins.
    fn put_head(&mut self, call: Begun) -> u64 {
        self.put_row();
        let section = self.tail;
        self.push(&[&call.head(call.phase as u8)]);
        section
    }

    /// Writes the length of a section that has ended.
    fn close(&mut self, section: u64) {
        let len = (self.tail - section) as u32;
        for (byte, at) in len.to_le_bytes().into_iter().zip(section..) {
            self.ring[place(at)] = byte;
        }
    }

    /// Drops the last section, because the effect of its call was undone. If the effect was undone
    /// only in part, no earlier section can be played any more.
    pub(in crate::plugin) fn forget(&mut self, is_undone: bool) {
        match self.state {
            State::Whole { section } | State::Torn { section } if is_undone => {
                self.tail = section;
                self.state = State::Whole { section };
            }
            _ => self.sound_from = self.tail,
        }
    }

    /// Notes that the guest calls a host function with these arguments.
    pub(in crate::plugin) fn call(&mut self, tag: Tag, words: &[u64]) {
        let section = match self.state {
            State::Quiet(begun) => self.put_head(begun),
            State::Open { section } => section,
            _ => return,
        };
        let entry = self.tail;
        self.state = State::Calling { section, entry, is_talk: tag.is_talk };
        let mut head = [0; 2 + 9 * LONGEST];
        (head[0], head[1]) = (tag.id, words.len() as u8);
        let mut len = 2;
        for &word in words {
            len += number(word, &mut head[len..]);
        }
        self.add(section, entry, &[&head[..len]]);
    }

    /// Notes that the host took these bytes from the guest's memory.
    pub(in crate::plugin) fn taken(&mut self, at: u32, bytes: &[u8]) {
        if !matches!(self.state, State::Calling { is_talk: true, .. }) {
            self.moved(TAKEN, at, bytes);
        }
    }

    /// Notes that the host gave the guest these bytes.
    pub(in crate::plugin) fn given(&mut self, at: u32, bytes: &[u8]) {
        self.moved(GIVEN, at, bytes);
    }

    fn moved(&mut self, kind: u8, at: u32, bytes: &[u8]) {
        let State::Calling { section, entry, .. } = self.state else { return };
        let mut head = [0; 1 + 2 * LONGEST];
        head[0] = kind;
        let mut len = 1 + number(at.into(), &mut head[1..]);
        len += number(bytes.len() as u64, &mut head[len..]);
        self.add(section, entry, &[&head[..len], bytes]);
    }

    /// Notes the host's answer.
    pub(in crate::plugin) fn answer(&mut self, code: i32) {
        let State::Calling { section, entry, .. } = self.state else { return };
        let mut head = [ANSWER; 1 + LONGEST];
        let len = 1 + number(code.cast_unsigned().into(), &mut head[1..]);
        if self.add(section, entry, &[&head[..len]]) {
            self.state = State::Open { section };
        }
    }

    /// Adds bytes to the open entry, if there is room for them in its section. Otherwise the
    /// section ends before this entry and is full. Returns whether there was room.
    fn add(&mut self, section: u64, entry: u64, pieces: &[&[u8]]) -> bool {
        let len: usize = pieces.iter().map(|piece| piece.len()).sum();
        let has_room = self.tail + len as u64 - section <= MOST_SECTION;
        if has_room {
            self.push(pieces);
        } else {
            self.cut(section, entry);
            self.state = State::Full { section };
        }
        has_room
    }

    /// Removes the entry from its section; without the entry the section is not whole.
    fn cut(&mut self, section: u64, entry: u64) {
        self.tail = entry;
        self.ring[place(section + 4)] |= CUT;
    }

    /// Everything on the tape, from the oldest section on.
    pub(in crate::plugin) fn export(&self) -> Vec<u8> {
        let mut bytes: Vec<u8> = (self.head..self.tail).map(|at| self.ring[place(at)]).collect();
        if let Some((section, len)) = self.row.section() {
            bytes.extend(&section[..len]);
        }
        bytes
    }

    /// Bytes of [`Tape::export`] that lie before `position`.
    pub(super) fn exported_before(&self, position: u64) -> usize {
        position.saturating_sub(self.head) as usize
    }

    /// Writes bytes at the end of the ring. Old sections make room for them.
    fn push(&mut self, pieces: &[&[u8]]) {
        let len: usize = pieces.iter().map(|piece| piece.len()).sum();
        let end = self.tail + len as u64;
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
}

impl Begun {
    /// The head of the section, still without the length.
    fn head(&self, kind: u8) -> [u8; HEAD] {
        let mut head = [0; HEAD];
        head[4] = kind;
        head[5..13].copy_from_slice(&self.cycle.to_le_bytes());
        head[13..].copy_from_slice(&nanos(self.now).to_le_bytes());
        head
    }
}

/// The index in the ring of a position.
fn place(position: u64) -> usize {
    // The size is a power of two, so this is as quick as a mask.
    (position % TAPE_BYTES as u64) as usize
}

/// Most bytes of a number: seven bits to a byte.
const LONGEST: usize = 10;

/// Writes a number in as few bytes as it needs (LEB128). Returns how many.
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
