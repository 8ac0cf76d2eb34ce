//! The `camshaft` command: parses arguments, runs one verb, prints the error chain, sets the exit code.

fn main() {}
