//! The reason of a trap that the host has put into a guest's code.
//!
//! All those traps are divisions by zero; which operation failed is a number in a hidden global.
//! `flag.rs` and `routine.rs` write the number, `hidden.rs` reads it, and `instance/trap.rs` puts
//! it into words.

use wasmer::sys::vm::TrapCode;

/// The reason of a trap by a division by zero that `flag.rs` has put into the code. The numbers are
/// those in the hidden global.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::plugin) enum Why {
    /// The guest's own `unreachable`.
    Unreachable = 1,
    /// `memory.fill` or `memory.copy` outside of the memory.
    OutsideMemory,
    /// An operation outside of a table.
    OutsideTable,
}

impl Why {
    /// The reason with this number; 0 means that there is none.
    pub(super) fn of(number: i32) -> Option<Self> {
        [Self::Unreachable, Self::OutsideMemory, Self::OutsideTable]
            .into_iter()
            .find(|why| *why as i32 == number)
    }

    /// The code of the trap that wasmer would have reported.
    pub(in crate::plugin) fn code(self) -> TrapCode {
        match self {
            Self::Unreachable => TrapCode::UnreachableCodeReached,
            Self::OutsideMemory => TrapCode::HeapAccessOutOfBounds,
            Self::OutsideTable => TrapCode::TableAccessOutOfBounds,
        }
    }
}
