//! The bytes of Modbus requests and answers on the server's side (Modbus application protocol
//! 1.1b3, chapter 6).
//!
//! The requests and answers in this file begin with the function code. `connection.rs` reads and
//! writes the header before the function code, and `map.rs` finds the values at the addresses.
//! Camshaft has its own codec for the server, because the server's part of rmodbus 0.13 has three
//! defects:
//! - rmodbus does not check the byte count of a write, so a short frame makes rmodbus panic.
//! - rmodbus refuses a write of 123 registers, which the protocol allows.
//! - rmodbus accepts counts of 0.

use crate::driver::modbus::wire::table::Table;

/// Reason why a request is refused, with the exception code (chapter 7).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub(super) enum Exception {
    /// The server does not support the function code.
    Function = 1,
    /// An address of the request has no value or is above 65535, or the range has only a part of a
    /// value, or the value cannot be written.
    Address = 2,
    /// The request has a wrong length, or a count or a value that is not allowed, or a value
    /// outside the range of its command.
    Value = 3,
    /// A value of the request is not good or does not fit its type on the wire, and the server has
    /// no other value that it may send in its place.
    Failure = 4,
    /// The server does not serve the unit address of this request.
    Unit = 0x0b,
}

/// A parsed request. A cell is a register, or a bit that is 0 or 1.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum ServerRequest {
    /// Read `count` cells from the address `start` on.
    Read { table: Table, start: u16, count: u16 },
    /// Write these cells from the address `start` on: all of them, or none.
    Write { table: Table, start: u16, cells: Vec<u16> },
}

/// The value in a request with function code 5 that switches the coil on. The value 0 switches the
/// coil off.
const ON: u16 = 0xff00;

impl ServerRequest {
    /// Parses a request, which begins with its function code.
    ///
    /// # Errors
    /// The exception with which the server must refuse the request.
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

/// Returns the first two numbers after the function code, and the bytes that follow these numbers.
fn numbers(rest: &[u8]) -> Result<([u16; 2], &[u8]), Exception> {
    let (numbers, rest) = rest.split_first_chunk::<4>().ok_or(Exception::Value)?;
    let [a, b, c, d] = *numbers;
    Ok(([u16::from_be_bytes([a, b]), u16::from_be_bytes([c, d])], rest))
}

/// Returns the two numbers after the function code. Refuses a request that has fewer or more bytes.
fn only_numbers(rest: &[u8]) -> Result<[u16; 2], Exception> {
    match numbers(rest)? {
        (numbers, []) => Ok(numbers),
        _ => Err(Exception::Value),
    }
}

/// Checks that the number of cells in a request is from 1 to `most`.
fn limit(count: u16, most: u16) -> Result<(), Exception> {
    if (1..=most).contains(&count) { Ok(()) } else { Err(Exception::Value) }
}

/// Checks that the last of the `count` cells from `start` on has an address up to 65535.
fn end(start: u16, count: u16) -> Result<(), Exception> {
    start.checked_add(count - 1).map(drop).ok_or(Exception::Address)
}

/// Parses a read from the bytes after its function code.
fn read(table: Table, rest: &[u8]) -> Result<ServerRequest, Exception> {
    let [start, count] = only_numbers(rest)?;
    limit(count, table.most())?;
    end(start, count)?;
    Ok(ServerRequest::Read { table, start, count })
}

/// Parses a write of one cell from the bytes after its function code.
fn write_one(table: Table, rest: &[u8]) -> Result<ServerRequest, Exception> {
    let [start, cell] = only_numbers(rest)?;
    let cell = match (table.is_bits(), cell) {
        (true, ON) => 1,
        (true, 0) | (false, _) => cell,
        _ => return Err(Exception::Value),
    };
    Ok(ServerRequest::Write { table, start, cells: vec![cell] })
}

/// Parses a write of several cells from the bytes after its function code.
fn write(table: Table, rest: &[u8]) -> Result<ServerRequest, Exception> {
    let ([start, count], rest) = numbers(rest)?;
    limit(count, table.most_written())?;
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
    Ok(ServerRequest::Write { table, start, cells })
}

/// Makes the answer to a read. `cells` contains the values of the registers or bits that were read.
pub(super) fn cells_read(function: u8, table: Table, cells: &[u16]) -> Vec<u8> {
    let data: Vec<u8> = if table.is_bits() {
        let byte = |bits: &[u16]| bits.iter().rev().fold(0, |byte, bit| byte << 1 | *bit as u8);
        cells.chunks(8).map(byte).collect()
    } else {
        cells.iter().flat_map(|cell| cell.to_be_bytes()).collect()
    };
    // A client can read at most 250 bytes in one request, so the cast loses nothing.
    let mut answer = vec![function, data.len() as u8];
    answer.extend(data);
    answer
}

/// Makes the answer to a write, which repeats the first five bytes of the request.
pub(super) fn cells_written(pdu: &[u8]) -> Vec<u8> {
    pdu[..5].to_vec()
}

/// Makes the answer to a refused request: the function code with its highest bit set, and the
/// exception code.
pub(super) fn refused(pdu: &[u8], why: Exception) -> Vec<u8> {
    let function = pdu.first().copied().unwrap_or_default();
    vec![function | 0x80, why as u8]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn requests_are_understood_or_refused() {
        fn check(pdu: &[u8], expected: Result<ServerRequest, Exception>) {
            assert_eq!(ServerRequest::parse(pdu), expected, "{pdu:02x?}");
        }
        let read = |table, start, count| Ok(ServerRequest::Read { table, start, count });
        let write = |table, start, cells: &[u16]| {
            Ok(ServerRequest::Write { table, start, cells: cells.to_vec() })
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
        // The server does not support these function codes.
        check(&[], Err(Exception::Function));
        check(&[0], Err(Exception::Function));
        check(&[7], Err(Exception::Function));
        check(&[23, 0, 0], Err(Exception::Function));
        check(&[0x83, 0, 0, 0, 1], Err(Exception::Function));
        // These requests contain a count or a value that is not allowed.
        check(&[1, 0, 0, 7, 0xd1], Err(Exception::Value));
        check(&[3, 0, 0, 0, 126], Err(Exception::Value));
        check(&[3, 0, 0, 0, 0], Err(Exception::Value));
        check(&[15, 0, 0, 7, 0xb1, 247], Err(Exception::Value));
        check(&[5, 0, 1, 0, 1], Err(Exception::Value));
        // These requests have too few or too many bytes.
        check(&[3], Err(Exception::Value));
        check(&[3, 0, 0, 0], Err(Exception::Value));
        check(&[3, 0, 0, 0, 1, 0], Err(Exception::Value));
        check(&[6, 0, 0, 0], Err(Exception::Value));
        check(&[16, 0, 0, 0, 2], Err(Exception::Value));
        check(&[16, 0, 0, 0, 2, 4, 0, 0, 0], Err(Exception::Value));
        check(&[16, 0, 0, 0, 2, 2, 0, 0], Err(Exception::Value));
        check(&[16, 0, 0, 0, 1, 2, 0, 0, 0], Err(Exception::Value));
        check(&[15, 0, 0, 0, 9, 1, 0], Err(Exception::Value));
        // These requests go beyond address 65535.
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
