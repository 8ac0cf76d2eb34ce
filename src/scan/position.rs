//! The position of the scan: which program or driver the scan is calling now, and on which thread.
//!
//! The scan writes the position before and after each call, at the cost of one store. The daemon
//! reads the position if the number of cycles does not increase. `daemon/stall.rs` decides what the
//! daemon does about a scan that no longer runs cycles.

use std::sync::atomic::{AtomicI32, AtomicU64, Ordering};

use nix::unistd::gettid;

use crate::plugin::Generation;
use crate::process::seat::Seat;

/// The call that the scan is making now, with the called program or driver.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Doing {
    /// No call: the scan does its own work, or waits for the next cycle.
    Own,
    /// A poll of this program.
    Poll(Seat, Generation),
    /// A call of `save` of this program, for a shadow run. The program runs on after this call.
    Save(Seat, Generation),
    /// A hand-over: a call of `save` of the running version, then a call of `restore` of this
    /// program, which is the new version.
    HandOver(Seat, Generation),
    /// A call of the driver of the device at this index.
    Driver(u16),
}

/// Number of low bits of the packed word that contain the generation. 40 bits are enough for one
/// restart in each millisecond for 30 years.
const GENERATION_BITS: u32 = 40;

/// Number of bits above the generation. These bits contain the seat or the index of the device. The
/// 8 highest bits of the word contain the kind of call.
const PLACE_BITS: u32 = 16;

/// What the scan is doing now: its present call, its number of cycles and its thread. The scan
/// writes these values, the daemon reads them.
#[derive(Debug, Default)]
pub struct Position {
    /// A [`Doing`] packed into one word of 64 bits. The scan writes the word in one store, so the
    /// daemon never reads parts of two different values.
    doing: AtomicU64,
    /// Number of cycles that have begun. The scan writes this number, the daemon reads it.
    cycles: AtomicU64,
    /// The kernel's id of the scan's thread, or 0 before the thread runs. The scan's thread writes
    /// this id, the daemon reads it.
    thread: AtomicI32,
}

impl Position {
    /// Stores the id of the calling thread, which is the scan's thread.
    pub(super) fn settle(&self) {
        self.thread.store(gettid().as_raw(), Ordering::Relaxed);
    }

    /// Adds one to the number of cycles that have begun.
    pub(super) fn begin(&self) {
        // Only the scan writes this number. So the load and the store may be two separate steps.
        self.cycles.store(self.cycles() + 1, Ordering::Relaxed);
    }

    /// Stores the call that the scan makes now.
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

    /// Returns the call that the scan is making now.
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

    /// Returns the number of cycles that have begun.
    pub fn cycles(&self) -> u64 {
        self.cycles.load(Ordering::Relaxed)
    }

    /// Returns the kernel's id of the scan's thread, or `None` before the thread runs.
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
