//! Everything that is tested from outside, in one binary: one module for each subject.

// clippy spares the functions marked as tests by itself, but not what they share.
#![allow(clippy::unwrap_used)]

mod log;
mod systemd;
