//! The `camshaft` command: selects the kind of process, and returns its exit code.
//!
//! The executable file of Camshaft runs as three kinds of processes. The first argument selects the
//! kind:
//! - the command line, which also contains the daemon (`camshaft run`),
//! - the compile worker: it parses and compiles `.wasm` modules for the daemon, and for `check`,
//!   `test` and `replay`,
//! - the child process in which the verbs `check`, `test` and `replay` read files of unknown
//!   origin.
//!
//! The verbs are in `cli.rs`, and the map of the source is in `lib.rs`.

use std::process::ExitCode;

use camshaft::cli;
use camshaft::plugin::module::compile;

/// Starts the worker, the child process or the command line. The first argument decides which.
fn main() -> ExitCode {
    // This match is the first step of the process. The compile worker parses bytes that may be
    // hostile, so no other code of Camshaft should run in its process before.
    match std::env::args().nth(1).as_deref() {
        Some(compile::WORKER_VERB) => compile::worker(),
        Some(cli::CHILD_VERB) => cli::child(),
        _ => cli::main(),
    }
}
