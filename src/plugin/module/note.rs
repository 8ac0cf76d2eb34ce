//! Notes: warnings about a valid module that almost surely has a mistake. Each note is about code
//! that should run once at the start. In fact the code never runs, or it runs in each poll.
//!
//! The compile worker finds the notes when it checks the module. `camshaft check`, the log and the
//! status show each note in the same words. A module with notes still runs; the reasons to refuse a
//! module are in `check.rs`.

use std::collections::HashMap;
use std::fmt;

use serde::{Deserialize, Serialize};
use wasmer::sys::wasmparser::{
    BinaryReaderError, ExternalKind, FunctionBody, KnownCustom, Name, Operator, Parser, Payload,
    TypeRef,
};

/// A warning about a probable mistake in a valid module.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Note {
    /// The module is a command: it exports `_start` and no `_initialize`. Other hosts run a command
    /// by one call of `_start`. This daemon never calls `_start`, so the code in `main` never runs.
    Command,
    /// The module's `poll` runs the constructors of the module's global objects in every call.
    ConstructorsInPoll,
    /// The module exports the constructors of its global objects, so that a host can call them.
    /// This daemon does not call that export, and the module has no `_initialize` that calls the
    /// constructors.
    ConstructorsUncalled,
}

impl fmt::Display for Note {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Command => {
                "it is a command (it exports `_start` without `_initialize`): main is never \
                 called; build a reactor (clang and Zig: -mexec-model=reactor, Rust: a cdylib, Go: \
                 -buildmode=c-shared)"
            }
            Self::ConstructorsInPoll => {
                "its constructors run in each poll (poll.command_export): the objects that \
                 they construct lose their values after each cycle; build a reactor (clang++ for \
                 wasm32-wasi: -mexec-model=reactor, Rust: for wasm32-unknown-unknown, without a \
                 libc: export an `_initialize` that calls `__wasm_call_ctors`)"
            }
            Self::ConstructorsUncalled => {
                "it exports `__wasm_call_ctors` without `_initialize`: its constructors are never \
                 run; export an `_initialize` that calls `__wasm_call_ctors`"
            }
        })
    }
}

/// The name of the function that calls all constructors; the linker wasm-ld makes this function.
const CONSTRUCTORS: &str = "__wasm_call_ctors";

/// Part of the name of a wrapper. A wrapper is a function that wasm-ld makes for an export: it
/// calls the constructors, the exported function and the destructors. The whole name is
/// `poll.command_export`, or `poll() (.command_export)` in modules of C++.
const WRAPPED: &str = ".command_export";

/// Most calls of one function that are examined. Usually the linker's function has one call for
/// each source file with constructors.
const MAX_CALLS: usize = 4096;

/// Finds the notes about a module that the check has found to be valid.
pub(super) fn notes(module: &[u8]) -> Vec<Note> {
    // A module that cannot be parsed gets no notes. In the compile worker this never happens,
    // because the check refuses such a module before.
    let shape = Shape::of(module).unwrap_or_default();
    let has = |name| shape.exports.contains_key(name);
    let mut notes = Vec::new();
    if has("_initialize") {
        return notes;
    }
    if has("_start") {
        notes.push(Note::Command);
    }
    if shape.calls_constructors("poll") {
        notes.push(Note::ConstructorsInPoll);
    } else if shape.body_of(CONSTRUCTORS).is_some_and(|body| !body.is_empty) {
        notes.push(Note::ConstructorsUncalled);
    }
    notes
}

/// The data from a module's sections that the search for notes needs.
#[derive(Debug, Default)]
struct Shape {
    /// Number of imported functions. The functions that the module defines have higher indices.
    imported: u32,
    /// The indices of the exported functions, by name.
    exports: HashMap<String, u32>,
    /// The bodies of three functions, by index: `poll`, the constructors, and the first function
    /// that the module defines.
    bodies: HashMap<u32, Body>,
    /// The names of the constructors and of the exports that wasm-ld has wrapped, by function
    /// index.
    names: HashMap<u32, String>,
    /// Whether the module names any function. Linkers can remove the names.
    is_named: bool,
}

/// The calls at the beginning of a function's code.
#[derive(Debug, Default)]
struct Body {
    /// The indices of the functions that the code calls before it does anything else, in call
    /// order.
    calls: Vec<u32>,
    /// Whether the function's code consists of these calls only.
    is_calls_only: bool,
    /// Whether the function's code does nothing at all.
    is_empty: bool,
}

impl Shape {
    fn of(module: &[u8]) -> Result<Self, BinaryReaderError> {
        let mut shape = Self::default();
        let mut next = 0;
        for payload in Parser::new(0).parse_all(module) {
            match payload? {
                Payload::ImportSection(imports) => {
                    for import in imports.into_imports() {
                        shape.imported += u32::from(matches!(import?.ty, TypeRef::Func(_)));
                    }
                    next = shape.imported;
                }
                Payload::ExportSection(exports) => {
                    for export in exports {
                        let export = export?;
                        if export.kind == ExternalKind::Func {
                            shape.exports.insert(export.name.into(), export.index);
                        }
                    }
                }
                Payload::CodeSectionEntry(body) => {
                    if shape.is_of_interest(next) {
                        shape.bodies.insert(next, Body::of(&body)?);
                    }
                    next += 1;
                }
                Payload::CustomSection(custom) => {
                    if let KnownCustom::Name(names) = custom.as_known() {
                        // If the name section is damaged, the search continues as if there were no
                        // names.
                        let _ = names.into_iter().try_for_each(|name| shape.name(name?));
                    }
                }
                _ => {}
            }
        }
        Ok(shape)
    }

    /// Whether the notes need the body of this function. In a module the exports come before the
    /// code, so all exports are known when the parser reaches the code.
    fn is_of_interest(&self, function: u32) -> bool {
        let looked_at = ["poll", CONSTRUCTORS].map(|name| self.exports.get(name));
        function == self.imported || looked_at.into_iter().flatten().any(|&it| it == function)
    }

    fn name(&mut self, name: Name<'_>) -> Result<(), BinaryReaderError> {
        let Name::Function(names) = name else { return Ok(()) };
        for named in names {
            let named = named?;
            self.is_named = true;
            if named.name == CONSTRUCTORS || named.name.contains(WRAPPED) {
                self.names.insert(named.index, named.name.into());
            }
        }
        Ok(())
    }

    /// Returns the body of the function with this exported name, if [`Shape::of`] has stored the
    /// body.
    fn body_of(&self, export: &str) -> Option<&Body> {
        self.bodies.get(self.exports.get(export)?)
    }

    /// Whether the exported function calls the constructors at its beginning.
    fn calls_constructors(&self, export: &str) -> bool {
        let (Some(&index), Some(body)) = (self.exports.get(export), self.body_of(export)) else {
            return false;
        };
        let Some(first) = body.calls.first() else { return false };
        let named = |index, part: &str| self.names.get(&index).is_some_and(|n| n.contains(part));
        match self.is_named {
            true => named(index, WRAPPED) || named(*first, CONSTRUCTORS),
            // Without names, only the form of the code shows the constructors. wasm-ld puts the
            // function that calls all constructors before all other functions, and that function
            // consists of calls only. A wrapper of `poll` first calls that function, then the real
            // `poll`, and then perhaps the destructors.
            false => {
                let constructors = self.bodies.get(first).filter(|_| *first == self.imported);
                let is_wrapper = body.is_calls_only && (2..=3).contains(&body.calls.len());
                is_wrapper && constructors.is_some_and(|it| it.is_calls_only && !it.is_empty)
            }
        }
    }
}

impl Body {
    fn of(body: &FunctionBody<'_>) -> Result<Self, BinaryReaderError> {
        let mut found = Self { is_empty: true, ..Self::default() };
        for operator in body.get_operators_reader()? {
            match operator? {
                Operator::Call { function_index } if found.calls.len() < MAX_CALLS => {
                    found.calls.push(function_index);
                }
                Operator::Nop | Operator::Return => continue,
                Operator::End => {
                    found.is_calls_only = true;
                    continue;
                }
                _ => {
                    found.is_empty = false;
                    return Ok(found);
                }
            }
            found.is_empty = false;
        }
        Ok(found)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(text: &str, expected: &[Note]) {
        let module = wat::parse_str(text).unwrap();
        assert_eq!(notes(&module), expected, "{text}");
    }

    /// Makes the module of `text` without the names of functions, as a linker that removes names
    /// would.
    fn unnamed(text: &str) -> Vec<u8> {
        let mut module = wat::parse_str(text).unwrap();
        let names = module.windows(5).rposition(|part| part == b"\x04name").unwrap();
        // The section begins with its id and its length, one byte each; the name `name` follows.
        module.truncate(names - 2);
        module
    }

    /// The output of wasm-ld for a `poll` in C++ with a global object. The text was taken from
    /// clang 14.
    fn wrapped(wrapper: &str) -> String {
        format!(
            r#"(module
              (import "env" "wasm_cycle" (func $cycle (param i32 i32) (result i32)))
              (memory (export "memory") 1)
              (global $n (mut i32) (i32.const 0))
              (func $__wasm_call_ctors (call $init))
              (func $poll (global.set $n (i32.add (global.get $n) (i32.const 1))))
              (func $init (global.set $n (i32.const 7)))
              (func {wrapper} (export "poll") (call $__wasm_call_ctors) (call $poll)))"#
        )
    }

    #[test]
    fn a_command_is_noted_unless_it_is_initialized() {
        let poll = r#"(func (export "poll"))"#;
        check(&format!("(module {poll})"), &[]);
        let start = r#"(func (export "_start") unreachable)"#;
        check(&format!("(module {poll} {start})"), &[Note::Command]);
        let initialize = r#"(func (export "_initialize"))"#;
        check(&format!("(module {poll} {start} {initialize})"), &[]);
        let other = r#"(global (export "_start") i32 (i32.const 0))"#;
        check(&format!("(module {poll} {other})"), &[]);
    }

    #[test]
    fn constructors_in_each_poll_are_noted() {
        for wrapper in ["$poll.command_export", r#"$"poll() (.command_export)""#, "$other"] {
            check(&wrapped(wrapper), &[Note::ConstructorsInPoll]);
        }
        assert_eq!(notes(&unnamed(&wrapped("$w"))), [Note::ConstructorsInPoll]);
        let reactor = wrapped("$w").replace(
            "(call $__wasm_call_ctors) (call $poll)",
            r#"(call $poll)) (func (export "_initialize") (call $__wasm_call_ctors)"#,
        );
        check(&reactor, &[]);
        assert_eq!(notes(&unnamed(&reactor)), []);
    }

    #[test]
    fn a_poll_of_calls_is_no_wrapper() {
        let two = r#"(module (global $n (mut i32) (i32.const 0))
          (func $read (global.set $n (i32.const 1)))
          (func $act (global.set $n (i32.const 2)))
          (func (export "poll") (call $read) (call $act)))"#;
        check(two, &[]);
        assert_eq!(notes(&unnamed(two)), []);
        // The function `read` consists of calls only, but is not the first function of the module.
        // So the search does not mistake `read` for the function that calls all constructors.
        let later = r#"(module (func $act nop) (func $read (call $act))
          (func (export "poll") (call $read) (call $act)))"#;
        assert_eq!(notes(&unnamed(later)), []);
    }

    #[test]
    fn constructors_that_are_left_to_the_host_are_noted() {
        let exported = |body: &str, more: &str| {
            format!(
                r#"(module (func $init) (func (export "__wasm_call_ctors") {body})
                  (func (export "poll") {more}))"#
            )
        };
        check(&exported("(call $init)", ""), &[Note::ConstructorsUncalled]);
        check(&exported("", ""), &[]);
        check(&exported("(call $init)", r#") (func (export "_initialize")"#), &[]);
    }

    #[test]
    fn what_is_no_module_has_no_notes() {
        assert_eq!(notes(b""), []);
        assert_eq!(notes(b"\0asm\x01\0\0\0\x07\xff"), []);
    }
}
