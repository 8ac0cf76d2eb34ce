//! The `camshaft` command: it parses the arguments, runs one verb, prints the error chain and sets
//! the exit code. The verbs are in `cli.rs`, and the map of the source is in `lib.rs`.
//!
//! Two other processes run this same program, each under a verb of its own: the compile worker, and
//! the child process in which the offline verbs read bytes from outside.

use std::process::ExitCode;

use camshaft::cli;
use camshaft::plugin::module::compile;

/// Starts the worker, the child process or the command line, as the first argument says.
fn main() -> ExitCode {
    // This match comes before anything else, because the worker handles hostile bytes and needs no
    // set-up.
    match std::env::args().nth(1).as_deref() {
        Some(compile::WORKER_VERB) => compile::worker(),
        Some(cli::CHILD_VERB) => cli::child(),
        _ => cli::main(),
    }
}
