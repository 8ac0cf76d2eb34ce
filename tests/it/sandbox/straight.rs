//! Straight code for the search in `row.rs`: code without loops and without recursion.
//!
//! Each instruction of `instruction.rs` becomes a piece of text that can be repeated in a row. This
//! file also has the module around such a row.

use camshaft::plugin::module::offer::{Offer, offers};

use super::instruction::{self, Instruction, folded, instructions};

/// One instruction with its operands.
#[derive(Debug, Clone)]
pub struct Piece {
    pub name: String,
    /// In the text format; leaves nothing on the stack. [`PAGE`] is an address that is new in each
    /// piece of a row.
    code: String,
    /// Whether it is a vector's, which Singlepass does not compile.
    pub is_vector: bool,
    /// Whether the memory begins small, so that it can grow.
    grows: bool,
}

/// An address of its own for each piece.
const PAGE: &str = "@page";

/// Pages of 4 KiB in the memory, but for the last, which every access would leave.
const PAGES: usize = 4095;

/// Bytes and functions in the passive segments.
const DATA: usize = 100_000;
const ELEMENTS: usize = 4000;

/// Functions in the table of calls.
const FUNCTIONS: usize = 10;

impl Piece {
    fn new(name: impl Into<String>, code: impl Into<String>) -> Self {
        let (name, code) = (name.into(), code.into());
        let is_vector = code.contains("v128");
        Self { name, code, is_vector, grows: false }
    }

    /// As the piece number `n` of a row.
    pub fn code(&self, n: usize) -> String {
        let address = (n % PAGES) * 4096 + n / PAGES % 64 * 64;
        self.code.replace(PAGE, &format!("(i32.const {address})"))
    }

    /// The module that has these pieces in its poll.
    pub fn module(&self, code: &str, table: u32) -> String {
        module(code, table, self.grows)
    }
}

/// All pieces.
pub fn pieces() -> Vec<Piece> {
    [plain(), control(), variables(), bulk(), tables(), host()].concat()
}

/// What takes numbers and vectors only. The operands are read from globals, which are written
/// between two of a kind, lest a compiler does all of a row at once. They are such that the result
/// is no number in its normal form, where that takes a CPU longer.
fn plain() -> Vec<Piece> {
    let plain = instructions().into_iter().filter(instruction::is_plain);
    plain.map(|instruction| of_plain(&instruction)).collect()
}

fn of_plain(instruction: &Instruction) -> Piece {
    let name = &instruction.name;
    let (types, result) = instruction::types(instruction);
    let operand = |(n, ty): (usize, &&str)| match (n, instruction::is_access(name)) {
        (0, true) => PAGE.to_owned(),
        (0, _) => format!("(global.get $a_{ty})"),
        _ => format!("(global.get $b_{ty})"),
    };
    let operands: Vec<String> = types.iter().enumerate().map(operand).collect();
    let code = folded(name, &operands);
    let is_vector = types.contains(&"v128") || result == Some("v128");
    let code = match result {
        Some(ty) => format!("(global.set $s_{ty} {code})"),
        None => code,
    };
    Piece { is_vector, ..Piece::new(name, code) }
}

fn control() -> Vec<Piece> {
    let many = |text: &str, n: usize| text.repeat(n);
    let arguments = many("(i32.const 1)", 50);
    let call = "(call_indirect $calls (type $nothing)";
    let deep = format!("{}{}", many("(block ", 900), many(")", 900));
    let targets = |n: usize| format!("(block (br_table {}(global.get $a_i32)))", many("0 ", n));
    let select = "(global.get $a_i32) (global.get $b_i32) (global.get $zero)";
    [
        ("nop", "(nop)".into()),
        ("block", "(block)".into()),
        ("block_deep", deep),
        ("if", "(if (global.get $zero) (then (nop)) (else (nop)))".into()),
        ("br", "(block (br 0))".into()),
        ("br_if", "(block (br_if 0 (global.get $zero)))".into()),
        ("br_table", targets(3)),
        ("br_table_1000", targets(1000)),
        ("return", "(if (global.get $zero) (then (return)))".into()),
        ("unreachable", "(if (global.get $zero) (then (unreachable)))".into()),
        ("drop", "(drop (global.get $a_i32))".into()),
        ("select", format!("(global.set $s_i32 (select {select}))")),
        ("typed_select", format!("(global.set $s_i32 (select (result i32) {select}))")),
        ("call", "(call $tiny)".into()),
        ("call_arguments", format!("(call $takes {arguments})")),
        ("call_results", format!("(call $gives) {}", many("drop ", 50))),
        ("call_indirect", format!("{call} (i32.const 0))")),
        ("call_indirect_others", format!("{call} (i32.and (global.get $s_i32) (i32.const 7)))")),
    ]
    .map(|(name, code): (&str, String)| Piece::new(name, code))
    .to_vec()
}

fn variables() -> Vec<Piece> {
    let mut all = vec![
        Piece::new("local.get", "(global.set $s_i32 (local.get $i))"),
        Piece::new("local.set", "(local.set $i (global.get $a_i32))"),
        Piece::new("local.tee", "(global.set $s_i32 (local.tee $i (global.get $a_i32)))"),
        Piece::new("global.get", "(global.set $s_i64 (global.get $a_i64))"),
        Piece::new("global.set", "(global.set $s_i64 (i64.const 1))"),
        Piece::new("ref.null", "(global.set $s_ref (ref.null func))"),
        Piece::new("ref.is_null", "(global.set $s_i32 (ref.is_null (global.get $s_ref)))"),
        Piece::new("ref.func", "(global.set $s_ref (ref.func $tiny))"),
    ];
    for (ty, value) in
        [("i32", "7"), ("i64", "-7"), ("f32", "1.5"), ("f64", "nan"), ("v128", "i64x2 1 2")]
    {
        let code = format!("(global.set $s_{ty} ({ty}.const {value}))");
        all.push(Piece::new(format!("{ty}.const"), code));
    }
    all
}

fn bulk() -> Vec<Piece> {
    let three = |verb: &str, a: &str, b: usize, n: usize| {
        format!("({verb} {a} (i32.const {b}) (i32.const {n}))")
    };
    let zero = "(i32.const 0)";
    let grow = |pages: u32| {
        let code = format!("(global.set $s_i32 (memory.grow (i32.const {pages})))");
        Piece { grows: true, ..Piece::new(format!("memory.grow_{pages}"), code) }
    };
    let mut all = vec![
        Piece::new("memory.size", "(global.set $s_i32 (memory.size))"),
        Piece::new("data.drop", "(data.drop $d)"),
        Piece::new("elem.drop", "(elem.drop $e)"),
        grow(0),
        grow(1),
        grow(1000),
    ];
    for n in [0, 1, 64, 4096, 65_536, 65_537, 1 << 20, 16 << 20] {
        let to = if n <= 4096 { PAGE } else { zero };
        all.push(Piece::new(format!("memory.fill_{n}"), three("memory.fill", to, 1, n)));
        if n < 16 << 20 {
            let code = three("memory.copy", to, 8 << 20, n);
            all.push(Piece::new(format!("memory.copy_{n}"), code));
        }
    }
    let overlapping = three("memory.copy", "(i32.const 1)", 0, (16 << 20) - 1);
    all.push(Piece::new("memory.copy_overlapping", overlapping));
    for n in [0, 1, 4096, 65_536, DATA] {
        let to = if n <= 4096 { PAGE } else { zero };
        all.push(Piece::new(format!("memory.init_{n}"), three("memory.init $d", to, 0, n)));
    }
    all
}

fn tables() -> Vec<Piece> {
    let grow =
        |n: u32| format!("(global.set $s_i32 (table.grow $x (ref.null extern) (i32.const {n})))");
    let mut all = vec![
        Piece::new("table.get", "(global.set $s_ref (table.get $t (i32.const 5)))"),
        Piece::new("table.set", "(table.set $t (i32.const 5) (global.get $s_ref))"),
        Piece::new("table.get_extern", "(global.set $s_extern (table.get $x (i32.const 5)))"),
        Piece::new("table.set_extern", "(table.set $x (i32.const 5) (global.get $s_extern))"),
        Piece::new("table.size", "(global.set $s_i32 (table.size $t))"),
        Piece::new("table.grow_0", grow(0)),
        Piece::new("table.grow_1", grow(1)),
    ];
    for (what, n) in
        [("0", "(i32.const 0)"), ("100", "(i32.const 100)"), ("all", "(table.size $t)")]
    {
        let fill = format!("(table.fill $t (i32.const 0) (ref.null func) {n})");
        let copy = format!("(table.copy $t $t (i32.const 0) (i32.const 0) {n})");
        all.push(Piece::new(format!("table.fill_{what}"), fill));
        all.push(Piece::new(format!("table.copy_{what}"), copy));
    }
    for n in [0, 1, ELEMENTS] {
        let code = format!("(table.init $t $e (i32.const 0) (i32.const 0) (i32.const {n}))");
        all.push(Piece::new(format!("table.init_{n}"), code));
    }
    all
}

/// The functions of the contract that return, with small arguments and with such as take them
/// through all of the memory.
fn host() -> Vec<Piece> {
    let mut all = Vec::new();
    for (n, offer) in offers().enumerate().filter(|(_, offer)| offer.returns) {
        for (what, first, rest) in [("", 256, 4), ("_large", 0, 16 << 20), ("_1000", 256, 1000)] {
            let argument = |(at, letter): (usize, char)| {
                let number = if at == 0 { first } else { rest };
                match letter {
                    'd' => "(f64.const 1)".to_owned(),
                    'I' => format!("(i64.const {number})"),
                    _ => format!("(i32.const {number})"),
                }
            };
            let arguments: Vec<String> =
                offer.parameters.chars().enumerate().map(argument).collect();
            let code = format!("(global.set $s_i32 (call $host{n} {}))", arguments.join(" "));
            all.push(Piece::new(format!("{}{what}", offer.name), code));
        }
    }
    all
}

fn import((n, offer): (usize, Offer)) -> String {
    let ty = |letter: char| match letter {
        'I' => "i64 ",
        'd' => "f64 ",
        _ => "i32 ",
    };
    let types: String = offer.parameters.chars().map(ty).collect();
    let (module, name) = (offer.module, offer.name);
    let result = if offer.returns { "(result i32)" } else { "" };
    format!("(import \"{module}\" \"{name}\" (func $host{n} (param {types}) {result}))\n")
}

/// A module whose second poll runs `code`.
pub fn module(code: &str, table: u32, grows: bool) -> String {
    let imports: String = match code.contains("$host") {
        true => offers().enumerate().map(import).collect(),
        false => String::new(),
    };
    let data = "d".repeat(if code.contains(" $d") { DATA } else { 0 });
    let functions = "$tiny ".repeat(FUNCTIONS);
    let elements = "$tiny ".repeat(ELEMENTS);
    let data = if data.is_empty() { String::new() } else { format!("(data $d \"{data}\")") };
    let elements = match code.contains(" $e") {
        true => format!("(elem $e func {elements})"),
        false => String::new(),
    };
    let vectors = match code.contains("v128") {
        true => {
            "(global $a_v128 (mut v128) (v128.const i64x2 0x1234 0x12345678))
             (global $b_v128 (mut v128) (v128.const f64x2 0.7 0.7))
             (global $s_v128 (mut v128) (v128.const i64x2 0 0))"
        }
        false => "",
    };
    let memory = if grows { "1 256" } else { "256 256" };
    let (start, extern_) = (table.saturating_sub(1010), 500);
    let (takes, gives) = ("i32 ".repeat(50), "(i32.const 1)".repeat(50));
    format!(
        r#"(module
  (type $nothing (func))
  {imports}
  (memory (export "memory") {memory})
  (table $t {start} {start} funcref) (table $x {extern_} 1000 externref)
  ;; What stands in the other tables is overwritten.
  (table $calls {FUNCTIONS} {FUNCTIONS} funcref)
  (elem (table $calls) (i32.const 0) func {functions})
  {data} {elements}
  (global $zero (mut i32) (i32.const 0)) (global $polls (mut i32) (i32.const 0))
  (global $a_i32 (mut i32) (i32.const -2147483647)) (global $b_i32 (mut i32) (i32.const 3))
  (global $a_i64 (mut i64) (i64.const -9223372036854775807)) (global $b_i64 (mut i64) (i64.const 3))
  (global $a_f32 (mut f32) (f32.const 1e-40)) (global $b_f32 (mut f32) (f32.const 0.7))
  (global $a_f64 (mut f64) (f64.const 1e-310)) (global $b_f64 (mut f64) (f64.const 0.7))
  (global $s_i32 (mut i32) (i32.const 0)) (global $s_i64 (mut i64) (i64.const 0))
  (global $s_f32 (mut f32) (f32.const 0)) (global $s_f64 (mut f64) (f64.const 0))
  (global $s_ref (mut funcref) (ref.null func)) (global $s_extern (mut externref) (ref.null extern))
  {vectors}
  (func $tiny)
  (func $takes (param {takes}))
  (func $gives (result {takes}) {gives})
  (func $row (local $i i32)
    {code})
  (func (export "poll")
    (if (global.get $polls) (then (call $row)) (else (global.set $polls (i32.const 1))))))"#
    )
}

#[test]
fn every_instruction_is_in_a_piece() {
    let text: String = pieces().iter().map(|piece| piece.code(0)).collect();
    let words: std::collections::HashSet<&str> =
        text.split(|c: char| !(c.is_alphanumeric() || "._".contains(c))).collect();
    // Implied by the text, or not straight.
    let others = ["end", "else", "loop", "typed_select"];
    for instruction in instructions() {
        let name = &*instruction.name;
        assert!(words.contains(name) || others.contains(&name), "no piece has {name}");
    }
}
