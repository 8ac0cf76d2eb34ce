//! The `camshaft` command: parses arguments, runs one verb, prints the error chain, sets the exit code.

use std::process::ExitCode;

use camshaft::plugin::compile;

fn main() -> ExitCode {
    // Before anything else: the worker handles hostile bytes and wants nothing set up.
    if std::env::args().nth(1).as_deref() == Some(compile::WORKER_VERB) {
        return compile::worker();
    }
    let path = std::env::args().nth(2).unwrap_or("config/camshaft.toml".into());
    let config = camshaft::config::load(path.as_ref()).unwrap();
    camshaft::daemon::run(config).unwrap()
}
