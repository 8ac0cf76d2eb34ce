//! Seats: the numbered slots for programs in the scan.
//!
//! A seat owns outputs, and each log line about a program contains the number of the program's
//! seat. The code in this file assigns no seats. The daemon decides which plugin has which seat,
//! and `scan` decides which instance runs on the seat.

/// Maximum number of programs at one time. A list with one entry for each program has at most
/// `MAX_PROGRAMS` entries.
pub const MAX_PROGRAMS: usize = 1000;

/// The number of a program's slot in the scan. A seat belongs to the name of a plugin, not to an
/// instance. A swap changes the instance on the seat, but does not change the outputs that the seat
/// owns.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Seat(pub u16);
