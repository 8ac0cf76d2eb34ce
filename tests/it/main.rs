//! Everything that needs more than one module: one binary, so that it is linked once.

#![allow(unreachable_pub, reason = "nobody outside sees a test")]

mod abi;
mod recipe;
mod refuse;
mod rig;
mod scan;
