//! The open orders: orders that have arrived, but whose outcome is not recorded yet.
//!
//! ```text
//!   add() ──▶ open ──▶ settle(): has its answer ──▶ waits for earlier orders ──▶ next() ──▶ line
//!                          └── refused ──▶ its answer is sent at once, without a line
//! ```
//! The answers may arrive in another sequence than the orders, even if two orders are about the
//! same thing. The history must show orders about the same thing in the sequence in which operators
//! gave them. Then the last line shows the present value. For this reason an order is recorded only
//! when no earlier order about the same thing is open.

use tokio::sync::oneshot;

use super::draft::Draft;
use crate::control::{Code, OrderKind, Reply};

/// The open orders, oldest first. An order of an operator belongs to a connection on the control
/// socket, and the number of connections is limited. A reload without an operator has no
/// connection, but only one reload runs at a time. So the number of open orders is limited.
#[derive(Debug, Default)]
pub(super) struct Open {
    /// The orders, oldest first.
    orders: Vec<One>,
    /// The number of the newest order.
    last: u64,
}

/// An open order. An order that has its outcome may still wait for earlier orders.
#[derive(Debug)]
struct One {
    /// The number of the order, assigned by [`Open::add`].
    number: u64,
    /// The user, the thing that the order is about, and the value before the order.
    draft: Draft,
    /// The outcome of the order; `None` until the answer arrives.
    outcome: Option<AnsweredCall>,
}

/// The answer to an order, and the channel to the sender of the order.
pub(super) type AnsweredCall = (Reply, oneshot::Sender<Reply>);

impl Open {
    /// Adds an order to the list. Returns the number of the order.
    pub(super) fn add(&mut self, draft: Draft) -> u64 {
        self.last += 1;
        self.orders.push(One { number: self.last, draft, outcome: None });
        self.last
    }

    /// Stores the outcome of the order with this number, and returns `None`. A refused order gets
    /// no line: the function removes the order and returns `outcome`, and the caller sends the
    /// answer.
    pub(super) fn settle(&mut self, number: u64, outcome: AnsweredCall) -> Option<AnsweredCall> {
        let at = self.orders.iter().position(|one| one.number == number)?;
        if !has_changed(self.orders[at].draft.ordered.order, &outcome.0) {
            self.orders.remove(at);
            return Some(outcome);
        }
        self.orders[at].outcome = Some(outcome);
        None
    }

    /// Removes and returns the next order that can be recorded. Such an order has its answer, and
    /// no earlier order about the same thing is open.
    pub(super) fn next(&mut self) -> Option<(Draft, AnsweredCall)> {
        let is_next = |at: &usize| {
            let (one, mut earlier) = (&self.orders[*at], self.orders[..*at].iter());
            let is_first = !earlier.any(|other| other.draft.meets(&one.draft));
            one.outcome.is_some() && is_first
        };
        let at = (0..self.orders.len()).find(is_next)?;
        let One { draft, outcome, .. } = self.orders.remove(at);
        Some((draft, outcome?))
    }

    /// Updates the drafts of all later orders about the same thing, after the order of `draft` was
    /// carried out.
    pub(super) fn carried_out(&mut self, draft: &Draft) {
        let later = self.orders.iter_mut().map(|one| &mut one.draft);
        later.filter(|one| one.is_about_what(draft)).for_each(|one| one.follows(draft));
    }

    /// Removes and returns all orders, when the daemon stops.
    pub(super) fn drain(&mut self) -> impl Iterator<Item = (Draft, Option<AnsweredCall>)> {
        std::mem::take(&mut self.orders).into_iter().map(|one| (one.draft, one.outcome))
    }
}

/// Whether an order with this answer may have changed something. An order that failed halfway
/// counts as a change.
fn has_changed(order: OrderKind, answer: &Reply) -> bool {
    let code = answer.as_ref().err().map(|failure| failure.code);
    match code {
        None | Some(Code::Internal) => true,
        // A cold restart or a reset may have stopped after half of its steps.
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

    fn outcome() -> AnsweredCall {
        (Ok(Response::Done), oneshot::channel().0)
    }

    /// Removes all orders that can be recorded, and returns the values before and after each order.
    fn recorded(open: &mut Open) -> Vec<String> {
        let mut all = Vec::new();
        while let Some((draft, _)) = open.next() {
            open.carried_out(&draft);
            let text = |text: &Option<String>| text.clone().unwrap_or_default();
            all.push(format!("{} -> {}", text(&draft.ordered.old), text(&draft.ordered.new)));
        }
        all
    }

    /// This test covers an old fault. A force waited for an earlier deploy with the same name, and
    /// the history showed a hash as the value before the force.
    #[test]
    fn a_plugin_with_the_name_of_a_point_is_another_thing() {
        let mut open = Open::default();
        open.add(Draft::of(OrderKind::Deploy, &None).plugin("x", None));
        let one = open.add(set("x", "1", "2"));
        open.settle(one, outcome());
        assert_eq!(recorded(&mut open), ["1 -> 2"]);
    }

    /// Both orders get their answers in the same cycle. The answers may arrive in any sequence.
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
        // The value is 1 when the three drafts are made.
        let [one, two, three] = ["2", "3", "4"].map(|new| open.add(set("x", "1", new)));
        let other = open.add(set("y", "7", "8"));
        open.settle(three, outcome());
        open.settle(other, outcome());
        assert_eq!(recorded(&mut open), ["7 -> 8"], "the order is about another thing");
        open.settle(one, outcome());
        assert_eq!(recorded(&mut open), ["1 -> 2"]);
        open.settle(two, outcome());
        assert_eq!(recorded(&mut open), ["2 -> 3", "3 -> 4"]);
        // A refused order does not wait for other orders.
        let [_, late] = ["5", "6"].map(|new| open.add(set("x", "4", new)));
        let busy = Err(Failure::new(Code::Busy, "too many orders"));
        let refused = open.settle(late, (busy, oneshot::channel().0));
        assert!(refused.is_some_and(|(answer, _)| answer.is_err()));
        assert_eq!(open.drain().count(), 1);
        assert_eq!(open.drain().count(), 0);
    }
}
