//! Access to the bytes of the two images (ABI version 0). Numbers in the images are little endian.
//! To access a single value, prefer the functions for points in `point.rs`.

use crate::{check, raw, Error};

/// Fills `buf` from the input image at byte `address`. The image is latched once per cycle.
pub fn read_input(address: u32, buf: &mut [u8]) -> Result<(), Error> {
    // SAFETY: the host writes exactly `buf.len()` bytes to `buf`, or none.
    check(unsafe { raw::wasm_read_input(address, buf.as_mut_ptr(), buf.len()) })
}

/// Writes `data` to the output image at byte `address`, with effect at the end of the poll.
pub fn write_output(address: u32, data: &[u8]) -> Result<(), Error> {
    // SAFETY: the host reads exactly `data.len()` bytes from `data`.
    check(unsafe { raw::wasm_write_output(address, data.as_ptr(), data.len()) })
}

/// Fills `buf` from byte `address` of the output image as it was at the end of the last cycle.
pub fn read_output(address: u32, buf: &mut [u8]) -> Result<(), Error> {
    // SAFETY: the host writes exactly `buf.len()` bytes to `buf`, or none.
    check(unsafe { raw::wasm_read_output(address, buf.as_mut_ptr(), buf.len()) })
}
