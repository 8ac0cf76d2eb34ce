//! The bytes of one request to one unit, and the check of the reply.
//!
//! The crate `rmodbus` makes the bytes of requests. This file does not use the reply parser of
//! `rmodbus`, because this parser has three defects that a controller must not have:
//! - `rmodbus` treats a reply as an exception if its function code differs from the function code
//!   of the request.
//! - `rmodbus` accepts a byte count that is too large.
//! - `rmodbus` refuses a TCP frame of more than 255 bytes (124 registers and more).
//!
//! The function [`UnitRequest::reply`] accepts only the exact reply to a request and refuses all
//! other bytes. This file waits for nothing; `client/transport.rs` sends the requests and waits for
//! the replies.

use std::fmt;

use rmodbus::client::ModbusRequest;
use rmodbus::{ErrorKind, ModbusProto};

use super::error::WireError;
use super::table::Table;

/// The bit that marks a function code in a reply as an exception.
const EXCEPTION: u8 = 0x80;

/// The content of a request: the operation that the unit must perform.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Ask {
    /// Read coils, discrete inputs or registers of one table.
    Read {
        /// The table to read.
        table: Table,
        /// The first address to read, counted from 0.
        address: u16,
        /// The number of coils, discrete inputs or registers to read.
        count: u16,
    },
    /// Write one coil, with function code 5 or 15.
    WriteCoil {
        /// The address of the coil, counted from 0.
        address: u16,
        /// The new state of the coil.
        on: bool,
        /// Whether to use function code 5. Some units do not support function code 15.
        single: bool,
    },
    /// Write holding registers with function code 16, or one register with function code 6.
    WriteRegisters {
        /// The address of the first register, counted from 0.
        address: u16,
        /// The new values of the registers.
        values: Vec<u16>,
        /// Whether to use function code 6, which writes exactly one register. Some units do not
        /// support function code 16.
        single: bool,
    },
}

/// One request to one unit.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct UnitRequest {
    /// The unit's address on the bus.
    pub unit: u8,
    /// The content of the request: the operation that the unit must perform.
    pub ask: Ask,
}

/// The valid reply of a unit to a request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Reply {
    /// The values of the registers, exactly as many as the request asked for.
    Registers(Vec<u16>),
    /// The states of the bits, exactly as many as the request asked for.
    Bits(Vec<bool>),
    /// The unit has confirmed the write. The reply repeats the address and the value, or the
    /// address and the number of values.
    Written,
}

/// The kind of a request: its unit, its function code and its first address. Two requests of the
/// same kind can still have different counts or values.
pub(in crate::driver::modbus) type RequestKind = (u8, u8, u16);

impl fmt::Display for UnitRequest {
    /// Writes the function code, the address and the unit, such as `function code 16 to holding 100
    /// of unit 1`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (code, unit) = (self.function(), self.unit);
        match &self.ask {
            Ask::Read { table, address, count } => {
                let table = table.word();
                write!(f, "function code {code} from {table} {address}, count {count}")?;
            }
            Ask::WriteCoil { address, .. } => write!(f, "function code {code} to coil {address}")?,
            Ask::WriteRegisters { address, .. } => {
                write!(f, "function code {code} to holding {address}")?;
            }
        }
        write!(f, " of unit {unit}")
    }
}

impl UnitRequest {
    /// Returns a request to find out whether the unit is present: a read of holding register 0. Any
    /// reply of the unit, even an exception, shows that the unit is present.
    pub const fn presence(unit: u8) -> Self {
        Self { unit, ask: Ask::Read { table: Table::Holding, address: 0, count: 1 } }
    }

    /// Returns the kind of the request.
    pub(in crate::driver::modbus) const fn kind(&self) -> RequestKind {
        let (Ask::Read { address, .. }
        | Ask::WriteCoil { address, .. }
        | Ask::WriteRegisters { address, .. }) = self.ask;
        (self.unit, self.function(), address)
    }

    /// Returns the function code of the request.
    pub const fn function(&self) -> u8 {
        match &self.ask {
            Ask::Read { table: Table::Coil, .. } => 1,
            Ask::Read { table: Table::Discrete, .. } => 2,
            Ask::Read { table: Table::Holding, .. } => 3,
            Ask::Read { table: Table::Input, .. } => 4,
            Ask::WriteCoil { single: true, .. } => 5,
            Ask::WriteRegisters { single: true, .. } => 6,
            Ask::WriteCoil { single: false, .. } => 15,
            Ask::WriteRegisters { single: false, .. } => 16,
        }
    }

    /// Whether the frame of a valid reply on a serial line is equal to the frame of the request.
    /// This is so for function codes 5 and 6.
    pub const fn is_repeated_by_reply(&self) -> bool {
        matches!(
            self.ask,
            Ask::WriteCoil { single: true, .. } | Ask::WriteRegisters { single: true, .. }
        )
    }

    /// Returns the remedy if the unit possibly does not support the function code of a write.
    /// Returns an empty text for every other error.
    pub fn hint(&self, error: &WireError) -> &'static str {
        let is_unknown =
            matches!(error, WireError::Exception(1) | WireError::Closed(_) | WireError::Timeout);
        match &self.ask {
            Ask::WriteCoil { single: false, .. } if is_unknown => {
                "; `single = true` uses function code 5"
            }
            Ask::WriteRegisters { single: false, values, .. }
                if is_unknown && values.len() == 1 =>
            {
                "; `single = true` uses function code 6"
            }
            _ => "",
        }
    }

    /// Returns the frame of the request for a serial line, with its checksum.
    ///
    /// # Errors
    /// When the request does not fit into a frame, or when a write with `single` does not have
    /// exactly one register.
    pub fn rtu(&self) -> Result<Vec<u8>, ErrorKind> {
        self.frame(ModbusRequest::new(self.unit, ModbusProto::Rtu))
    }

    /// Returns the frame of the request for TCP, with the transaction number `tid`.
    ///
    /// # Errors
    /// When the request does not fit into a frame, or when a write with `single` does not have
    /// exactly one register.
    pub fn tcp(&self, tid: u16) -> Result<Vec<u8>, ErrorKind> {
        self.frame(ModbusRequest::new_tcp_udp(self.unit, tid))
    }

    /// Makes the frame of the request. `maker` contains the unit and the protocol of the frame.
    fn frame(&self, mut maker: ModbusRequest) -> Result<Vec<u8>, ErrorKind> {
        let mut frame = Vec::with_capacity(260);
        let to = &mut frame;
        match &self.ask {
            Ask::Read { table, address, count } => match table {
                Table::Coil => maker.generate_get_coils(*address, *count, to),
                Table::Discrete => maker.generate_get_discretes(*address, *count, to),
                Table::Holding => maker.generate_get_holdings(*address, *count, to),
                Table::Input => maker.generate_get_inputs(*address, *count, to),
            },
            Ask::WriteCoil { address, on, single: true } => {
                maker.generate_set_coil(*address, *on, to)
            }
            Ask::WriteCoil { address, on, single: false } => {
                maker.generate_set_coils_bulk(*address, &[*on], to)
            }
            Ask::WriteRegisters { address, values, single: true } if values.len() == 1 => {
                maker.generate_set_holding(*address, values[0], to)
            }
            Ask::WriteRegisters { single: true, .. } => Err(ErrorKind::OOB),
            Ask::WriteRegisters { address, values, single: false } => {
                maker.generate_set_holdings_bulk(*address, values, to)
            }
        }?;
        Ok(frame)
    }

    /// Returns the length of the normal reply in bytes, from the function code on and without a
    /// checksum. An exception always has 2 bytes.
    pub const fn reply_len(&self) -> usize {
        match &self.ask {
            Ask::Read { .. } => 2 + self.data_len(),
            Ask::WriteCoil { .. } | Ask::WriteRegisters { .. } => 5,
        }
    }

    /// Returns the number of bytes in the reply that contain values. The number is 0 for a write.
    const fn data_len(&self) -> usize {
        match &self.ask {
            Ask::Read { table, count, .. } if table.is_bits() => (*count as usize).div_ceil(8),
            Ask::Read { count, .. } => *count as usize * 2,
            Ask::WriteCoil { .. } | Ask::WriteRegisters { .. } => 0,
        }
    }

    /// Whether the reply to this request could also be the reply to the request `other`.
    /// `is_exception` says whether the reply is an exception. Returns false if the two requests are
    /// equal, or if they have different units or function codes. Replies can be confused, because
    /// the reply to a read contains no address, and the reply to a write with function code 15 or
    /// 16 contains no values. An exception contains no address and no values.
    pub fn is_mistakable_for(&self, other: &Self, is_exception: bool) -> bool {
        let is_read = matches!(self.ask, Ask::Read { .. });
        let is_alike =
            self.reply_len() == other.reply_len() && (is_read || self.echo() == other.echo());
        let addressee = |of: &Self| (of.unit, of.function());
        self != other && addressee(self) == addressee(other) && (is_exception || is_alike)
    }

    /// Parses the reply to this request. The bytes begin with the function code and have no
    /// checksum.
    ///
    /// # Errors
    /// When the unit or a gateway refuses the request, or when the bytes are not the reply to
    /// exactly this request.
    pub fn reply(&self, bytes: &[u8]) -> Result<Reply, WireError> {
        let differs = |what: &str, found: usize, expected: usize| {
            Err(WireError::Garbage(format!("{what} {found} instead of {expected}").into()))
        };
        let expected = self.function();
        match *bytes {
            [function, code] if function == expected | EXCEPTION => {
                return Err(WireError::Exception(code));
            }
            [function, ..] if function != expected => {
                return differs("function code", function.into(), expected.into());
            }
            _ if bytes.len() != self.reply_len() => {
                return differs("a length of", bytes.len(), self.reply_len());
            }
            _ => {}
        }
        let Ask::Read { table, count, .. } = &self.ask else {
            let is_echo = bytes[1..] == self.echo();
            return is_echo.then_some(Reply::Written).ok_or_else(|| self.other_echo(bytes));
        };
        if usize::from(bytes[1]) != self.data_len() {
            return differs("a byte count of", bytes[1].into(), self.data_len());
        }
        let data = &bytes[2..];
        if table.is_bits() {
            let bit = |n: usize| data[n / 8] >> (n % 8) & 1 == 1;
            return Ok(Reply::Bits((0..usize::from(*count)).map(bit).collect()));
        }
        let registers = data.chunks_exact(2).map(|pair| u16::from_be_bytes([pair[0], pair[1]]));
        Ok(Reply::Registers(registers.collect()))
    }

    /// Returns the error for the reply to a write that repeats a different address or value.
    fn other_echo(&self, bytes: &[u8]) -> WireError {
        let words = |of: &[u8]| [0, 2].map(|at| u16::from_be_bytes([of[at], of[at + 1]]));
        let ([address, second], echo) = (words(&bytes[1..]), words(&self.echo()));
        let (what, found, expected) = match self.ask {
            _ if address != echo[0] => ("address", address, echo[0]),
            Ask::WriteCoil { single: false, .. } | Ask::WriteRegisters { single: false, .. } => {
                ("a count of", second, echo[1])
            }
            _ => ("the value", second, echo[1]),
        };
        WireError::Garbage(format!("{what} {found} instead of {expected}").into())
    }

    /// Returns the part of a write that the unit repeats in its reply: the address and the value,
    /// or the address and the number of values. For a read, returns the address and the count; the
    /// callers do not use them.
    fn echo(&self) -> [u8; 4] {
        let (address, second) = match &self.ask {
            Ask::WriteCoil { address, on, single: true } => {
                (*address, if *on { 0xff00 } else { 0 })
            }
            Ask::WriteCoil { address, single: false, .. } => (*address, 1),
            Ask::WriteRegisters { address, values, single: true } => (*address, values[0]),
            // All values fit into one frame, so their number fits into 16 bits.
            Ask::WriteRegisters { address, values, single: false } => {
                (*address, values.len() as u16)
            }
            Ask::Read { address, count, .. } => (*address, *count),
        };
        let ([a, b], [c, d]) = (address.to_be_bytes(), second.to_be_bytes());
        [a, b, c, d]
    }
}

/// Returns the checksum of a frame on a serial line. The checksum is sent low byte first (Modbus
/// over serial line 1.02, 6.2.2). The checksum over a whole frame with its checksum bytes is 0.
pub fn crc(bytes: &[u8]) -> u16 {
    let step = |crc: u16, _| if crc & 1 == 1 { crc >> 1 ^ 0xa001 } else { crc >> 1 };
    bytes.iter().fold(0xffff, |crc, byte| (0..8).fold(crc ^ u16::from(*byte), step))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(table: Table, count: u16) -> UnitRequest {
        UnitRequest { unit: 4, ask: Ask::Read { table, address: 10, count } }
    }

    fn write(values: &[u16], single: bool) -> UnitRequest {
        let ask = Ask::WriteRegisters { address: 10, values: values.to_vec(), single };
        UnitRequest { unit: 4, ask }
    }

    fn coil(on: bool, single: bool) -> UnitRequest {
        UnitRequest { unit: 4, ask: Ask::WriteCoil { address: 10, on, single } }
    }

    #[test]
    fn requests_are_those_of_the_specification() {
        fn check(request: UnitRequest, from_function: &[u8]) {
            let rtu = request.rtu().unwrap();
            assert_eq!(rtu[1..rtu.len() - 2], *from_function, "{request:?}");
            assert_eq!((rtu[0], crc(&rtu)), (4, 0), "{request:?}: {rtu:x?}");
            let tcp = request.tcp(0x1234).unwrap();
            let length = from_function.len() as u8 + 1;
            assert_eq!(tcp[..7], [0x12, 0x34, 0, 0, 0, length, 4], "{request:?}");
            assert_eq!(tcp[7..], *from_function, "{request:?}");
            assert_eq!(from_function[0], request.function());
        }
        check(read(Table::Coil, 13), &[1, 0, 10, 0, 13]);
        check(read(Table::Discrete, 2000), &[2, 0, 10, 7, 0xd0]);
        check(read(Table::Holding, 125), &[3, 0, 10, 0, 125]);
        check(read(Table::Input, 1), &[4, 0, 10, 0, 1]);
        check(coil(true, true), &[5, 0, 10, 0xff, 0]);
        check(coil(false, true), &[5, 0, 10, 0, 0]);
        check(write(&[0x1234], true), &[6, 0, 10, 0x12, 0x34]);
        check(coil(true, false), &[15, 0, 10, 0, 1, 1, 1]);
        check(write(&[1, 0x203], false), &[16, 0, 10, 0, 2, 4, 0, 1, 2, 3]);
        assert!(write(&[1, 2], true).rtu().is_err(), "function code 6 has one register");
    }

    #[test]
    fn a_reply_is_exactly_what_was_asked_for() {
        fn check(request: UnitRequest, bytes: &[u8], expected: Result<Reply, WireError>) {
            assert_eq!(request.reply(bytes), expected, "{bytes:x?} to {request:?}");
        }
        let garbage = |what: &'static str| Err(WireError::Garbage(what.into()));
        let registers = |values: &[u16]| Ok(Reply::Registers(values.to_vec()));
        check(read(Table::Holding, 2), &[3, 4, 1, 2, 3, 4], registers(&[0x102, 0x304]));
        check(
            read(Table::Holding, 2),
            &[3, 2, 1, 2, 3, 4],
            garbage("a byte count of 2 instead of 4"),
        );
        check(read(Table::Holding, 2), &[3, 2, 1, 2], garbage("a length of 4 instead of 6"));
        check(
            read(Table::Holding, 2),
            &[4, 4, 1, 2, 3, 4],
            garbage("function code 4 instead of 3"),
        );
        check(read(Table::Holding, 2), &[0x83, 2], Err(WireError::Exception(2)));
        check(read(Table::Holding, 2), &[0x84, 2], garbage("function code 132 instead of 3"));
        check(read(Table::Holding, 2), &[0x83, 2, 0], garbage("function code 131 instead of 3"));
        check(read(Table::Holding, 2), &[], garbage("a length of 0 instead of 6"));
        let bits = [true, false, false, false, false, false, false, true, true];
        check(read(Table::Coil, 9), &[1, 2, 0x81, 0xff], Ok(Reply::Bits(bits.to_vec())));
        check(read(Table::Discrete, 9), &[2, 1, 0x81], garbage("a length of 3 instead of 4"));
        check(coil(true, true), &[5, 0, 10, 0xff, 0], Ok(Reply::Written));
        check(coil(true, true), &[5, 0, 10, 0, 0], garbage("the value 0 instead of 65280"));
        check(coil(true, false), &[15, 0, 10, 0, 1], Ok(Reply::Written));
        check(write(&[7], true), &[6, 0, 10, 0, 7], Ok(Reply::Written));
        check(write(&[7], true), &[6, 0, 11, 0, 7], garbage("address 11 instead of 10"));
        check(write(&[7, 8], false), &[16, 0, 10, 0, 2], Ok(Reply::Written));
        check(write(&[7, 8], false), &[16, 0, 10, 0, 1], garbage("a count of 1 instead of 2"));
        check(write(&[7, 8], false), &[0x90, 4], Err(WireError::Exception(4)));
    }

    #[test]
    fn random_bytes_are_no_reply_and_no_panic() {
        let mut random = fastrand::Rng::with_seed(1);
        let requests = [
            read(Table::Holding, 1),
            read(Table::Coil, 2000),
            write(&[1], true),
            write(&[1, 2], false),
            coil(true, false),
        ];
        for _ in 0..20_000 {
            let request = &requests[random.usize(..requests.len())];
            let length = [random.usize(..8), request.reply_len()][random.usize(..2)];
            let mut bytes: Vec<u8> = (0..length).map(|_| random.u8(..)).collect();
            if let (Some(first), true) = (bytes.first_mut(), random.bool()) {
                *first = request.function();
            }
            if let Ok(reply) = request.reply(&bytes) {
                let is_exact = bytes.len() == request.reply_len() && bytes[0] == request.function();
                assert!(is_exact, "{bytes:x?} is {reply:?} to {request:?}");
            }
        }
    }

    #[test]
    fn some_replies_cannot_be_told_apart() {
        let at = |address, count| {
            let ask = Ask::Read { table: Table::Holding, address, count };
            UnitRequest { unit: 4, ask }
        };
        fn check(one: &UnitRequest, other: &UnitRequest, by_values: bool, by_exception: bool) {
            let is_mistakable = |is_exception| one.is_mistakable_for(other, is_exception);
            assert_eq!((is_mistakable(false), is_mistakable(true)), (by_values, by_exception));
        }
        check(&at(1, 2), &at(3, 2), true, true);
        check(&at(1, 2), &at(1, 2), false, false); // it would be right as well
        check(&at(1, 2), &at(3, 3), false, true);
        check(&at(1, 2), &UnitRequest { unit: 5, ..at(3, 2) }, false, false);
        check(&write(&[1], true), &write(&[2], true), false, true); // the echo has the value
        check(&write(&[1], false), &write(&[2], false), true, true);
        check(&coil(true, false), &coil(false, false), true, true);
    }
}
