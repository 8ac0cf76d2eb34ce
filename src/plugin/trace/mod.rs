//! Traces: records of the calls between a program and the host. With a trace, the last calls before
//! a trap can be examined and played again.
//!
//! - `tape.rs` records the calls. `checkpoint.rs` copies the memory and the globals of an instance,
//!   so that a replay can begin with this copy. `spare.rs` has the memory for new copies.
//! - `record.rs` takes the checkpoints while the program runs, and collects the post-mortem data
//!   after a trap. `backtrace.rs` searches the active calls for the call that caused the trap.
//! - `player.rs` compares the calls of a guest (the running code of a module) with a tape, and
//!   answers these calls from the tape.
//!
//! No file in this folder runs a guest. The instance (`plugin/instance/`) writes the tape while it
//! runs. `plugin/replay.rs` runs an instance with a recorded tape. `crash.rs` makes crash reports.

pub mod backtrace;
pub mod checkpoint;
pub mod player;
pub mod record;
pub mod spare;
pub mod tape;
