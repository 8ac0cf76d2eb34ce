//! The host functions with which a guest finds points by name, reads points with their quality, and
//! writes points. Version 1 of the contract added these functions.
//!
//! The functions of version 0, which read and write the process image by address, are in `abi.rs`.

use super::name;
use crate::plugin::instance::guest::Guest;
use crate::plugin::instance::memory::Memory;
use crate::process::call::{CallResult, Code, Phase};
use crate::process::image::{Direction, PointId, Unfit, Value};
use crate::process::refused::Why;
use crate::process::variable::{MAX_NAME_BYTES, VariableKind};

/// `wasm_point_find(name, name_len, id)`: writes the id of the point with this name into the
/// guest's memory.
pub(in super::super) fn find(
    guest: &mut Guest,
    memory: &Memory<'_>,
    (at, len): (u32, u32),
    id: u32,
) -> CallResult {
    let mut buffer = [0; MAX_NAME_BYTES];
    let name = name(memory, at, len, &mut buffer)?;
    // The refusal is logged, because a program may continue without the point and then has no
    // effect. Without a log line, the program's author would not know the reason.
    let Some(found) = guest.world.points.find(name) else {
        return Err(guest.refuse(Why::NoPoint, name));
    };
    guest.end_absence(Why::NoPoint, name);
    memory.write(id, &u32::from(found.0).to_le_bytes())
}

/// Returns the point with this id. If the id is unknown, the function counts a refused call.
fn point_of(guest: &mut Guest, id: i32) -> Result<PointId, Code> {
    let found = u16::try_from(id).map(PointId).ok();
    match found.filter(|id| guest.world.points.get(*id).is_some()) {
        Some(id) => Ok(id),
        None => Err(guest.refuse(Why::NoPointId(id), "")),
    }
}

/// `wasm_point_read_*(id, value, quality)`: writes the value and the quality of a point into the
/// guest's memory. For an output, the function writes the value that the scan passed to the device
/// at the end of the last cycle. If the address `quality` is 0, the function writes no quality.
pub(in super::super) fn read(
    guest: &mut Guest,
    memory: &Memory<'_>,
    id: i32,
    value: u32,
    quality: u32,
    kind: VariableKind,
) -> CallResult {
    let id = point_of(guest, id)?;
    let readable = guest.may_read_point(id);
    let world = &*guest.world;
    let point = &world.points[id];
    let image = match point.direction {
        Direction::In if !readable => return Err(guest.refuse_point(Why::InputNotGranted, id)),
        Direction::In => &world.inputs.bytes,
        Direction::Out => &world.driven,
    };
    if quality != 0 {
        memory.check(quality, 1)?;
    }
    match (kind, point.read(image)) {
        (VariableKind::Boolean, Value::Bool(on)) => memory.write(value, &[on.into()])?,
        (VariableKind::Int, Value::Int(number)) => {
            let Ok(number) = i32::try_from(number) else {
                return Err(guest.refuse_point(Why::OutOfRange, id));
            };
            memory.write(value, &number.to_le_bytes())?;
        }
        (VariableKind::Double, Value::Int(number)) => {
            memory.write(value, &(number as f64).to_le_bytes())?;
        }
        (VariableKind::Double, Value::Real(number)) => {
            memory.write(value, &number.to_le_bytes())?;
        }
        _ => return Err(guest.refuse_point(Why::PointType, id)),
    }
    if quality != 0 {
        memory.write(quality, &[world.inputs.quality[id.index()].class() as u8])?;
    }
    guest.end_misread(id);
    Ok(())
}

/// `wasm_point_quality(id, status, age_ms)`: writes the quality and the age of a point into the
/// guest's memory. `status` is the OPC UA status code of the quality. `age_ms` is the time since
/// the input last had good quality, in milliseconds. The age is [`u32::MAX`] if the input never had
/// good quality, or if the time does not fit 32 bits. The age of an output is 0.
pub(in super::super) fn quality(
    guest: &mut Guest,
    memory: &Memory<'_>,
    id: i32,
    status: u32,
    age_ms: u32,
) -> CallResult {
    let id = point_of(guest, id)?;
    let readable = guest.may_read_point(id);
    let world = &*guest.world;
    let point = &world.points[id];
    if point.direction == Direction::In && !readable {
        return Err(guest.refuse_point(Why::InputNotGranted, id));
    }
    memory.check(age_ms, 4)?;
    let good_at = world.inputs.good_at[id.index()];
    let age = match point.direction {
        Direction::Out => 0,
        Direction::In if good_at.is_zero() => u32::MAX,
        Direction::In => {
            u32::try_from(world.now.saturating_sub(good_at).as_millis()).unwrap_or(u32::MAX)
        }
    };
    memory.write(status, &world.inputs.quality[id.index()].opc_ua().to_le_bytes())?;
    memory.write(age_ms, &age.to_le_bytes())
}

/// `wasm_degraded(degraded)`: writes 1 into the guest's memory if a required input of the program
/// has had bad quality for longer than the configured time, otherwise 0. While `degraded` is 1,
/// values that the program writes have no effect: its outputs become safe, each after its hold
/// time.
pub(in super::super) fn degraded(
    guest: &mut Guest,
    memory: &Memory<'_>,
    degraded: u32,
) -> CallResult {
    let seat = guest.seat;
    let world = &*guest.world;
    let is_so = world.overlay.degraded(seat, world.now).is_some();
    memory.write(degraded, &[is_so.into()])
}

/// `wasm_point_write_*(id, value)`: writes an output point. The call is refused outside of `poll`,
/// if the program cannot claim the point, and if the value does not fit the point. A value outside
/// the range of the point is refused or moved into the range, as the key `on_overflow` says.
pub(in super::super) fn write(guest: &mut Guest, id: i32, value: Value) -> CallResult {
    let id = point_of(guest, id)?;
    let phase = guest.phase;
    let point = &guest.world.points[id];
    if point.direction == Direction::In {
        return Err(guest.refuse_point(Why::NoOutput, id));
    }
    if phase != Phase::Poll {
        return Err(guest.refuse_point(Why::Phase(phase), id));
    }
    let (raw, bytes, mask) = (point.admit(value), point.bytes(), point.mask());
    let raw = raw.map_err(|unfit| match unfit {
        Unfit::WrongType(_) => guest.refuse_point(Why::PointType, id),
        Unfit::OutOfRange(_) => guest.refuse_point(Why::OutOfRange, id),
        Unfit::OutsideRange(_) => guest.refuse_point(Why::OutsideRange, id),
    })?;
    if !guest.claim(id) {
        return Err(Code::Denied);
    }
    for (at, raw) in bytes.zip(raw) {
        guest.scratch.stage(at, raw, mask);
    }
    guest.end_misgiven(id);
    Ok(())
}
