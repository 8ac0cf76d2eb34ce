//! The ring of a tape: the memory of its bytes, in blocks of 4 KiB that are added as they are
//! needed.
//!
//! A byte has a position, which counts all bytes ever written. The ring has the blocks of the
//! newest positions. A block whose positions are no longer needed gets the next positions, so a
//! tape that needs only its last polls does not grow.
//!
//! ```text
//! positions:   ..... | block | block | block |     not written yet
//!                    first                   end
//!                      └─── reuse: after the head has passed the block ───▶
//! ```
//! `tape.rs` decides which positions are needed.

use std::mem;

use super::TAPE_BYTES;
use crate::plugin::trace::spare::{self, BLOCK, Block};

/// Number of blocks that a ring always has. With two blocks, the head of a section has room.
const FEWEST: u64 = 2;

/// Largest number of blocks: a full tape, which may begin and end within a block.
const MOST: u64 = (TAPE_BYTES / BLOCK) as u64 + 1;

/// Number of places for blocks: the first power of two above [`MOST`], because the place of a
/// position is then found with a bit mask.
const PLACES: usize = (MOST as usize).next_power_of_two();

/// Gives a further block; `None` if there is none.
pub(super) type Source = fn() -> Option<Box<Block>>;

/// The memory of a tape. A ring without places belongs to a tape that is switched off.
#[derive(Debug)]
pub(super) struct Ring {
    /// The blocks, by their number modulo [`PLACES`].
    places: Box<[Option<Box<Block>>]>,
    /// The number of the first block: its first position divided by the size of a block.
    first: u64,
    /// The number after that of the last block.
    end: u64,
    source: Source,
}

impl Default for Ring {
    fn default() -> Self {
        Self { places: Box::default(), first: 0, end: 0, source: || None }
    }
}

impl Ring {
    /// Makes a ring with the fewest blocks. It gets further blocks from `source`.
    pub(super) fn new(source: Source) -> Self {
        let mut places: Box<[_]> = (0..PLACES).map(|_| None).collect();
        for place in places.iter_mut().take(FEWEST as usize) {
            *place = Some(spare::make_anyway());
        }
        Self { places, first: 0, end: FEWEST, source }
    }

    /// Whether the tape is switched on.
    pub(super) fn is_on(&self) -> bool {
        !self.places.is_empty()
    }

    /// Number of blocks.
    pub(super) fn len(&self) -> u64 {
        self.end - self.first
    }

    /// Reuses blocks before `head` for the positions before `end`. Returns whether all these
    /// positions have blocks now.
    pub(super) fn cover(&mut self, end: u64, head: u64) -> bool {
        while self.end * (BLOCK as u64) < end && self.first < head / BLOCK as u64 {
            let block = self.places[place(self.first)].take();
            self.places[place(self.end)] = block;
            self.first += 1;
            self.end += 1;
        }
        end <= self.end * BLOCK as u64
    }

    /// Adds a block. Returns whether there was one.
    pub(super) fn grow(&mut self) -> bool {
        let block = if self.len() < MOST { (self.source)() } else { None };
        let is_there = block.is_some();
        if is_there {
            self.places[place(self.end)] = block;
            self.end += 1;
        }
        is_there
    }

    /// The byte at a position.
    pub(super) fn byte(&self, at: u64) -> u8 {
        self.block(at)[offset(at)]
    }

    /// The byte at a position, to be changed.
    pub(super) fn byte_mut(&mut self, at: u64) -> &mut u8 {
        &mut self.block_mut(at)[offset(at)]
    }

    /// Writes bytes from a position on.
    pub(super) fn write(&mut self, mut at: u64, mut bytes: &[u8]) {
        while !bytes.is_empty() {
            let (now, later) = bytes.split_at(bytes.len().min(BLOCK - offset(at)));
            self.block_mut(at)[offset(at)..][..now.len()].copy_from_slice(now);
            at += now.len() as u64;
            bytes = later;
        }
    }

    fn block(&self, at: u64) -> &Block {
        self.places[place(at / BLOCK as u64)].as_deref().expect(COVERED)
    }

    fn block_mut(&mut self, at: u64) -> &mut Block {
        self.places[place(at / BLOCK as u64)].as_deref_mut().expect(COVERED)
    }
}

/// What the tape guarantees about each position that it reads or writes.
const COVERED: &str = "a tape uses only positions that its ring covers";

impl Drop for Ring {
    fn drop(&mut self) {
        spare::give_back(mem::take(&mut self.places).into_iter().flatten().collect());
    }
}

/// The place of a block.
fn place(number: u64) -> usize {
    (number % PLACES as u64) as usize
}

/// The offset of a position in its block.
fn offset(at: u64) -> usize {
    (at % BLOCK as u64) as usize
}
