//! The process image at work: what a cycle works on, between the devices and the programs.
//!
//! This folder knows no device, no module and no wasm. It has the values and says which of them
//! count; when they move is decided in `scan`.
//!
//! - `world.rs` is all of it together, as it is lent to each program in turn: the images, the
//!   owners of the outputs, the variables, the log. `lent.rs` says who has it.
//! - `image.rs` says what a point is, where it lies in the image, and how good its value is.
//! - `variable.rs` is the table of the values that programs share.
//! - `overlay.rs` is what stands over those: safe over force over program.
//! - `seat.rs` is a program's place in the scan, and `grant.rs` what a program may use.
//! - `scratch.rs` holds what a program has written and what does not count yet.
//! - `call.rs` is what a program is called for and gets as a result, `refused.rs` why a call of it
//!   was refused, and `line.rs` what the log gets to know.

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
