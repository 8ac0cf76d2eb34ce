//! Rate limits of the history: some orders get a line at once, and others must wait.
//!
//! ```text
//!   order ──▶ the row of (user, kind, subject) ── has a line? ──▶ history, with its count
//!                      │ no
//!                      └──▶ waits; a newer order of the row takes its place and adds to the count
//! ```
//! Example: a script sets the same variable every second. Without a limit, its lines would push all
//! other events out of the history within an hour. So each combination of user, kind of order and
//! subject has its own store of lines (a token bucket). A line of a store is a permission to write
//! one line into the history. A written line uses up one permission, and the store refills slowly
//! (`plugins/rate.rs`). In addition, each line uses one line of a common store, which all
//! combinations share. Only kinds of orders that scripts repeat are limited; [`Rows::admit`] lists
//! the kinds.

use std::collections::HashMap;
use std::time::Duration;

use super::draft::Draft;
use crate::control::OrderKind;
use crate::daemon::plugins::{LineStore, Lines};

/// The store for one combination of user, kind and subject. The store is large enough for a person
/// who gives orders by hand. A script gets 20 lines, and after that at most 144 lines per day.
const ONE: Lines = Lines { full: 20, refill: Duration::from_secs(600) };

/// The common store of all limited orders. The journal has about 2000 lines in memory.
const ALL: Lines = Lines { full: 300, refill: Duration::from_secs(120) };

/// The limit for the number of stores. If this many stores are in use, all new subjects of one user
/// and one kind of order share one store.
const MAX_ROWS: usize = 1024;

/// The time between two checks of the waiting orders.
const LOOK: Duration = Duration::from_secs(1);

/// The key of a store: the user, the kind of order, and the subject. The key without a subject is
/// for the store that further subjects share.
type Key = (Option<u32>, OrderKind, Option<String>);

/// All stores, and the orders that wait for a free line.
#[derive(Debug, Default)]
pub(super) struct Rows {
    /// The store of each combination of user, kind and subject.
    rows: HashMap<Key, Row>,
    /// The common store of all combinations.
    all: LineStore,
    /// The time of the last check of the waiting orders, on the monotonic clock.
    looked: Duration,
}

/// The store of one combination, and the newest order that waits for a line of this store.
#[derive(Debug, Default)]
struct Row {
    /// The remaining lines of this store.
    store: LineStore,
    /// The newest order that waits for a line. Its count includes the earlier orders that this
    /// order has replaced.
    waiting: Option<Draft>,
}

impl Rows {
    /// Decides whether an order gets a line now. If a line is free, the function returns the order.
    /// The count of the returned order includes the earlier orders that it has replaced. If no line
    /// is free, the function stores the order and returns `None`. An order of a kind without a
    /// limit is always returned.
    pub(super) fn admit(&mut self, mut draft: Draft, now: Duration) -> Option<Draft> {
        use OrderKind as Kind;
        let order = draft.ordered.order;
        if !matches!(order, Kind::Set | Kind::Restart | Kind::Fault | Kind::ClearFault) {
            return Some(draft);
        }
        let uid = draft.ordered.who.as_ref().map(|who| who.uid);
        let mut key = (uid, order, Some(draft.subject().to_owned()));
        if !self.rows.contains_key(&key) && self.rows.len() >= MAX_ROWS {
            // A store that is full again and has no waiting order can be removed: if it is needed
            // later, a new store begins full.
            self.rows.retain(|_, row| row.waiting.is_some() || row.store.full_at > now);
            if self.rows.len() >= MAX_ROWS {
                key.2 = None;
            }
        }
        let row = self.rows.entry(key).or_default();
        draft.ordered.count += row.waiting.take().map_or(0, |before| before.ordered.count);
        row.waiting = Some(draft);
        row.release(&mut self.all, now)
    }

    /// Removes and returns the waiting orders for which a line is free now.
    pub(super) fn due(&mut self, now: Duration) -> Vec<Draft> {
        if now < self.looked + LOOK {
            return Vec::new();
        }
        self.looked = now;
        let Self { rows, all, .. } = self;
        rows.values_mut().filter_map(|row| row.release(all, now)).collect()
    }

    /// Removes and returns all waiting orders, when the daemon stops.
    pub(super) fn drain(&mut self) -> impl Iterator<Item = Draft> {
        std::mem::take(&mut self.rows).into_values().filter_map(|row| row.waiting)
    }
}

impl Row {
    /// Removes and returns the waiting order, if a line is free for it.
    fn release(&mut self, all: &mut LineStore, now: Duration) -> Option<Draft> {
        self.waiting.as_ref()?;
        // The call of `take` on the common store uses a line of the common store. So this call is
        // made only if the store of this combination has a line.
        if !self.store.has(ONE, now) || !all.take(ALL, now) {
            return None;
        }
        self.store.take(ONE, now);
        self.waiting.take()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::control::Who;

    fn set(uid: u32, target: &str, new: u64) -> Draft {
        let who = Some(Who { uid, name: None });
        Draft::of(OrderKind::Set, &who).target(target, None, Some(new))
    }

    #[test]
    fn a_script_has_few_lines_and_a_person_has_all() {
        let mut rows = Rows::default();
        let mut lines = Vec::new();
        for second in 0..86_400 {
            let now = Duration::from_secs(second);
            lines.extend(rows.due(now));
            lines.extend(rows.admit(set(7, "x", second), now));
            if second % 3600 == 0 {
                for other in [set(8, "x", 0), set(7, "y", 0)] {
                    assert_eq!(rows.admit(other, now).map(|line| line.ordered.count), Some(1));
                }
            }
        }
        assert_eq!(lines.len(), 20 + 143);
        assert!(lines[..20].iter().all(|line| line.ordered.count == 1));
        assert_eq!(lines.last().unwrap().ordered.count, 600);
        let said: u64 = lines.iter().map(|line| line.ordered.count).sum();
        let waits: Vec<_> = rows.drain().collect();
        assert_eq!(waits.len(), 1);
        assert_eq!(said + waits[0].ordered.count, 86_400, "no order is lost");
        assert_eq!(waits[0].ordered.new.as_deref(), Some("86399"), "the last order is known");
    }

    #[test]
    fn the_last_of_a_row_has_its_line_though_nothing_follows() {
        let mut rows = Rows::default();
        let start = Duration::from_secs(100);
        let at_once = (0..25).filter_map(|n| rows.admit(set(7, "x", n), start)).count();
        assert_eq!(at_once, 20);
        assert_eq!(rows.due(start + LOOK).len(), 0);
        let late = rows.due(start + ONE.refill);
        assert_eq!(late.len(), 1);
        assert_eq!((late[0].ordered.new.as_deref(), late[0].ordered.count), (Some("24"), 5));
        assert_eq!(rows.due(start + 2 * ONE.refill).len(), 0);
    }

    #[test]
    fn what_takes_a_machine_out_of_the_hands_of_its_programs_has_a_line_always() {
        let mut rows = Rows::default();
        let force = || Draft::of(OrderKind::Force, &None).target("x", None, Some(1));
        assert_eq!((0..1000).filter_map(|_| rows.admit(force(), Duration::ZERO)).count(), 1000);
    }

    #[test]
    fn there_are_limits() {
        let mut rows = Rows::default();
        let names: Vec<_> = (0..10 * MAX_ROWS).map(|n| n.to_string()).collect();
        let mut lines = 0;
        for _ in 0..2 {
            let sets = names.iter().map(|name| set(7, name, 0));
            lines += sets.filter_map(|set| rows.admit(set, Duration::ZERO)).count();
        }
        assert_eq!(lines, ALL.full as usize);
        assert!(rows.rows.len() <= MAX_ROWS + 1);
    }
}
