//! The `camshaft` command: parses arguments, runs one verb, prints the error chain, sets the exit
//! code. The verbs are in `cli.rs`, and the map of the source is in `lib.rs`.
//!
//! The compile worker is this program too, under a verb of its own. So is the child process in
//! which the offline verbs read bytes from outside.

use std::process::ExitCode;

use camshaft::cli;
use camshaft::plugin::module::compile;

/// Starts the worker, the child or the command line, by the first argument.
fn main() -> ExitCode {
    // This comes before anything else: the worker handles hostile bytes and needs no set-up.
    match std::env::args().nth(1).as_deref() {
        Some(compile::WORKER_VERB) => compile::worker(),
        Some(cli::CHILD_VERB) => cli::child(),
        _ => cli::main(),
    }
}
