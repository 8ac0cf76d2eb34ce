//! The integration tests. Each file next to this file is one module of tests or of tools for tests.
//!
//! All tests are in one binary, so that the library is linked only once. Run all tests of a file
//! with `cargo test --test it NAME`, where NAME is the module, for example `cargo test --test it
//! swap`.

#![allow(unreachable_pub, reason = "nobody outside sees a test")]
#![allow(clippy::unwrap_used, reason = "clippy exempts only functions marked as tests")]
#![allow(clippy::print_stdout, reason = "tests print the figures that they see")]

mod abi;
mod audit;
mod budget;
mod check;
mod confine;
mod control;
mod crash;
mod daemon;
mod device;
mod evil;
mod field;
mod folder;
mod force;
mod hang;
mod history;
mod hostile;
mod limits;
mod log;
mod long;
mod mute;
mod notice;
mod offline;
mod quiet;
mod reason;
mod recipe;
mod refuse;
mod refused;
mod regression;
mod reload;
mod retain;
mod rig;
mod right;
mod rollback;
mod sandbox;
mod scan;
mod service;
mod shadow;
mod simulation;
mod stall;
mod steady;
mod swap;
mod systemd;
mod tidy;
mod toolchain;
mod weather;
