//! The process image at work: what a cycle works on, between the devices and the programs.
//!
//! This folder knows no device, no module and no wasm. It holds the values and decides which of
//! them are valid; `scan` decides when the values move.
//!
//! - `world.rs` is everything that the scan lends to each program in turn: the images, the owners
//!   of the outputs, the variables, the log. `lent.rs` does the lending.
//! - `image.rs` says what a point is, where it lies in the image, and how good its value is.
//! - `variable.rs` is the table of the values that programs share.
//! - `overlay.rs` holds the values that replace those of devices and programs: safe over force over
//!   program.
//! - `seat.rs` is a program's place in the scan, and `grant.rs` what a program may use.
//! - `scratch.rs` holds the output bytes that a program has written in the present poll. These
//!   bytes are not valid yet.
//! - `call.rs` has the phases of a program and the result codes of its calls, `refused.rs` the
//!   reasons for refused calls, and `line.rs` the log lines about programs.

pub mod call;
pub mod grant;
pub mod image;
pub mod lent;
pub mod line;
pub mod overlay;
pub mod refused;
pub(crate) mod scratch;
pub mod seat;
pub mod variable;
pub mod world;
