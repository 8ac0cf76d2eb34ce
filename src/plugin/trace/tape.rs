//! The tape: a record of the calls between an instance and the host, so that the last calls can be
//! played again.
//!
//! A guest cannot use files, sockets or clocks. So the guest's behaviour depends only on the data
//! that the host returns. For each call into the guest, the tape records the guest's calls to the
//! host: function, arguments, returned code, and the bytes that the host read from the guest's
//! memory or wrote into it. The code here does not know what the functions mean.
//!
//! A tape is a ring buffer. While it is short, it gets spare blocks of memory (`tape/ring.rs`), so
//! recording allocates nothing. New sections overwrite whole old sections. A section has one call
//! into the guest. Successive polls without a call to the host share one section (`tape/row.rs`).
//!
//! ```text
//! ring:     oldest section | section | ... | section of the present call
//! section:  length, phase, cycle, time | entry | entry | ...
//! entry:    function, arguments | bytes read or written by the host | answer
//! ```
//!
//! `instance/bind.rs` writes the tape, and `tape/read.rs` reads an exported tape. `record.rs`
//! decides from which position the tape can be played, and `player.rs` plays the tape.

use std::time::Duration;

use super::spare;
use crate::clock::nanos;
use crate::process::call::Phase;

mod read;
mod ring;
mod row;
mod tag;
#[cfg(test)]
mod tests;

pub use read::{Called, Section, Sections, parse};
use ring::Ring;
use row::Row;
pub(in crate::plugin) use tag::Tag;
pub use tag::{functions, name};

/// Largest size of a tape in bytes: room for 200 polls of 600 bytes each. A poll of 600 bytes has
/// about twenty calls to the host.
const TAPE_BYTES: usize = 128 << 10;

/// Largest size of an exported tape in bytes: the whole ring, and one row of polls that is not in
/// the ring yet.
pub const MAX_EXPORT: usize = TAPE_BYTES + HEAD + 3 * LONGEST;

/// Largest size of one section in bytes: half of the ring, so that earlier sections have room too.
/// If a section is full, further calls to the host are not recorded in it.
const MOST_SECTION: u64 = TAPE_BYTES as u64 / 2;

/// Number of blocks up to which a tape also keeps sections that no replay needs: 16 KiB. A crash
/// report shows these sections.
const KEPT_BLOCKS: u64 = 4;

/// Size of a section's head in bytes: length, phase, cycle, nanoseconds.
const HEAD: usize = 4 + 1 + 8 + 8;

/// Flag in the phase byte of a section: the section is incomplete.
const CUT: u8 = 0x80;

/// The kinds of pieces that follow an entry's head: the answer of the host, bytes that the host
/// read from the guest's memory, or bytes that the host wrote into it.
const ANSWER: u8 = 0;
const TAKEN: u8 = 1;
const GIVEN: u8 = 2;

/// The tape of one instance, with the instance's last calls.
#[derive(Debug, Default)]
pub(in crate::plugin) struct Tape {
    ring: Ring,
    /// The position of the oldest byte: the number of bytes that were ever written before it.
    head: u64,
    tail: u64,
    state: State,
    /// The earliest position from which a replay can begin. The tape before this position has an
    /// incomplete section, or a call that was undone only partly.
    sound_from: u64,
    /// The earliest position from which a replay will begin. Sections before it are removed before
    /// the tape gets more memory.
    needed_from: u64,
    /// Polls that are counted but not written to the ring yet.
    row: Row,
}

/// The state of the recording, with the positions where the section and the entry begin.
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
    /// The guest does not run. The last section on the ring is complete.
    Whole { section: u64 },
    /// The guest does not run. The last section is incomplete. The tape can be played up to this
    /// section, but no further.
    Torn { section: u64 },
    /// The guest runs and has not called the host yet. The ring has no section for this call yet.
    Quiet(Begun),
    /// The guest runs, and each call that it made to the host has an answer.
    Open { section: u64 },
    /// The host carries out the call that is recorded at `entry`. If `is_talk` is set, the bytes
    /// that the host reads from the guest's memory are text for the log.
    Calling { section: u64, entry: u64, is_talk: bool },
    /// The guest still runs, but its section has no room for further calls to the host.
    Full { section: u64 },
}

impl Default for State {
    fn default() -> Self {
        Self::Whole { section: 0 }
    }
}

/// The kind, the cycle and the time of a call into the guest.
#[derive(Debug, Default, Clone, Copy)]
struct Begun {
    phase: Phase,
    cycle: u64,
    now: Duration,
}

impl Tape {
    /// Makes an empty tape. The tape records calls only if `records` is set.
    pub(in crate::plugin) fn new(records: bool) -> Self {
        let ring = if records { Ring::new(spare::take) } else { Ring::default() };
        Self { ring, ..Self::default() }
    }

    /// Whether the tape records calls.
    pub(super) fn is_on(&self) -> bool {
        self.ring.is_on()
    }

    /// Writes the row to the ring. Returns the position where the next section will begin.
    pub(in crate::plugin) fn position(&mut self) -> u64 {
        self.put_row();
        self.tail
    }

    /// Returns the number of bytes from a position to the end of the tape.
    pub(in crate::plugin) fn since(&self, position: u64) -> u64 {
        self.tail - position
    }

    /// Whether a replay can begin at `position`. Only the last section may be incomplete.
    pub(super) fn reaches(&self, position: u64) -> bool {
        self.is_on() && position >= self.head.max(self.sound_from)
    }

    /// States that no replay will begin before `position`, because there is a checkpoint.
    pub(in crate::plugin) fn need_from(&mut self, position: u64) {
        self.needed_from = position;
    }

    /// Records that a call into the guest begins.
    pub(in crate::plugin) fn begin(&mut self, phase: Phase, cycle: u64, now: Duration) {
        if !self.is_on() {
            return;
        }
        if let State::Torn { .. } = self.state {
            // The incomplete section is no longer the last, so a replay can begin only after it.
            self.sound_from = self.tail;
        }
        self.state = State::Quiet(Begun { phase, cycle, now });
    }

    /// Records that the call into the guest has ended, with or without a trap. If the section of
    /// the call is incomplete, the tape can be played up to this section. When a further call
    /// begins, a replay can no longer begin before the end of the incomplete section.
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

    /// Adds a poll, in which the guest did not call the host, to the row.
    fn count(&mut self, poll: Begun) {
        if !self.row.takes(&poll) {
            self.put_row();
        }
        self.row.add(poll);
    }

    /// Writes the row to the ring, if the row has polls.
    fn put_row(&mut self) {
        if let Some((section, len)) = self.row.section() {
            self.row = Row::default();
            self.push(self.tail, &section[..len], &[]);
        }
    }

    /// Writes the row of earlier polls, and then the head of a new section. Returns the position
    /// where the section begins.
    fn put_head(&mut self, call: Begun) -> u64 {
        self.put_row();
        let section = self.tail;
        self.push(section, &call.head(call.phase as u8), &[]);
        section
    }

    /// Writes the length into the head of a section that has ended.
    fn close(&mut self, section: u64) {
        let len = (self.tail - section) as u32;
        self.ring.write(section, &len.to_le_bytes());
    }

    /// Removes the last section if the host has undone the section's call completely (`is_undone`).
    /// Otherwise the section remains, and a replay can begin only after it.
    pub(in crate::plugin) fn forget(&mut self, is_undone: bool) {
        match self.state {
            State::Whole { section } | State::Torn { section } if is_undone => {
                self.tail = section;
                self.state = State::Whole { section };
            }
            _ => self.sound_from = self.tail,
        }
    }

    /// Records that the guest calls a host function with these arguments.
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
        self.add(section, entry, &head[..len], &[]);
    }

    /// Records the bytes that the host has read from address `at` of the guest's memory.
    pub(in crate::plugin) fn taken(&mut self, at: u32, bytes: &[u8]) {
        if !matches!(self.state, State::Calling { is_talk: true, .. }) {
            self.moved(TAKEN, at, bytes);
        }
    }

    /// Records the bytes that the host has written to address `at` of the guest's memory.
    pub(in crate::plugin) fn given(&mut self, at: u32, bytes: &[u8]) {
        self.moved(GIVEN, at, bytes);
    }

    fn moved(&mut self, kind: u8, at: u32, bytes: &[u8]) {
        let State::Calling { section, entry, .. } = self.state else { return };
        let mut head = [0; 1 + 2 * LONGEST];
        head[0] = kind;
        let mut len = 1 + number(at.into(), &mut head[1..]);
        len += number(bytes.len() as u64, &mut head[len..]);
        self.add(section, entry, &head[..len], bytes);
    }

    /// Records the code that the host returns to the guest.
    pub(in crate::plugin) fn answer(&mut self, code: i32) {
        let State::Calling { section, entry, .. } = self.state else { return };
        let mut head = [ANSWER; 1 + LONGEST];
        let len = 1 + number(code.cast_unsigned().into(), &mut head[1..]);
        if self.add(section, entry, &head[..len], &[]) {
            self.state = State::Open { section };
        }
    }

    /// Adds a head and bytes to the present entry, if the section has room for them. Otherwise the
    /// function removes the entry, and the section is full. Returns whether the section had room.
    fn add(&mut self, section: u64, entry: u64, head: &[u8], bytes: &[u8]) -> bool {
        let len = (head.len() + bytes.len()) as u64;
        let has_room = self.tail + len - section <= MOST_SECTION && self.push(section, head, bytes);
        if !has_room {
            self.cut(section, entry);
            self.state = State::Full { section };
        }
        has_room
    }

    /// Removes the entry from its section, and marks the section as incomplete.
    fn cut(&mut self, section: u64, entry: u64) {
        self.tail = entry;
        *self.ring.byte_mut(section + 4) |= CUT;
    }

    /// Copies the whole tape, from the oldest section to the newest.
    pub(in crate::plugin) fn export(&self) -> Vec<u8> {
        let mut bytes: Vec<u8> = (self.head..self.tail).map(|at| self.ring.byte(at)).collect();
        if let Some((section, len)) = self.row.section() {
            bytes.extend(&section[..len]);
        }
        bytes
    }

    /// Returns how many bytes of the exported tape are before `position`.
    pub(super) fn exported_before(&self, position: u64) -> usize {
        position.saturating_sub(self.head) as usize
    }

    /// Appends a head and bytes to the section that began at `section`. If the tape is full, the
    /// oldest sections are removed first. Returns false if there is no memory even then.
    fn push(&mut self, section: u64, head: &[u8], bytes: &[u8]) -> bool {
        let end = self.tail + (head.len() + bytes.len()) as u64;
        loop {
            let fits = end - self.head <= TAPE_BYTES as u64;
            if fits && self.ring.cover(end, self.head) {
                break;
            }
            let is_needed = self.head >= self.needed_from || self.ring.len() < KEPT_BLOCKS;
            let has_grown = fits && is_needed && self.ring.grow();
            if !has_grown && !self.remove_oldest(section) {
                return false;
            }
        }
        self.ring.write(self.tail, head);
        self.ring.write(self.tail + head.len() as u64, bytes);
        self.tail = end;
        true
    }

    /// Removes the oldest section, unless this is the section that began at `section`. Returns
    /// whether it was removed.
    fn remove_oldest(&mut self, section: u64) -> bool {
        let is_older = self.head < section;
        if is_older {
            let mut len = [0; 4];
            for (byte, at) in len.iter_mut().zip(self.head..) {
                *byte = self.ring.byte(at);
            }
            self.head += u64::from(u32::from_le_bytes(len));
        }
        is_older
    }
}

impl Begun {
    /// Makes the head of the section. The length in the head is still 0.
    fn head(&self, kind: u8) -> [u8; HEAD] {
        let mut head = [0; HEAD];
        head[4] = kind;
        head[5..13].copy_from_slice(&self.cycle.to_le_bytes());
        head[13..].copy_from_slice(&nanos(self.now).to_le_bytes());
        head
    }
}

/// Largest number of bytes of an encoded number. Each byte has seven bits of the number.
const LONGEST: usize = 10;

/// Writes a number in LEB128 encoding, seven bits to a byte. Returns the number of bytes.
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
