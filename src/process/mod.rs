//! The process image: the values that a scan cycle works on, between the devices and the programs.
//!
//! This folder contains no code for devices, plugin files or WebAssembly. It stores the values and
//! decides which of the values are valid. `scan` decides when the values move. In one cycle a value
//! moves like this:
//!
//! ```text
//! driver ──▶ inputs ──▶ overlay ──▶ program ──▶ scratch ──▶ outputs ──▶ overlay ──▶ driver
//!            image.rs               (poll)      scratch.rs  world.rs
//! ```
//!
//! - `world.rs` defines the `World`: the images, the variables, the log and the owner of each
//!   output. The scan lends the `World` to each program in turn; `lent.rs` does the lending.
//! - `image.rs` defines a point, its address in the image, and the quality of its value.
//! - `variable.rs` has the table of variables. Variables are values that programs share.
//! - `overlay.rs` stores forces, substitute values and safe values. These values replace the values
//!   of devices and programs. For an output, a safe value replaces a force, and a force replaces
//!   the value of the program. `deadband.rs` ignores small changes of a program's value.
//! - `seat.rs` defines a seat, which is a program's slot in the scan. `grant.rs` defines which
//!   points and variables a program may use.
//! - `scratch.rs` stores the output bytes that a program has written in the present poll. These
//!   bytes become valid only if the poll ends without a trap.
//! - `call.rs` has the phases of a program, and the result codes of the calls that a guest makes.
//!   `refused.rs` has the reasons for refused calls, and `line.rs` has the log lines about
//!   programs.

pub mod call;
mod deadband;
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
