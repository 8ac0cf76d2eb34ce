//! Instances: the code here makes a program for the scan from an artifact, runs the program, and
//! offers the host functions that the program may call.
//!
//! - `program.rs` has the program that the scan polls: an instance with its settings and rights.
//! - `wasm.rs` makes an instance of an artifact and calls the instance. `tables.rs` limits the
//!   tables of one instance. `code.rs` limits the compiled code of all instances together.
//! - `guest.rs` has the host's data about one instance. `rights.rs` lists the points and variables
//!   that the guest may use. `state.rs` has the bytes that `save` writes and `restore` reads.
//!   `pace.rs` limits how many lines per second the guest may log.
//! - `abi.rs` and `wasi.rs` have the host functions that the guest may call. `memory.rs` gives
//!   these functions access to the guest's memory. `bind.rs` connects the functions to an instance.
//! - `stop.rs` stops a call that runs too long. `trap.rs` makes the text of a failure.
//!
//! No file in this folder reads the bytes of a .wasm module. The folder `plugin/module/` checks and
//! compiles modules.

mod abi;
pub(super) mod bind;
mod code;
pub(super) mod guest;
mod memory;
mod pace;
pub mod program;
mod rights;
mod state;
pub mod stop;
mod tables;
mod trap;
mod wasi;
pub(super) mod wasm;
