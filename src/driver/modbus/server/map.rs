//! The map of the server's tables: which item occupies which cells. An item is a value, or the
//! quality of a value. A cell is one register or one bit. A slot is a group of cells that are read
//! and written together.
//!
//! ```text
//!   table input, address   0 and 1       2                    3
//!   slot                   item: f32     items: bit 0, bit 9  no slot: exception 2
//! ```
//! A value occupies one, two or four cells. A client must read or write all cells of a value in one
//! request, because a part of a number has no meaning. Values that are smaller than a register may
//! share one register. A cell without an item does not exist: the server answers a read or a write
//! of this cell with exception 2. It does not answer a read with the value 0. `offer.rs` puts the
//! items into the map.

use std::collections::BTreeMap;

use super::request::Exception;
use crate::driver::modbus::wire::register::{Layout, MAX_REGISTERS, NotFinite};
use crate::driver::modbus::wire::table::Table;
use crate::process::image::Raw;

/// The form of a value in its cells.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Form {
    /// One cell that contains a plain number: a bit in a table of bits, or a quality.
    Cell,
    /// One, two or four registers with this layout.
    Registers(Layout),
}

impl Form {
    /// Returns the number of cells of the value: 1, 2 or 4.
    fn cells(self) -> u16 {
        match self {
            Self::Cell => 1,
            // A layout has at most MAX_REGISTERS registers, so the cast loses nothing.
            Self::Registers(layout) => layout.registers() as u16,
        }
    }

    /// Whether the value can share its register with other values.
    fn can_share(self) -> bool {
        matches!(self, Self::Registers(layout) if layout.is_part_of_register())
    }

    /// Returns a mask of the bits in the first cell that belong to the value.
    fn mask(self) -> u16 {
        let mut cells = [0; MAX_REGISTERS];
        self.put([0xff; 8], &mut cells);
        cells[0]
    }

    /// Writes a value into its cells. `cells[0]` is the first cell of the value.
    pub(super) fn put(self, raw: Raw, cells: &mut [u16]) {
        match self {
            Self::Cell => cells[0] = u16::from_le_bytes([raw[0], raw[1]]),
            Self::Registers(layout) => layout.write(raw, cells),
        }
    }

    /// Reads a value from its cells. `cells[0]` is the first cell of the value.
    pub(super) fn take(self, cells: &[u16]) -> Result<Raw, NotFinite> {
        match self {
            Self::Cell => {
                let [low, high] = cells[0].to_le_bytes();
                Ok([low, high, 0, 0, 0, 0, 0, 0])
            }
            Self::Registers(layout) => layout.read(cells),
        }
    }
}

/// One slot: cells that are read and written together, with the items in these cells.
#[derive(Debug)]
pub(super) struct Slot<T> {
    cells: u16,
    pub(super) items: Vec<(T, Form)>,
}

impl<T> Slot<T> {
    /// Returns a mask of the bits in the first cell that belong to any item of the slot.
    pub(super) fn mask(&self) -> u16 {
        self.items.iter().fold(0, |mask, (_, form)| mask | form.mask())
    }
}

/// The slots of all four tables.
#[derive(Debug)]
pub(super) struct Map<T> {
    /// The slots of each table, each under the address of its first cell. Two slots never overlap.
    tables: [BTreeMap<u16, Slot<T>>; 4],
}

/// Reason why an item cannot be added at an address.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Clash<T> {
    /// The item would end after the last address of the table.
    Beyond,
    /// Another item occupies one of the cells, and the two items cannot share this cell. The field
    /// of this variant is the other item.
    With(T),
}

/// An item of the map: a value, or the quality of a value, that occupies one or more cells.
/// `offer.rs` defines the items of the server.
pub(super) trait Item: Copy {
    /// Whether the item may share a register with `other`. This matters because a client always
    /// writes all bits of a register together.
    fn goes_with(self, other: Self) -> bool;
}

impl<T: Item> Map<T> {
    pub(super) fn new() -> Self {
        Self { tables: Default::default() }
    }

    /// Adds an item to the map. The form of the item decides how many cells the item occupies.
    pub(super) fn add(
        &mut self,
        (table, address): (Table, u16),
        form: Form,
        item: T,
    ) -> Result<(), Clash<T>> {
        let cells = form.cells();
        let last = address.checked_add(cells - 1).ok_or(Clash::Beyond)?;
        let table = &mut self.tables[table as usize];
        let Some((&first, slot)) = table.range_mut(..=last).next_back() else {
            table.insert(address, Slot { cells, items: vec![(item, form)] });
            return Ok(());
        };
        if first + (slot.cells - 1) < address {
            table.insert(address, Slot { cells, items: vec![(item, form)] });
            return Ok(());
        }
        let in_the_way = slot.items.iter().find(|(other, its)| {
            let can_share = form.can_share() && its.can_share() && item.goes_with(*other);
            !can_share || form.mask() & its.mask() != 0
        });
        match in_the_way {
            Some((other, _)) => Err(Clash::With(*other)),
            None => {
                slot.items.push((item, form));
                Ok(())
            }
        }
    }

    /// Returns the slots in the `count` cells from `start` on. The number before each slot is the
    /// offset of the slot's first cell from `start`.
    ///
    /// # Errors
    /// When a cell belongs to no item, or when the range contains only a part of a value.
    pub(super) fn within(
        &self,
        table: Table,
        start: u16,
        count: usize,
    ) -> Result<Vec<(usize, &Slot<T>)>, Exception> {
        let (mut next, mut found) = (0, Vec::new());
        for (address, slot) in self.tables[table as usize].range(start..) {
            if next >= count || usize::from(address - start) != next {
                break;
            }
            found.push((next, slot));
            next += usize::from(slot.cells);
        }
        if next == count { Ok(found) } else { Err(Exception::Address) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::driver::modbus::wire::register::{Byte, WordOrder};
    use crate::process::image::PointKind;

    impl Item for u8 {
        /// Even items may share a register with even items, and odd items with odd items.
        fn goes_with(self, other: Self) -> bool {
            self % 2 == other % 2
        }
    }

    fn whole(kind: PointKind) -> Form {
        Form::Registers(Layout::new(kind, None, None, None).unwrap())
    }

    fn half(byte: Byte) -> Form {
        Form::Registers(Layout::new(PointKind::U8, None, Some(byte), None).unwrap())
    }

    fn bit(bit: u8) -> Form {
        Form::Registers(Layout::new(PointKind::Bool, None, None, Some(bit)).unwrap())
    }

    #[test]
    fn nothing_lies_on_something_else() {
        let mut map = Map::new();
        let mut add = |at, form, item, expected: Result<(), Clash<u8>>| {
            assert_eq!(map.add((Table::Input, at), form, item), expected, "{item}");
        };
        add(10, whole(PointKind::U32), 1, Ok(()));
        add(10, whole(PointKind::U16), 2, Err(Clash::With(1)));
        add(11, whole(PointKind::U16), 3, Err(Clash::With(1)));
        add(9, whole(PointKind::U32), 4, Err(Clash::With(1)));
        add(8, whole(PointKind::U64), 5, Err(Clash::With(1)));
        add(8, whole(PointKind::F32), 6, Ok(()));
        add(12, bit(3), 7, Ok(()));
        add(12, bit(4), 9, Ok(()));
        add(12, bit(5), 8, Err(Clash::With(7)));
        add(12, bit(3), 9, Err(Clash::With(7)));
        add(12, half(Byte::Lo), 11, Err(Clash::With(7)));
        add(12, half(Byte::Hi), 11, Ok(()));
        add(12, whole(PointKind::U16), 12, Err(Clash::With(7)));
        add(0xffff, whole(PointKind::U16), 13, Ok(()));
        add(0xffff, whole(PointKind::U32), 14, Err(Clash::Beyond));
        assert_eq!(map.add((Table::Holding, 10), whole(PointKind::U64), 15), Ok(()));
    }

    #[test]
    fn only_whole_values_without_holes_are_found() {
        let mut map = Map::new();
        for (at, form, item) in [
            (4, whole(PointKind::U32), 1),
            (6, bit(0), 2),
            (6, bit(9), 4),
            (8, whole(PointKind::F64), 5),
        ] {
            map.add((Table::Holding, at), form, item).unwrap();
        }
        let check = |start, count, expected: Option<&[(usize, u8)]>| {
            let found = map.within(Table::Holding, start, count).map(|slots| {
                let items = |(at, slot): &(usize, &Slot<u8>)| {
                    let at = *at;
                    slot.items.iter().map(move |(item, _)| (at, *item)).collect::<Vec<_>>()
                };
                slots.iter().flat_map(items).collect::<Vec<_>>()
            });
            assert_eq!(found.ok().as_deref(), expected, "{start} {count}");
        };
        check(4, 2, Some(&[(0, 1)]));
        check(4, 3, Some(&[(0, 1), (2, 2), (2, 4)]));
        check(8, 4, Some(&[(0, 5)]));
        check(4, 1, None);
        check(5, 1, None);
        check(5, 2, None);
        check(7, 1, None);
        check(6, 3, None);
        check(8, 5, None);
        check(0, 1, None);
        assert_eq!(map.within(Table::Input, 4, 2).map(|_| ()), Err(Exception::Address));
        let shared = map.within(Table::Holding, 6, 1).unwrap();
        assert_eq!(shared[0].1.mask(), 0x0201);
    }

    #[test]
    fn values_survive_their_cells() {
        let order = Layout::new(PointKind::U32, Some(WordOrder::Cdab), None, None).unwrap();
        for form in [Form::Registers(order), whole(PointKind::U32)] {
            let (raw, mut cells) = ([1, 2, 3, 4, 0, 0, 0, 0], [0; 2]);
            form.put(raw, &mut cells);
            assert_eq!(form.take(&cells), Ok(raw));
        }
        let mut cells = [0];
        Form::Cell.put([1, 0, 0, 0, 0, 0, 0, 0], &mut cells);
        assert_eq!(cells, [1]);
    }
}
