//! Where a point is in the field, in the terms of its driver.
//!
//! `config/note.rs` compares the places of a configuration in its search for slips: two points in
//! one place, or in places that overlap. The drivers tell the places; which of them may collide is
//! decided there.

use std::ops::Range;

use crate::process::image::Direction;

/// The place of a point in the field.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Location {
    /// What the place is a part of. Only places with equal `within` can collide. If one point may
    /// read a place and another may write it, the two have different texts here.
    pub within: String,
    /// The cells that the point occupies there.
    pub cells: Range<u32>,
    /// The place in words for people, such as `holding 10 of unit drive`.
    pub words: String,
}

/// The word that separates the two directions in [`Location::within`], for places that an input and
/// an output may share.
pub(super) const fn word(direction: Direction) -> &'static str {
    match direction {
        Direction::In => "read",
        Direction::Out => "written",
    }
}
