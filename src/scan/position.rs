//! The position of the scan: which program or driver the scan is calling now, and on which thread.
//!
//! The scan writes the position, at the cost of one store for each call. The daemon reads it if the
//! number of cycles has not moved. `daemon/stall.rs` decides what to do about a scan that stands.

use std::sync::atomic::{AtomicI32, AtomicU64, Ordering};

use nix::unistd::gettid;

use crate::plugin::Generation;
use crate::process::seat::Seat;

/// The callee of the call that the scan has made.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Doing {
    /// No callee: the scan does its own work, or waits for the next cycle.
    Own,
    /// A poll of this program.
    Poll(Seat, Generation),
    /// `save` of this program, which goes on running afterwards.
    Save(Seat, Generation),
    /// `save` of the running version, and then `restore` of this program, which takes over from it.
    HandOver(Seat, Generation),
    /// The driver of the device at this index.
    Driver(u16),
}

/// Bits of the word for the generation. Even a program that is restarted once a millisecond for 30
/// years needs fewer bits.
const GENERATION_BITS: u32 = 40;

/// The bits above the generation, for a seat or a device. The 8 highest bits are for the kind of
/// call.
const PLACE_BITS: u32 = 16;

/// The call that the scan is in, its cycle count and its thread. The scan writes, the daemon reads.
#[derive(Debug, Default)]
pub struct Position {
    /// A [`Doing`] packed into one word, so that the daemon never reads half of a value. The scan
    /// writes, the daemon reads.
    doing: AtomicU64,
    /// The number of cycles that have begun. The scan writes, the daemon reads.
    cycles: AtomicU64,
    /// The kernel's id of the scan's thread; 0 until the thread runs. The scan's thread writes, the
    /// daemon reads.
    thread: AtomicI32,
}

impl Position {
    /// Notes that the calling thread is the scan's thread.
    pub(super) fn settle(&self) {
        self.thread.store(gettid().as_raw(), Ordering::Relaxed);
    }

    /// Counts a cycle that begins.
    pub(super) fn begin(&self) {
        // Only the scan writes the count, so load and store need not be one atomic step.
        self.cycles.store(self.cycles() + 1, Ordering::Relaxed);
    }

    /// Notes the call that the scan makes now.
    pub(super) fn is_at(&self, doing: Doing) {
        let word = |kind: u64, place: u16, generation: u64| {
            let generation = generation & ((1 << GENERATION_BITS) - 1);
            kind << (GENERATION_BITS + PLACE_BITS)
                | u64::from(place) << GENERATION_BITS
                | generation
        };
        let word = match doing {
            Doing::Own => 0,
            Doing::Poll(seat, generation) => word(1, seat.0, generation.0),
            Doing::Save(seat, generation) => word(2, seat.0, generation.0),
            Doing::HandOver(seat, generation) => word(3, seat.0, generation.0),
            Doing::Driver(place) => word(4, place, 0),
        };
        self.doing.store(word, Ordering::Relaxed);
    }

    /// The call that the scan is in.
    pub fn doing(&self) -> Doing {
        let word = self.doing.load(Ordering::Relaxed);
        let place = (word >> GENERATION_BITS) as u16;
        let generation = Generation(word & ((1 << GENERATION_BITS) - 1));
        match word >> (GENERATION_BITS + PLACE_BITS) {
            1 => Doing::Poll(Seat(place), generation),
            2 => Doing::Save(Seat(place), generation),
            3 => Doing::HandOver(Seat(place), generation),
            4 => Doing::Driver(place),
            _ => Doing::Own,
        }
    }

    /// The number of cycles that have begun.
    pub fn cycles(&self) -> u64 {
        self.cycles.load(Ordering::Relaxed)
    }

    /// The kernel's id of the scan's thread; `None` until the thread runs.
    pub fn thread(&self) -> Option<i32> {
        Some(self.thread.load(Ordering::Relaxed)).filter(|thread| *thread != 0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_it_does_is_read_as_it_was_written() {
        let position = Position::default();
        assert_eq!((position.doing(), position.thread()), (Doing::Own, None));
        let (seat, last) = (Seat(u16::MAX), Generation((1 << GENERATION_BITS) - 1));
        for doing in [
            Doing::Poll(Seat(0), Generation(0)),
            Doing::Poll(seat, last),
            Doing::Save(Seat(3), Generation(7)),
            Doing::HandOver(seat, Generation(1)),
            Doing::Driver(255),
            Doing::Own,
        ] {
            position.is_at(doing);
            assert_eq!(position.doing(), doing);
        }
        position.settle();
        position.begin();
        assert_eq!((position.thread(), position.cycles()), (Some(gettid().as_raw()), 1));
    }
}
