//! What is said of imports that are not offered: which function was probably meant, and its type.
//!
//! Which imports a module has, and which of them are offered, is found in `check.rs`.

use wasmer::sys::wasmparser::{FuncType, TypeRef, ValType};

use super::super::offer::{self, Offer};
use crate::text::nearest;

/// A function's type as people write it: `(i32, i32) -> i32`.
pub(super) fn signature(ty: &FuncType) -> String {
    let list =
        |types: &[ValType]| types.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ");
    match ty.results() {
        [one] => format!("({}) -> {one}", list(ty.params())),
        results => format!("({}) -> ({})", list(ty.params()), list(results)),
    }
}

pub(super) fn offered(offer: Offer) -> String {
    let parameters: Vec<_> = offer.parameters.chars().map(parameter).collect();
    let result = if offer.returns { "i32" } else { "()" };
    format!("({}) -> {result}", parameters.join(", "))
}

fn parameter(letter: char) -> &'static str {
    match letter {
        'i' => "i32",
        'I' => "i64",
        'd' => "f64",
        _ => unreachable!("offers are written with these letters only"),
    }
}

/// Most imports that a refusal names: what is missing besides is usually of the same kind.
pub(super) const MAX_MISSING: usize = 8;

/// What there is to say of an import that is not offered so.
#[derive(Debug)]
pub(super) enum Hint {
    /// Nothing offered is near.
    None,
    /// This offer is.
    Near(String),
    /// The function is offered with this type.
    Is(String),
    /// It is no function.
    NoFunction,
}

/// What helps where imports are missing, whose names come with their hints. Where there are
/// several, each hint names its own.
pub(super) fn remedy(hints: &[(String, Hint)]) -> String {
    let is_alone = hints.len() == 1;
    let words = |(import, hint): &(String, Hint)| match hint {
        Hint::None => None,
        Hint::Near(near) if is_alone => Some(format!("did you mean {near}?")),
        Hint::Near(near) => Some(format!("for {import}, did you mean {near}?")),
        Hint::Is(ty) if is_alone => Some(format!("that function is {ty}")),
        Hint::Is(ty) => Some(format!("{import} is {ty}")),
        Hint::NoFunction if is_alone => Some(format!("{ONLY_FUNCTIONS}; {OWN}")),
        Hint::NoFunction => Some(format!("{ONLY_FUNCTIONS}, and {import} is none: {OWN}")),
    };
    let shown = &hints[..hints.len().min(MAX_MISSING)];
    let mut all: Vec<String> = shown.iter().filter_map(words).collect();
    // Where there is none that is near, only the whole list helps.
    if all.len() < shown.len() {
        all.push("the functions of `camshaft.h` and of WASI preview 1 are offered".into());
    }
    all.join("; ")
}

/// The offered function that was probably meant.
pub(super) fn nearest_offer(module: &str, name: &str) -> Option<String> {
    let wanted = format!("{module}.{name}");
    let all: Vec<(String, Offer)> =
        offer::offers().map(|offer| (format!("{}.{}", offer.module, offer.name), offer)).collect();
    // The right function of the wrong module is near, whatever the module is called.
    let same = all.iter().find(|(_, offer)| offer.name == name).map(|(named, _)| &**named);
    let near = same.or_else(|| nearest(&wanted, all.iter().map(|(named, _)| &**named)))?;
    let (named, offer) = all.iter().find(|(named, _)| named == near)?;
    Some(format!("{named} {}", offered(*offer)))
}

/// What an import is that is no function.
pub(super) fn no_function(ty: &TypeRef) -> &'static str {
    match ty {
        TypeRef::Memory(_) => "a memory",
        TypeRef::Table(_) => "a table",
        TypeRef::Global(_) => "a global",
        _ => "something that is not a function",
    }
}

const ONLY_FUNCTIONS: &str = "only functions can be imported";

const OWN: &str = "define and export your own memory";
