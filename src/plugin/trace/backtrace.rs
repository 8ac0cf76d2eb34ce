//! The backtrace of a trap: the active calls, and the search for the call that caused the trap.
//!
//! When a guest (the running code of a module) ends itself, for example by a panic, the innermost
//! calls are library functions of its programming language. The author of the module needs the call
//! that entered the library. The lists below have the names, and the beginnings and parts of names,
//! that toolchains give to library functions. If all calls in a backtrace are library functions,
//! the search returns the innermost call.
//!
//! The functions here only compare names. `record.rs` makes the backtrace.

use serde::{Deserialize, Serialize};

use crate::text::legible_up_to;

/// One call in a backtrace.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Frame {
    /// The name of the function. If the module has no name for the function, the field has the name
    /// of the function's export. Without an export, the field has the function's index, for example
    /// `#12`.
    pub function: String,
    /// The index of the function in the module.
    pub index: u32,
    /// Byte offset in the module of the instruction at which the function had stopped: in the
    /// innermost frame the instruction that trapped, in other frames a call instruction.
    pub offset: u32,
}

/// Longest function name in a backtrace, in bytes. A longer name is cut and gets a `…` at its end.
/// The daemon's compiler shortens names to this length. An artifact from another machine may have
/// longer names in a replay.
const MAX_NAME: usize = 256;

/// Beginnings of the names of library functions in Rust, C, C++, AssemblyScript and Go.
const BEGINNINGS: [&str; 23] = [
    "core::",
    "<core::",
    "std::",
    "<std::",
    "alloc::",
    "<alloc::",
    "<T as core::",
    "<&T as core::",
    "rust_",
    "__rust",
    "__rg_",
    "__rdl_",
    "panic_abort::",
    "wasi::",
    "wasi_",
    "__wasi_",
    "__imported_wasi",
    "__cxa_",
    "operator new",
    "dlmalloc",
    "~lib/",
    "runtime.",
    "syscall.",
];

/// Complete names of library functions.
const NAMES: [&str; 5] = ["abort", "exit", "_exit", "_Exit", "proc_exit"];

/// Parts of the names of Rust's library functions. A name in Rust's newer mangling, which
/// [`readable`] does not demangle, contains these parts unchanged.
const PARTS: [&str; 6] = [
    "4core9panicking",
    "3std9panicking",
    "3std3sys",
    "5alloc5alloc",
    "rust_begin_unwind",
    "rust_panic",
];

/// Returns the name of a function as it is written in the source code, if `name` has Rust's older
/// mangling and at most [`MAX_NAME`] bytes. Returns any other name as it is in the module. In both
/// cases, unprintable characters are escaped and a long name is cut.
///
/// Rust's newer mangling is not demangled, because one part of such a name can refer to an earlier
/// part of the same name. So a short name in a hostile module could expand to an extremely long
/// text. This would block the scan, because this function runs on the scan's thread.
pub(in crate::plugin) fn readable(name: &str) -> String {
    if name.starts_with("_ZN") && name.len() <= MAX_NAME {
        let demangled = format!("{:#}", rustc_demangle::demangle(name));
        return legible_up_to(MAX_NAME, &demangled);
    }
    legible_up_to(MAX_NAME, name)
}

/// Returns the culprit: the innermost call that is not a library function. If all calls are library
/// functions, returns the innermost call. In `frames` the innermost call comes first.
pub(in crate::plugin) fn culprit(frames: &[Frame]) -> Option<&Frame> {
    frames.iter().find(|frame| !is_library(&frame.function)).or(frames.first())
}

/// Whether the guest panicked. The function looks for a panic in the names of the library calls
/// that come before the culprit.
pub(in crate::plugin) fn is_panic(frames: &[Frame]) -> bool {
    library(frames).any(|name| name.contains("panic") && !name.starts_with("panic_abort"))
}

/// Whether the guest had no free memory. The function looks for a failed allocation in the names of
/// the library calls that come before the culprit.
pub(in crate::plugin) fn is_out_of_memory(frames: &[Frame]) -> bool {
    let words = ["alloc_error", "rust_oom", "outOfMemory", "capacity_overflow_oom"];
    library(frames).any(|name| words.iter().any(|word| name.contains(word)))
}

/// Returns the names of the library calls that come before the culprit in `frames`. The culprit is
/// the call that entered the library.
fn library(frames: &[Frame]) -> impl Iterator<Item = &str> {
    frames.iter().map(|frame| &*frame.function).take_while(|name| is_library(name))
}

/// Whether `name` is the name of a library function.
fn is_library(name: &str) -> bool {
    NAMES.contains(&name)
        || BEGINNINGS.iter().any(|beginning| name.starts_with(beginning))
        || PARTS.iter().any(|part| name.contains(part))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn frames(names: &[&str]) -> Vec<Frame> {
        let frame = |name: &&str| Frame { function: readable(name), index: 0, offset: 0 };
        names.iter().map(frame).collect()
    }

    #[test]
    fn the_call_of_the_author_is_found_below_those_of_the_library() {
        let check = |names: &[&str], expected: &str| {
            let frames = frames(names);
            assert_eq!(culprit(&frames).unwrap().function, expected, "{names:?}");
        };
        check(&["poll"], "poll");
        check(
            &[
                "_ZN3std9panicking15rust_panic_impl17h0123456789abcdefE",
                "rust_begin_unwind",
                "_ZN4core9panicking9panic_fmt17h0123456789abcdefE",
                "_ZN5mixer5level5limit17h0123456789abcdefE",
                "poll",
            ],
            "mixer::level::limit",
        );
        check(&["_RNvNtCs1_4core9panicking5panic", "_RNvCs2_5mixer4poll"], "_RNvCs2_5mixer4poll");
        check(&["~lib/builtins/abort", "assembly/index/poll"], "assembly/index/poll");
        check(&["runtime.fatalpanic", "runtime.gopanic", "main.poll"], "main.poll");
        check(&["abort", "std::__2::vector<int>::at(unsigned long)"], "abort");
    }

    #[test]
    fn a_panic_and_a_lack_of_memory_are_told_by_the_library() {
        assert!(is_panic(&frames(&["rust_panic", "mixer::poll"])));
        assert!(!is_panic(&frames(&["mixer::panic_button", "rust_panic"])));
        assert!(is_out_of_memory(&frames(&["alloc::alloc::handle_alloc_error", "mixer::poll"])));
        assert!(!is_out_of_memory(&frames(&["mixer::rust_oom"])));
    }

    #[test]
    fn only_the_older_mangling_is_undone() {
        assert_eq!(readable("_ZN1a1b17h0123456789abcdefE"), "a::b");
        assert_eq!(readable("_RNvCs1_1a1b"), "_RNvCs1_1a1b");
        assert_eq!(readable("po\x1bll"), "po\\u{1b}ll");
        assert!(readable(&"x".repeat(1000)).len() <= MAX_NAME + 3);
    }
}
