//! The sandbox holds: no trap and no instruction of a guest harms anybody else.
//!
//! What a guest does at the end of its stack is tried in `sandbox/depth.rs`: the operations are
//! listed in `operation.rs`, the module that does them is in `guest.rs`, one probe in `probe.rs` and
//! `witness.rs`, and the process in which it is made in `child.rs`. Long straight code is tried in
//! `row.rs`; the pieces that it is made of are in `straight.rs`, from the list of all instructions
//! in `instruction.rs`. Each search has a short form for CI and a long one (`tests/run --long
//! sandbox::`).

mod child;
mod deep_trap;
mod depth;
mod guest;
mod instruction;
mod operation;
mod probe;
mod row;
mod straight;
mod witness;
