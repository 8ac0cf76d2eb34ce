//! The limit on the number of elements in all tables of one instance together.
//!
//! Each table gets the elements that it has from the start. When wasmer makes a table, this file
//! reserves the further elements by which the table may grow. The tables are made in their order in
//! the module, so the first tables get the further elements first. The limit of the memory, and
//! wasmer's hooks for both, are in `wasm.rs`. A module that asks for too much from the start is
//! mostly refused earlier, in `module/size.rs`.

use std::sync::atomic::{AtomicU32, Ordering};

use wasmer::{Module, TableType};

/// The limit on all tables of one instance.
#[derive(Debug)]
pub(super) struct Tables {
    allowed: u32,
    /// Number of elements that the tables have from the start.
    minimum: u64,
    /// Number of elements by which the tables that are not made yet may grow. Only the thread that
    /// makes the instance reads and writes the number. The number is atomic because wasmer shares
    /// the value that has the hooks.
    spare: AtomicU32,
}

impl Tables {
    /// The limit for an instance of `module`, with `allowed` elements in all.
    pub(super) fn new(allowed: u32, module: &Module) -> Self {
        Self::of(allowed, module.info().tables.values())
    }

    fn of<'t>(allowed: u32, tables: impl Iterator<Item = &'t TableType>) -> Self {
        let minimum = tables.map(|table| u64::from(table.minimum)).sum();
        // The difference is at most `allowed`, which has 32 bits.
        let spare = u64::from(allowed).saturating_sub(minimum) as u32;
        Self { allowed, minimum, spare: AtomicU32::new(spare) }
    }

    /// The type of the next table, with a maximum for which there is room. A table without a
    /// maximum of its own gets all remaining elements.
    ///
    /// # Errors
    /// When the tables have too many elements from the start.
    pub(super) fn next(&self, asked: &TableType) -> Result<TableType, String> {
        let Self { allowed, minimum, .. } = *self;
        if minimum > allowed.into() {
            return Err(format!(
                "its tables have {minimum} elements, plugins.table allows {allowed} in all"
            ));
        }
        let wish = asked.maximum.unwrap_or(u32::MAX).saturating_sub(asked.minimum);
        let spare = self.spare.load(Ordering::Relaxed);
        self.spare.store(spare.saturating_sub(wish), Ordering::Relaxed);
        Ok(TableType { maximum: Some(asked.minimum + wish.min(spare)), ..*asked })
    }
}

#[cfg(test)]
mod tests {
    use wasmer::Type;

    use super::*;

    #[test]
    fn later_tables_get_what_the_earlier_ones_leave() {
        fn check(tables: &[(u32, Option<u32>)], expected: Result<&[u32], &str>) {
            let ty = |&(minimum, maximum)| TableType::new(Type::FuncRef, minimum, maximum);
            let tables: Vec<TableType> = tables.iter().map(ty).collect();
            let room = Tables::of(100, tables.iter());
            let most = |table| room.next(table).map(|table| table.maximum.expect("it has one"));
            let found: Result<Vec<u32>, String> = tables.iter().map(most).collect();
            assert_eq!(found.as_deref().map_err(|why| &**why), expected, "{tables:?}");
        }
        check(&[(10, None)], Ok(&[100]));
        check(&[(10, Some(20)), (10, None), (10, None)], Ok(&[20, 70, 10]));
        check(&[(0, Some(1000)), (40, Some(50))], Ok(&[60, 40]));
        check(&[(100, None)], Ok(&[100]));
        let why = "its tables have 101 elements, plugins.table allows 100 in all";
        check(&[(100, None), (1, None)], Err(why));
    }
}
