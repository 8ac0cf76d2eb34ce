//! The place of a point on a unit: the table, the address and the layout that the key `at`
//! describes.
//!
//! The key `address` counts from 0, as the protocol does. The key `ref` is for the numbers in
//! device manuals: the first digit is the table, and the other digits are an address that counts
//! from 1. Example: `ref = "40001"` is address 0 of the holding registers. A point with both keys
//! is refused, because the two addresses could differ by one, and a read of the wrong address
//! returns a value that looks valid. `wire/register.rs` describes the layout of a value in
//! registers.

use super::DataAddress;
use crate::driver::modbus::wire::register::{Layout, Misfit};
use crate::driver::modbus::wire::table::Table;
use crate::process::image::{Direction, PointKind};

/// The place of a point on its unit.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct DataPlace {
    pub(super) table: Table,
    pub(super) address: u16,
    /// The layout of the value in registers; `None` in a table of bits.
    pub(super) layout: Option<Layout>,
}

/// The purpose of a point, which decides which keys of `at` are allowed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Use {
    /// An input that a group reads.
    Read,
    /// An output that the driver writes to a unit.
    Write,
    /// An input that shows a diagnostic value of a unit.
    Diagnostic,
}

impl Use {
    /// Returns the purpose of a point with this key `at` and this direction.
    pub(super) const fn of(at: &DataAddress, direction: Direction) -> Self {
        match (direction, at.diagnostic) {
            (Direction::Out, _) => Self::Write,
            (Direction::In, Some(_)) => Self::Diagnostic,
            (Direction::In, None) => Self::Read,
        }
    }

    /// Returns the keys of `at` that are allowed for this purpose.
    const fn keys(self) -> &'static [&'static str] {
        match self {
            Self::Read => &["group", "address", "ref", "order", "byte", "bit"],
            Self::Write => &[
                "unit",
                "table",
                "address",
                "ref",
                "order",
                "byte",
                "bit",
                "write",
                "refresh",
                "min_interval",
                "single",
                "readback",
                "warn_writes_per_day",
            ],
            Self::Diagnostic => &["unit", "diagnostic"],
        }
    }

    /// Returns the purpose in words, for error messages.
    const fn word(self) -> &'static str {
        match self {
            Self::Read => "an input",
            Self::Write => "an output",
            Self::Diagnostic => "a diagnostic",
        }
    }

    /// Checks that `at` has only keys that are allowed for this purpose.
    ///
    /// # Errors
    /// The first key that is not allowed.
    pub(super) fn allow(self, at: &DataAddress) -> Result<(), Misfit> {
        let said = [
            ("group", at.group.is_some()),
            ("unit", at.unit.is_some()),
            ("table", at.table.is_some()),
            ("address", at.address.is_some()),
            ("ref", at.reference.is_some()),
            ("order", at.order.is_some()),
            ("byte", at.byte.is_some()),
            ("bit", at.bit.is_some()),
            ("write", at.write.is_some()),
            ("refresh", at.refresh.is_some()),
            ("min_interval", at.min_interval.is_some()),
            ("single", at.single.is_some()),
            ("readback", at.readback.is_some()),
            ("warn_writes_per_day", at.warn_writes_per_day.is_some()),
            ("diagnostic", at.diagnostic.is_some()),
        ];
        let odd = said.into_iter().find(|(key, is_said)| *is_said && !self.keys().contains(key));
        let Some((key, _)) = odd else { return Ok(()) };
        let found = format!("this key at {}", self.word());
        Err(Misfit { key, found, wanted: format!("only these keys: {}", self.keys().join(", ")) })
    }
}

impl DataPlace {
    /// Makes the place that `at` describes. `table` is the table that the group or the key `table`
    /// names. If `table` is `None`, the place has the table of the key `ref` or, without this key,
    /// the default table. The default table is `Coil` for a bool without the key `bit`, and
    /// `Holding` for all other points.
    ///
    /// # Errors
    /// When `at` has no address, has two addresses, has an address that cannot exist, or has keys
    /// that do not fit the table or the type.
    pub(super) fn new(
        at: &DataAddress,
        table: Option<Table>,
        kind: PointKind,
    ) -> Result<Self, Misfit> {
        let misfit = |key, found: String, wanted: &str| {
            Err(Misfit { key, found, wanted: wanted.to_owned() })
        };
        let usual =
            if kind == PointKind::Bool && at.bit.is_none() { Table::Coil } else { Table::Holding };
        let (table, address) = match (at.address, &at.reference) {
            (Some(_), Some(_)) => {
                let wanted = "either `ref` or `address`";
                return misfit("ref", "both `ref` and `address`".into(), wanted);
            }
            (None, None) => {
                return misfit("address", "nothing".into(), "`address` (0 or more) or `ref`");
            }
            (Some(address), None) => (table.unwrap_or(usual), address),
            (None, Some(text)) => {
                let Some((of_ref, address)) = reference(text) else {
                    let wanted = "5 or 6 digits such as \"40001\"; the first digit is 0, 1, 3 or 4";
                    return misfit("ref", format!("{text:?}"), wanted);
                };
                if let Some(table) = table.filter(|table| *table != of_ref) {
                    let found = format!("{text:?}, which is in table {}", of_ref.word());
                    return misfit("ref", found, &format!("a `ref` in table {}", table.word()));
                }
                (of_ref, address)
            }
        };
        if !table.is_bits() {
            let layout = Layout::new(kind, at.order, at.byte, at.bit)?;
            let last = usize::from(address) + layout.registers() - 1;
            if last > usize::from(u16::MAX) {
                return misfit(
                    "address",
                    address.to_string(),
                    "an address at which the value ends at register 65535 or before",
                );
            }
            return Ok(Self { table, address, layout: Some(layout) });
        }
        if kind != PointKind::Bool {
            let found = format!("table {} for a {kind}", table.word());
            let wanted = "\"input\" or \"holding\", because only registers contain numbers";
            return misfit("table", found, wanted);
        }
        if at.bit.is_some() {
            let found = format!("table {}", table.word());
            let wanted = "table input or holding, because only registers have this key";
            return misfit("bit", found, wanted);
        }
        Ok(Self { table, address, layout: None })
    }

    /// Returns the number of registers or bits that the value occupies.
    pub(super) fn count(&self) -> u16 {
        // A value occupies at most four registers, so the cast loses nothing.
        self.layout.map_or(1, |layout| layout.registers() as u16)
    }
}

/// Returns the table and the address of a reference such as `40001`. Returns `None` if the text is
/// not a valid reference.
fn reference(text: &str) -> Option<(Table, u16)> {
    if !matches!(text.len(), 5 | 6) || !text.bytes().all(|byte| byte.is_ascii_digit()) {
        return None;
    }
    let (table, number) = text.split_at(1);
    let table = match table {
        "0" => Table::Coil,
        "1" => Table::Discrete,
        "3" => Table::Input,
        "4" => Table::Holding,
        _ => return None,
    };
    Some((table, u16::try_from(number.parse::<u32>().ok()?.checked_sub(1)?).ok()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn references_count_from_one() {
        fn check(text: &str, expected: Option<(Table, u16)>) {
            assert_eq!(reference(text), expected, "{text}");
        }
        check("40001", Some((Table::Holding, 0)));
        check("400001", Some((Table::Holding, 0)));
        check("465536", Some((Table::Holding, 65535)));
        check("465537", None);
        check("30101", Some((Table::Input, 100)));
        check("10008", Some((Table::Discrete, 7)));
        check("00001", Some((Table::Coil, 0)));
        for wrong in ["40000", "4001", "4000001", "50001", "4000a", "", "+4001"] {
            check(wrong, None);
        }
    }

    #[test]
    fn a_place_is_said_once_and_fits() {
        fn check(
            at: DataAddress,
            table: Option<Table>,
            kind: PointKind,
            expected: Result<(Table, u16), &str>,
        ) {
            let place = DataPlace::new(&at, table, kind);
            let place = place.as_ref().map(|place| (place.table, place.address));
            assert_eq!(place.map_err(|misfit| misfit.key), expected, "{at:?} {table:?} {kind}");
        }
        let at = |address| DataAddress { address: Some(address), ..DataAddress::default() };
        let by_ref =
            |text: &str| DataAddress { reference: Some(text.into()), ..DataAddress::default() };
        check(at(7), None, PointKind::U16, Ok((Table::Holding, 7)));
        check(at(7), None, PointKind::Bool, Ok((Table::Coil, 7)));
        check(
            DataAddress { bit: Some(3), ..at(7) },
            None,
            PointKind::Bool,
            Ok((Table::Holding, 7)),
        );
        check(at(7), Some(Table::Input), PointKind::F32, Ok((Table::Input, 7)));
        check(by_ref("40008"), None, PointKind::U16, Ok((Table::Holding, 7)));
        check(by_ref("30008"), Some(Table::Holding), PointKind::U16, Err("ref"));
        check(
            DataAddress { address: Some(7), ..by_ref("40008") },
            None,
            PointKind::U16,
            Err("ref"),
        );
        check(DataAddress::default(), None, PointKind::U16, Err("address"));
        check(at(65535), None, PointKind::U16, Ok((Table::Holding, 65535)));
        check(at(65535), None, PointKind::U32, Err("address"));
        check(at(7), Some(Table::Coil), PointKind::U16, Err("table"));
        check(
            DataAddress { bit: Some(3), ..at(7) },
            Some(Table::Coil),
            PointKind::Bool,
            Err("bit"),
        );
        check(at(7), Some(Table::Holding), PointKind::Bool, Err("bit"));
    }
}
