//! The scratch: output bytes that a poll has written and that are not valid yet.
//!
//! If the poll ends without a trap, these bytes move into the output image. If the poll traps,
//! these bytes are dropped.
//!
//! ```text
//! write of the guest ── stage ──▶ Scratch ── move_to, after a good poll ──▶ output image
//!                                    └────── clear, after a trap
//! ```
//!
//! `plugin/instance/rights.rs` decides which bytes a guest may write. `plugin/instance/guest.rs`
//! decides when the bytes become valid. No function in this file allocates, except `Scratch::new`.

use std::ops::Range;

/// The output bytes that a program has written in the present poll. These bytes are not valid yet.
#[derive(Debug)]
pub(crate) struct Scratch {
    bytes: Vec<u8>,
    /// For each byte, a mask of the bits that were written.
    written: Vec<u8>,
    /// The address range that contains all written bytes. Empty if no byte was written.
    touched: Range<usize>,
    /// Whether the bytes must be checked at the end of the poll: a call wrote only a part of a
    /// number, or a number that must be moved into the range of its output.
    is_unfinished: bool,
}

impl Scratch {
    /// Creates a scratch for an output image of `len` bytes.
    pub(crate) fn new(len: usize) -> Self {
        Self { bytes: vec![0; len], written: vec![0; len], touched: len..0, is_unfinished: false }
    }

    /// Returns the size of the output image in bytes.
    pub(crate) fn len(&self) -> usize {
        self.bytes.len()
    }

    /// Writes into the scratch those bits of `raw` that are set in `bits`. `at` is the address of
    /// the byte.
    pub(crate) fn stage(&mut self, at: usize, raw: u8, bits: u8) {
        self.bytes[at] = self.bytes[at] & !bits | raw & bits;
        self.written[at] |= bits;
        self.touched = self.touched.start.min(at)..self.touched.end.max(at + 1);
    }

    /// Writes whole bytes into the scratch. `at` is the address of the first byte.
    pub(crate) fn stage_all(&mut self, at: usize, raw: &[u8]) {
        let end = at + raw.len();
        self.bytes[at..end].copy_from_slice(raw);
        self.written[at..end].fill(0xff);
        self.touched = self.touched.start.min(at)..self.touched.end.max(end);
    }

    /// Records that the bytes must be checked at the end of the poll.
    pub(crate) fn note_unfinished(&mut self) {
        self.is_unfinished = true;
    }

    /// Whether the bytes must be checked at the end of the poll.
    pub(crate) fn is_unfinished(&self) -> bool {
        self.is_unfinished
    }

    /// The address range that contains all written bytes. Empty if no byte was written.
    pub(crate) fn touched(&self) -> Range<usize> {
        self.touched.clone()
    }

    /// Returns the value that the byte at address `at` of `outputs` will have when the scratch
    /// becomes valid.
    pub(crate) fn over(&self, at: usize, outputs: &[u8]) -> u8 {
        let bits = self.written[at];
        outputs[at] & !bits | self.bytes[at] & bits
    }

    /// Drops the bits that were written to the byte at address `at`.
    pub(crate) fn forget(&mut self, at: usize) {
        self.written[at] = 0;
    }

    /// Moves all written bits into `outputs`. Afterwards the scratch is empty.
    pub(crate) fn move_to(&mut self, outputs: &mut [u8]) {
        for at in self.touched.clone() {
            outputs[at] = self.over(at, outputs);
        }
        self.clear();
    }

    /// Drops all written bits.
    pub(crate) fn clear(&mut self) {
        self.is_unfinished = false;
        if !self.touched.is_empty() {
            self.written[self.touched.clone()].fill(0);
            self.touched = self.bytes.len()..0;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_scratch_moves_only_the_bits_that_were_written() {
        let mut scratch = Scratch::new(4);
        let mut outputs = [0xaa; 4];
        scratch.stage(2, 0xff, 0b0000_0001);
        scratch.stage(1, 0x0f, 0xff);
        scratch.move_to(&mut outputs);
        assert_eq!(outputs, [0xaa, 0x0f, 0xab, 0xaa]);
        scratch.stage(0, 0, 0xff);
        scratch.clear();
        scratch.move_to(&mut outputs);
        assert_eq!(outputs, [0xaa, 0x0f, 0xab, 0xaa]);
    }

    #[test]
    fn whole_bytes_take_the_place_of_bits() {
        let mut scratch = Scratch::new(4);
        let mut outputs = [0xaa; 4];
        scratch.stage(1, 0, 0b0000_0010);
        scratch.stage_all(1, &[1, 2]);
        assert_eq!(scratch.touched(), 1..3);
        scratch.move_to(&mut outputs);
        assert_eq!(outputs, [0xaa, 1, 2, 0xaa]);
    }

    #[test]
    fn a_byte_that_is_forgotten_stays_what_it_was() {
        let mut scratch = Scratch::new(3);
        let mut outputs = [1, 2, 3];
        (0..3).for_each(|at| scratch.stage(at, 9, 0xff));
        scratch.forget(1);
        assert_eq!((scratch.over(0, &outputs), scratch.over(1, &outputs)), (9, 2));
        scratch.move_to(&mut outputs);
        assert_eq!(outputs, [9, 2, 9]);
    }
}
