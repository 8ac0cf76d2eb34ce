//! The remedy for imports that are not offered. The remedy and the reason are the two texts of a
//! [`Refusal`](crate::plugin::Refusal). An import is not offered in three cases: no offered
//! function has its import module and name, the offered function has another type, or the import
//! is not a function.
//!
//! [`remedy`] makes the remedy. If an offered function has a similar name, the remedy contains that
//! function and its type. `check.rs` makes the reason. For this purpose, [`signature`] writes the
//! type of an imported or exported function as text, and [`no_function`] writes the kind of an
//! import that is not a function.
//!
//! `check.rs` compares the imports with the offers, which `offer.rs` lists, and decides whether the
//! module is refused. For the other checks, both texts are made in `check.rs`, in `size.rs` (about
//! sizes), in `frame.rs` (about frames) and in `module/mod.rs` (about malformed bytes).

use wasmer::sys::wasmparser::{FuncType, TypeRef, ValType};

use super::super::offer::{self, Offer};
use crate::text::nearest;

/// Returns the type of a function as text, in the notation of WebAssembly tools. Example:
/// `(i32, i32) -> i32`.
pub(super) fn signature(ty: &FuncType) -> String {
    let list =
        |types: &[ValType]| types.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ");
    match ty.results() {
        [one] => format!("({}) -> {one}", list(ty.params())),
        results => format!("({}) -> ({})", list(ty.params()), list(results)),
    }
}

/// Returns the type of an offered function as text, in the notation of [`signature`].
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

/// Most imports that one refusal names. Further imports usually have the same problem, so their
/// names would not help.
pub(super) const MAX_MISSING: usize = 8;

/// The hint for the author of a module about one import that is not offered.
#[derive(Debug)]
pub(super) enum Hint {
    /// No offered function has a similar name, or no search for one was made, because the refusal
    /// already names [`MAX_MISSING`] imports.
    None,
    /// An offered function with a similar name, or with the same name in another import module. The
    /// text is its import module, name and type.
    Near(String),
    /// A function with this import module and name is offered, but has another type than the
    /// import. The text is the type of the offered function.
    Is(String),
    /// The import is not a function. Only functions are offered.
    NoFunction,
}

/// Makes the remedy for imports that are not offered, from their names and hints. Uses at most
/// [`MAX_MISSING`] of them. If there are several such imports, the text of each hint contains the
/// name of its import.
pub(super) fn remedy(hints: &[(String, Hint)]) -> String {
    let is_alone = hints.len() == 1;
    let words = |(import, hint): &(String, Hint)| match hint {
        Hint::None => None,
        Hint::Near(near) if is_alone => Some(format!("did you mean {near}?")),
        Hint::Near(near) => Some(format!("for {import}, did you mean {near}?")),
        Hint::Is(ty) if is_alone => Some(format!("the host offers this function as {ty}")),
        Hint::Is(ty) => Some(format!("the host offers {import} as {ty}")),
        Hint::NoFunction if is_alone => Some(format!("{ONLY_FUNCTIONS}; {OWN}")),
        Hint::NoFunction => {
            Some(format!("{ONLY_FUNCTIONS}, and {import} is not a function: {OWN}"))
        }
    };
    let shown = &hints[..hints.len().min(MAX_MISSING)];
    let mut all: Vec<String> = shown.iter().filter_map(words).collect();
    // At least one of the shown imports has no hint. For such imports, the remedy says which
    // functions are offered.
    if all.len() < shown.len() {
        all.push("the host offers the functions of `camshaft.h` and of WASI preview 1".into());
    }
    all.join("; ")
}

/// Finds the offered function that the author of the module probably meant. Returns its import
/// module, name and type as text, or `None` if no offered function has a similar name.
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
