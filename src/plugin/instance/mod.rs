//! Instances: artifacts that run, from the host functions up to the program in the scan.
//!
//! - `program.rs` is the program in the scan: an instance with its settings and rights.
//! - `wasm.rs` makes an instance of an artifact and calls it, within `tables.rs` and `code.rs`, the
//!   limits of its tables and of the code of all instances.
//! - `guest.rs` is the host's side of it: `rights.rs`, `state.rs` and `pace.rs` hold what it may
//!   use, hand on and log.
//! - `abi.rs` and `wasi.rs` carry out what the guest calls, with its `memory.rs`; `bind.rs` binds
//!   them to the instance.
//! - `stop.rs` ends a call that runs too long, and `trap.rs` puts a failure into words.
//!
//! What a module must be to come here is decided in `module`.

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
