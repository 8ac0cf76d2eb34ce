//! Traces: records of what a program got from the host and did, so that its last calls can be
//! examined and played again.
//!
//! - `tape.rs` is the record of the calls, and `checkpoint.rs` a copy of the memory to begin at.
//! - `record.rs` takes the checkpoints while the program runs, and makes the post-mortem after a
//!   trap. `backtrace.rs` finds the call in it that made the mistake.
//! - `player.rs` compares a guest's calls with a tape and answers them from the tape.
//!
//! No file here runs a guest: the instance, one floor above, writes the tape. How an instance is
//! run on a tape is in `plugin/replay.rs`, and what a report says in `crash`.

pub mod backtrace;
pub mod checkpoint;
pub mod player;
pub mod record;
pub mod tape;
