//! The text of a refusal about imports that are not offered: the function that was probably meant,
//! and its type.
//!
//! This file refuses nothing: `check.rs` finds the imports of a module, and compares them with the
//! offers. The offers are listed in `offer.rs`.

use wasmer::sys::wasmparser::{FuncType, TypeRef, ValType};

use super::super::offer::{self, Offer};
use crate::text::nearest;

/// A function's type in the usual notation: `(i32, i32) -> i32`.
pub(super) fn signature(ty: &FuncType) -> String {
    let list =
        |types: &[ValType]| types.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ");
    match ty.results() {
        [one] => format!("({}) -> {one}", list(ty.params())),
        results => format!("({}) -> ({})", list(ty.params()), list(results)),
    }
}

/// The type of an offered function, in the same notation.
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

/// Most imports that a refusal names. Further imports are usually missing for the same reason.
pub(super) const MAX_MISSING: usize = 8;

/// The help for an import that is not offered in this form.
#[derive(Debug)]
pub(super) enum Hint {
    /// No offer has a similar name.
    None,
    /// This offer has a similar name.
    Near(String),
    /// The function is offered, with this type.
    Is(String),
    /// The import is no function.
    NoFunction,
}

/// The remedy for missing imports, given by their names and hints. If there are several, each hint
/// names its import.
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
    // If an import has no similar offer, only the whole list helps.
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
    // The same function in another module is near, whatever that module is called.
    let same = all.iter().find(|(_, offer)| offer.name == name).map(|(named, _)| &**named);
    let near = same.or_else(|| nearest(&wanted, all.iter().map(|(named, _)| &**named)))?;
    let (named, offer) = all.iter().find(|(named, _)| named == near)?;
    Some(format!("{named} {}", offered(*offer)))
}

/// The kind of an import that is no function.
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
