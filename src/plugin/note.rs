//! What is lawful in a module and nearly surely not meant: code that its author takes to be run
//! once, and that is never run or run in each poll.
//!
//! The compile worker looks for it with the rest of the check. `camshaft check`, the log and the
//! status tell it in the same words. It refuses nothing: that is `check.rs`.

use std::collections::HashMap;
use std::fmt;

use serde::{Deserialize, Serialize};
use wasmer::sys::wasmparser::{
    BinaryReaderError, ExternalKind, FunctionBody, KnownCustom, Name, Operator, Parser, Payload,
    TypeRef,
};

/// One such thing.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Note {
    /// It is a command: it exports `_start`, which a host that runs it once would call, and no
    /// `_initialize`.
    Command,
    /// Its `poll` runs the constructors of its global objects, each time.
    ConstructorsInPoll,
    /// It exports the constructors of its global objects for a host to call, and no `_initialize`
    /// that calls them.
    ConstructorsUncalled,
}

impl fmt::Display for Note {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Command => {
                "it exports `_start` without `_initialize`, a command: main is never called; build \
                 a reactor (clang and Zig: -mexec-model=reactor, Rust: a cdylib, Go: \
                 -buildmode=c-shared)"
            }
            Self::ConstructorsInPoll => {
                "its constructors run in each poll (poll.command_export): what they set begins \
                 anew in every cycle; build a reactor (clang++ for wasm32-wasi: \
                 -mexec-model=reactor, Rust: for wasm32-unknown-unknown, without a libc: export an \
                 `_initialize` that calls `__wasm_call_ctors`)"
            }
            Self::ConstructorsUncalled => {
                "it exports `__wasm_call_ctors` without `_initialize`: its constructors are never \
                 run; export an `_initialize` that calls it"
            }
        })
    }
}

/// The function of wasm-ld that calls all constructors.
const CONSTRUCTORS: &str = "__wasm_call_ctors";

/// What wasm-ld adds to the name of an export that it wraps into calls of constructors and
/// destructors: `poll.command_export`, or `poll() (.command_export)` where it reads C++.
const WRAPPED: &str = ".command_export";

/// Calls of one function that are looked at. One call for each file with constructors is usual.
const MAX_CALLS: usize = 4096;

/// What is worth a note about a module that was found to be valid.
pub(super) fn notes(module: &[u8]) -> Vec<Note> {
    // What cannot be read here was refused before.
    let outline = Outline::of(module).unwrap_or_default();
    let has = |name| outline.exports.contains_key(name);
    let mut notes = Vec::new();
    if has("_initialize") {
        return notes;
    }
    if has("_start") {
        notes.push(Note::Command);
    }
    if outline.calls_constructors("poll") {
        notes.push(Note::ConstructorsInPoll);
    } else if outline.body_of(CONSTRUCTORS).is_some_and(|body| !body.is_empty) {
        notes.push(Note::ConstructorsUncalled);
    }
    notes
}

/// What the sections say of functions that are exported.
#[derive(Debug, Default)]
struct Outline {
    /// Functions that are imported; the first of its own comes after them.
    imported: u32,
    exports: HashMap<String, u32>,
    /// Of the functions that are exported, and of the first one.
    bodies: HashMap<u32, Body>,
    names: HashMap<u32, String>,
    is_named: bool,
}

/// What a function does, as far as that matters here.
#[derive(Debug, Default)]
struct Body {
    /// The functions that it calls before it does anything else.
    calls: Vec<u32>,
    /// Whether it does nothing else.
    is_calls_only: bool,
    is_empty: bool,
}

impl Outline {
    fn of(module: &[u8]) -> Result<Self, BinaryReaderError> {
        let mut outline = Self::default();
        let mut next = 0;
        for payload in Parser::new(0).parse_all(module) {
            match payload? {
                Payload::ImportSection(imports) => {
                    for import in imports.into_imports() {
                        outline.imported += u32::from(matches!(import?.ty, TypeRef::Func(_)));
                    }
                    next = outline.imported;
                }
                Payload::ExportSection(exports) => {
                    for export in exports {
                        let export = export?;
                        if export.kind == ExternalKind::Func {
                            outline.exports.insert(export.name.into(), export.index);
                        }
                    }
                }
                Payload::CodeSectionEntry(body) => {
                    if outline.is_of_interest(next) {
                        outline.bodies.insert(next, Body::of(&body)?);
                    }
                    next += 1;
                }
                Payload::CustomSection(custom) => {
                    if let KnownCustom::Name(names) = custom.as_known() {
                        // A name section that is damaged is as good as none.
                        let _ = names.into_iter().try_for_each(|name| outline.name(name?));
                    }
                }
                _ => {}
            }
        }
        Ok(outline)
    }

    /// Exports come before the code, so it is known by then which functions these are.
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

    fn body_of(&self, export: &str) -> Option<&Body> {
        self.bodies.get(self.exports.get(export)?)
    }

    /// Whether an export calls the constructors before it does what it is for.
    fn calls_constructors(&self, export: &str) -> bool {
        let (Some(&index), Some(body)) = (self.exports.get(export), self.body_of(export)) else {
            return false;
        };
        let Some(first) = body.calls.first() else { return false };
        let named = |index, part: &str| self.names.get(&index).is_some_and(|n| n.contains(part));
        match self.is_named {
            true => named(index, WRAPPED) || named(*first, CONSTRUCTORS),
            // Without names only the shape is left. wasm-ld puts the function with all constructors
            // before those of the program, and it consists of calls; what is wrapped is called
            // after it, and then perhaps the destructors.
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

    /// The same text without names, as a linker that strips them leaves it.
    fn unnamed(text: &str) -> Vec<u8> {
        let mut module = wat::parse_str(text).unwrap();
        let names = module.windows(5).rposition(|part| part == b"\x04name").unwrap();
        // Before the name of the section stand its id and its length, here of a single byte.
        module.truncate(names - 2);
        module
    }

    /// What wasm-ld makes of a `poll` in C++ with a global object: taken from clang 14.
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
        // What only calls, and stands not first, is no list of constructors.
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
