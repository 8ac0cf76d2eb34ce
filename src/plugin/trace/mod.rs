//! Traces: what a program was given and did, so that its end can be examined and played again.
//!
//! - `tape.rs` is the record of the calls, and `checkpoint.rs` a copy of the memory to begin at.
//! - `record.rs` takes the checkpoints while the program runs, and makes the post-mortem after a
//!   trap, with the `backtrace.rs`.
//! - `player.rs` compares a guest with a tape and answers it from there.
//!
//! All of this stands below the instance, which writes the tape. How an instance is run on a tape
//! is in `plugin/replay.rs`; what a report says, in `crash`.

pub mod backtrace;
pub mod checkpoint;
pub mod player;
pub mod record;
pub mod tape;
