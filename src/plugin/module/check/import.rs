//! This file writes the message for a module that is refused because it imports functions that the
//! host does not offer. The message names the function that the author probably meant, and the type
//! of that function.
//!
//! This file does not decide whether a module is refused: `check.rs` lists the imports of a module,
//! and compares them with the offers. The offers are listed in `offer.rs`.

use wasmer::sys::wasmparser::{FuncType, TypeRef, ValType};

use super::super::offer::{self, Offer};
use crate::text::nearest;

/// Writes the type of a function as WebAssembly tools do, for example `(i32, i32) -> i32`.
pub(super) fn signature(ty: &FuncType) -> String {
    let list =
        |types: &[ValType]| types.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ");
    match ty.results() {
        [one] => format!("({}) -> {one}", list(ty.params())),
        results => format!("({}) -> ({})", list(ty.params()), list(results)),
    }
}

/// Writes the type of an offered function as [`signature`] does.
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
        _ => unreachable!("the parameters of an offer contain only these letters"),
    }
}

/// Most imports that a refusal names. Further imports usually have the same problem, so their names
/// would not help.
pub(super) const MAX_MISSING: usize = 8;

/// The hint for the author of a module about one import that is not offered.
#[derive(Debug)]
pub(super) enum Hint {
    /// No offered function has a similar name.
    None,
    /// This offered function, with its type, has a similar name.
    Near(String),
    /// The right type of the function. A function of this name is offered, but has another type
    /// than the import.
    Is(String),
    /// The import is not a function. Only functions are offered.
    NoFunction,
}

/// Makes the remedy for imports that are not offered, from their names and hints. If there are
/// several such imports, the text repeats the name of the import before each hint.
pub(super) fn remedy(hints: &[(String, Hint)]) -> String {
    let is_alone = hints.len() == 1;
    let words = |(import, hint): &(String, Hint)| match hint {
        Hint::None => None,
        Hint::Near(near) if is_alone => Some(format!("did you mean {near}?")),
        Hint::Near(near) => Some(format!("for {import}, did you mean {near}?")),
        Hint::Is(ty) if is_alone => Some(format!("that function is {ty}")),
        Hint::Is(ty) => Some(format!("{import} is {ty}")),
        Hint::NoFunction if is_alone => Some(format!("{ONLY_FUNCTIONS}; {OWN}")),
        Hint::NoFunction => {
            Some(format!("{ONLY_FUNCTIONS}, and {import} is not a function: {OWN}"))
        }
    };
    let shown = &hints[..hints.len().min(MAX_MISSING)];
    let mut all: Vec<String> = shown.iter().filter_map(words).collect();
    // At least one of the shown imports has no hint. For an import without a hint, the text says
    // where all offered functions are listed.
    if all.len() < shown.len() {
        all.push("the functions of `camshaft.h` and of WASI preview 1 are offered".into());
    }
    all.join("; ")
}

/// Finds the offered function that the author of the module probably meant.
pub(super) fn nearest_offer(module: &str, name: &str) -> Option<String> {
    let wanted = format!("{module}.{name}");
    let all: Vec<(String, Offer)> =
        offer::offers().map(|offer| (format!("{}.{}", offer.module, offer.name), offer)).collect();
    // An offered function with exactly this name is the best guess, even if it belongs to another
    // import module than `module`.
    let same = all.iter().find(|(_, offer)| offer.name == name).map(|(named, _)| &**named);
    let near = same.or_else(|| nearest(&wanted, all.iter().map(|(named, _)| &**named)))?;
    let (named, offer) = all.iter().find(|(named, _)| named == near)?;
    Some(format!("{named} {}", offered(*offer)))
}

/// Returns the kind of an import that is not a function, as text with an article: "a memory".
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
