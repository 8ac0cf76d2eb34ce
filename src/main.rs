//! The `camshaft` command: parses arguments, runs one verb, prints the error chain, sets the exit
//! code. The verbs are in `cli.rs`; the map of the house is in `lib.rs`.
//!
//! The compile worker is this program too, under a verb of its own; so is the child in which verbs
//! run that read what strangers have sent.

use std::process::ExitCode;

use camshaft::cli;
use camshaft::plugin::compile;

fn main() -> ExitCode {
    // Before anything else: the worker handles hostile bytes and wants nothing set up.
    match std::env::args().nth(1).as_deref() {
        Some(compile::WORKER_VERB) => compile::worker(),
        Some(cli::CHILD_VERB) => cli::child(),
        _ => cli::main(),
    }
}
