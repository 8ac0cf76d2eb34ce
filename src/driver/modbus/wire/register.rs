//! The layout of a point's value in Modbus registers: the type of the value, the order of its
//! bytes, and the part of a register that the value occupies.
//!
//! A register has 16 bits, and its high byte is sent first (Modbus application protocol 1.1b3,
//! 4.2). The protocol does not define values wider than 16 bits, so each type of device has its own
//! byte order. The meaning of terms such as "big endian" and "swapped" differs from tool to tool.
//! Therefore a [`WordOrder`] lists the bytes of the value in the order in which they are sent on
//! the wire. The letter A is the most significant byte of the value. The table shows the u32 value
//! 0x01020304 as an example.
//!
//! | order | first register | second register |
//! |---|---|---|
//! | ABCD | 0x0102 | 0x0304 |
//! | CDAB | 0x0304 | 0x0102 |
//! | BADC | 0x0201 | 0x0403 |
//! | DCBA | 0x0403 | 0x0201 |
//!
//! This file does not know the address of a value; `client/place.rs` has the addresses for the
//! client, and `server/map.rs` those for the server. This file does not apply scale and offset,
//! because they belong to the point.

use serde::Deserialize;

use crate::process::image::{PointKind, Raw};

/// The number of registers of the widest value, which has 64 bits.
pub const MAX_REGISTERS: usize = 4;

/// The order in which the bytes of a value are sent on the wire. The letter A is the most
/// significant byte of the value.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "UPPERCASE")]
#[expect(missing_docs, reason = "the letters of each name are the order of the bytes")]
pub enum WordOrder {
    Ab,
    Ba,
    Abcd,
    Cdab,
    Badc,
    Dcba,
    Abcdefgh,
    Ghefcdab,
    Badcfehg,
    Hgfedcba,
}

impl WordOrder {
    /// Returns all byte orders for a value that occupies this number of registers. The first byte
    /// order is the default.
    pub const fn of(registers: usize) -> &'static [Self] {
        match registers {
            1 => &[Self::Ab, Self::Ba],
            2 => &[Self::Abcd, Self::Cdab, Self::Badc, Self::Dcba],
            4 => &[Self::Abcdefgh, Self::Ghefcdab, Self::Badcfehg, Self::Hgfedcba],
            _ => &[],
        }
    }

    /// Returns the name of the byte order in the configuration, such as `ABCD`.
    pub const fn word(self) -> &'static str {
        match self {
            Self::Ab => "AB",
            Self::Ba => "BA",
            Self::Abcd => "ABCD",
            Self::Cdab => "CDAB",
            Self::Badc => "BADC",
            Self::Dcba => "DCBA",
            Self::Abcdefgh => "ABCDEFGH",
            Self::Ghefcdab => "GHEFCDAB",
            Self::Badcfehg => "BADCFEHG",
            Self::Hgfedcba => "HGFEDCBA",
        }
    }

    /// Returns the positions of the bytes in the value, in the order in which the bytes are sent on
    /// the wire. Position 0 is the most significant byte of the value.
    fn places(self) -> impl Iterator<Item = usize> {
        self.word().bytes().map(|letter| usize::from(letter - b'A'))
    }
}

/// One half of a register: 8 of its 16 bits.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Byte {
    /// The high byte, which is sent first on the wire.
    Hi,
    /// The low byte.
    Lo,
}

/// The part of its registers that a value occupies.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Part {
    /// All bits of one, two or four registers, in this byte order.
    Whole(WordOrder),
    /// One byte of one register.
    Half(Byte),
    /// One bit of one register. Bit 0 is the lowest bit.
    Bit(u8),
}

/// The layout of a value in its registers: the type of the value, and the part of the registers
/// that the value occupies.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Layout {
    kind: PointKind,
    part: Part,
}

/// An error in the configuration: a key that is missing, is not allowed, or has a value that cannot
/// work.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Misfit {
    /// The name of the wrong or missing key.
    pub key: &'static str,
    /// The value of the key in the configuration, in words for an error message.
    pub found: String,
    /// The allowed values of the key, in words for an error message.
    pub wanted: String,
}

/// The error of a read: the registers contain a float that is NaN or infinite.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct NotFinite;

impl Layout {
    /// Makes the layout of a value of type `kind` from the keys of the configuration. The key
    /// `order` is allowed only for numbers of 16 bits and more, `byte` only for numbers of 8 bits,
    /// and `bit` only for a bool.
    ///
    /// # Errors
    /// When a key is missing or does not fit the type.
    pub fn new(
        kind: PointKind,
        order: Option<WordOrder>,
        byte: Option<Byte>,
        bit: Option<u8>,
    ) -> Result<Self, Misfit> {
        let misfit = |key, found: String, wanted: &str| {
            Err(Misfit { key, found, wanted: wanted.to_owned() })
        };
        let width = kind.size() as usize / 2;
        if let (Some(bit), true) = (bit, kind != PointKind::Bool) {
            return misfit(
                "bit",
                format!("{bit} for a {kind}"),
                "type bool, because only a bool has this key",
            );
        }
        if byte.is_some() && !matches!(kind, PointKind::U8 | PointKind::I8) {
            return misfit(
                "byte",
                format!("type {kind}"),
                "type u8 or i8, because only these types have this key",
            );
        }
        if let (Some(order), true) = (order, width == 0) {
            let found = format!("{:?} for a {kind}", order.word());
            return misfit(
                "order",
                found,
                "a type of 16 or more bits, because only such types have this key",
            );
        }
        let part = match (kind, byte, bit) {
            (PointKind::Bool, _, Some(bit @ 0..=15)) => Part::Bit(bit),
            (PointKind::Bool, _, Some(bit)) => {
                return misfit("bit", bit.to_string(), "from 0 (the lowest bit) to 15");
            }
            (PointKind::Bool, _, None) => {
                return misfit("bit", "nothing".into(), "the number of the bit, 0 to 15");
            }
            (_, Some(byte), _) => Part::Half(byte),
            (PointKind::U8 | PointKind::I8, None, _) => {
                return misfit("byte", "nothing".into(), "\"hi\" or \"lo\"");
            }
            _ => Part::Whole(order.unwrap_or(WordOrder::of(width)[0])),
        };
        if let Part::Whole(order) = part
            && !WordOrder::of(width).contains(&order)
        {
            let words: Vec<_> = WordOrder::of(width).iter().map(|order| order.word()).collect();
            let found = format!("{:?} for a {kind}", order.word());
            return misfit("order", found, &words.join(", "));
        }
        Ok(Self { kind, part })
    }

    /// Returns the number of registers that the value occupies: 1, 2 or 4.
    pub const fn registers(&self) -> usize {
        match self.part {
            Part::Whole(_) => self.kind.size() as usize / 2,
            Part::Half(_) | Part::Bit(_) => 1,
        }
    }

    /// Whether the value occupies only a part of its register. Other values can then occupy the
    /// rest of the register.
    pub const fn is_part_of_register(&self) -> bool {
        !matches!(self.part, Part::Whole(_))
    }

    /// Returns the part of the register in words, such as `bit 3`. Returns `None` if the value
    /// occupies whole registers.
    pub fn part(&self) -> Option<String> {
        match self.part {
            Part::Whole(_) => None,
            Part::Half(Byte::Hi) => Some("the high byte".into()),
            Part::Half(Byte::Lo) => Some("the low byte".into()),
            Part::Bit(bit) => Some(format!("bit {bit}")),
        }
    }

    /// Reads the value from the first registers of the slice. The number of these registers is
    /// [`Layout::registers`].
    ///
    /// # Errors
    /// When the value is a float that is not finite. Some devices send such a float to report that
    /// they have no measurement.
    pub fn read(&self, registers: &[u16]) -> Result<Raw, NotFinite> {
        let mut raw = [0; 8];
        match self.part {
            Part::Bit(bit) => raw[0] = (registers[0] >> bit & 1) as u8,
            Part::Half(Byte::Hi) => raw[0] = registers[0].to_be_bytes()[0],
            Part::Half(Byte::Lo) => raw[0] = registers[0].to_be_bytes()[1],
            Part::Whole(order) => {
                let last = self.kind.size() as usize - 1;
                let wire = registers[..self.registers()].iter().flat_map(|r| r.to_be_bytes());
                for (byte, place) in wire.zip(order.places()) {
                    // In `raw`, the first byte is the least significant byte of the value.
                    raw[last - place] = byte;
                }
            }
        }
        let is_finite = match self.kind {
            PointKind::F32 => f32::from_le_bytes([raw[0], raw[1], raw[2], raw[3]]).is_finite(),
            PointKind::F64 => f64::from_le_bytes(raw).is_finite(),
            _ => true,
        };
        if is_finite { Ok(raw) } else { Err(NotFinite) }
    }

    /// Writes the value into the first registers of the slice. The number of these registers is
    /// [`Layout::registers`]. Bits that belong to other values do not change.
    pub fn write(&self, raw: Raw, registers: &mut [u16]) {
        let [hi, lo] = registers[0].to_be_bytes();
        match self.part {
            Part::Bit(bit) => {
                registers[0] = registers[0] & !(1 << bit) | u16::from(raw[0] & 1) << bit;
            }
            Part::Half(Byte::Hi) => registers[0] = u16::from_be_bytes([raw[0], lo]),
            Part::Half(Byte::Lo) => registers[0] = u16::from_be_bytes([hi, raw[0]]),
            Part::Whole(order) => {
                let last = self.kind.size() as usize - 1;
                let wire: Vec<u8> = order.places().map(|place| raw[last - place]).collect();
                for (register, wire) in registers.iter_mut().zip(wire.chunks_exact(2)) {
                    *register = u16::from_be_bytes([wire[0], wire[1]]);
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn raw(bytes: &[u8]) -> Raw {
        let mut raw = [0; 8];
        raw[..bytes.len()].copy_from_slice(bytes);
        raw
    }

    /// Checks that the layout reads `value` from `registers`. Then checks that a write of `value`
    /// into registers in which all bits are 1 results in `written`.
    fn check(layout: Result<Layout, Misfit>, registers: &[u16], value: &[u8], written: &[u16]) {
        let layout = layout.unwrap();
        assert_eq!(layout.registers(), registers.len(), "{layout:?}");
        assert_eq!(layout.read(registers), Ok(raw(value)), "{layout:?} of {registers:x?}");
        let mut over = [0xffff; MAX_REGISTERS];
        layout.write(raw(value), &mut over);
        assert_eq!(over[..registers.len()], *written, "{layout:?} from {value:x?}");
        assert!(
            over[registers.len()..].iter().all(|r| *r == 0xffff),
            "{layout:?} changed other registers"
        );
    }

    fn whole(kind: PointKind, order: Option<WordOrder>) -> Result<Layout, Misfit> {
        Layout::new(kind, order, None, None)
    }

    #[test]
    fn orders_are_what_their_letters_say() {
        fn check_order(kind: PointKind, order: Option<WordOrder>, registers: &[u16], value: &[u8]) {
            check(whole(kind, order), registers, value, registers);
        }
        let (narrow, wide) = (0x0102_u16.to_le_bytes(), 0x0102_0304_u32.to_le_bytes());
        check_order(PointKind::U16, None, &[0x0102], &narrow);
        check_order(PointKind::U16, Some(WordOrder::Ab), &[0x0102], &narrow);
        check_order(PointKind::I16, Some(WordOrder::Ba), &[0x0201], &narrow);
        check_order(PointKind::I16, None, &[0xfffe], &(-2i16).to_le_bytes());
        check_order(PointKind::U32, None, &[0x0102, 0x0304], &wide);
        check_order(PointKind::U32, Some(WordOrder::Abcd), &[0x0102, 0x0304], &wide);
        check_order(PointKind::I32, Some(WordOrder::Cdab), &[0x0304, 0x0102], &wide);
        check_order(PointKind::U32, Some(WordOrder::Badc), &[0x0201, 0x0403], &wide);
        check_order(PointKind::U32, Some(WordOrder::Dcba), &[0x0403, 0x0201], &wide);
        check_order(PointKind::F32, None, &[0x3fc0, 0x0000], &1.5f32.to_le_bytes());
        check_order(
            PointKind::F32,
            Some(WordOrder::Cdab),
            &[0x0000, 0x3fc0],
            &1.5f32.to_le_bytes(),
        );
        let widest = 0x0102_0304_0506_0708_u64.to_le_bytes();
        check_order(PointKind::U64, None, &[0x0102, 0x0304, 0x0506, 0x0708], &widest);
        let ghefcdab = [0x0708, 0x0506, 0x0304, 0x0102];
        check_order(PointKind::I64, Some(WordOrder::Ghefcdab), &ghefcdab, &widest);
        let badcfehg = [0x0201, 0x0403, 0x0605, 0x0807];
        check_order(PointKind::U64, Some(WordOrder::Badcfehg), &badcfehg, &widest);
        let hgfedcba = [0x0807, 0x0605, 0x0403, 0x0201];
        check_order(PointKind::U64, Some(WordOrder::Hgfedcba), &hgfedcba, &widest);
        check_order(PointKind::F64, None, &[0xbff8, 0, 0, 0], &(-1.5f64).to_le_bytes());
    }

    #[test]
    fn parts_leave_the_rest_alone() {
        let half = |kind, byte| Layout::new(kind, None, Some(byte), None);
        let bit = |bit| Layout::new(PointKind::Bool, None, None, Some(bit));
        check(half(PointKind::U8, Byte::Hi), &[0x1234], &[0x12], &[0x12ff]);
        check(half(PointKind::I8, Byte::Lo), &[0x1280], &[0x80], &[0xff80]);
        check(bit(0), &[0x0001], &[1], &[0xffff]);
        check(bit(0), &[0xfffe], &[0], &[0xfffe]);
        check(bit(15), &[0x8000], &[1], &[0xffff]);
        check(bit(15), &[0x7fff], &[0], &[0x7fff]);
    }

    #[test]
    fn what_is_no_number_is_no_value() {
        let read = |kind, registers: &[u16]| whole(kind, None).unwrap().read(registers);
        assert_eq!(read(PointKind::F32, &[0x7fc0, 0]), Err(NotFinite));
        assert_eq!(read(PointKind::F32, &[0xff80, 0]), Err(NotFinite));
        assert_eq!(read(PointKind::F64, &[0x7ff0, 0, 0, 0]), Err(NotFinite));
        assert_eq!(read(PointKind::U32, &[0x7fc0, 0]), Ok(raw(&[0, 0, 0xc0, 0x7f])));
    }

    #[test]
    fn what_does_not_go_together_is_refused() {
        fn check(layout: Result<Layout, Misfit>, key: &str, wanted: &str) {
            let misfit = layout.unwrap_err();
            assert_eq!((misfit.key, &*misfit.wanted), (key, wanted), "{misfit:?}");
        }
        let half = |kind| Layout::new(kind, None, Some(Byte::Lo), None);
        let bit = |kind, bit| Layout::new(kind, None, None, Some(bit));
        check(whole(PointKind::U32, Some(WordOrder::Ba)), "order", "ABCD, CDAB, BADC, DCBA");
        check(whole(PointKind::U16, Some(WordOrder::Abcd)), "order", "AB, BA");
        check(
            whole(PointKind::U8, Some(WordOrder::Ab)),
            "order",
            "a type of 16 or more bits, because only such types have this key",
        );
        check(whole(PointKind::U8, None), "byte", "\"hi\" or \"lo\"");
        let wanted = "type u8 or i8, because only these types have this key";
        check(half(PointKind::U16), "byte", wanted);
        let wanted = "type bool, because only a bool has this key";
        check(bit(PointKind::U16, 1), "bit", wanted);
        check(bit(PointKind::Bool, 16), "bit", "from 0 (the lowest bit) to 15");
        check(whole(PointKind::Bool, None), "bit", "the number of the bit, 0 to 15");
    }

    #[test]
    fn orders_are_named_as_in_the_configuration() {
        for order in [1, 2, 4].into_iter().flat_map(WordOrder::of) {
            let json = format!("{:?}", order.word());
            assert_eq!(serde_json::from_str::<WordOrder>(&json).unwrap(), *order);
        }
    }
}
