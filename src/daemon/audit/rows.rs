//! How many orders have a line each: as many as a person can give, and not as many as a script can.
//!
//! A script that sets the same variable every second would drive everything else out of the
//! history within a day. So each user has a store of lines for each kind of order and target, which
//! fills up again slowly; orders beyond it are counted, and the next line says how many.

use std::collections::HashMap;
use std::time::Duration;

use crate::control::{OrderKind, Ordered};

/// Lines in a full store.
const LINES: u32 = 20;

/// After so long a store has one line more: 144 a day.
const REFILL: Duration = Duration::from_secs(600);

/// Stores at one time, which is more than people use in three hours. Orders beyond them share one
/// for each kind and user.
const MAX_ROWS: usize = 1024;

/// Whose orders: the user, the kind of order, and what it is about.
type Key = (Option<u32>, OrderKind, Option<String>);

/// The stores.
#[derive(Debug, Default)]
pub(super) struct Rows(HashMap<Key, Row>);

#[derive(Debug, Default)]
struct Row {
    /// When the store is full again.
    full_at: Duration,
    /// Orders without a line since the last that had one.
    unsaid: u64,
}

impl Rows {
    /// For how many orders a line stands that is written now; `None` when this order has none.
    pub(super) fn take(
        &mut self,
        ordered: &Ordered,
        plugin: Option<&str>,
        now: Duration,
    ) -> Option<u64> {
        let target = ordered.target.as_deref().or(plugin).map(str::to_owned);
        let mut key = (ordered.who.as_ref().map(|who| who.uid), ordered.order, target);
        if !self.0.contains_key(&key) && self.0.len() >= MAX_ROWS {
            self.0.retain(|_, row| row.full_at > now || row.unsaid > 0);
            if self.0.len() >= MAX_ROWS {
                key.2 = None;
            }
        }
        let row = self.0.entry(key).or_default();
        row.unsaid += 1;
        let full_at = row.full_at.max(now) + REFILL;
        if full_at > now + LINES * REFILL {
            return None;
        }
        row.full_at = full_at;
        Some(std::mem::take(&mut row.unsaid))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::control::Who;

    fn set(uid: u32, target: &str) -> Ordered {
        Ordered {
            order: OrderKind::Set,
            target: Some(target.into()),
            old: None,
            new: None,
            details: None,
            who: Some(Who { uid, name: None }),
            failed: None,
            count: 1,
        }
    }

    #[test]
    fn a_script_has_few_lines_and_counts_and_a_person_has_all() {
        let mut rows = Rows::default();
        let mut lines = Vec::new();
        for second in 0..86_400 {
            let now = Duration::from_secs(second);
            lines.extend(rows.take(&set(7, "x"), None, now));
            if second % 3600 == 0 {
                assert_eq!(rows.take(&set(8, "x"), None, now), Some(1), "another user");
                assert_eq!(rows.take(&set(7, "y"), None, now), Some(1), "another target");
            }
        }
        assert_eq!(lines.len(), 20 + 143);
        assert_eq!(lines[..20], [1; 20]);
        assert_eq!(lines.last(), Some(&600));
    }

    #[test]
    fn there_are_limits() {
        let mut rows = Rows::default();
        let mut take = |n: usize, now| rows.take(&set(7, &n.to_string()), None, now).is_some();
        let lines = (0..10 * MAX_ROWS).filter(|n| take(*n, Duration::ZERO)).count();
        assert_eq!(lines, MAX_ROWS + LINES as usize, "what is beyond them shares one");
        let later = LINES * REFILL;
        assert!((0..MAX_ROWS).all(|n| take(n, later)), "those that are full again make room");
        assert!(rows.0.len() <= MAX_ROWS + 1);
    }
}
