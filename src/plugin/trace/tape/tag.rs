//! The tag of a host function: the number that stands for the function on a tape.
//!
//! A tag is valid only in this version of the daemon. A crash report therefore also has the names
//! of all functions, in the order of their numbers.

use crate::plugin::module::offer::{self, Offer};

/// The value that identifies a host function on a tape.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::plugin) struct Tag {
    /// The function's position in the list of all functions that the host offers.
    pub(in crate::plugin) id: u8,
    /// Whether the bytes that the function reads from the guest's memory are only text for the log.
    /// The tape does not store text for the log.
    pub(super) is_talk: bool,
}

impl Tag {
    /// Returns the tag of a function that the host offers.
    pub(in crate::plugin) fn of(module: &str, name: &str) -> Self {
        let is_it = |offer: Offer| offer.module == module && offer.name == name;
        let id = offer::offers().position(is_it).unwrap_or(usize::from(u8::MAX));
        Self { id: id as u8, is_talk: matches!(name, "wasm_log" | "fd_write") }
    }
}

/// Returns the names of all host functions, in the order of their numbers on a tape.
pub fn functions() -> Vec<String> {
    offer::offers().map(|offer| offer.name.to_string()).collect()
}

/// Returns the name of the host function with this number; an empty text for an unknown number.
pub fn name(function: u8) -> &'static str {
    offer::offers().nth(function.into()).map_or("", |offer| offer.name)
}
