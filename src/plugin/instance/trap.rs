//! The text of a failure: how a guest trapped, or why a module has no instance. This file makes the
//! text from wasmer's error and from the host's own data about the call.
//!
//! The type `Trap` is in `plugin/mod.rs`. This file decides nothing: the scan and the supervisor
//! decide what follows from a trap.

use std::any::Any;
use std::fmt;
use std::time::Duration;

use wasmer::sys::vm::TrapCode;
use wasmer::{InstantiationError, RuntimeError};

use super::guest::{ExitReason, Guest};
use crate::confine::address_limit;
use crate::plugin::module::reason::Why;
use crate::plugin::trace::backtrace::{Frame, culprit, is_out_of_memory, is_panic};
use crate::plugin::{Refusal, Trap};
use crate::text::legible_up_to;

/// A trap of which only the kind is known.
pub(super) fn plain(kind: impl Into<String>) -> Trap {
    Trap { kind: kind.into(), function: None, offset: None, cycle: 0 }
}

/// The trap of a call in which a host function has panicked, with the text of the panic.
pub(super) fn panicked(panic: &(dyn Any + Send)) -> Trap {
    let words = panic.downcast_ref::<&str>().copied();
    let words = words.or_else(|| panic.downcast_ref::<String>().map(String::as_str));
    let words = words.unwrap_or("it said nothing");
    plain(format!("panic in a host function: {}", legible_up_to(MAX_WORDS, words)))
}

/// Most bytes of a guest's or a panic's own text in a trap. Names of functions are rarely longer. A
/// message of `abort` is cut earlier, in `abi.rs`.
const MAX_WORDS: usize = 1024;

/// The kind of a trap that the timekeeper made.
pub(super) fn over(budget: Duration) -> String {
    format!("budget of {} exceeded", humantime::format_duration(budget))
}

/// A full memory: its last growth in the failed call was refused.
#[derive(Debug, Clone, Copy)]
pub(super) struct Full {
    /// The memory's size in bytes.
    pub(super) size: u64,
    /// The most bytes that the memory may have.
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

/// Makes the trap of a call from wasmer's error and frames, and from the reason that the guest's
/// code has left in a global. The budget is given if the call was stopped because of it, and the
/// memory if its growth was refused in this call.
pub(super) fn describe(
    error: &RuntimeError,
    guest: &mut Guest,
    frames: &[Frame],
    why: Option<Why>,
    stopped: Option<Duration>,
    full: Option<Full>,
) -> Trap {
    let is_exit = guest.exit_reason.is_some();
    // A reason that the guest itself gives outranks the state of its memory.
    let names_itself = matches!(guest.exit_reason, Some(ExitReason::Abort(_))) || is_panic(frames);
    let code = why.map(Why::code).or_else(|| error.clone().to_trap());
    let kind = match (guest.exit_reason.take(), stopped, code) {
        (Some(ExitReason::Exit(code)), ..) => format!("proc_exit({code})"),
        (Some(ExitReason::Abort(message)), ..) => {
            format!("abort: {}", legible_up_to(MAX_WORDS, &message))
        }
        // The check of the stop flag traps by a division by zero too. Any other trap is the guest's
        // own, even if the timekeeper stopped the call: the call trapped first, and its budget was
        // over only while wasmer went through a deep stack.
        (None, Some(budget), None | Some(TrapCode::IntegerDivisionByZero)) => over(budget),
        (None, _, Some(TrapCode::UnreachableCodeReached)) => "unreachable".into(),
        (None, _, Some(TrapCode::StackOverflow)) => "stack overflow".into(),
        (None, _, Some(code)) => code.message().into(),
        (None, None, None) => error.message(),
    };
    // A guest that ends itself does so in its library, so the culprit is the call above the
    // library. For any other trap, the culprit is the innermost call.
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

/// The refusal of a module that cannot be instantiated.
pub(super) fn not_instantiated(error: &InstantiationError) -> Refusal {
    match error {
        // No start section runs in an instantiation; so the traps here come from segments.
        InstantiationError::Start(error) => Refusal::new(
            format!("it cannot be instantiated: {}", error.message()),
            "its data and element segments must lie within its memory and tables",
        ),
        other => match address_limit() {
            // Each memory reserves 8 GiB of addresses, even if it uses only few of them.
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
