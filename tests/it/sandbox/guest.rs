//! The module for the search over depths: it recurses to a given depth and then performs an
//! operation.
//!
//! The module reads from variables which operation it performs, in which call, at which depth and
//! with which size of frames. So one compiled module is enough for all attempts.

use camshaft::plugin::module::compile::Artifact;
use camshaft::plugin::module::offer::offers;
use camshaft::plugin::{Compiler, ModuleHash};
use camshaft::process::variable::Variable;
use serde::{Deserialize, Serialize};
use wasmer::sys::wasmparser::{KnownCustom, Name, Operator, Parser, Payload};

use super::operation::{ELEMENTS, FRAMES, Operation, Part, operations};
use crate::rig::wat;

/// A call into the guest, by the number that the guest has for it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub enum Call {
    Start = 1,
    Initialize = 2,
    Init = 3,
    Poll = 4,
    Save = 5,
    Restore = 6,
}

/// Live locals of 8 bytes in each function that recurses: frames of some 16, 80, 340 and 1040
/// bytes.
pub const SIZES: [usize; 4] = [0, 8, 40, 128];

/// Names of the variables, one after the other in the guest's memory.
const NAMES: [&str; 4] = ["where", "what", "deep", "size"];

/// Variables that have the guest do this `operation` in this call, so deep.
pub fn variables(call: Option<Call>, operation: usize, depth: u32, size: usize) -> [Variable; 4] {
    let call = call.map_or(0, |call| call as i32);
    [call, operation as i32, depth as i32, size as i32].map(Variable::Int)
}

/// The same with their names.
pub fn named(values: [Variable; 4]) -> Vec<(String, Variable)> {
    NAMES.map(str::to_owned).into_iter().zip(values).collect()
}

/// One module: its operations, and where in its bytes each is.
#[derive(Debug)]
pub struct Guest {
    pub bytes: Vec<u8>,
    pub operations: Vec<Operation>,
    /// Where the function of each is.
    bodies: Vec<Body>,
}

/// Where the function of an operation lies.
#[derive(Debug, Clone, Default)]
struct Body {
    /// Of each instruction, from the first to the end of the function.
    offsets: Vec<u32>,
    /// The index of that which the operation is about.
    about: usize,
}

/// Compiled for one compiler.
pub type Compiled = (ModuleHash, Artifact);

/// The compilers that take a part.
pub fn compilers(part: Part) -> &'static [Compiler] {
    match part {
        Part::Vector | Part::Large => &[Compiler::Cranelift],
        _ => &[Compiler::Cranelift, Compiler::Singlepass],
    }
}

impl Guest {
    /// One of two that differ in their `version` only.
    pub fn new(part: Part, version: u32) -> Self {
        // Bisection is done with the first operation of each.
        let is_there = |op: &Operation| op.part == part || op.name == "nothing";
        let operations: Vec<_> = operations().into_iter().filter(is_there).collect();
        let bytes = wat(&text(part, version, &operations));
        let bodies = bodies(&bytes, &operations);
        Self { bytes, operations, bodies }
    }

    /// What may be said of the trap of an operation, but for its kind. Cranelift knows a call of
    /// the host's code by where it would return to, Singlepass sometimes by where its operands
    /// begin.
    pub fn places(&self, operation: usize, compiler: Compiler) -> Vec<String> {
        let Body { offsets, about } = &self.bodies[operation];
        // Of some traps Singlepass knows no more than where the function begins.
        let begin = offsets.first().map_or(0, |first| first - 1);
        let offsets = match compiler {
            Compiler::Cranelift => offsets[*about..=*about + 1].to_vec(),
            Compiler::Singlepass => [&[begin], &offsets[..]].concat(),
        };
        let name = &self.operations[operation].name;
        offsets.iter().map(|offset| format!(" in {name} at offset {offset:#x}")).collect()
    }
}

fn text(part: Part, version: u32, operations: &[Operation]) -> String {
    let passive = match part {
        Part::Passive => "(data $d \"abcdef\") (data $d2 \"x\") (elem $e func $nothing $self)",
        _ => "",
    };
    let drops = if part == Part::Passive { "(data.drop $d2)" } else { "" };
    let count = operations.len();
    let sizes = SIZES.len();
    let does: String = operations.iter().map(|op| format!("${} ", op.name)).collect();
    let dives: String = (0..sizes).map(|n| format!("$dive{n} ")).collect();
    let read = |n: usize| {
        let at: usize = NAMES[..n].iter().map(|name| name.len()).sum();
        let (at, len, to) = (64 + at, NAMES[n].len(), 8 * n);
        format!("(drop (call $get (i32.const {at}) (i32.const {len}) (i32.const {to})))")
    };
    let all = [imports(), functions(operations), recursions(), frames(operations)].concat();
    format!(
        r#"(module $guest
  (type $nothing (func)) (type $other (func (param i64)))
  (type $dive (func (param i32) (result i64)))
  {all}
  (memory (export "memory") 1 4)
  (table $t {ELEMENTS} 20 funcref)
  (table $x 4 8 externref)
  (table $does {count} {count} funcref)
  (table $dives {sizes} {sizes} funcref)
  (elem (table $t) (i32.const 0) func $nothing $self)
  (elem (table $does) (i32.const 0) func {does})
  (elem (table $dives) (i32.const 0) func {dives})
  (data (i32.const 64) "{names}")
  {passive}
  (global $f (mut f64) (f64.const 1.5))
  (global $sum (mut i64) (i64.const 0))
  (global $version i32 (i32.const {version}))
  (func $self)
  ;; Uses all that an operation may have left in disorder.
  (func $exercise
    (table.set $t (i32.const 4) (table.get $t (i32.const 0)))
    (drop (table.grow $x (ref.null extern) (i32.const 0)))
    (drop (memory.grow (i32.const 0)))
    (memory.fill (i32.const 512) (i32.const 0) (i32.const 8))
    (table.copy $t $t (i32.const 5) (i32.const 0) (i32.const 1))
    {drops})
  (func $enter (param $call i32)
    {where}
    (if (i32.ne (i32.load (i32.const 0)) (local.get $call)) (then (call $exercise) (return)))
    {what} {deep} {size}
    (global.set $sum (call_indirect $dives (type $dive)
      (i32.load (i32.const 16)) (i32.load (i32.const 24)))))
  (func $start (call $enter (i32.const 1)))
  (start $start)
  (func (export "_initialize") (call $enter (i32.const 2)))
  (func (export "init") (call $enter (i32.const 3)))
  (func (export "poll") (call $enter (i32.const 4)))
  (func (export "save") (call $enter (i32.const 5)))
  (func (export "restore") (call $enter (i32.const 6))))"#,
        names = NAMES.concat(),
        r#where = read(0),
        what = read(1),
        deep = read(2),
        size = read(3),
    )
}

fn imports() -> String {
    let ty = |letter: char| match letter {
        'I' => "i64 ",
        'd' => "f64 ",
        _ => "i32 ",
    };
    let import = |(n, offer): (usize, camshaft::plugin::module::offer::Offer)| {
        let types: String = offer.parameters.chars().map(ty).collect();
        let (module, name) = (offer.module, offer.name);
        let result = if offer.returns { "(result i32)" } else { "" };
        format!("(import \"{module}\" \"{name}\" (func $host{n} (param {types}) {result}))\n")
    };
    let get = "(import \"env\" \"wasm_variable_read_int\"
        (func $get (param i32 i32 i32) (result i32)))\n";
    offers().enumerate().map(import).chain([get.to_owned()]).collect()
}

fn functions(operations: &[Operation]) -> String {
    let function = |op: &Operation| format!("(func ${} {})\n", op.name, op.code);
    operations.iter().map(function).collect()
}

/// A function for each size of frame, that calls itself and then does the operation.
fn recursions() -> String {
    let dive = |(n, &locals): (usize, &usize)| {
        let (set, add) = live(1, locals);
        format!(
            "(func $dive{n} (param $left i32) (result i64) (local {})
              (if (i32.eqz (local.get $left))
                (then (call_indirect $does (type $nothing) (i32.load (i32.const 8)))
                      (return (i64.const 1))))
              {set}
              (call $dive{n} (i32.sub (local.get $left) (i32.const 1)))
              {add})\n",
            "i64 ".repeat(locals),
        )
    };
    SIZES.iter().enumerate().map(dive).collect()
}

/// Functions with large frames, as far as an operation calls them.
fn frames(operations: &[Operation]) -> String {
    let frame = |locals: &usize| {
        let (set, add) = live(0, *locals);
        let types = "i64 ".repeat(*locals);
        format!(
            "(func $frame{locals} (local {types}) {set} (call $nothing)
              i64.const 0 {add} global.set $sum)\n"
        )
    };
    let is_called = |locals: &&usize| {
        let call = format!("(call $frame{locals})");
        operations.iter().any(|operation| operation.code == call)
    };
    FRAMES.iter().filter(is_called).map(frame).collect()
}

/// Code that gives `count` locals a value, and code that adds them and 1 to what is on the stack.
fn live(first: usize, count: usize) -> (String, String) {
    let locals = || first..first + count;
    let at = |n: usize| 8 * (n % 8000);
    let set = |n| format!("(local.set {n} (i64.load offset={} (i32.const 0)))\n", at(n));
    let add: String = locals().map(|n| format!("local.get {n} i64.add\n")).collect();
    (locals().map(set).collect(), format!("{add} i64.const 1 i64.add"))
}

/// Where the function of each operation is. The operation is about the last of its instructions
/// that is more than an end.
fn bodies(module: &[u8], operations: &[Operation]) -> Vec<Body> {
    let (mut imported, mut bodies, mut names) = (0, Vec::new(), Vec::new());
    for payload in Parser::new(0).parse_all(module) {
        match payload.expect("the module is valid") {
            Payload::ImportSection(imports) => imported = imports.count() as usize,
            Payload::CodeSectionEntry(body) => {
                let operators = body.get_operators_reader().expect("it is valid");
                let all = operators.into_iter_with_offsets().map_while(Result::ok);
                let all: Vec<_> = all.collect();
                let counts = |op: &Operator<'_>| !matches!(op, Operator::End | Operator::Drop);
                let about = all.iter().rposition(|(op, _)| counts(op)).unwrap_or_default();
                let offsets = all.iter().map(|(_, offset)| *offset as u32).collect();
                bodies.push(Body { offsets, about });
            }
            Payload::CustomSection(section) => {
                let KnownCustom::Name(section) = section.as_known() else { continue };
                for names_of in section.into_iter().map_while(Result::ok) {
                    if let Name::Function(functions) = names_of {
                        names.extend(functions.into_iter().map_while(Result::ok));
                    }
                }
            }
            _ => {}
        }
    }
    let find = |op: &Operation| {
        let naming = names.iter().find(|naming| naming.name == op.name).expect("they have names");
        bodies[naming.index as usize - imported].clone()
    };
    operations.iter().map(find).collect()
}
