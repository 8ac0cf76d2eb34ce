//! The process image at work: what a cycle works on, between the devices and the programs.
//!
//! This folder knows no device, no module and no wasm. It has the values and says which of them
//! count; when they move is decided in `scan`.
//!
//! - `image.rs` says what a point is, where it lies in the image, and how good its value is.
//! - `variable.rs` is the table of the values that programs share.
//! - `seat.rs` is a program's place in the scan, and `grant.rs` what a program may use.
//! - `call.rs` is what a program is called for and gets as a result, and `refused.rs` why a call of
//!   it was refused.

pub mod call;
pub mod grant;
pub mod image;
pub mod refused;
pub mod seat;
pub mod variable;
