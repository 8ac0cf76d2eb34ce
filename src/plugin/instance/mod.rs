//! Instances: how an artifact becomes a program in the scan, and what its code may call.
//!
//! - `program.rs` is the program in the scan: an instance with its settings and rights.
//! - `wasm.rs` makes an instance of an artifact and calls it. `tables.rs` limits the tables of an
//!   instance, and `code.rs` the compiled code of all instances.
//! - `guest.rs` is the host's side of an instance. `rights.rs` holds what the guest may use,
//!   `state.rs` the state that it hands over, and `pace.rs` how fast it may log.
//! - `abi.rs` and `wasi.rs` have the functions that the guest may call, and `memory.rs` the guest's
//!   memory as these functions use it. `bind.rs` binds the functions to the instance.
//! - `stop.rs` ends a call that runs too long, and `trap.rs` puts a failure into words.
//!
//! No file here reads a module's bytes: `module` decides which modules are good, and compiles them.

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
