//! The list of all instructions that the validator accepts, with the types of their operands.
//!
//! The list comes from the library wasmparser, so that no instruction is missing. The types of the
//! operands follow from the name of the instruction. This does not work for instructions with
//! special operands (control, calls, variables); [`is_plain`] returns false for them.

use wasmer::sys::wasmparser;

/// A type of values, as the text format writes it.
pub type Ty = &'static str;

/// One instruction.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Instruction {
    /// As the text format writes it: `i32.add`.
    pub name: String,
    /// How many values it takes and gives; `None` where that depends on its context.
    pub arity: Option<(usize, usize)>,
}

/// What this host runs beyond the first version: the features of `plugin/module/check.rs`.
const ADMITTED: [&str; 6] =
    ["mvp", "sign_extension", "saturating_float_to_int", "bulk_memory", "reference_types", "simd"];

macro_rules! list {
    ($(@$proposal:ident $op:ident $({ $($field:ident: $ty:ty),* })? => $visit:ident ($($arity:tt)*))*) => {
        &[$((stringify!($proposal), stringify!($visit), stringify!($($arity)*))),*]
    };
}

/// Proposal, name of the visitor's method and arity of each.
const ALL: &[(&str, &str, &str)] = wasmparser::for_each_operator!(list);

/// All that are admitted.
pub fn instructions() -> Vec<Instruction> {
    let admitted = ALL.iter().filter(|(proposal, ..)| ADMITTED.contains(proposal));
    admitted
        .map(|(_, visit, arity)| Instruction { name: text_name(visit), arity: parse(arity) })
        // A `select` of several values can be written, but is not valid.
        .filter(|instruction| instruction.name != "typed_select_multi")
        .collect()
}

/// `visit_i32_add` is `i32.add`.
fn text_name(visit: &str) -> String {
    let name = visit.strip_prefix("visit_").unwrap_or(visit);
    let first = name.split('_').next().unwrap_or_default();
    match first {
        "i32" | "i64" | "f32" | "f64" | "v128" | "i8x16" | "i16x8" | "i32x4" | "i64x2"
        | "f32x4" | "f64x2" | "memory" | "table" | "data" | "elem" | "ref" | "local" | "global" => {
            name.replacen('_', ".", 1)
        }
        _ => name.to_owned(),
    }
}

/// `arity 2 -> 1`
fn parse(arity: &str) -> Option<(usize, usize)> {
    let (takes, gives) = arity.strip_prefix("arity ")?.split_once("->")?;
    Some((takes.trim().parse().ok()?, gives.trim().parse().ok()?))
}

/// Whether it works on numbers, vectors and the memory only, so that its operands follow from its
/// name.
pub fn is_plain(instruction: &Instruction) -> bool {
    let name = &*instruction.name;
    let is_number = value_type(name).is_some();
    is_number && !name.ends_with(".const") && instruction.arity.is_some()
}

/// The type of the values that an instruction of this name works on.
pub fn value_type(name: &str) -> Option<Ty> {
    let (ty, _) = name.split_once('.')?;
    Some(match ty {
        "i32" => "i32",
        "i64" => "i64",
        "f32" => "f32",
        "f64" => "f64",
        "v128" | "i8x16" | "i16x8" | "i32x4" | "i64x2" | "f32x4" | "f64x2" => "v128",
        _ => return None,
    })
}

/// Whether it reads or writes the memory.
pub fn is_access(name: &str) -> bool {
    name.contains(".load") || name.contains(".store")
}

/// The type of one lane of a vector.
fn lane(name: &str) -> Ty {
    match name.split(['x', '.']).next() {
        Some("i64") => "i64",
        Some("f32") => "f32",
        Some("f64") => "f64",
        _ => "i32",
    }
}

/// The type that a conversion begins with, which its name has behind the dot.
fn converted(name: &str) -> Option<Ty> {
    let (_, action) = name.split_once('.')?;
    if value_type(name)? == "v128" {
        return None;
    }
    let is_conversion = ["trunc_", "convert_", "reinterpret_", "wrap_", "extend_", "demote_"]
        .iter()
        .any(|prefix| action.starts_with(prefix))
        || action.starts_with("promote_");
    let of = |ty: &&&str| action.contains(**ty);
    is_conversion.then(|| ["i32", "i64", "f32", "f64"].iter().find(of).copied()).flatten()
}

/// Types of the operands of a plain one, and of its result.
pub fn types(instruction: &Instruction) -> (Vec<Ty>, Option<Ty>) {
    let Instruction { name, arity } = instruction;
    let (takes, gives) = arity.expect("it is a plain one");
    let (_, action) = name.split_once('.').expect("it is a plain one");
    let ty = value_type(name).expect("it is a plain one");
    if is_access(name) {
        let operands = [vec!["i32"], vec![ty; takes - 1]].concat();
        return (operands, (gives > 0).then_some(ty));
    }
    if ty == "v128" {
        let is_test = ["any_true", "all_true", "bitmask"].contains(&action);
        return match action {
            "splat" => (vec![lane(name)], Some("v128")),
            _ if action.starts_with("extract_lane") => (vec!["v128"], Some(lane(name))),
            "replace_lane" => (vec!["v128", lane(name)], Some("v128")),
            "shl" | "shr_s" | "shr_u" => (vec!["v128", "i32"], Some("v128")),
            _ => (vec!["v128"; takes], Some(if is_test { "i32" } else { "v128" })),
        };
    }
    let compares = ["eqz", "eq", "ne", "lt", "gt", "le", "ge"];
    let verb = action.split('_').next().unwrap_or_default();
    let result = if compares.contains(&verb) { "i32" } else { ty };
    (vec![converted(name).unwrap_or(ty); takes], Some(result))
}

/// What stands between the name and the operands.
pub fn immediates(name: &str) -> &'static str {
    match name {
        "i8x16.shuffle" => " 0 17 2 19 4 21 6 23 8 25 10 27 12 29 14 31",
        _ if name.contains("_lane") => " 0",
        _ => "",
    }
}

/// It, with these operands.
pub fn folded(name: &str, operands: &[String]) -> String {
    format!("({name}{} {})", immediates(name), operands.join(" "))
}

#[test]
fn the_types_of_operands_follow_from_the_name() {
    fn check(name: &str, operands: &[Ty], result: Option<Ty>) {
        let all = instructions();
        let instruction = all.iter().find(|instruction| instruction.name == name);
        let instruction = instruction.unwrap_or_else(|| panic!("{name} is not in the list"));
        assert_eq!(types(instruction), (operands.to_vec(), result), "{name}");
    }
    check("i32.add", &["i32", "i32"], Some("i32"));
    check("i64.eqz", &["i64"], Some("i32"));
    check("f64.lt", &["f64", "f64"], Some("i32"));
    check("i64.extend_i32_u", &["i32"], Some("i64"));
    check("i64.extend32_s", &["i64"], Some("i64"));
    check("f64.trunc", &["f64"], Some("f64"));
    check("i32.trunc_sat_f64_u", &["f64"], Some("i32"));
    check("f32.demote_f64", &["f64"], Some("f32"));
    check("i64.store32", &["i32", "i64"], None);
    check("v128.load16_lane", &["i32", "v128"], Some("v128"));
    check("f64x2.replace_lane", &["v128", "f64"], Some("v128"));
    check("i8x16.splat", &["i32"], Some("v128"));
    check("i16x8.extract_lane_u", &["v128"], Some("i32"));
    check("v128.bitselect", &["v128", "v128", "v128"], Some("v128"));
    check("i64x2.all_true", &["v128"], Some("i32"));
    assert!(instructions().len() > 430, "{} instructions", instructions().len());
}
