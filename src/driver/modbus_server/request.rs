//! Modbus from the server's side: what a request asks, and how the answer looks (Modbus application
//! protocol 1.1b3, chapter 6).
//!
//! Here are the bytes of one request without its header; the header is in `client.rs`, who has
//! which address in `map.rs`. The codec is our own because the server's side of rmodbus 0.13 takes
//! the byte count of a write on faith, so that a short frame makes it panic, refuses a write of 123
//! registers, which the protocol allows, and lets counts of 0 pass.

use crate::driver::modbus::request::Table;

/// Why a request is refused, with its code (chapter 7).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub(super) enum Exception {
    /// There is no such function here.
    Function = 1,
    /// There is nothing at this address, or only a part of a value, or nothing that can be written.
    Address = 2,
    /// The request does not fit its own count, or a command is outside its range.
    Value = 3,
    /// The value is bad at present.
    Failure = 4,
    /// There is no such unit here.
    Unit = 0x0b,
}

/// What is asked. A cell is a register, or a bit that is 0 or 1.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Request {
    /// Give so many cells.
    Read { table: Table, start: u16, count: u16 },
    /// Take these, all or none.
    Write { table: Table, start: u16, cells: Vec<u16> },
}

/// The most bits and registers that fit an answer of 253 bytes, as the protocol has it.
const MOST_READ: [u16; 2] = [2000, 125];

/// The same for a request that brings them.
const MOST_WRITTEN: [u16; 2] = [1968, 123];

/// What a single coil that is on looks like; off is 0.
const ON: u16 = 0xff00;

impl Request {
    /// Understands a request, from its function code on.
    ///
    /// # Errors
    /// Why it is refused.
    pub(super) fn parse(pdu: &[u8]) -> Result<Self, Exception> {
        let (&function, rest) = pdu.split_first().ok_or(Exception::Function)?;
        match function {
            1 => read(Table::Coil, rest),
            2 => read(Table::Discrete, rest),
            3 => read(Table::Holding, rest),
            4 => read(Table::Input, rest),
            5 => write_one(Table::Coil, rest),
            6 => write_one(Table::Holding, rest),
            15 => write(Table::Coil, rest),
            16 => write(Table::Holding, rest),
            _ => Err(Exception::Function),
        }
    }
}

/// The two numbers at the start of every request.
fn numbers(rest: &[u8]) -> Result<([u16; 2], &[u8]), Exception> {
    let (numbers, rest) = rest.split_first_chunk::<4>().ok_or(Exception::Value)?;
    let [a, b, c, d] = *numbers;
    Ok(([u16::from_be_bytes([a, b]), u16::from_be_bytes([c, d])], rest))
}

/// The same where nothing may follow.
fn only_numbers(rest: &[u8]) -> Result<[u16; 2], Exception> {
    match numbers(rest)? {
        (numbers, []) => Ok(numbers),
        _ => Err(Exception::Value),
    }
}

/// Whether so many cells may be asked for at once.
fn limit(table: Table, count: u16, most: [u16; 2]) -> Result<(), Exception> {
    let most = most[usize::from(!table.is_bits())];
    if (1..=most).contains(&count) { Ok(()) } else { Err(Exception::Value) }
}

/// Whether as many cells follow `start` in a table.
fn end(start: u16, count: u16) -> Result<(), Exception> {
    start.checked_add(count - 1).map(drop).ok_or(Exception::Address)
}

fn read(table: Table, rest: &[u8]) -> Result<Request, Exception> {
    let [start, count] = only_numbers(rest)?;
    limit(table, count, MOST_READ)?;
    end(start, count)?;
    Ok(Request::Read { table, start, count })
}

fn write_one(table: Table, rest: &[u8]) -> Result<Request, Exception> {
    let [start, cell] = only_numbers(rest)?;
    let cell = match (table.is_bits(), cell) {
        (true, ON) => 1,
        (true, 0) | (false, _) => cell,
        _ => return Err(Exception::Value),
    };
    Ok(Request::Write { table, start, cells: vec![cell] })
}

fn write(table: Table, rest: &[u8]) -> Result<Request, Exception> {
    let ([start, count], rest) = numbers(rest)?;
    limit(table, count, MOST_WRITTEN)?;
    let (&said, data) = rest.split_first().ok_or(Exception::Value)?;
    let bytes = match table.is_bits() {
        true => usize::from(count).div_ceil(8),
        false => usize::from(count) * 2,
    };
    if usize::from(said) != bytes || data.len() != bytes {
        return Err(Exception::Value);
    }
    end(start, count)?;
    let cells = match table.is_bits() {
        true => (0..usize::from(count)).map(|n| u16::from(data[n / 8] >> (n % 8) & 1)).collect(),
        false => data.chunks_exact(2).map(|pair| u16::from_be_bytes([pair[0], pair[1]])).collect(),
    };
    Ok(Request::Write { table, start, cells })
}

/// The answer to a request that has read these cells.
pub(super) fn cells_read(function: u8, table: Table, cells: &[u16]) -> Vec<u8> {
    let data: Vec<u8> = if table.is_bits() {
        let byte = |bits: &[u16]| bits.iter().rev().fold(0, |byte, bit| byte << 1 | *bit as u8);
        cells.chunks(8).map(byte).collect()
    } else {
        cells.iter().flat_map(|cell| cell.to_be_bytes()).collect()
    };
    // It fits: at most 250 bytes were allowed to be asked for.
    let mut answer = vec![function, data.len() as u8];
    answer.extend(data);
    answer
}

/// The answer to a request whose cells were taken: the head of the same request.
pub(super) fn cells_written(pdu: &[u8]) -> Vec<u8> {
    pdu[..5].to_vec()
}

/// The answer to a request that is refused.
pub(super) fn refused(pdu: &[u8], why: Exception) -> Vec<u8> {
    let function = pdu.first().copied().unwrap_or_default();
    vec![function | 0x80, why as u8]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn requests_are_understood_or_refused() {
        fn check(pdu: &[u8], expected: Result<Request, Exception>) {
            assert_eq!(Request::parse(pdu), expected, "{pdu:02x?}");
        }
        let read = |table, start, count| Ok(Request::Read { table, start, count });
        let write = |table, start, cells: &[u16]| {
            Ok(Request::Write { table, start, cells: cells.to_vec() })
        };
        check(&[1, 0, 5, 7, 0xd0], read(Table::Coil, 5, 2000));
        check(&[2, 0xff, 0xff, 0, 1], read(Table::Discrete, 0xffff, 1));
        check(&[3, 0, 0, 0, 125], read(Table::Holding, 0, 125));
        check(&[4, 1, 0, 0, 2], read(Table::Input, 256, 2));
        check(&[5, 0, 1, 0xff, 0], write(Table::Coil, 1, &[1]));
        check(&[5, 0, 1, 0, 0], write(Table::Coil, 1, &[0]));
        check(&[6, 0, 1, 0xab, 0xcd], write(Table::Holding, 1, &[0xabcd]));
        check(
            &[15, 0, 0, 0, 9, 2, 0x05, 0x01],
            write(Table::Coil, 0, &[1, 0, 1, 0, 0, 0, 0, 0, 1]),
        );
        check(&[16, 0, 9, 0, 2, 4, 1, 2, 3, 4], write(Table::Holding, 9, &[0x0102, 0x0304]));
        let most: Vec<u8> = [16, 0, 0, 0, 123, 246].into_iter().chain([0; 246]).collect();
        check(&most, write(Table::Holding, 0, &[0; 123]));
        // Functions that are not here.
        check(&[], Err(Exception::Function));
        check(&[0], Err(Exception::Function));
        check(&[7], Err(Exception::Function));
        check(&[23, 0, 0], Err(Exception::Function));
        check(&[0x83, 0, 0, 0, 1], Err(Exception::Function));
        // Counts that cannot be.
        check(&[1, 0, 0, 7, 0xd1], Err(Exception::Value));
        check(&[3, 0, 0, 0, 126], Err(Exception::Value));
        check(&[3, 0, 0, 0, 0], Err(Exception::Value));
        check(&[15, 0, 0, 7, 0xb1, 247], Err(Exception::Value));
        check(&[5, 0, 1, 0, 1], Err(Exception::Value));
        // Bytes that are missing, or too many.
        check(&[3], Err(Exception::Value));
        check(&[3, 0, 0, 0], Err(Exception::Value));
        check(&[3, 0, 0, 0, 1, 0], Err(Exception::Value));
        check(&[6, 0, 0, 0], Err(Exception::Value));
        check(&[16, 0, 0, 0, 2], Err(Exception::Value));
        check(&[16, 0, 0, 0, 2, 4, 0, 0, 0], Err(Exception::Value));
        check(&[16, 0, 0, 0, 2, 2, 0, 0], Err(Exception::Value));
        check(&[16, 0, 0, 0, 1, 2, 0, 0, 0], Err(Exception::Value));
        check(&[15, 0, 0, 0, 9, 1, 0], Err(Exception::Value));
        // Beyond the last address.
        check(&[3, 0xff, 0xff, 0, 2], Err(Exception::Address));
        check(&[16, 0xff, 0xff, 0, 2, 4, 0, 0, 0, 0], Err(Exception::Address));
    }

    #[test]
    fn answers_are_packed() {
        assert_eq!(cells_read(1, Table::Coil, &[1, 0, 1, 0, 0, 0, 0, 0, 1]), [1, 2, 0x05, 0x01]);
        assert_eq!(cells_read(4, Table::Input, &[0x0102, 3]), [4, 4, 1, 2, 0, 3]);
        assert_eq!(cells_read(3, Table::Holding, &[0; 125]).len(), 252);
        assert_eq!(cells_written(&[16, 0, 9, 0, 2, 4, 1, 2, 3, 4]), [16, 0, 9, 0, 2]);
        assert_eq!(refused(&[3, 0, 0], Exception::Address), [0x83, 2]);
    }
}
