//! The four tables of a Modbus unit, and the maximum size of one request.
//!
//! A table has addresses from 0 to 65535. Only the unit knows which of these addresses exist. The
//! bytes of requests are not in this file: `request.rs` has the function codes, and `register.rs`
//! has the layout of values in registers.

use serde::Deserialize;

/// The maximum number of registers in one read (Modbus application protocol 1.1b3, 6.3).
const REGISTERS_READ: u16 = 125;

/// The maximum number of coils or discrete inputs in one read (6.1).
const BITS_READ: u16 = 2000;

/// The maximum number of registers in one write (6.12). This maximum is smaller than the maximum
/// for a read, because a write request contains other fields before the values.
const REGISTERS_WRITTEN: u16 = 123;

/// The maximum number of coils in one write (6.11).
const BITS_WRITTEN: u16 = 1968;

/// The four tables of a unit. Each table has its own addresses from 0 to 65535.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Table {
    /// Bits that can be read and written; function codes 1, 5 and 15.
    Coil,
    /// Bits that can only be read; function code 2.
    Discrete,
    /// Registers that can be read and written; function codes 3, 6 and 16.
    Holding,
    /// Registers that can only be read; function code 4.
    Input,
}

impl Table {
    /// Whether the table consists of bits. If not, the table consists of registers.
    pub const fn is_bits(self) -> bool {
        matches!(self, Self::Coil | Self::Discrete)
    }

    /// Returns the maximum number of bits or registers in one read.
    pub const fn most(self) -> u16 {
        if self.is_bits() { BITS_READ } else { REGISTERS_READ }
    }

    /// Returns the maximum number of bits or registers in one write.
    pub(in crate::driver::modbus) const fn most_written(self) -> u16 {
        if self.is_bits() { BITS_WRITTEN } else { REGISTERS_WRITTEN }
    }

    /// Returns the name of the table in the configuration, such as `holding`.
    pub const fn word(self) -> &'static str {
        match self {
            Self::Coil => "coil",
            Self::Discrete => "discrete",
            Self::Holding => "holding",
            Self::Input => "input",
        }
    }
}
