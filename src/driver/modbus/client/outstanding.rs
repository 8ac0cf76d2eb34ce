//! The list of outstanding replies. If a request has had no valid reply in time, its reply may
//! still come. Such a reply is an outstanding reply. The list shows whether the next reply can be
//! trusted.
//!
//! On a serial line, the replies to two reads look the same if the reads have the same unit,
//! function code and length. Over TCP, some gateways and servers put the transaction number of the
//! newest request on every reply of their unit. A late reply could therefore be taken for the reply
//! to a newer request. The client prevents this confusion:
//!
//! ```text
//!   read A, no reply in time   A's reply is now outstanding
//!   read B, a reply comes      the reply may be A's or B's: it is thrown away
//!   wait                       one more reply may come, so no read like B is sent
//!   read B again               its reply is trusted
//! ```
//! 1. If no valid reply to a request comes in time, the client puts the request into the list.
//! 2. **If the next reply of the same unit could be the late reply, the client throws this reply
//!    away.**
//! 3. After that, one more reply of this unit may come. As long as this reply may come, the client
//!    sends this unit no request to which this reply would fit. The client sends requests to the
//!    other units as usual.
//! 4. If the client repeats exactly the request that had no reply, it accepts the next reply. One
//!    more reply may then come, so step 3 follows here too.
//!
//! A reply with another function code or length does not prove that the late reply is lost, because
//! a gateway may send the replies in another order than the requests. This file sends nothing and
//! reads no clock; `transport.rs` uses this list.

use tokio::time::Instant;

use crate::driver::modbus::wire::error::WireError;
use crate::driver::modbus::wire::request::UnitRequest;

/// The maximum number of outstanding replies in the list. `transport.rs` assumes that a reply comes
/// within three timeouts or never. A missing reply takes one timeout. Therefore, after eight newer
/// missing replies, an older reply no longer comes.
const MAX_OUTSTANDING: usize = 8;

/// A request that has had no valid reply in time. Its reply may still come.
#[derive(Debug)]
struct OutstandingReply {
    /// The transaction number of the request.
    tid: u16,
    request: UnitRequest,
    /// The address that the reply has. Several units may answer with the same address.
    from: u8,
    /// The time after which the reply no longer comes. `OutstandingReplies::settle` may make this
    /// time later. After this time, the list drops the entry at the next answer of the unit. If
    /// `is_open` is false, the list drops the entry only at an answer that cannot be the
    /// outstanding reply.
    until: Instant,
    /// Whether a reply has come that may have been this outstanding reply. One more reply may then
    /// come.
    is_open: bool,
    /// Whether a late reply with this transaction number has come.
    has_come: bool,
}

impl OutstandingReply {
    /// Whether this reply could be taken for the reply to `request`, a different request whose
    /// reply has the same address.
    fn is_like(&self, request: &UnitRequest, is_exception: bool) -> bool {
        if self.request.unit == request.unit {
            return request.is_mistakable_for(&self.request, is_exception);
        }
        let same_unit = UnitRequest { unit: self.request.unit, ask: request.ask.clone() };
        same_unit == self.request || same_unit.is_mistakable_for(&self.request, is_exception)
    }
}

/// The outstanding replies of one connection, the newest first.
#[derive(Debug, Default)]
pub(super) struct OutstandingReplies(Vec<OutstandingReply>);

impl OutstandingReplies {
    /// Records that `request` had no valid reply in time. Its reply may still come until `until`.
    /// If the list is full, the function drops the oldest entry.
    /// `from` is the address that the reply has.
    pub(super) fn add(&mut self, tid: u16, request: UnitRequest, from: u8, until: Instant) {
        self.0.truncate(MAX_OUTSTANDING - 1);
        let (is_open, has_come) = (false, false);
        self.0.insert(0, OutstandingReply { tid, request, from, until, is_open, has_come });
    }

    /// Records a reply or an exception to `request`. If this reply could be an outstanding reply,
    /// one more reply may come until `latest`, so the function sets `is_open` in the entry of the
    /// outstanding reply. Returns whether the reply may belong to another request.
    pub(super) fn settle(
        &mut self,
        request: &UnitRequest,
        from: u8,
        is_exception: bool,
        (now, latest): (Instant, Instant),
    ) -> bool {
        let mut is_doubtful = false;
        self.0.retain_mut(|reply| {
            if reply.from != from {
                return true;
            }
            let is_other = reply.is_like(request, is_exception);
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

    /// Returns the time until which `request` must wait, because a late reply may come that could
    /// be taken for the reply to `request`. Returns `None` if `request` does not have to wait.
    pub(super) fn busy_until(&self, request: &UnitRequest, from: u8) -> Option<Instant> {
        let is_like = |reply: &&OutstandingReply| {
            reply.request == *request || (reply.from == from && reply.is_like(request, true))
        };
        self.0.iter().filter(|reply| reply.is_open).filter(is_like).map(|reply| reply.until).max()
    }

    /// Whether a request may have to wait until an outstanding reply has come or is lost.
    pub(super) fn is_waited_for(&self) -> bool {
        self.0.iter().any(|reply| reply.is_open)
    }

    /// Returns the time after which no outstanding reply comes any more. Returns `None` if the list
    /// is empty.
    pub(super) fn end(&self) -> Option<Instant> {
        self.0.iter().map(|reply| reply.until).max()
    }

    /// Whether the reply to this request is outstanding.
    pub(super) fn has(&self, request: &UnitRequest) -> bool {
        self.0.iter().any(|reply| reply.request == *request)
    }

    /// Whether `bytes`, which begin with the function code, could be an outstanding reply with this
    /// unit address.
    pub(super) fn could_be_one(&self, from: u8, bytes: &[u8]) -> bool {
        let is_garbage =
            |request: &UnitRequest| matches!(request.reply(bytes), Err(WireError::Garbage(_)));
        self.0.iter().any(|reply| reply.from == from && !is_garbage(&reply.request))
    }

    /// Records a late reply with this transaction number. The number may be wrong, because some
    /// gateways put the number of another request on a reply. But if a late reply has come for each
    /// number in the list, no reply is outstanding any more, and the function clears the list.
    /// Returns whether the number is in the list.
    pub(super) fn late_reply(&mut self, tid: u16) -> bool {
        let mut is_known = false;
        for reply in self.0.iter_mut().filter(|reply| reply.tid == tid) {
            (reply.has_come, is_known) = (true, true);
        }
        if self.0.iter().all(|reply| reply.has_come) {
            self.0.clear();
        }
        is_known
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::driver::modbus::wire::request::Ask;
    use crate::driver::modbus::wire::table::Table;

    fn read(unit: u8, address: u16) -> UnitRequest {
        UnitRequest { unit, ask: Ask::Read { table: Table::Holding, address, count: 2 } }
    }

    const S: Duration = Duration::from_secs(1);

    /// Makes a list of outstanding replies to these requests. The transaction numbers begin with 1.
    /// Each reply may come until 3 s after `start`.
    fn outstanding(start: Instant, requests: &[UnitRequest]) -> OutstandingReplies {
        let mut outstanding = OutstandingReplies::default();
        for (tid, request) in (1..).zip(requests) {
            outstanding.add(tid, request.clone(), request.unit, start + 3 * S);
        }
        outstanding
    }

    #[test]
    fn a_reply_that_may_be_anothers_is_doubted_once_and_then_waited_for() {
        let start = Instant::now();
        let mut outstanding = outstanding(start, &[read(1, 0)]);
        let asked = |outstanding: &mut OutstandingReplies, request: &UnitRequest, at: u32| {
            outstanding.settle(request, request.unit, false, (start + S * at, start + S * (at + 3)))
        };
        assert_eq!(outstanding.busy_until(&read(1, 10), 1), None, "the request need not wait");
        assert!(!asked(&mut outstanding, &read(2, 10), 1), "no reply of unit 2 is outstanding");
        assert!(asked(&mut outstanding, &read(1, 10), 1));
        for (request, busy) in [(read(1, 0), true), (read(1, 10), true), (read(2, 0), false)] {
            assert_eq!(
                outstanding.busy_until(&request, request.unit),
                busy.then_some(start + 4 * S),
                "{request:?}"
            );
        }
        let input = Ask::Read { table: Table::Input, address: 0, count: 2 };
        assert_eq!(
            outstanding.busy_until(&UnitRequest { unit: 1, ask: input }, 1),
            None,
            "another function"
        );
        assert!(!asked(&mut outstanding, &read(1, 10), 4), "the time for both replies has passed");
        assert!(outstanding.0.is_empty());
    }

    #[test]
    fn the_same_request_again_is_believed_and_still_one_more_may_come() {
        let start = Instant::now();
        let mut outstanding = outstanding(start, &[read(1, 0)]);
        assert!(!outstanding.settle(&read(1, 0), 1, false, (start + S, start + 4 * S)));
        assert_eq!(outstanding.busy_until(&read(1, 0), 1), Some(start + 4 * S));
        assert_eq!(outstanding.end(), Some(start + 4 * S));
        // The late reply with number 7 belongs to no request of the list, but the late reply with
        // number 1 does.
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
        assert!(outstanding.settle(&read(1, 20), 1, false, (start + S, start + 4 * S)));
        outstanding.late_reply(1);
        assert!(outstanding.0.is_empty());
    }

    #[test]
    fn what_has_another_shape_is_not_doubted_and_ends_only_what_is_old() {
        let start = Instant::now();
        let write = Ask::WriteRegisters { address: 0, values: vec![1], single: true };
        let write = UnitRequest { unit: 1, ask: write };
        let mut outstanding = outstanding(start, &[read(1, 0)]);
        assert!(!outstanding.settle(&write, 1, false, (start + S, start + 4 * S)));
        assert!(outstanding.settle(&read(1, 10), 1, false, (start + 2 * S, start + 5 * S)));
        let mut outstanding = self::outstanding(start, &[read(1, 0)]);
        assert!(!outstanding.settle(&write, 1, false, (start + 3 * S, start + 6 * S)));
        assert!(!outstanding.settle(&read(1, 10), 1, false, (start + 4 * S, start + 7 * S)));
        // A unit that was silent for a long time may still execute an old request.
        let mut outstanding = self::outstanding(start, &[read(1, 0)]);
        assert!(outstanding.settle(&read(1, 10), 1, false, (start + 60 * S, start + 63 * S)));
        // All exceptions have the same length, so a late exception could answer any request with an
        // equal function code.
        let mut outstanding = self::outstanding(start, &[UnitRequest { unit: 1, ..read(1, 0) }]);
        let longer = Ask::Read { table: Table::Holding, address: 10, count: 9 };
        let longer = UnitRequest { unit: 1, ask: longer };
        assert!(!outstanding.settle(&longer, 1, false, (start + S, start + 4 * S)));
        assert!(outstanding.settle(&longer, 1, true, (start + S, start + 4 * S)));
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

    #[test]
    fn units_that_answer_with_one_address_can_be_confused() {
        let start = Instant::now();
        let mut outstanding = OutstandingReplies::default();
        outstanding.add(1, read(1, 0), 9, start + 3 * S);
        let settle = |outstanding: &mut OutstandingReplies, request: &UnitRequest, from| {
            outstanding.settle(request, from, false, (start + S, start + 4 * S))
        };
        assert!(!settle(&mut outstanding, &read(2, 0), 2), "unit 2 has its own address");
        assert!(settle(&mut outstanding, &read(2, 0), 9), "the same request to another unit");
        assert!(settle(&mut outstanding, &read(2, 10), 9), "a request of the same shape");
        assert!(!settle(&mut outstanding, &read(1, 0), 9), "the same request again");
        assert!(outstanding.busy_until(&read(2, 20), 9).is_some());
        assert!(outstanding.could_be_one(9, &[3, 4, 0, 0, 0, 0]));
        assert!(!outstanding.could_be_one(1, &[3, 4, 0, 0, 0, 0]));
    }
}
