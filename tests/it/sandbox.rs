//! Tests of the sandbox: no trap and no instruction of a program may disturb another program.
//!
//! One search tries what a program can do near the end of its stack. The search is in
//! `sandbox/depth.rs`. Its operations are listed in `operation.rs`, and `guest.rs` makes the module
//! that performs them. `probe.rs` and `witness.rs` make one attempt, and `child.rs` has the process
//! in which the attempt runs.
//!
//! A second search tries long code without loops, and is in `sandbox/row.rs`. The code is put
//! together from the pieces of `straight.rs`, which come from the list of all instructions in
//! `instruction.rs`.
//!
//! Each search has a short form for CI and a long form: `tests/run --long sandbox::`.

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
