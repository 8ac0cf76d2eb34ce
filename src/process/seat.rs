//! Seats: the places of the programs in the scan.
//!
//! A seat is what owns an output and what a log line is about. Which plugin has which seat is
//! decided in the daemon, and which instance is on it in `scan`.

/// Most programs at one time: a bound for every list with an entry for each program.
pub const MAX_PROGRAMS: usize = 256;

/// A program's place in the scan. It belongs to a plugin's name: a swap changes the instance on it,
/// but not what the program owns.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Seat(pub u16);
