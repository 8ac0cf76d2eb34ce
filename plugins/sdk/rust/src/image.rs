//! The two images as plain bytes (ABI version 0), little endian. Points are the better way to reach
//! a single value: see `point.rs`.

use crate::{check, raw, Error};

/// Fills `buf` from the input image at byte `address`, as latched at the start of the cycle.
pub fn read_input(address: u32, buf: &mut [u8]) -> Result<(), Error> {
    // SAFETY: the host writes exactly `buf.len()` bytes there, or none.
    check(unsafe { raw::wasm_read_input(address, buf.as_mut_ptr(), buf.len()) })
}

/// Stages `data` for the output image at byte `address`.
pub fn write_output(address: u32, data: &[u8]) -> Result<(), Error> {
    // SAFETY: the host reads exactly `data.len()` bytes from there.
    check(unsafe { raw::wasm_write_output(address, data.as_ptr(), data.len()) })
}

/// Fills `buf` from the output image at byte `address`, as committed at the end of the last cycle.
pub fn read_output(address: u32, buf: &mut [u8]) -> Result<(), Error> {
    // SAFETY: the host writes exactly `buf.len()` bytes there, or none.
    check(unsafe { raw::wasm_read_output(address, buf.as_mut_ptr(), buf.len()) })
}
