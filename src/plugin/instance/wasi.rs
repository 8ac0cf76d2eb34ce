//! The functions of WASI preview 1 that modules from common toolchains import.
//!
//! Printed text becomes log lines. Every clock shows the time of the cycle. Random numbers come
//! from a generator whose seed is made from the plugin's name. `proc_exit` causes a trap. The
//! arguments and the environment are empty. `sched_yield` does nothing and returns success. Every
//! other function of preview 1 can be imported, but only returns the error `badf` or `nosys`,
//! because a plugin has no files and no sockets.
//!
//! The functions of the contract are in `abi.rs`. `bind.rs` connects both groups of functions to an
//! instance.

use super::guest::Guest;
use super::memory::Memory;
use crate::process::line::Level;

/// The error numbers of WASI preview 1 that the functions here return.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(i32)]
pub(super) enum Errno {
    /// Bad file descriptor.
    Badf = 8,
    /// Bad address.
    Fault = 21,
    /// Invalid argument.
    Inval = 28,
    /// Function not supported.
    Nosys = 52,
}

/// Largest number of buffers that one `fd_write` reads. The guest gets the number of written bytes
/// and can call `fd_write` again for the rest.
const MAX_BUFFERS: u32 = 16;

/// Largest number of bytes that one `fd_write` writes. The guest gets the number of written bytes
/// and can call `fd_write` again for the rest.
const MAX_WRITE: u32 = 4096;

/// Largest number of random bytes of one call. A longer request is refused, because `random_get` of
/// preview 1 cannot return only a part of the requested bytes.
const MAX_RANDOM: u32 = 64 << 10;

fn fault<T>(_: T) -> Errno {
    Errno::Fault
}

/// `fd_write(fd, buffers, count, written)`: logs text line by line. Descriptor 1 logs at level
/// info, descriptor 2 at level warn.
pub(super) fn fd_write(
    guest: &mut Guest,
    memory: &Memory<'_>,
    fd: i32,
    buffers: u32,
    count: u32,
    written: u32,
) -> Result<(), Errno> {
    let level = match fd {
        1 => Level::Info,
        2 => Level::Warn,
        _ => return Err(Errno::Badf),
    };
    // All pointers are checked before the first byte is printed, so that a failed call changes
    // nothing.
    memory.check(written, 4).map_err(fault)?;
    memory.check(buffers, count.checked_mul(8).ok_or(Errno::Fault)?).map_err(fault)?;
    let parts = || (0..count.min(MAX_BUFFERS)).map(|n| buffer(memory, buffers + 8 * n));
    for part in parts() {
        let (start, len) = part?;
        memory.check(start, len).map_err(fault)?;
    }
    if guest.printed_level != level {
        guest.flush();
        guest.printed_level = level;
    }
    let mut taken = 0;
    for part in parts() {
        let (start, len) = part?;
        let len = len.min(MAX_WRITE - taken);
        print(guest, memory, start, len);
        taken += len;
    }
    memory.write(written, &taken.to_le_bytes()).map_err(fault)
}

/// Reads the address and the length of one buffer of `fd_write` from the guest's buffer list at
/// `at`.
fn buffer(memory: &Memory<'_>, at: u32) -> Result<(u32, u32), Errno> {
    let mut word = [[0; 4]; 2];
    memory.read(at, word.as_flattened_mut()).map_err(fault)?;
    Ok((u32::from_le_bytes(word[0]), u32::from_le_bytes(word[1])))
}

/// Adds `len` bytes of the guest's memory to the log line in [`Guest::printed`], and logs each
/// complete line. The caller has checked that the bytes are inside the memory.
fn print(guest: &mut Guest, memory: &Memory<'_>, start: u32, len: u32) {
    let mut piece = [0; 256];
    for at in (0..len).step_by(piece.len()) {
        let piece = &mut piece[..(len - at).min(256) as usize];
        memory.read(start + at, piece).expect("the range was checked");
        let mut lines = piece.split(|&byte| byte == b'\n').peekable();
        while let Some(line) = lines.next() {
            guest.printed.push(line);
            if lines.peek().is_some() {
                guest.flush();
            }
        }
    }
}

/// `clock_time_get(clock, precision, time)`: writes the time of the cycle into the guest's memory,
/// in nanoseconds. All four clocks of WASI show the same time.
pub(super) fn clock_time_get(
    guest: &mut Guest,
    memory: &Memory<'_>,
    clock: i32,
    time: u32,
) -> Result<(), Errno> {
    if !(0..=3).contains(&clock) {
        return Err(Errno::Inval);
    }
    let nanos = u64::try_from(guest.world.now.as_nanos()).unwrap_or(u64::MAX);
    memory.write(time, &nanos.to_le_bytes()).map_err(fault)
}

/// `random_get(buffer, len)`: writes random bytes into the guest's buffer. A request for more than
/// [`MAX_RANDOM`] bytes is refused.
pub(super) fn random_get(
    guest: &mut Guest,
    memory: &Memory<'_>,
    buffer: u32,
    len: u32,
) -> Result<(), Errno> {
    memory.check(buffer, len).map_err(fault)?;
    if len > MAX_RANDOM {
        return Err(Errno::Inval);
    }
    let mut piece = [0; 256];
    for at in (0..len).step_by(piece.len()) {
        let piece = &mut piece[..(len - at).min(256) as usize];
        guest.random.fill(piece);
        memory.write(buffer + at, piece).map_err(fault)?;
    }
    Ok(())
}

/// `args_sizes_get` and `environ_sizes_get`: report 0 entries and 0 bytes.
pub(super) fn no_sizes(memory: &Memory<'_>, count: u32, size: u32) -> Result<(), Errno> {
    memory.check(size, 4).map_err(fault)?;
    memory.write(count, &[0; 4]).map_err(fault)?;
    memory.write(size, &[0; 4]).map_err(fault)
}
