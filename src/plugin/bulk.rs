//! Bulk memory operations in pieces, so that they can be stopped.
//!
//! `memory.fill`, `memory.copy` and `memory.init` of many megabytes run for milliseconds inside one
//! host call that nobody can end. The code made here moves long operations piece by piece, with the
//! stop check in between. What the guest sees stays the same: an operation that would leave its
//! memory traps before it has written anything, and overlapping copies come out right.
//!
//! Tables need none of this: their limit is thousands of elements, not millions.

use wasmer::sys::wasmparser::{BlockType, Operator};

use super::flag::Hidden;

/// Bytes between two looks at the stop flag: touching 64 KiB of fresh memory takes microseconds.
const PIECE: i32 = 64 << 10;

type Code<'a> = Vec<Operator<'a>>;

/// `memory.fill` with the operands `destination, byte, length` on the stack.
pub(super) fn fill<'a>(h: Hidden, mem: u32) -> Code<'a> {
    let whole = Operator::MemoryFill { mem };
    let body =
        [within_memory(h.destination, h.length, mem), when(forward(h, &whole, &[h.destination]))];
    with_operands(h, &whole, body.concat())
}

/// `memory.copy` with the operands `destination, source, length` on the stack.
pub(super) fn copy<'a>(h: Hidden, dst_mem: u32, src_mem: u32) -> Code<'a> {
    let whole = Operator::MemoryCopy { dst_mem, src_mem };
    let upwards = forward(h, &whole, &[h.destination, h.source]);
    let body = [
        within_memory(h.destination, h.length, dst_mem),
        within_memory(h.source, h.length, src_mem),
        vec![Operator::I32And],
        // Towards lower addresses a copy goes upwards, otherwise downwards, so that no byte is
        // overwritten before it was read.
        when(
            [
                vec![value(h.destination), value(h.source), Operator::I32LeU],
                vec![Operator::If { blockty: BlockType::Empty }],
                upwards,
                vec![Operator::Else],
                backward(h, &whole),
                vec![Operator::End],
            ]
            .concat(),
        ),
    ];
    with_operands(h, &whole, body.concat())
}

/// `memory.init` with the operands `destination, source, length` on the stack.
pub(super) fn init<'a>(h: Hidden, data_index: u32, mem: u32) -> Code<'a> {
    let whole = Operator::MemoryInit { data_index, mem };
    // An operation of no length at the end of the source traps if the segment is too short.
    let probe = vec![
        value(h.destination),
        value(h.source),
        value(h.length),
        Operator::I32Add,
        Operator::I32Const { value: 0 },
        whole.clone(),
    ];
    let body = [
        within_memory(h.destination, h.length, mem),
        // The probe's address must not wrap around.
        wide_sum(h.source, h.length),
        vec![Operator::I64Const { value: u32::MAX.into() }, Operator::I64LeU, Operator::I32And],
        when([probe, forward(h, &whole, &[h.destination, h.source])].concat()),
    ];
    with_operands(h, &whole, body.concat())
}

/// Takes the operands from the stack, lets `body` deal with long operations, and does the rest in
/// one go: all of a short one, the last piece of a long one, or the trap of an impossible one.
fn with_operands<'a>(h: Hidden, whole: &Operator<'a>, body: Code<'a>) -> Code<'a> {
    [
        vec![set(h.length), set(h.source), set(h.destination)],
        vec![value(h.length), piece(), Operator::I32GtU],
        when(body),
        vec![value(h.destination), value(h.source), value(h.length), whole.clone()],
    ]
    .concat()
}

/// Pieces from the front, as long as more than one is left; `moving` are the addresses that
/// advance.
fn forward<'a>(h: Hidden, whole: &Operator<'a>, moving: &[u32]) -> Code<'a> {
    let mut step = vec![value(h.destination), value(h.source), piece(), whole.clone()];
    for &address in moving {
        step.extend([value(address), piece(), Operator::I32Add, set(address)]);
    }
    repeat(h, step)
}

/// Pieces from the back, as long as more than one is left; the addresses stay.
fn backward<'a>(h: Hidden, whole: &Operator<'a>) -> Code<'a> {
    let end =
        |address| [value(address), value(h.length), Operator::I32Add, piece(), Operator::I32Sub];
    let step = end(h.destination).into_iter().chain(end(h.source)).chain([piece(), whole.clone()]);
    repeat(h, step.collect())
}

/// `loop { check; step; length -= PIECE; if length > PIECE continue }`
fn repeat<'a>(h: Hidden, step: Code<'a>) -> Code<'a> {
    [
        h.begin_loop(Operator::Loop { blockty: BlockType::Empty }, 0),
        step,
        vec![value(h.length), piece(), Operator::I32Sub, set(h.length)],
        vec![value(h.length), piece(), Operator::I32GtU, Operator::BrIf { relative_depth: 0 }],
        vec![Operator::End],
    ]
    .concat()
}

/// Whether `address + length` lies within the memory, as an i32.
fn within_memory<'a>(address: u32, length: u32, mem: u32) -> Code<'a> {
    const LOG2_PAGE: i64 = 16;
    let mut code = wide_sum(address, length);
    code.extend([
        Operator::MemorySize { mem },
        Operator::I64ExtendI32U,
        Operator::I64Const { value: LOG2_PAGE },
        Operator::I64Shl,
        Operator::I64LeU,
    ]);
    code
}

/// `address + length` without wrapping, as an i64.
fn wide_sum<'a>(address: u32, length: u32) -> Code<'a> {
    vec![
        value(address),
        Operator::I64ExtendI32U,
        value(length),
        Operator::I64ExtendI32U,
        Operator::I64Add,
    ]
}

/// Runs `body` if the i32 on the stack is not 0.
fn when<'a>(body: Code<'a>) -> Code<'a> {
    [vec![Operator::If { blockty: BlockType::Empty }], body, vec![Operator::End]].concat()
}

fn value<'a>(global_index: u32) -> Operator<'a> {
    Operator::GlobalGet { global_index }
}

fn set<'a>(global_index: u32) -> Operator<'a> {
    Operator::GlobalSet { global_index }
}

fn piece<'a>() -> Operator<'a> {
    Operator::I32Const { value: PIECE }
}
