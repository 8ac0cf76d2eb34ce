//! The list of operations that a program performs at the end of a deep recursion.
//!
//! Each operation has its expected result when the stack has enough room: a certain trap, or a
//! normal return. `depth.rs` tries all operations. This file contains no tests.

use camshaft::plugin::module::offer::{ENV, offers};
use serde::{Deserialize, Serialize};

use super::instruction::{self, Instruction, folded, immediates, instructions};

/// How an operation ends with enough room on the stack.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum End {
    /// In this trap, at the operation.
    Trap(&'static str),
    /// In this trap, which has no place or one that is not of interest.
    Anywhere(&'static str),
    /// It returns.
    Returns,
}

/// The modules that the operations are spread over.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum Part {
    /// Runs everywhere.
    Common,
    /// Has vectors, which Singlepass does not compile.
    Vector,
    /// Has functions with more locals than Singlepass may be given.
    Large,
    /// Has passive segments, which a host may refuse.
    Passive,
}

/// One operation.
#[derive(Debug, Clone)]
pub struct Operation {
    /// Also the name of the function that does it.
    pub name: String,
    /// In the text format; leaves nothing on the stack.
    pub code: String,
    /// How it ends.
    pub end: End,
    /// Which of the modules has it.
    pub part: Part,
    /// Whether it goes on until its budget is over.
    pub is_endless: bool,
}

pub const UNREACHABLE: &str = "unreachable";
pub const DIVISION: &str = "integer divide by zero";
pub const OVERFLOW: &str = "integer overflow";
pub const CONVERSION: &str = "invalid conversion to integer";
pub const MEMORY: &str = "out of bounds memory access";
pub const TABLE: &str = "undefined element: out of bounds table access";
pub const NULL: &str = "uninitialized element";
pub const SIGNATURE: &str = "indirect call type mismatch";
pub const STACK: &str = "stack overflow";

/// Elements of the table `$t` at the start; the first two are functions, of no arguments.
pub const ELEMENTS: u32 = 10;

fn operation(name: impl Into<String>, code: impl Into<String>, end: End) -> Operation {
    Operation { name: name.into(), code: code.into(), end, part: Part::Common, is_endless: false }
}

/// All of them, in an order that stays.
pub fn operations() -> Vec<Operation> {
    [control(), numbers(), accesses(), bulk(), tables(), passive(), host(), frames()].concat()
}

fn control() -> Vec<Operation> {
    let call = |at: i64| format!("(call_indirect $t (type $nothing) (i32.const {at}))");
    let budget =
        operation("endless_loop", "(loop (br 0))", End::Anywhere("budget of 2ms exceeded"));
    vec![
        operation("nothing", "", End::Returns),
        operation("unreachable", "unreachable", End::Trap(UNREACHABLE)),
        operation("endless_recursion", "(call $endless_recursion)", End::Anywhere(STACK)),
        Operation { is_endless: true, ..budget },
        operation("call", "(call $nothing)", End::Returns),
        operation("call_indirect", call(0), End::Returns),
        operation("call_indirect_null", call(7), End::Trap(NULL)),
        operation("call_indirect_outside", call(10), End::Trap(TABLE)),
        operation("call_indirect_far", call(-1), End::Trap(TABLE)),
        operation(
            "call_indirect_type",
            "(call_indirect $t (type $other) (i64.const 1) (i32.const 0))",
            End::Trap(SIGNATURE),
        ),
    ]
}

fn numbers() -> Vec<Operation> {
    let mut all = Vec::new();
    for ty in ["i32", "i64"] {
        for verb in ["div_s", "div_u", "rem_s", "rem_u"] {
            let code = format!("(drop ({ty}.{verb} ({ty}.const 7) ({ty}.const 0)))");
            all.push(operation(format!("{ty}.{verb}_by_zero"), code, End::Trap(DIVISION)));
        }
        let least = if ty == "i32" { i64::from(i32::MIN) } else { i64::MIN };
        let code = format!("(drop ({ty}.div_s ({ty}.const {least}) ({ty}.const -1)))");
        all.push(operation(format!("{ty}.div_s_overflow"), code, End::Trap(OVERFLOW)));
        for from in ["f32", "f64"] {
            for sign in ["s", "u"] {
                let name = format!("{ty}.trunc_{from}_{sign}");
                for (value, end) in [("nan", CONVERSION), ("1e30", OVERFLOW), ("-1e30", OVERFLOW)] {
                    let code = format!("(drop ({name} ({from}.const {value})))");
                    all.push(operation(format!("{name}_{value}"), code, End::Trap(end)));
                }
            }
        }
    }
    // Without a CPU that rounds these are calls to a library.
    for verb in ["ceil", "floor", "trunc", "nearest", "sqrt"] {
        let code = format!("(global.set $f (f64.{verb} (global.get $f)))");
        all.push(operation(format!("f64.{verb}"), code, End::Returns));
    }
    all
}

/// Every load and store beyond the only page of the memory, and far beyond it.
fn accesses() -> Vec<Operation> {
    let mut all = Vec::new();
    let accesses = instructions().into_iter().filter(|i| instruction::is_access(&i.name));
    for access in accesses {
        let name = &access.name;
        let is_vector = instruction::value_type(name) == Some("v128");
        let part = if is_vector { Part::Vector } else { Part::Common };
        let at = "(i32.const 65536)";
        let beyond = operation(name, access_at(&access, "", at), End::Trap(MEMORY));
        let code = access_at(&access, " offset=0xffffffff", "(i32.const -1)");
        let far = operation(format!("{name}_far"), code, End::Trap(MEMORY));
        all.extend([beyond, far].map(|operation| Operation { part, ..operation }));
    }
    all
}

fn access_at(access: &Instruction, offset: &str, address: &str) -> String {
    let zero = |ty: &&str| match *ty {
        "v128" => "(v128.const i64x2 0 0)".to_owned(),
        ty => format!("({ty}.const 0)"),
    };
    let (types, result) = instruction::types(access);
    let operands: Vec<String> = types[1..].iter().map(zero).collect();
    // The offset stands in front of the lane.
    let Instruction { name, .. } = access;
    let code = format!("({name}{offset}{} {address} {})", immediates(name), operands.join(" "));
    if result.is_some() { format!("(drop {code})") } else { code }
}

fn bulk() -> Vec<Operation> {
    let three = |verb: &str, a: i64, b: i64, n: i64| {
        folded(verb, &[a, b, n].map(|number| format!("(i32.const {number})")))
    };
    let page = 65536;
    let mut all = Vec::new();
    for (what, to, from, n) in [
        ("source", 0, 65530, 100),
        ("destination", 65530, 0, 100),
        ("long", 0, 0, 200_000),
        ("wrapping", 100, 0, -1),
        ("nowhere", page + 1, 0, 0),
        ("from_nowhere", 0, page + 1, 0),
    ] {
        let code = three("memory.copy", to, from, n);
        all.push(operation(format!("memory.copy_{what}"), code, End::Trap(MEMORY)));
        if !what.contains("source") && !what.contains("from") {
            let code = three("memory.fill", to, 0, n);
            all.push(operation(format!("memory.fill_{what}"), code, End::Trap(MEMORY)));
        }
    }
    let grow = |pages: i64| format!("(drop (memory.grow (i32.const {pages})))");
    all.extend([
        operation("memory.copy", three("memory.copy", 1000, 2000, 500), End::Returns),
        operation("memory.copy_all", three("memory.copy", 0, 0, page), End::Returns),
        operation("memory.fill", three("memory.fill", 1000, 0, 500), End::Returns),
        operation("memory.grow", grow(1), End::Returns),
        operation("memory.grow_too_much", grow(1000), End::Returns),
        operation("memory.size", "(drop (memory.size))", End::Returns),
    ]);
    all
}

fn tables() -> Vec<Operation> {
    let get = |table: &str, at: i64| format!("(drop (table.get ${table} (i32.const {at})))");
    let set = |table: &str, at: i64| {
        let null = if table == "t" { "func" } else { "extern" };
        format!("(table.set ${table} (i32.const {at}) (ref.null {null}))")
    };
    let fill = |at: i64, n: i64| {
        format!("(table.fill $t (i32.const {at}) (ref.func $nothing) (i32.const {n}))")
    };
    let copy = |a: i64, b: i64, n: i64| {
        format!("(table.copy $t $t (i32.const {a}) (i32.const {b}) (i32.const {n}))")
    };
    let grow = |table: &str, null: &str, n: u32| {
        format!("(drop (table.grow ${table} (ref.null {null}) (i32.const {n})))")
    };
    let trap = || End::Trap(TABLE);
    vec![
        operation("table.get", get("t", 1), End::Returns),
        operation("table.get_outside", get("t", 10), trap()),
        operation("table.get_far", get("t", -1), trap()),
        operation("table.get_extern_outside", get("x", 4), trap()),
        operation("table.set", set("t", 3), End::Returns),
        operation("table.set_outside", set("t", 10), trap()),
        operation("table.set_extern", set("x", 1), End::Returns),
        operation("table.set_extern_outside", set("x", -1), trap()),
        operation("table.fill", fill(2, 5), End::Returns),
        operation("table.fill_outside", fill(8, 3), trap()),
        operation("table.fill_nowhere", fill(11, 0), trap()),
        operation("table.fill_wrapping", fill(1, -1), trap()),
        operation("table.copy", copy(3, 0, 2), End::Returns),
        operation("table.copy_outside", copy(8, 0, 3), trap()),
        operation("table.copy_from_outside", copy(0, 8, 3), trap()),
        operation("table.copy_wrapping", copy(0, 1, -1), trap()),
        operation("table.grow", grow("t", "func", 5), End::Returns),
        operation("table.grow_extern", grow("x", "extern", 3), End::Returns),
        operation("table.grow_too_much", grow("t", "func", 100_000), End::Returns),
        operation("table.size", "(drop (table.size $t))", End::Returns),
        operation("ref.func", "(drop (ref.is_null (ref.func $nothing)))", End::Returns),
    ]
}

/// With the passive segments `$d`, 6 bytes, and `$e`, 2 functions.
fn passive() -> Vec<Operation> {
    let init = |verb: &str, a: i64, b: i64, n: i64| {
        format!("({verb} (i32.const {a}) (i32.const {b}) (i32.const {n}))")
    };
    let memory = |a, b, n| init("memory.init $d", a, b, n);
    let table = |a, b, n| init("table.init $t $e", a, b, n);
    let all = vec![
        operation("memory.init", memory(1000, 1, 4), End::Returns),
        operation("memory.init_source", memory(0, 0, 100), End::Trap(MEMORY)),
        operation("memory.init_destination", memory(65534, 0, 4), End::Trap(MEMORY)),
        operation("memory.init_long", memory(0, 0, 200_000), End::Trap(MEMORY)),
        operation("table.init", table(2, 0, 2), End::Returns),
        operation("table.init_source", table(2, 1, 2), End::Trap(TABLE)),
        operation("table.init_destination", table(9, 0, 2), End::Trap(TABLE)),
        operation("data.drop", "(data.drop $d)", End::Returns),
        operation("elem.drop", "(elem.drop $e)", End::Returns),
    ];
    all.into_iter().map(|operation| Operation { part: Part::Passive, ..operation }).collect()
}

/// Every function of the contract, with pointers that are good and with such that are not.
fn host() -> Vec<Operation> {
    let mut all = Vec::new();
    for (n, offer) in offers().enumerate() {
        for (what, pointer) in [("", 256), ("_badly", -4)] {
            let argument = |letter: char| match letter {
                'd' => "(f64.const 1)".to_owned(),
                'I' => format!("(i64.const {pointer})"),
                _ => format!("(i32.const {pointer})"),
            };
            let arguments: Vec<String> = offer.parameters.chars().map(argument).collect();
            let call = format!("(call $host{n} {})", arguments.join(" "));
            let (code, end) = match (offer.module, offer.name) {
                (ENV, "abort") => (call, End::Anywhere("abort")),
                (_, "proc_exit") => (call, End::Anywhere("proc_exit")),
                _ if offer.returns => (format!("(drop {call})"), End::Returns),
                _ => (call, End::Returns),
            };
            all.push(operation(format!("{}{what}", offer.name), code, end));
        }
    }
    all
}

/// Calls of functions whose frames are larger than the guard page below the stack.
fn frames() -> Vec<Operation> {
    let call = |&locals: &usize| {
        let part = if locals > 300 { Part::Large } else { Part::Common };
        let name = format!("frame_of_{locals}_locals");
        let code = format!("(call $frame{locals})");
        Operation { part, ..operation(name, code, End::Returns) }
    };
    FRAMES.iter().map(call).collect()
}

/// Locals of 8 bytes in those functions, which make frames of 2 KB to 48 KB: a stack has
/// 64 KiB.
pub const FRAMES: [usize; 7] = [250, 300, 500, 600, 1500, 4000, 6000];
