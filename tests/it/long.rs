//! The duration and the seed of tests that search at random or put the daemon under load.
//!
//! CI runs the short form of these tests. `tests/run --long` runs the long form: it passes the
//! duration in `CAMSHAFT_TIME` and the seed in `CAMSHAFT_SEED`, and the functions of this file read
//! these variables. Each of these tests prints its seed when it fails, so that the run can be
//! repeated.

use std::time::Duration;

/// The seed of the short form: fixed, so that two runs of the tests do the same.
const SEED: u64 = 0xca25_4af7;

/// How long the test goes on: `short`, or what `CAMSHAFT_TIME` says in seconds.
pub fn time(short: Duration) -> Duration {
    let said = std::env::var("CAMSHAFT_TIME").ok();
    said.map_or(short, |said| {
        Duration::from_secs(said.parse().expect("CAMSHAFT_TIME is a number of seconds"))
    })
}

/// Whether this is the long form.
pub fn is_long() -> bool {
    std::env::var_os("CAMSHAFT_TIME").is_some()
}

/// The seed of the random choices of a test.
pub fn seed() -> u64 {
    let said = std::env::var("CAMSHAFT_SEED").ok();
    said.map_or(SEED, |said| said.parse().expect("CAMSHAFT_SEED is a number"))
}
