//! The parts of one variable: its type, its value, its makers and writers, and why a write is
//! denied.
//!
//! The table of all variables is in `variable.rs`. Values of points are in `image/value.rs`.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::process::image::Value;

/// The type of a variable, fixed when the variable is created.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum VariableKind {
    /// True or false.
    Boolean,
    /// A 32-bit signed integer.
    Int,
    /// A 64-bit float.
    Double,
}

impl std::fmt::Display for VariableKind {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Boolean => "boolean",
            Self::Int => "int",
            Self::Double => "double",
        })
    }
}

/// A variable's value; the variant is its type.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Variable {
    /// True or false.
    Boolean(bool),
    /// A 32-bit signed integer.
    Int(i32),
    /// A 64-bit float.
    Double(f64),
}

impl Variable {
    /// The type of this value.
    pub const fn kind(self) -> VariableKind {
        match self {
            Self::Boolean(_) => VariableKind::Boolean,
            Self::Int(_) => VariableKind::Int,
            Self::Double(_) => VariableKind::Double,
        }
    }

    /// Whether both values are the same, bit for bit. So a float that is not a number is the same
    /// as itself.
    pub fn is_same(self, other: Self) -> bool {
        match (self, other) {
            (Self::Double(one), Self::Double(other)) => one.to_bits() == other.to_bits(),
            _ => self == other,
        }
    }

    /// The value of a new variable of type `kind` before the first write.
    pub const fn initial(kind: VariableKind) -> Self {
        match kind {
            VariableKind::Boolean => Self::Boolean(false),
            VariableKind::Int => Self::Int(0),
            VariableKind::Double => Self::Double(0.0),
        }
    }

    /// `value` as a variable of type `kind`; `None` if it does not fit. An int must fit 32 bits,
    /// and a double takes any number.
    pub fn from_value(kind: VariableKind, value: Value) -> Option<Self> {
        match (kind, value) {
            (VariableKind::Boolean, Value::Bool(value)) => Some(Self::Boolean(value)),
            (VariableKind::Int, Value::Int(value)) => value.try_into().ok().map(Self::Int),
            (VariableKind::Double, Value::Int(value)) => Some(Self::Double(value as f64)),
            (VariableKind::Double, Value::Real(value)) => Some(Self::Double(value)),
            _ => None,
        }
    }
}

impl From<Variable> for Value {
    fn from(variable: Variable) -> Self {
        match variable {
            Variable::Boolean(value) => Self::Bool(value),
            Variable::Int(value) => Self::Int(value.into()),
            Variable::Double(value) => Self::Real(value),
        }
    }
}

/// The reason why a variable was not written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Denied {
    /// This program has no right to write the variable.
    NotGranted,
    /// The variable exists with this other type, or is declared with it.
    OtherType(VariableKind),
    /// This program has made [`MAX_MADE`](super::MAX_MADE) variables already.
    Quota,
    /// The table is full, or the name is empty or too long.
    Limit,
}

/// The maker or the writer of a variable: a program or the host.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Maker(u64);

/// A committed write of a variable.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Written {
    /// The writer.
    pub by: Maker,
    /// The cycle's instant on the scan's clock.
    pub at: Duration,
}

/// The last writes of a variable, by kind of writer. The last write alone is not enough, because an
/// operator's write would hide the program that makes the variable and will write it again.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Writers {
    /// The last write; `None` while the variable has its first value.
    pub last: Option<Written>,
    /// The last write by any program.
    pub program: Option<Written>,
    /// The last write by the program that made the variable; `None` if no program made it.
    pub maker: Option<Written>,
}

impl Writers {
    /// Records a write; `is_new` if it created the variable.
    pub(super) fn note(&mut self, write: Written, is_new: bool) {
        self.last = Some(write);
        if write.by == Maker::HOST {
            return;
        }
        self.program = Some(write);
        if is_new || self.maker.is_some_and(|maker| maker.by == write.by) {
            self.maker = Some(write);
        }
    }

    /// The known last writes by programs, the newest first. Both may be by one program.
    pub fn programs(self) -> impl Iterator<Item = Written> {
        self.program.into_iter().chain(self.maker)
    }
}

impl Maker {
    /// The configuration or an operator, who have no quota.
    pub const HOST: Self = Self(0);

    /// The maker that stands for a program. `number` is made from the program's name. Two programs
    /// with the same number would share a quota, but nothing else.
    pub const fn program(number: u64) -> Self {
        Self(if number == 0 { 1 } else { number })
    }
}
