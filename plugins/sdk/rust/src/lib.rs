//! What a Camshaft plugin in Rust needs: safe, without `std`, without allocation.
//!
//! A plugin is a struct that implements [`Program`], handed to the host by [`program!`]:
//!
//! ```ignore
//! #![no_std]
//! use camshaft_guest::{info, point, program, Point, Program};
//!
//! struct Doorbell {
//!     button: Option<Point<bool>>,
//!     lamp: Option<Point<bool>>,
//! }
//!
//! impl Program for Doorbell {
//!     fn init(&mut self) {
//!         self.button = point("button.start").ok();
//!         self.lamp = point("lamp").ok();
//!         info!("ready");
//!     }
//!
//!     fn poll(&mut self) {
//!         if let (Some(button), Some(lamp)) = (self.button, self.lamp) {
//!             let pressed = button.good().unwrap_or(false);
//!             let _ = lamp.write(pressed);
//!         }
//!     }
//! }
//!
//! program!(Doorbell = Doorbell { button: None, lamp: None });
//! ```
//!
//! In `Cargo.toml`: `crate-type = ["cdylib"]`, this crate with the feature `panic-handler`, and
//! in the profile `panic = "abort"`. Then
//! `cargo build --release --target wasm32-unknown-unknown`.
//!
//! Inputs stand still during a poll; what a poll writes takes effect when it returns, and nothing
//! of it when it traps. The crate compiles with Rust 1.63. It does not hide the host: every
//! call's error comes back as an [`Error`]. A complete plugin is `../../motor/motor.rs`.

#![no_std]
#![warn(missing_docs)]

use core::fmt;

mod image;
mod log;
mod point;
mod program;
mod raw;
mod time;
mod variable;

pub use image::{read_input, read_output, write_output};
pub use log::{log, log_args, Level};
pub use point::{is_degraded, point, Point, PointType, Quality, Reading};
pub use program::{read_state, write_state, Program, Single, Stateful};
pub use time::{cycle, now, Cycle};
pub use variable::{read_variable, write_variable, VariableType};

/// Why the host did not do what it was asked; nothing has changed then.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Error {
    /// Code 1: a bad length or value (a float that is not finite), too long a text, a limit reached.
    Generic,
    /// Code 2: the address lies outside the image.
    OutOfBounds,
    /// Code 3: no variable or point of that name.
    Unknown,
    /// Code 4: it exists with another type.
    OtherType,
    /// Code 5: not granted to this plugin, owned by another, or not at this time.
    Denied,
}

impl Error {
    /// The host's code for it.
    pub const fn code(self) -> i32 {
        match self {
            Self::Generic => 1,
            Self::OutOfBounds => 2,
            Self::Unknown => 3,
            Self::OtherType => 4,
            Self::Denied => 5,
        }
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Generic => "bad length, value or text, or a limit reached",
            Self::OutOfBounds => "outside the image",
            Self::Unknown => "not there",
            Self::OtherType => "of another type",
            Self::Denied => "access denied",
        })
    }
}

/// A code of the host as a result; a code from a later contract counts as [`Error::Generic`].
fn check(code: i32) -> Result<(), Error> {
    match code {
        0 => Ok(()),
        2 => Err(Error::OutOfBounds),
        3 => Err(Error::Unknown),
        4 => Err(Error::OtherType),
        5 => Err(Error::Denied),
        _ => Err(Error::Generic),
    }
}

/// Logs the panic, then traps: the host makes the program's outputs safe.
#[cfg(all(feature = "panic-handler", target_arch = "wasm32"))]
#[panic_handler]
fn panic(info: &core::panic::PanicInfo<'_>) -> ! {
    let (file, line) = info.location().map_or(("", 0), |place| (place.file(), place.line()));
    log_args(Level::Error, file, line, format_args!("{}", info));
    core::arch::wasm32::unreachable()
}
