//! The limit on the number of elements in all tables of one instance together.
//!
//! Each table gets its initial elements. The limit minus the initial elements of all tables is the
//! number of free elements, into which tables can grow. When wasmer makes a table, the code here
//! reduces the table's maximum, so that the table can grow only into these free elements. wasmer
//! makes the tables in their order in the module, so the first tables get the free elements first.
//!
//! The limit of the memory is in `wasm.rs`, which also connects both limits to wasmer. A module
//! with too many initial elements is usually refused earlier, in `module/size.rs`.

use std::sync::atomic::{AtomicU32, Ordering};

use wasmer::{Module, TableType};

/// The limit on all tables of one instance.
#[derive(Debug)]
pub(super) struct Tables {
    allowed: u32,
    /// Number of initial elements of all tables together.
    minimum: u64,
    /// Number of elements that are still free for the growth of tables. Only the thread that makes
    /// the instance reads and writes this number. The number is atomic because wasmer requires a
    /// value that can be shared between threads.
    spare: AtomicU32,
}

impl Tables {
    /// Makes the limit for an instance of `module`. All tables together may have `allowed`
    /// elements.
    pub(super) fn new(allowed: u32, module: &Module) -> Self {
        Self::of(allowed, module.info().tables.values())
    }

    fn of<'t>(allowed: u32, tables: impl Iterator<Item = &'t TableType>) -> Self {
        let minimum = tables.map(|table| u64::from(table.minimum)).sum();
        // The cast loses no bits, because the difference is at most `allowed`, which has 32 bits.
        let spare = u64::from(allowed).saturating_sub(minimum) as u32;
        Self { allowed, minimum, spare: AtomicU32::new(spare) }
    }

    /// Returns the type of the next table with a reduced maximum, so that the limit is not
    /// exceeded. A table without a maximum in the module may grow into all free elements that
    /// remain.
    ///
    /// # Errors
    /// When the initial elements of all tables exceed the limit.
    pub(super) fn next(&self, asked: &TableType) -> Result<TableType, String> {
        let Self { allowed, minimum, .. } = *self;
        if minimum > allowed.into() {
            return Err(format!(
                "its tables together need {minimum} elements, and plugins.table allows {allowed}"
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
            let most =
                |table| room.next(table).map(|table| table.maximum.expect("it has a maximum"));
            let found: Result<Vec<u32>, String> = tables.iter().map(most).collect();
            assert_eq!(found.as_deref().map_err(|why| &**why), expected, "{tables:?}");
        }
        check(&[(10, None)], Ok(&[100]));
        check(&[(10, Some(20)), (10, None), (10, None)], Ok(&[20, 70, 10]));
        check(&[(0, Some(1000)), (40, Some(50))], Ok(&[60, 40]));
        check(&[(100, None)], Ok(&[100]));
        let why = "its tables together need 101 elements, and plugins.table allows 100";
        check(&[(100, None), (1, None)], Err(why));
    }
}
