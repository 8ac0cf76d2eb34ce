//! The place of a point in the field, in the words of its driver.
//!
//! `config/note.rs` compares the places of all points of a configuration. This comparison finds
//! mistakes: two points at the same place, or at places that overlap. The drivers only return the
//! places. `config/note.rs` decides which places may overlap without a warning.

use std::ops::Range;

use crate::process::image::Direction;

/// The place of a point in the field.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Location {
    /// The thing to which the place belongs, for example the holding registers of one Modbus unit.
    /// Two places can overlap only if their `within` is equal. A driver that allows an input and an
    /// output at one place uses a different `within` for each direction.
    pub within: String,
    /// The cells that the point occupies inside `within`, for example register numbers.
    pub cells: Range<u32>,
    /// The place as text for operators, such as `holding 10 of unit drive`.
    pub words: String,
}

/// Returns the word that a driver adds to [`Location::within`] if an input and an output may share
/// a place. With this word, the places of the two points differ, so the comparison in
/// `config/note.rs` finds no overlap.
pub(super) const fn word(direction: Direction) -> &'static str {
    match direction {
        Direction::In => "read",
        Direction::Out => "written",
    }
}
