//! The tape: what an instance was given and what it did, so that its end can be played again.
//!
//! A module without files, sockets and a clock of its own is a function of what the host tells it.
//! So it is enough to note, for each call into the guest, every call that it makes to the host:
//! which one, with which arguments, the bytes that the host took from its memory and put there, and
//! the code. Nothing here knows what the functions mean. A tape is a ring of bytes with room made
//! in advance: old sections fall out whole, and nothing allocates.
//!
//! `bind.rs` writes it, `record.rs` decides from where it can be played, `tape/read.rs` reads it
//! back, `replay.rs` plays it.

use std::time::Duration;

pub use super::guest::Phase;
use super::offer::{self, Offer};

mod read;

pub use read::{Called, Section, parse};

/// Room of one tape. Two stretches of 100 polls fit with 600 bytes each, some twenty host calls; a
/// hundred programs have 12 MB.
const TAPE_BYTES: usize = 128 << 10;

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
    is_open: bool,
    is_within_call: bool,
    is_cut: bool,
    is_talk: bool,
    /// Behind the last section that is not whole.
    sound_from: u64,
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
    pub(super) fn position(&self) -> u64 {
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
        self.section = self.tail;
        (self.is_open, self.is_cut, self.is_within_call) = (true, false, false);
        let nanos = u64::try_from(now.as_nanos()).unwrap_or(u64::MAX);
        self.entry = self.tail;
        let mut head = [0; HEAD];
        head[4] = phase as u8;
        head[5..13].copy_from_slice(&cycle.to_le_bytes());
        head[13..].copy_from_slice(&nanos.to_le_bytes());
        self.push(&[&head]);
    }

    /// It has ended, in whatever way. A section that fell short counts as the last thing on the
    /// tape and ends what can be played from before it.
    pub(super) fn end(&mut self) {
        if !std::mem::take(&mut self.is_open) {
            return;
        }
        if self.is_within_call {
            self.cut();
        }
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
        (self.head..self.tail).map(|at| self.ring[place(at)]).collect()
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

#[cfg(test)]
mod tests {
    use super::*;

    const READ: Tag = Tag { id: 1, is_talk: false };
    const TALK: Tag = Tag { id: 0, is_talk: true };

    /// A poll with calls of random sizes; what should be on the tape.
    fn poll(tape: &mut Tape, cycle: u64, random: &mut fastrand::Rng, largest: usize) -> Section {
        let now = Duration::from_nanos(random.u64(..));
        tape.begin(Phase::Poll, cycle, now);
        let calls = (0..random.usize(..4)).map(|_| {
            let arguments: Vec<u64> = (0..3).map(|_| random.u64(..) >> random.u32(..64)).collect();
            let bytes: Vec<u8> = (0..random.usize(..largest)).map(|_| random.u8(..)).collect();
            let (at, code) = (random.u32(..), random.i32(..));
            tape.call(READ, &arguments);
            tape.taken(at, &bytes);
            tape.given(at / 2, &bytes);
            tape.answer(code);
            let (taken, given) = (vec![(at, bytes.clone())], vec![(at / 2, bytes)]);
            Called { function: 1, arguments, taken, given, code }
        });
        let calls = calls.collect();
        tape.end();
        Section { phase: Phase::Poll, cycle, now, is_cut: false, calls }
    }

    #[test]
    fn the_newest_sections_are_there_whole() {
        let mut random = fastrand::Rng::with_seed(7);
        for largest in [1, 10, 1000, 9000] {
            let (mut tape, mut all) = (Tape::new(true), Vec::new());
            for cycle in 0..5000 {
                all.push(poll(&mut tape, cycle, &mut random, largest));
                if cycle % 97 == 0 {
                    let exported = tape.export();
                    assert!(exported.len() <= TAPE_BYTES);
                    let found = parse(&exported).unwrap();
                    let newest = &all[all.len() - found.len()..];
                    assert!(found.iter().map(|(_, section)| section).eq(newest));
                    // A section that fell out made room for another.
                    let is_full = exported.len() > TAPE_BYTES - 4 * (2 * largest + 100);
                    assert!(found.len() == all.len() || is_full, "{}", exported.len());
                }
            }
        }
    }

    #[test]
    fn a_section_that_is_too_large_is_cut_after_a_whole_call() {
        let mut tape = Tape::new(true);
        let before = tape.position();
        tape.begin(Phase::Poll, 1, Duration::ZERO);
        for n in 0..100_000 {
            tape.call(READ, &[n]);
            tape.given(0, &[1, 2, 3]);
            tape.answer(0);
        }
        tape.end();
        assert!(tape.reaches(before), "it may be the last");
        let found = parse(&tape.export()).unwrap();
        let [(0, section)] = &found[..] else { panic!("{} sections", found.len()) };
        assert!(section.is_cut && section.calls.len() > 5000);
        assert_eq!(section.calls.last().unwrap().given, [(0, vec![1, 2, 3])]);
        tape.begin(Phase::Poll, 2, Duration::ZERO);
        tape.end();
        assert!(!tape.reaches(before), "it was not the last");
        assert!(tape.reaches(tape.position()));
    }

    #[test]
    fn words_for_the_log_are_not_kept_and_what_was_undone_is_forgotten() {
        let mut tape = Tape::new(true);
        let poll = |tape: &mut Tape, phase| {
            tape.begin(phase, 1, Duration::ZERO);
            tape.call(TALK, &[2]);
            tape.taken(0, b"words");
            tape.answer(0);
            tape.end();
        };
        poll(&mut tape, Phase::Poll);
        poll(&mut tape, Phase::Save);
        tape.forget(true);
        let found = parse(&tape.export()).unwrap();
        assert_eq!(found.len(), 1);
        assert!(found[0].1.calls[0].taken.is_empty() && tape.reaches(0));
        poll(&mut tape, Phase::Save);
        tape.forget(false);
        assert!(!tape.reaches(0));
    }

    #[test]
    fn a_tape_that_is_off_holds_nothing() {
        let mut tape = Tape::new(false);
        poll(&mut tape, 1, &mut fastrand::Rng::with_seed(1), 100);
        tape.forget(true);
        assert!(tape.export().is_empty() && !tape.reaches(0));
    }
}
