//! The contract with a guest: the host functions of the import module `env`.
//!
//! This file has the functions that log, read and write the process image by address, read and
//! write variables, and save and restore state. The functions that use points by name are in
//! `abi/point.rs`. The functions of WASI are in `wasi.rs`.
//!
//! Most functions have these parameters: the guest, its memory, and the unchecked arguments from
//! the guest. A function checks all arguments before it changes anything, and returns success or an
//! error [`Code`]. No argument may make the host panic.
//!
//! This file does not use wasmer. `bind.rs` connects the functions to an instance.
//! `module/offer.rs` lists their names and types.

pub(super) mod point;
#[cfg(test)]
mod tests;

use std::ops::Range;
use std::sync::Arc;

use super::guest::Guest;
use super::memory::Memory;
use crate::process::call::{CallResult, Code, Phase};
use crate::process::image::{Direction, Points};
use crate::process::line::{Level, MAX_FILE_BYTES, MAX_LOG_BYTES, Message};
use crate::process::refused::Why;
use crate::process::variable::{MAX_NAME_BYTES, Variable, VariableKind};
use crate::text::FixedText;

/// Reads the name of a variable or point from the guest's memory. A name that is too long, or is no
/// UTF-8, is an error.
fn name<'a>(
    memory: &Memory<'_>,
    at: u32,
    len: u32,
    buffer: &'a mut [u8; MAX_NAME_BYTES],
) -> Result<&'a str, Code> {
    let buffer = buffer.get_mut(..len as usize).ok_or(Code::Error)?;
    memory.read(at, buffer)?;
    std::str::from_utf8(buffer).map_err(|_| Code::Error)
}

/// Reads a text from the guest's memory. A text that is too long for `FixedText` is cut; a text
/// that is no UTF-8 is an error.
fn text<const N: usize>(memory: &Memory<'_>, at: u32, len: u32) -> Result<FixedText<N>, Code> {
    memory.check(at, len)?;
    let mut buffer = [0; N];
    let taken = &mut buffer[..N.min(len as usize)];
    memory.read(at, taken)?;
    match std::str::from_utf8(taken) {
        Ok(_) => {}
        // The cut may have split the last character. This is no error: `FixedText::as_str` returns
        // the text without the incomplete character.
        Err(error) if error.error_len().is_none() && len as usize > N => {}
        Err(_) => return Err(Code::Error),
    }
    let mut text = FixedText::default();
    text.push(taken);
    Ok(text)
}

/// `wasm_log(level, file, file_len, line, msg, msg_len)`: writes a line to the log, unless the
/// guest has exceeded its rate limit of log lines.
pub(super) fn log(
    guest: &mut Guest,
    memory: &Memory<'_>,
    level: i32,
    (file, file_len): (u32, u32),
    line: i32,
    (msg, msg_len): (u32, u32),
) -> CallResult {
    let level = match level {
        0 => Level::Error,
        1 => Level::Warn,
        2 => Level::Info,
        3 => Level::Debug,
        4 => Level::Trace,
        _ => return Err(Code::Error),
    };
    let file = text::<MAX_FILE_BYTES>(memory, file, file_len)?;
    let text = text::<MAX_LOG_BYTES>(memory, msg, msg_len)?;
    guest.log(Message::Said { level, file, line: line.cast_unsigned(), text });
    Ok(())
}

/// Returns the range of `len` bytes at `address`. Returns an error if the range does not fit into
/// an image of `size` bytes.
fn range(address: u32, len: u32, size: usize) -> Result<Range<usize>, Code> {
    let end = u64::from(address) + u64::from(len);
    if end > size as u64 {
        return Err(Code::OutOfBounds);
    }
    Ok(address as usize..end as usize)
}

/// `wasm_read_input(address, buf, len)`: copies bytes of the input image into the guest's memory.
pub(super) fn read_input(
    guest: &mut Guest,
    memory: &Memory<'_>,
    address: u32,
    buf: u32,
    len: u32,
) -> CallResult {
    let range = range(address, len, guest.world.inputs.bytes.len())?;
    if !guest.may_read(range.clone()) {
        let points = Arc::clone(&guest.world.points);
        let mut ids = range.flat_map(|byte| points.at(Direction::In, byte));
        let denied = ids.find(|id| !guest.may_read_point(**id)).map(|id| &*points[*id].name);
        return Err(guest.refuse(Why::InputNotGranted, denied.unwrap_or_default()));
    }
    memory.write(buf, &guest.world.inputs.bytes[range])
}

/// `wasm_read_output(address, buf, len)`: copies output values into the guest's memory. These are
/// the values that the scan wrote to the devices at the end of the last cycle.
pub(super) fn read_output(
    guest: &mut Guest,
    memory: &Memory<'_>,
    address: u32,
    buf: u32,
    len: u32,
) -> CallResult {
    let range = range(address, len, guest.world.driven.len())?;
    memory.write(buf, &guest.world.driven[range])
}

/// `wasm_write_output(address, data, len)`: writes bytes of the output image.
///
/// The call is refused outside of `poll`. The program must own every point in these bytes, or must
/// be able to claim it. The rule holds for every bool that shares a byte with other bools, because
/// the call writes whole bytes. A float in these bytes must be a finite number, because a device
/// can use no other value. A value outside the range of its point is refused or moved into the
/// range, as the key `on_overflow` says.
pub(super) fn write_output(
    guest: &mut Guest,
    memory: &Memory<'_>,
    address: u32,
    data: u32,
    len: u32,
) -> CallResult {
    let range = range(address, len, guest.world.outputs.len())?;
    memory.check(data, len)?;
    if guest.phase != Phase::Poll {
        return Err(Code::Denied);
    }
    let points = Arc::clone(&guest.world.points);
    may_claim_all(guest, &points, range.clone())?;
    let is_unfinished = judge(guest, memory, &points, (range.clone(), data))?;
    let ids = range.clone().flat_map(|byte| points.at(Direction::Out, byte));
    ids.for_each(|&id| {
        guest.claim(id);
    });
    if is_unfinished {
        guest.scratch.note_unfinished();
    }
    // The bytes are copied in pieces of 64 bytes, because a buffer for a whole image may be too
    // large for the stack.
    let mut piece = [0; 64];
    for (n, at) in range.clone().step_by(piece.len()).enumerate() {
        let piece = &mut piece[..64.min(range.end - at)];
        memory.read(data + n as u32 * 64, piece)?;
        guest.scratch.stage_all(at, piece);
    }
    Ok(())
}

/// Checks that the program can claim every output in these bytes. If the program cannot claim all
/// of them, the function counts a refused call for the first output that cannot be claimed, returns
/// an error and claims no output.
fn may_claim_all(guest: &mut Guest, points: &Points, bytes: Range<usize>) -> CallResult {
    let mut ids = bytes.flat_map(|byte| points.at(Direction::Out, byte));
    match ids.find(|&&id| !guest.may_claim(id)) {
        Some(&refused) => {
            guest.claim(refused);
            Err(Code::Denied)
        }
        None => Ok(()),
    }
}

/// Refuses bytes that would give an output a value that is no finite number, or a value outside its
/// range if `on_overflow` is `refuse`. Returns true if the host must finish the work at the end of
/// the poll. The first case is a number of which these bytes are only a part, because further calls
/// may write the rest of it. The second case is a number that must be moved into the range.
fn judge(
    guest: &mut Guest,
    memory: &Memory<'_>,
    points: &Points,
    (bytes, data): (Range<usize>, u32),
) -> Result<bool, Code> {
    let mut is_unfinished = false;
    for (id, point) in points.checked_outputs(bytes.clone()) {
        let own = point.bytes();
        if own.start < bytes.start || own.end > bytes.end {
            is_unfinished = true;
            continue;
        }
        let mut raw = [0; 8];
        let offset = (own.start - bytes.start) as u32;
        memory.read(data + offset, &mut raw[..own.len()])?;
        match point.confine(&raw) {
            Ok(confined) => is_unfinished |= confined != raw,
            Err(unfit) => return Err(guest.refuse_point(Why::of_number(unfit), id)),
        }
        guest.end_misgiven(id);
    }
    Ok(is_unfinished)
}

/// `wasm_current_time(secs, nanos)`: writes the time of the cycle into the guest's memory.
pub(super) fn current_time(
    guest: &mut Guest,
    memory: &Memory<'_>,
    secs: u32,
    nanos: u32,
) -> CallResult {
    memory.check(nanos, 4)?;
    let now = guest.world.now;
    memory.write(secs, &now.as_secs().to_le_bytes())?;
    memory.write(nanos, &now.subsec_nanos().to_le_bytes())
}

/// `wasm_variable_read_*(name, name_len, value)`: writes the value of a variable into the guest's
/// memory. The call is refused if the variable does not exist or has another type.
pub(super) fn variable_read(
    guest: &mut Guest,
    memory: &Memory<'_>,
    (at, len): (u32, u32),
    value: u32,
    kind: VariableKind,
) -> CallResult {
    let mut buffer = [0; MAX_NAME_BYTES];
    let name = name(memory, at, len, &mut buffer)?;
    let Some(variable) = guest.world.variables.read(name) else {
        return Err(guest.refuse(Why::NoVariable, name));
    };
    guest.end_absence(Why::NoVariable, name);
    if variable.kind() != kind {
        return Err(guest.refuse(Why::VariableType(variable.kind(), kind), name));
    }
    match variable {
        Variable::Boolean(on) => memory.write(value, &[on.into()]),
        Variable::Int(number) => memory.write(value, &number.to_le_bytes()),
        Variable::Double(number) => memory.write(value, &number.to_le_bytes()),
    }
}

/// `wasm_variable_write_*(name, name_len, value)`: writes a variable. If the variable does not
/// exist, the call creates it. The call is refused in `save`, and for the reasons in
/// [`Guest::write_variable`].
pub(super) fn variable_write(
    guest: &mut Guest,
    memory: &Memory<'_>,
    (at, len): (u32, u32),
    value: Variable,
) -> CallResult {
    let mut buffer = [0; MAX_NAME_BYTES];
    let name = name(memory, at, len, &mut buffer)?;
    if guest.phase == Phase::Save {
        return Err(Code::Denied);
    }
    guest.write_variable(name, value).map_err(Code::from)
}

/// `wasm_cycle(count, period_us)`: writes the number of the cycle and the scan period in
/// microseconds into the guest's memory.
pub(super) fn cycle(
    guest: &mut Guest,
    memory: &Memory<'_>,
    count: u32,
    period_us: u32,
) -> CallResult {
    memory.check(period_us, 4)?;
    let (cycle, period) = (guest.world.cycle, guest.world.period);
    memory.write(count, &cycle.to_le_bytes())?;
    let period = u32::try_from(period.as_micros()).unwrap_or(u32::MAX);
    memory.write(period_us, &period.to_le_bytes())
}

/// Reads the message of AssemblyScript's `abort` from the guest's memory. AssemblyScript stores a
/// string as UTF-16. The four bytes before the string have its length in bytes. If the string is
/// not inside the memory, the message is empty.
pub(super) fn abort_message(memory: &Memory<'_>, at: u32) -> String {
    /// The function reads at most this number of bytes of the message; a longer message is cut.
    const LONGEST: u32 = 512;
    let mut len = [0; 4];
    if at < 4 || memory.read(at - 4, &mut len).is_err() {
        return String::new();
    }
    let mut bytes = vec![0; u32::from_le_bytes(len).min(LONGEST) as usize & !1];
    if memory.read(at, &mut bytes).is_err() {
        return String::new();
    }
    let units = bytes.chunks_exact(2).map(|pair| u16::from_le_bytes([pair[0], pair[1]]));
    char::decode_utf16(units).map(|c| c.unwrap_or(char::REPLACEMENT_CHARACTER)).collect()
}

/// `wasm_state_write(data, len)`: appends bytes to the saved state. The call is refused outside of
/// `save`, and if the state would be too long.
pub(super) fn state_write(
    guest: &mut Guest,
    memory: &Memory<'_>,
    data: u32,
    len: u32,
) -> CallResult {
    if guest.phase != Phase::Save {
        return Err(Code::Denied);
    }
    memory.check(data, len)?;
    let Some(room) = guest.state.grow(len as usize) else {
        return Err(guest.refuse(Why::StateLimit, ""));
    };
    memory.read(data, room).inspect_err(|_| guest.state.shrink(len as usize))
}

/// `wasm_state_read(buf, len, read)`: copies the next bytes of the saved state, at most `len`, into
/// the guest's memory at `buf`, and writes their number to `read`. At the end of the state, the
/// number is 0. The call is refused outside of `restore`.
pub(super) fn state_read(
    guest: &mut Guest,
    memory: &Memory<'_>,
    buf: u32,
    len: u32,
    read: u32,
) -> CallResult {
    if guest.phase != Phase::Restore {
        return Err(Code::Denied);
    }
    memory.check(read, 4)?;
    let next = guest.state.next(len as usize);
    memory.write(buf, next)?;
    let taken = next.len();
    guest.state.advance(taken);
    memory.write(read, &(taken as u32).to_le_bytes())
}
