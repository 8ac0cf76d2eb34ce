//! How a guest failed, or why there is none, in words: from wasmer's error and from what the host
//! knows itself.
//!
//! The type is `Trap` of `mod.rs`; who may see it, and what it leads to, is decided elsewhere.

use std::any::Any;
use std::fmt;
use std::time::Duration;

use wasmer::sys::vm::TrapCode;
use wasmer::{InstantiationError, RuntimeError};

use super::culprit::{culprit, is_out_of_memory, is_panic};
use super::guest::{ExitReason, Guest};
use super::record::Frame;
use super::{Refusal, Trap};
use crate::confine::address_limit;
use crate::text::legible_up_to;

/// Why a guest's code trapped by a division by zero that `flag.rs` has put there. The numbers are
/// those in the hidden global.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Why {
    /// The guest's own `unreachable`.
    Unreachable = 1,
    /// `memory.fill` or `memory.copy` beyond the end.
    OutsideMemory,
    /// An operation on a table beyond the end.
    OutsideTable,
}

impl Why {
    /// The reason with this number; 0 is none.
    pub(super) fn of(number: i32) -> Option<Self> {
        [Self::Unreachable, Self::OutsideMemory, Self::OutsideTable]
            .into_iter()
            .find(|why| *why as i32 == number)
    }

    fn code(self) -> TrapCode {
        match self {
            Self::Unreachable => TrapCode::UnreachableCodeReached,
            Self::OutsideMemory => TrapCode::HeapAccessOutOfBounds,
            Self::OutsideTable => TrapCode::TableAccessOutOfBounds,
        }
    }
}

/// A trap of which only the kind is known.
pub(super) fn plain(kind: impl Into<String>) -> Trap {
    Trap { kind: kind.into(), function: None, offset: None, cycle: 0 }
}

/// The trap of a call in which a host function has panicked, with what that said.
pub(super) fn panicked(panic: &(dyn Any + Send)) -> Trap {
    let words = panic.downcast_ref::<&str>().copied();
    let words = words.or_else(|| panic.downcast_ref::<String>().map(String::as_str));
    let words = words.unwrap_or("it said nothing");
    plain(format!("panic in a host function: {}", legible_up_to(MAX_WORDS, words)))
}

/// Most bytes of a guest's own words in a trap. Names of functions are rarely longer, and a message
/// of `abort` is cut before it comes here.
const MAX_WORDS: usize = 1024;

/// The kind of a trap that the timekeeper made.
pub(super) fn over(budget: Duration) -> String {
    format!("budget of {} exceeded", humantime::format_duration(budget))
}

/// A guest's memory that was not allowed to grow when it last asked in a call, in bytes.
#[derive(Debug, Clone, Copy)]
pub(super) struct Full {
    /// What it has.
    pub(super) size: u64,
    /// What it may have.
    pub(super) limit: u64,
    /// Whether the module itself sets that limit, so that the configuration cannot raise it.
    pub(super) is_own: bool,
}

impl fmt::Display for Full {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { size, limit, is_own } = self;
        match is_own {
            true => write!(f, "it has {size} bytes, and was built to have at most {limit}"),
            false => write!(f, "it has {size} bytes, and plugins.memory allows {limit}"),
        }
    }
}

/// What happened: from wasmer's error with its frames, from the reason that the guest's code has
/// left, from the budget if the call was stopped for it, and from its memory if that could not
/// grow in this call.
pub(super) fn describe(
    error: &RuntimeError,
    guest: &mut Guest,
    frames: &[Frame],
    why: Option<Why>,
    stopped: Option<Duration>,
    full: Option<Full>,
) -> Trap {
    let is_exit = guest.exit_reason.is_some();
    // What it says itself of its end goes before what its memory suggests.
    let names_itself = matches!(guest.exit_reason, Some(ExitReason::Abort(_))) || is_panic(frames);
    let code = why.map(Why::code).or_else(|| error.clone().to_trap());
    let kind = match (guest.exit_reason.take(), stopped, code) {
        (Some(ExitReason::Exit(code)), ..) => format!("proc_exit({code})"),
        (Some(ExitReason::Abort(message)), ..) => {
            format!("abort: {}", legible_up_to(MAX_WORDS, &message))
        }
        // The look at the flag divides by zero too. Another trap was the guest's own; its budget
        // was over only when wasmer had gone through a deep stack.
        (None, Some(budget), None | Some(TrapCode::IntegerDivisionByZero)) => over(budget),
        (None, _, Some(TrapCode::UnreachableCodeReached)) => "unreachable".into(),
        (None, _, Some(TrapCode::StackOverflow)) => "stack overflow".into(),
        (None, _, Some(code)) => code.message().into(),
        (None, None, None) => error.message(),
    };
    // Whoever ends itself does so in its library; everybody else where it stands.
    let is_own_end = is_exit || kind == "unreachable";
    let (kind, place) = match full {
        _ if !is_own_end => (kind, frames.first()),
        Some(full) if !names_itself || is_out_of_memory(frames) => {
            (format!("out of memory ({kind}; {full})"), culprit(frames))
        }
        None if is_out_of_memory(frames) => (format!("out of memory ({kind})"), culprit(frames)),
        _ if is_panic(frames) => (format!("panic ({kind})"), culprit(frames)),
        _ => (kind, culprit(frames)),
    };
    let function = place.map(|frame| frame.function.clone());
    Trap { kind, function, offset: place.map(|frame| frame.offset), cycle: 0 }
}

/// Whether the guest's stack had no room left.
pub(super) fn is_overflow(error: &RuntimeError) -> bool {
    error.clone().to_trap() == Some(TrapCode::StackOverflow)
}

/// Why there is no instance.
pub(super) fn not_instantiated(error: &InstantiationError) -> Refusal {
    match error {
        // No start section runs in an instantiation; what traps there are segments.
        InstantiationError::Start(error) => Refusal::new(
            format!("it cannot be instantiated: {}", error.message()),
            "its data and element segments must lie within its memory and tables",
        ),
        other => match address_limit() {
            // A memory reserves 8 GiB of addresses, whatever it may use of them.
            Some(bytes) => Refusal::new(
                format!(
                    "it cannot be instantiated: {other}; this process may use {} MiB of addresses \
                     (RLIMIT_AS)",
                    bytes >> 20
                ),
                "each memory reserves 8 GiB of addresses: take `LimitAS=` out of the unit, or \
                 `ulimit -v` out of the shell; `MemoryMax=` bounds what is used",
            ),
            None => Refusal::new(
                format!("it cannot be instantiated: {other}"),
                "its memory, tables and segments must fit plugins.memory and plugins.table",
            ),
        },
    }
}
