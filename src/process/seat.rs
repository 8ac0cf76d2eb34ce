//! Seats: the places of the programs in the scan.
//!
//! An output is owned by a seat, and a log line names a seat. This file assigns no seats: the
//! daemon decides which plugin has which seat, and `scan` decides which instance runs on it.

/// Most programs at one time: a bound for every list with an entry for each program.
pub const MAX_PROGRAMS: usize = 256;

/// A program's place in the scan. The seat belongs to a plugin's name. A swap puts another instance
/// on the seat, and the seat keeps the outputs that it owns.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Seat(pub u16);
