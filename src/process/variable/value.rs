//! The parts of one variable: its type, its value, the program that created the variable, and the
//! last writes. This file also defines the reasons for a denied write.
//!
//! The table of all variables is in `variable.rs`. The values of points have their own type, in
//! `image/value.rs`.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::process::image::Value;

/// The type of a variable. The type is set when the variable is created, and never changes.
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

/// The value of a variable. The variant of the enum is the type of the variable.
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
    /// Returns the type of this value.
    pub const fn kind(self) -> VariableKind {
        match self {
            Self::Boolean(_) => VariableKind::Boolean,
            Self::Int(_) => VariableKind::Int,
            Self::Double(_) => VariableKind::Double,
        }
    }

    /// Whether `self` and `other` have the same bits. In this comparison, a float that is not a
    /// number (NaN) equals itself; with `==`, a NaN does not equal itself.
    pub fn is_same(self, other: Self) -> bool {
        match (self, other) {
            (Self::Double(one), Self::Double(other)) => one.to_bits() == other.to_bits(),
            _ => self == other,
        }
    }

    /// Returns the initial value of a variable of type `kind`: false, 0 or 0.0.
    pub const fn initial(kind: VariableKind) -> Self {
        match kind {
            VariableKind::Boolean => Self::Boolean(false),
            VariableKind::Int => Self::Int(0),
            VariableKind::Double => Self::Double(0.0),
        }
    }

    /// Converts `value` to a value of type `kind`. Returns `None` if `value` does not fit this
    /// type. An int must fit 32 bits. A double accepts any number.
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

/// The reason why a write of a variable is denied.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Denied {
    /// The configuration does not grant this variable to the program.
    NotGranted,
    /// The variable exists with another type, or the configuration declares the variable with
    /// another type. The field is this other type.
    OtherType(VariableKind),
    /// The program has already created [`MAX_MADE`](super::MAX_MADE) variables.
    Quota,
    /// The table of variables is full, its free places are reserved for declared variables, or the
    /// name is empty or too long.
    Limit,
}

/// The creator or the writer of a variable: the host, or the programs whose names have the same
/// number ([`Maker::program`]).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Maker(u64);

/// A committed write of a variable: the writer and the time.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Written {
    /// The program or host that wrote the variable.
    pub by: Maker,
    /// The start of the cycle in which the write was committed, on the scan's clock.
    pub at: Duration,
}

/// The last writes of a variable. The writes by programs are recorded separately from the last
/// write. Otherwise a write by an operator would hide which program writes the variable. That
/// program may write the variable again at any time.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Writers {
    /// The last write by any writer; `None` while the variable has its initial value.
    pub last: Option<Written>,
    /// The last write by any program; `None` if no program has written the variable.
    pub program: Option<Written>,
    /// The last write by the program that created the variable; `None` if the host created it.
    pub maker: Option<Written>,
}

impl Writers {
    /// Records a committed write. `is_new` is true if this write created the variable.
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

    /// Returns the recorded writes by programs, newest first: the last write by any program, then
    /// the last write by the creator. The two writes may be the same write.
    pub fn programs(self) -> impl Iterator<Item = Written> {
        self.program.into_iter().chain(self.maker)
    }
}

impl Maker {
    /// The host, which writes for the configuration or for an operator. No quota applies to the
    /// host.
    pub const HOST: Self = Self(0);

    /// Creates the `Maker` of a program. `number` is computed from the program's name. If two names
    /// have equal numbers, the two programs share one quota; this has no other effect.
    pub const fn program(number: u64) -> Self {
        Self(if number == 0 { 1 } else { number })
    }
}
