//! Offers: the functions that a module may import, with their types. `check.rs` compares the
//! imports of a module with this list. For a refused module, `check/import.rs` names functions from
//! the list in the remedy.
//!
//! This file only lists the functions. The code of the functions is in `instance/abi.rs` and
//! `instance/wasi.rs`, and `instance/bind.rs` connects it to the imports of an instance. The
//! functions of WASI are listed in `offer/wasi.rs`.

pub(in crate::plugin) mod wasi;

/// A function that a module may import.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Offer {
    /// The import module that has the function: `env` or `wasi_snapshot_preview1`.
    pub module: &'static str,
    /// The name of the function.
    pub name: &'static str,
    /// The types of the parameters, one letter for each: `i` is i32, `I` is i64, `d` is f64.
    pub parameters: &'static str,
    /// Whether the function returns an i32. If false, the function returns no value.
    pub returns: bool,
}

/// The name of the import module with the functions of the contract between daemon and plugin.
pub const ENV: &str = "env";

/// Makes the list entry of a function of the import module `env`. The function returns a
/// [`Code`](crate::process::call::Code).
const fn env(name: &'static str, parameters: &'static str) -> Offer {
    Offer { module: ENV, name, parameters, returns: true }
}

/// The functions in version 0 of the contract between daemon and plugin.
pub const VERSION_0: &[Offer] = &[
    env("wasm_log", "iiiiii"),
    env("wasm_read_input", "iii"),
    env("wasm_write_output", "iii"),
    env("wasm_current_time", "ii"),
    env("wasm_variable_read_boolean", "iii"),
    env("wasm_variable_read_double", "iii"),
    env("wasm_variable_read_int", "iii"),
    env("wasm_variable_write_boolean", "iii"),
    env("wasm_variable_write_double", "iid"),
    env("wasm_variable_write_int", "iii"),
];

/// The functions that version 1 of the contract adds. AssemblyScript's `abort` is in [`ABORT`].
pub const VERSION_1: &[Offer] = &[
    env("wasm_point_find", "iii"),
    env("wasm_point_read_boolean", "iii"),
    env("wasm_point_read_double", "iii"),
    env("wasm_point_read_int", "iii"),
    env("wasm_point_write_boolean", "ii"),
    env("wasm_point_write_double", "id"),
    env("wasm_point_write_int", "ii"),
    env("wasm_read_output", "iii"),
    env("wasm_cycle", "ii"),
    env("wasm_state_write", "ii"),
    env("wasm_state_read", "iii"),
    env("wasm_point_quality", "iii"),
    env("wasm_degraded", "i"),
];

/// The function that AssemblyScript imports by default: `abort(message, file, line, column)`.
pub const ABORT: Offer = Offer { module: ENV, name: "abort", parameters: "iiii", returns: false };

/// The function that Emscripten's runtime calls when the memory has grown. The host does nothing in
/// this function.
pub const GROWTH: Offer =
    Offer { module: ENV, name: "emscripten_notify_memory_growth", parameters: "i", returns: false };

/// All functions that a module may import.
pub fn offers() -> impl Iterator<Item = Offer> {
    let own = VERSION_0.iter().chain(VERSION_1).copied();
    // The tape of a crash report names each called function by its number in this list. So a new
    // function must be added at the end. Otherwise old tapes would name wrong functions.
    own.chain([ABORT]).chain(wasi::offers()).chain([GROWTH])
}
