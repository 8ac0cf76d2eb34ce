//! The SDK for Camshaft plugins in Rust: safe, without `std`, and without memory allocation.
//!
//! A plugin is a struct that implements [`Program`]. The macro [`program!`] exports it to the host:
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
//! `Cargo.toml` needs `crate-type = ["cdylib"]`, this crate with the feature `panic-handler`, and
//! `panic = "abort"` in the profile. To build the plugin, run
//! `cargo build --release --target wasm32-unknown-unknown`.
//!
//! Inputs do not change during a poll. Writes take effect when the poll returns, and have no effect
//! if the poll traps. The crate compiles with Rust 1.63. If the host refuses a call, the function
//! returns an [`Error`]. The file `../../motor/motor.rs` is a complete plugin.

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

/// The reason why the host refused a call. A refused call changes nothing.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Error {
    /// Code 1: wrong length, value not allowed (such as NaN), text too long, or limit reached.
    Generic,
    /// Code 2: the address is outside the image.
    OutOfBounds,
    /// Code 3: no variable or point has this name.
    Unknown,
    /// Code 4: the variable or point has another type.
    OtherType,
    /// Code 5: not granted, owned by another plugin, or not allowed at this time.
    Denied,
}

impl Error {
    /// Returns the code that the host uses for this error.
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

/// Converts a code of the host into a result. An unknown code becomes [`Error::Generic`].
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

/// Logs the panic and then traps, so that the host makes the outputs of the program safe.
#[cfg(all(feature = "panic-handler", target_arch = "wasm32"))]
#[panic_handler]
fn panic(info: &core::panic::PanicInfo<'_>) -> ! {
    let (file, line) = info.location().map_or(("", 0), |place| (place.file(), place.line()));
    log_args(Level::Error, file, line, format_args!("{}", info));
    core::arch::wasm32::unreachable()
}
