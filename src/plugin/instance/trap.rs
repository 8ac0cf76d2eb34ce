//! The text of a failure: the reason of a guest's trap, or the reason why a module cannot be
//! instantiated. The functions here make the text from wasmer's error and from the host's data
//! about the call.
//!
//! The type `Trap` is in `plugin/mod.rs`. This file decides nothing: the scan and the supervisor
//! decide what happens after a trap.

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

/// Makes a trap that names no function and no offset.
pub(super) fn plain(kind: impl Into<String>) -> Trap {
    Trap { kind: kind.into(), function: None, offset: None, cycle: 0 }
}

/// Makes the trap of a call in which a host function has panicked. The trap has the text of the
/// panic.
pub(super) fn panicked(panic: &(dyn Any + Send)) -> Trap {
    let words = panic.downcast_ref::<&str>().copied();
    let words = words.or_else(|| panic.downcast_ref::<String>().map(String::as_str));
    let words = words.unwrap_or("no message");
    plain(format!("panic in a host function: {}", legible_up_to(MAX_WORDS, words)))
}

/// Largest number of bytes of a guest's message, or of a panic's message, in a trap. A message of
/// AssemblyScript's `abort` is cut earlier, in `abi.rs`.
const MAX_WORDS: usize = 1024;

/// Returns the text for [`Trap::kind`] of a call that used up its budget.
pub(super) fn over(budget: Duration) -> String {
    format!("budget of {} exceeded", humantime::format_duration(budget))
}

/// The size and the limit of a guest's memory. This value exists if, in the failed call, the
/// guest's last attempt to grow the memory was refused.
#[derive(Debug, Clone, Copy)]
pub(super) struct Full {
    /// The memory's size in bytes.
    pub(super) size: u64,
    /// The largest allowed size of the memory in bytes.
    pub(super) limit: u64,
    /// Whether `limit` is the memory's maximum in the .wasm module. If so, a change of the
    /// configuration cannot raise it.
    pub(super) is_own: bool,
}

impl fmt::Display for Full {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { size, limit, is_own } = self;
        match is_own {
            true => write!(f, "the memory has {size} bytes; the module allows {limit}"),
            false => write!(f, "the memory has {size} bytes; plugins.memory allows {limit}"),
        }
    }
}

/// Makes the trap of a failed call from wasmer's error and the backtrace. `why` is the reason that
/// the guest's code has stored in a global before it trapped. `stopped` is the budget, if the
/// timekeeper stopped the call. `full` is set if the guest could not grow its memory in this call.
pub(super) fn describe(
    error: &RuntimeError,
    guest: &mut Guest,
    frames: &[Frame],
    why: Option<Why>,
    stopped: Option<Duration>,
    full: Option<Full>,
) -> Trap {
    let is_exit = guest.exit_reason.is_some();
    // If the guest gives a reason (a message or a panic), this reason is more useful than a full
    // memory.
    let names_itself = matches!(guest.exit_reason, Some(ExitReason::Abort(_))) || is_panic(frames);
    let code = why.map(Why::code).or_else(|| error.clone().to_trap());
    let kind = match (guest.exit_reason.take(), stopped, code) {
        (Some(ExitReason::Exit(code)), ..) => format!("proc_exit({code})"),
        (Some(ExitReason::Abort(message)), ..) => {
            format!("abort: {}", legible_up_to(MAX_WORDS, &message))
        }
        // The check of the stop flag traps by a division by zero. Any other trap is the guest's own
        // trap, even if the stop flag is set: the guest trapped first, and the budget was used up
        // only afterwards, while wasmer walked through a deep stack.
        (None, Some(budget), None | Some(TrapCode::IntegerDivisionByZero)) => over(budget),
        (None, _, Some(TrapCode::UnreachableCodeReached)) => "unreachable".into(),
        (None, _, Some(TrapCode::StackOverflow)) => "stack overflow".into(),
        (None, _, Some(code)) => code.message().into(),
        (None, None, None) => error.message(),
    };
    // If a guest ends itself, the innermost calls are library functions. The trap then names the
    // call that entered the library. Any other trap names the innermost call.
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

/// Whether the call failed because the guest's stack was full.
pub(super) fn is_overflow(error: &RuntimeError) -> bool {
    error.clone().to_trap() == Some(TrapCode::StackOverflow)
}

/// Makes the refusal of a module that cannot be instantiated.
pub(super) fn not_instantiated(error: &InstantiationError) -> Refusal {
    match error {
        // The daemon runs the start section later, not in the instantiation. So a trap here comes
        // from a data segment or an element segment.
        InstantiationError::Start(error) => Refusal::new(
            format!("it cannot be instantiated: {}", error.message()),
            "its data and element segments must lie within its memory and tables",
        ),
        other => match address_limit() {
            // Each memory reserves 8 GiB of address space, even if it uses only a small part.
            Some(bytes) => Refusal::new(
                format!(
                    "it cannot be instantiated: {other}; this process may use {} MiB of addresses \
                     (RLIMIT_AS)",
                    bytes >> 20
                ),
                "each memory reserves 8 GiB of addresses: remove `LimitAS=` from the systemd unit, \
                 or `ulimit -v` from the shell; `MemoryMax=` limits the memory in use",
            ),
            None => Refusal::new(
                format!("it cannot be instantiated: {other}"),
                "its memory, tables and segments must not exceed plugins.memory and plugins.table",
            ),
        },
    }
}
