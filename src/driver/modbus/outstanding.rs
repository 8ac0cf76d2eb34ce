//! Replies that have not come in time and may come yet, and what they could be mistaken for.
//!
//! On a serial line nothing tells the reply to one read from that to another of the same length,
//! and there are gateways (and servers) that put the number of the newest request on whatever their
//! unit says. So a silence is remembered: **the next reply of that unit which the late one could be
//! mistaken for is thrown away**. After it, and after a reply to the very request that was not
//! answered before, one more is to come. Until that has had its time nothing is asked of the unit
//! that it could pass for, and everybody else goes on. A reply of another shape is no proof by
//! itself, because a gateway may let one overtake the other. It knows no wire and no clock.

use tokio::time::Instant;

use super::request::{Request, WireError};

/// How many replies may be outstanding at a time. Each was waited for as long as a unit may take,
/// so what is older than these does not come any more.
const MAX_OUTSTANDING: usize = 8;

/// A request whose reply has not come, but may yet.
#[derive(Debug)]
struct OutstandingReply {
    /// The number of its transaction.
    tid: u16,
    request: Request,
    /// From then on it does not come any more, if the unit has answered something else.
    until: Instant,
    /// Whether something has come since that may have been this: one more is to come.
    is_open: bool,
    /// Whether a reply with its number has come.
    has_come: bool,
}

/// The replies that are outstanding on one connection, the newest first.
#[derive(Debug, Default)]
pub(super) struct OutstandingReplies(Vec<OutstandingReply>);

impl OutstandingReplies {
    /// Nobody has answered `request`, and nobody will after `until`.
    pub(super) fn add(&mut self, tid: u16, request: Request, until: Instant) {
        self.0.truncate(MAX_OUTSTANDING - 1);
        self.0.insert(0, OutstandingReply { tid, request, until, is_open: false, has_come: false });
    }

    /// A reply, or an exception, to `request` has come, and all that is like it comes until
    /// `latest`. Says whether it may have been meant for another request.
    pub(super) fn settle(
        &mut self,
        request: &Request,
        is_exception: bool,
        now: Instant,
        latest: Instant,
    ) -> bool {
        let mut is_doubtful = false;
        self.0.retain_mut(|reply| {
            if reply.request.unit != request.unit {
                return true;
            }
            let is_other = request.is_mistakable_for(&reply.request, is_exception);
            let may_be_it = is_other || reply.request == *request;
            if now >= reply.until && (reply.is_open || !may_be_it) {
                return false;
            }
            if may_be_it {
                (reply.is_open, reply.until) = (true, reply.until.max(latest));
                is_doubtful |= is_other;
            }
            true
        });
        is_doubtful
    }

    /// Until when a reply may come that could pass for that to `request` and is another; `None` if
    /// the next one will be as good as any.
    pub(super) fn busy_until(&self, request: &Request) -> Option<Instant> {
        let is_like = |reply: &&OutstandingReply| {
            reply.request == *request || request.is_mistakable_for(&reply.request, true)
        };
        self.0.iter().filter(|reply| reply.is_open).filter(is_like).map(|reply| reply.until).max()
    }

    /// Whether somebody waits for the end of one.
    pub(super) fn is_waited_for(&self) -> bool {
        self.0.iter().any(|reply| reply.is_open)
    }

    /// When all have had their time.
    pub(super) fn end(&self) -> Option<Instant> {
        self.0.iter().map(|reply| reply.until).max()
    }

    /// Whether these bytes of a unit, from the function code on, could be an outstanding reply.
    pub(super) fn could_be_one(&self, unit: u8, bytes: &[u8]) -> bool {
        let is_garbage =
            |request: &Request| matches!(request.reply(bytes), Err(WireError::Garbage(_)));
        self.0.iter().any(|reply| reply.request.unit == unit && !is_garbage(&reply.request))
    }

    /// A reply has come too late, with the number of that transaction. Nobody knows that it is its
    /// own, but when as many have come as are outstanding, none is outstanding any more.
    pub(super) fn late_reply(&mut self, tid: u16) {
        self.0.iter_mut().filter(|reply| reply.tid == tid).for_each(|reply| reply.has_come = true);
        if self.0.iter().all(|reply| reply.has_come) {
            self.0.clear();
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::super::request::{Ask, Table};
    use super::*;

    fn read(unit: u8, address: u16) -> Request {
        Request { unit, ask: Ask::Read { table: Table::Holding, address, count: 2 } }
    }

    const S: Duration = Duration::from_secs(1);

    /// An outstanding reply to each of these requests, from the first on, all of them until 3 s.
    fn outstanding(start: Instant, requests: &[Request]) -> OutstandingReplies {
        let mut outstanding = OutstandingReplies::default();
        for (tid, request) in (1..).zip(requests) {
            outstanding.add(tid, request.clone(), start + 3 * S);
        }
        outstanding
    }

    #[test]
    fn a_reply_that_may_be_anothers_is_doubted_once_and_then_waited_for() {
        let start = Instant::now();
        let mut outstanding = outstanding(start, &[read(1, 0)]);
        let asked = |outstanding: &mut OutstandingReplies, request: &Request, at: u32| {
            outstanding.settle(request, false, start + S * at, start + S * (at + 3))
        };
        assert_eq!(outstanding.busy_until(&read(1, 10)), None, "it may be tried");
        assert!(!asked(&mut outstanding, &read(2, 10), 1), "another unit owes nothing");
        assert!(asked(&mut outstanding, &read(1, 10), 1));
        for (request, busy) in [(read(1, 0), true), (read(1, 10), true), (read(2, 0), false)] {
            assert_eq!(
                outstanding.busy_until(&request),
                busy.then_some(start + 4 * S),
                "{request:?}"
            );
        }
        let input = Ask::Read { table: Table::Input, address: 0, count: 2 };
        assert_eq!(
            outstanding.busy_until(&Request { unit: 1, ask: input }),
            None,
            "another function"
        );
        assert!(!asked(&mut outstanding, &read(1, 10), 4), "both have had their time");
        assert!(outstanding.0.is_empty());
    }

    #[test]
    fn the_same_request_again_is_believed_and_still_one_more_may_come() {
        let start = Instant::now();
        let mut outstanding = outstanding(start, &[read(1, 0)]);
        assert!(!outstanding.settle(&read(1, 0), false, start + S, start + 4 * S));
        assert_eq!(outstanding.busy_until(&read(1, 0)), Some(start + 4 * S));
        assert_eq!(outstanding.end(), Some(start + 4 * S));
        // Its number tells that it has come.
        outstanding.late_reply(7);
        assert!(outstanding.is_waited_for());
        outstanding.late_reply(1);
        assert!(!outstanding.is_waited_for());
    }

    #[test]
    fn of_several_replies_each_must_come() {
        let start = Instant::now();
        let mut outstanding = outstanding(start, &[read(1, 0), read(1, 10)]);
        outstanding.late_reply(2);
        outstanding.late_reply(2);
        assert!(outstanding.settle(&read(1, 20), false, start + S, start + 4 * S));
        outstanding.late_reply(1);
        assert!(outstanding.0.is_empty());
    }

    #[test]
    fn what_has_another_shape_is_not_doubted_and_ends_only_what_is_old() {
        let start = Instant::now();
        let write = Ask::WriteRegisters { address: 0, values: vec![1], single: true };
        let write = Request { unit: 1, ask: write };
        let mut outstanding = outstanding(start, &[read(1, 0)]);
        assert!(!outstanding.settle(&write, false, start + S, start + 4 * S));
        assert!(outstanding.settle(&read(1, 10), false, start + 2 * S, start + 5 * S));
        let mut outstanding = self::outstanding(start, &[read(1, 0)]);
        assert!(!outstanding.settle(&write, false, start + 3 * S, start + 6 * S));
        assert!(!outstanding.settle(&read(1, 10), false, start + 4 * S, start + 7 * S));
        // A unit that has said nothing at all since may still do what it was asked long ago.
        let mut outstanding = self::outstanding(start, &[read(1, 0)]);
        assert!(outstanding.settle(&read(1, 10), false, start + 60 * S, start + 63 * S));
        // An exception has no shape.
        let mut outstanding = self::outstanding(start, &[Request { unit: 1, ..read(1, 0) }]);
        let longer = Ask::Read { table: Table::Holding, address: 10, count: 9 };
        let longer = Request { unit: 1, ask: longer };
        assert!(!outstanding.settle(&longer, false, start + S, start + 4 * S));
        assert!(outstanding.settle(&longer, true, start + S, start + 4 * S));
    }

    #[test]
    fn late_replies_are_known_by_what_they_could_be() {
        let outstanding = outstanding(Instant::now(), &[read(1, 0)]);
        assert!(
            outstanding.could_be_one(1, &[3, 4, 0, 0, 0, 0])
                && outstanding.could_be_one(1, &[0x83, 2])
        );
        assert!(
            !outstanding.could_be_one(2, &[3, 4, 0, 0, 0, 0])
                && !outstanding.could_be_one(1, &[4, 4, 0, 0, 0, 0])
        );
    }
}
