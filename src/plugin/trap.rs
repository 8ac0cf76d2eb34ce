//! How a guest failed, or why there is none, in words: from wasmer's error and from what the host
//! knows itself.
//!
//! The type is `Trap` of `mod.rs`; who may see it, and what it leads to, is decided elsewhere.

use std::time::Duration;

use wasmer::sys::vm::TrapCode;
use wasmer::{InstantiationError, RuntimeError};

use super::guest::{Farewell, Guest};
use super::{Refusal, Trap};
use crate::text::legible_up_to;

/// A trap of which only the kind is known.
pub(super) fn plain(kind: impl Into<String>) -> Trap {
    Trap { kind: kind.into(), function: None, offset: None, cycle: 0 }
}

/// Most bytes of a guest's own words in a trap. Names of functions are rarely longer, and a message
/// of `abort` is cut before it comes here.
const MAX_WORDS: usize = 1024;

/// The kind of a trap that the timekeeper made.
pub(super) fn over(budget: Duration) -> String {
    format!("budget of {} exceeded", humantime::format_duration(budget))
}

/// What happened, from wasmer's error and from what we know ourselves.
pub(super) fn describe(
    error: &RuntimeError,
    guest: &mut Guest,
    stopped: bool,
    budget: Duration,
) -> Trap {
    let kind = match (guest.farewell.take(), error.clone().to_trap()) {
        (Some(Farewell::Exit(code)), _) => format!("proc_exit({code})"),
        (Some(Farewell::Abort(message)), _) => {
            format!("abort: {}", legible_up_to(MAX_WORDS, &message))
        }
        _ if stopped => over(budget),
        (None, Some(TrapCode::UnreachableCodeReached)) => "unreachable".into(),
        (None, Some(TrapCode::StackOverflow)) => "stack overflow".into(),
        (None, Some(code)) => code.message().into(),
        (None, None) => error.message(),
    };
    let frame = error.trace().first();
    let name = |frame: &wasmer::FrameInfo| match frame.function_name() {
        Some(name) => legible_up_to(MAX_WORDS, name),
        None => format!("#{}", frame.func_index()),
    };
    Trap {
        kind,
        function: frame.map(name),
        offset: frame.and_then(|frame| u32::try_from(frame.module_offset()).ok()),
        cycle: 0,
    }
}

/// Why there is no instance.
pub(super) fn not_instantiated(error: &InstantiationError) -> Refusal {
    match error {
        // No start section runs in an instantiation; what traps there are segments.
        InstantiationError::Start(error) => Refusal::new(
            format!("it cannot be instantiated: {}", error.message()),
            "its data and element segments must lie within its memory and tables",
        ),
        other => Refusal::new(
            format!("it cannot be instantiated: {other}"),
            "its memory, tables and segments must fit the limits of the configuration",
        ),
    }
}
