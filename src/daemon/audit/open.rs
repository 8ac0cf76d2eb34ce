//! The open orders: orders that were given and are not known to be carried out.
//!
//! ```text
//!   add() ──▶ open ──▶ settle(): has its answer ──▶ waits for earlier orders ──▶ next() ──▶ line
//!                          └── refused ──▶ its answer goes out at once, without a line
//! ```
//! Answers may come in another order than the orders, also for two orders about the same thing. The
//! line of an order waits for the lines of earlier orders about the same thing, so the last line in
//! the history says what is true now.

use tokio::sync::oneshot;

use super::draft::Draft;
use crate::control::{Code, OrderKind, Reply};

/// The open orders, oldest first. Each belongs to a connection to the control socket, so their
/// number is limited.
#[derive(Debug, Default)]
pub(super) struct Open {
    /// The orders, oldest first.
    orders: Vec<One>,
    /// The number of the newest order.
    last: u64,
}

/// An open order, with its outcome while the order waits for its turn.
#[derive(Debug)]
struct One {
    /// The number that `add` has given to the order.
    number: u64,
    /// Who gave the order, and the value before it.
    draft: Draft,
    /// The answer; `None` while the order is not carried out.
    outcome: Option<Outcome>,
}

/// The answer to an order, and the sender on which it goes to the caller.
pub(super) type Outcome = (Reply, oneshot::Sender<Reply>);

impl Open {
    /// Takes in an order; returns its number.
    pub(super) fn add(&mut self, draft: Draft) -> u64 {
        self.last += 1;
        self.orders.push(One { number: self.last, draft, outcome: None });
        self.last
    }

    /// Takes in the answer to the order with this number. A refused order has no line, so its
    /// outcome is returned at once.
    pub(super) fn settle(&mut self, number: u64, outcome: Outcome) -> Option<Outcome> {
        let at = self.orders.iter().position(|one| one.number == number)?;
        if !has_changed(self.orders[at].draft.ordered.order, &outcome.0) {
            self.orders.remove(at);
            return Some(outcome);
        }
        self.orders[at].outcome = Some(outcome);
        None
    }

    /// Removes and returns the next order that can be recorded: it has its answer, and no earlier
    /// order about its thing is open.
    pub(super) fn next(&mut self) -> Option<(Draft, Outcome)> {
        let is_next = |at: &usize| {
            let (one, mut earlier) = (&self.orders[*at], self.orders[..*at].iter());
            let is_first = !earlier.any(|other| other.draft.meets(&one.draft));
            one.outcome.is_some() && is_first
        };
        let at = (0..self.orders.len()).find(is_next)?;
        let One { draft, outcome, .. } = self.orders.remove(at);
        Some((draft, outcome?))
    }

    /// Tells later orders about the same thing that this order was carried out.
    pub(super) fn carried_out(&mut self, draft: &Draft) {
        let later = self.orders.iter_mut().map(|one| &mut one.draft);
        later.filter(|one| one.is_about_what(draft)).for_each(|one| one.follows(draft));
    }

    /// Removes and returns all orders, at the end of the daemon.
    pub(super) fn drain(&mut self) -> impl Iterator<Item = (Draft, Option<Outcome>)> {
        std::mem::take(&mut self.orders).into_iter().map(|one| (one.draft, one.outcome))
    }
}

/// Whether an order with this answer may have changed something, even if it is only half done.
fn has_changed(order: OrderKind, answer: &Reply) -> bool {
    let code = answer.as_ref().err().map(|failure| failure.code);
    match code {
        None | Some(Code::Internal) => true,
        // A cold restart and a reset may have been given up after half of their steps.
        Some(Code::Busy) => matches!(order, OrderKind::RestartCold | OrderKind::ResetRetain),
        Some(Code::Unknown | Code::Invalid | Code::Refused) => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::control::{Failure, Response};

    fn set(target: &str, old: &str, new: &str) -> Draft {
        Draft::of(OrderKind::Set, &None).target(target, Some(old.to_owned()), Some(new))
    }

    fn outcome() -> Outcome {
        (Ok(Response::Done), oneshot::channel().0)
    }

    /// The values before and after of each recorded order.
    fn recorded(open: &mut Open) -> Vec<String> {
        let mut all = Vec::new();
        while let Some((draft, _)) = open.next() {
            open.carried_out(&draft);
            let text = |text: &Option<String>| text.clone().unwrap_or_default();
            all.push(format!("{} -> {}", text(&draft.ordered.old), text(&draft.ordered.new)));
        }
        all
    }

    /// A force waited for the compile worker, and the history showed a hash as the value before the
    /// force.
    #[test]
    fn a_plugin_with_the_name_of_a_point_is_another_thing() {
        let mut open = Open::default();
        open.add(Draft::of(OrderKind::Deploy, &None).plugin("x", None));
        let one = open.add(set("x", "1", "2"));
        open.settle(one, outcome());
        assert_eq!(recorded(&mut open), ["1 -> 2"]);
    }

    /// Both orders have their answer in the same cycle, and the answers may come in any order.
    #[test]
    fn the_end_of_all_forces_is_recorded_after_each_force_before_it() {
        let mut open = Open::default();
        let force = Draft::of(OrderKind::Force, &None).target("x", None, Some(9));
        let one = open.add(force.clone());
        let all = open.add(Draft::of(OrderKind::Unforce, &None));
        let later = open.add(force);
        open.settle(later, outcome());
        open.settle(all, outcome());
        assert!(open.next().is_none());
        open.settle(one, outcome());
        let order = std::iter::from_fn(|| open.next()).map(|(draft, _)| draft.ordered.order);
        assert_eq!(
            order.collect::<Vec<_>>(),
            [OrderKind::Force, OrderKind::Unforce, OrderKind::Force]
        );
    }

    #[test]
    fn orders_about_one_thing_are_recorded_as_they_were_given() {
        let mut open = Open::default();
        // The value is 1 when each of the three drafts is made.
        let [one, two, three] = ["2", "3", "4"].map(|new| open.add(set("x", "1", new)));
        let other = open.add(set("y", "7", "8"));
        open.settle(three, outcome());
        open.settle(other, outcome());
        assert_eq!(recorded(&mut open), ["7 -> 8"], "it is about another thing");
        open.settle(one, outcome());
        assert_eq!(recorded(&mut open), ["1 -> 2"]);
        open.settle(two, outcome());
        assert_eq!(recorded(&mut open), ["2 -> 3", "3 -> 4"]);
        // A refused order waits for no other order.
        let [_, late] = ["5", "6"].map(|new| open.add(set("x", "4", new)));
        let busy = Err(Failure::new(Code::Busy, "too many orders"));
        let refused = open.settle(late, (busy, oneshot::channel().0));
        assert!(refused.is_some_and(|(answer, _)| answer.is_err()));
        assert_eq!(open.drain().count(), 1);
        assert_eq!(open.drain().count(), 0);
    }
}
