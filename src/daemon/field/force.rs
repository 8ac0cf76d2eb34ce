//! The daemon's records of forces. A record has the point and the value of a force, the owner, the
//! reason, and the time of the order.
//!
//! ```text
//!   order ──▶ `ordered` ── the scan obeys ──▶ `noted` ──┬── order to end it ──▶ receipt
//!                │                                      └── its time has passed ──▶ receipt
//!                └── the scan refuses ──▶ forgotten
//! ```
//! The scan has the forced values, and ends each force when its time has passed. This file compares
//! the scan's snapshots with the records, to find out which forces have ended. A force also ends
//! when a reload removes its point, and all forces end when the daemon ends. `audit.rs` writes the
//! receipts. `process/overlay.rs` puts forced values over the values of devices and programs.

use std::collections::BTreeMap;
use std::time::SystemTime;

use tokio::sync::oneshot;

use super::Field;
use crate::clock::{Clock, MonotonicClock};
use crate::config::Config;
use crate::control::{
    Code, Failure, ForceOrder, ForceView, MAX_FORCE, MAX_OWNER_BYTES, MAX_REASON_BYTES, Reply,
    Response,
};
use crate::daemon::link::{ScanLink, unknown};
use crate::process::image::{PointId, Quality, Unfit};
use crate::process::overlay::Force;
use crate::scan::Order;
use crate::text::legible;

/// The forces that the operators have ordered.
#[derive(Debug, Default)]
pub(in crate::daemon) struct Forces {
    /// The forces that the scan has taken over, by point.
    noted: BTreeMap<PointId, Noted>,
    /// The orders to force or unforce that the scan has not answered yet, by ticket.
    ordered: BTreeMap<u64, Change>,
    /// The forces that an order to end all forces has ended: the point and the value of each force.
    /// The code in `audit.rs` takes this list and records each force.
    ended: Vec<(String, String)>,
}

/// The change that an order makes after the scan has accepted it.
#[derive(Debug)]
enum Change {
    /// The begin of a force.
    Force(PointId, Noted),
    /// The end of the force of one point. `None` means the end of all forces.
    Unforce(Option<PointId>),
}

/// The daemon's record of one force.
#[derive(Debug)]
struct Noted {
    /// The name of the point. The record needs a copy of the name, because a reload may remove the
    /// point before the force ends.
    name: String,
    /// The forced value as text, in the unit of the point.
    value: String,
    /// The name of the person who is responsible for the force, from the order.
    owner: String,
    /// The reason from the order; the text may be empty.
    reason: String,
    /// The time when the force was ordered, on the wall clock.
    since: SystemTime,
    /// The cycle of the newest snapshot when the scan took over the force. A snapshot without the
    /// force proves the end of the force only if the snapshot is at least two cycles newer.
    cycle: u64,
}

impl Field {
    /// Sends the scan an order to force a point. If the order is refused, `reply` gets the reason.
    pub(in crate::daemon) fn force(
        &mut self,
        name: &str,
        order: ForceOrder,
        reply: oneshot::Sender<Reply>,
        config: &Config,
        link: &mut ScanLink,
    ) {
        match self.understand(name, &order, config) {
            Ok(force) => {
                // The record is complete only after the scan has accepted the order. Until then the
                // record waits in `ordered`.
                let ForceOrder { owner, reason, .. } = order;
                let (owner, reason) = (legible(&owner), legible(&reason));
                let value = config.live.points[force.point].shortest(&force.raw).to_string();
                let (name, since) = (name.to_owned(), SystemTime::now());
                let noted = Noted { name, value, owner, reason, since, cycle: 0 };
                let change = Change::Force(force.point, noted);
                let ticket = link.order(reply, |ticket| Order::Force { ticket, force });
                self.forces.ordered.extend(ticket.map(|ticket| (ticket, change)));
            }
            Err(failure) => drop(reply.send(Err(failure))),
        }
    }

    /// Checks an order and converts it to a force for the scan. The function fails if the point,
    /// the value, the owner, the reason or the time is not valid.
    fn understand(
        &mut self,
        name: &str,
        order: &ForceOrder,
        config: &Config,
    ) -> Result<Force, Failure> {
        let invalid = |message: String| Err(Failure::new(Code::Invalid, message));
        let points = &config.live.points;
        let Some(point) = points.find(name) else {
            return Err(unknown("point", name, points.iter().map(|(_, point)| &*point.name)));
        };
        // The value must fit the type and the range of the point. A value outside the range is
        // refused, because programs and devices rely on the range.
        let raw = match points[point].raw_in_range(order.value) {
            Ok(raw) => raw,
            Err(unfit @ Unfit::OutsideRange(_)) => {
                return invalid(format!("{name}: {unfit}, found {}", order.value));
            }
            Err(unfit) => return invalid(format!("{name}: {unfit}")),
        };
        if order.owner.is_empty() || order.owner.len() > MAX_OWNER_BYTES {
            return invalid(format!("owner: expected 1 to {MAX_OWNER_BYTES} bytes"));
        }
        if order.reason.len() > MAX_REASON_BYTES {
            return invalid(format!("reason: expected at most {MAX_REASON_BYTES} bytes"));
        }
        // A force has a duration or lasts forever, but not both.
        let until = match (order.lasting(), order.for_ms) {
            (None, Some(_)) => return invalid("expected for_ms or forever, found both".into()),
            (None, None) => None,
            (Some(time), _) if time.is_zero() || time > MAX_FORCE => {
                return invalid("for_ms: expected 1 ms to 7 days, or forever".into());
            }
            (Some(time), _) => Some(MonotonicClock.now() + time),
        };
        Ok(Force { point, raw, until })
    }

    /// Sends the scan an order to end the force of the point `name`. `None` ends all forces. If the
    /// order is refused, `reply` gets the reason.
    pub(in crate::daemon) fn unforce(
        &mut self,
        name: Option<&str>,
        reply: oneshot::Sender<Reply>,
        config: &Config,
        link: &mut ScanLink,
    ) {
        let forces = &link.news().forces;
        let points = &config.live.points;
        let point = name.and_then(|name| points.find(name));
        // A force may be so new that no snapshot has it. Such a force is already in `noted`.
        let is_noted = point.is_some_and(|point| self.forces.noted.contains_key(&point));
        if let Some(name) = name
            && !is_noted
            && !forces.iter().any(|force| Some(force.point) == point)
        {
            let forced = forces.iter().filter_map(|force| points.get(force.point));
            let failure = match point {
                None => unknown("point", name, forced.map(|point| &*point.name)),
                Some(_) => Failure::new(Code::Unknown, format!("{name} is not forced")),
            };
            let _ = reply.send(Err(failure));
            return;
        }
        let ticket = link.order(reply, |ticket| Order::Unforce { ticket, point });
        self.forces.ordered.extend(ticket.map(|ticket| (ticket, Change::Unforce(point))));
    }

    /// Updates the records after the scan has answered the order with this `ticket`. If the order
    /// is not about forces, the function does nothing.
    pub(in crate::daemon) fn force_answered(
        &mut self,
        ticket: u64,
        is_done: bool,
        link: &mut ScanLink,
    ) {
        let cycle = link.news().cycle;
        // If the scan refused the order, its record is dropped and nothing changes.
        match self.forces.ordered.remove(&ticket).filter(|_| is_done) {
            Some(Change::Force(point, noted)) => {
                self.forces.noted.insert(point, Noted { cycle, ..noted });
            }
            Some(Change::Unforce(Some(point))) => drop(self.forces.noted.remove(&point)),
            Some(Change::Unforce(None)) => {
                let ended = std::mem::take(&mut self.forces.noted).into_values();
                self.forces.ended.extend(ended.map(|noted| (noted.name, noted.value)));
            }
            None => {}
        }
    }

    /// Returns the forces, in the sequence in which they were ordered.
    pub(in crate::daemon) fn forces(&self, link: &mut ScanLink) -> Reply {
        // During a stall the devices have safe or old values, so no force is active.
        let (now, stands) = (link.present(), link.stall.is_on());
        let news = link.news();
        let view = |force: &Force| {
            let (point, noted) =
                (news.points.get(force.point)?, self.forces.noted.get(&force.point));
            let is_forced = news.inputs.quality[force.point.index()] == Quality::Forced;
            Some(ForceView {
                point: point.name.clone(),
                value: point.shortest(&force.raw),
                active: is_forced && !stands,
                left_ms: force.until.map(|until| until.saturating_sub(now).as_millis() as u64),
                owner: noted.map(|noted| noted.owner.clone()).unwrap_or_default(),
                reason: noted.map(|noted| noted.reason.clone()).unwrap_or_default(),
                since: noted
                    .map(|noted| humantime::format_rfc3339_seconds(noted.since).to_string())
                    .unwrap_or_default(),
            })
        };
        Ok(Response::Forces(news.forces.iter().filter_map(view).collect()))
    }

    /// Removes and returns the forces that were ended by an order to end all forces. Each entry is
    /// the point and the value.
    pub(in crate::daemon) fn ended_by_order(&mut self) -> Vec<(String, String)> {
        std::mem::take(&mut self.forces.ended)
    }

    /// Removes and returns all forces when the daemon stops, because all forces end with the
    /// daemon. Each entry is the point and the owner.
    pub(in crate::daemon) fn last_forces(&mut self) -> Vec<(String, String)> {
        let all = std::mem::take(&mut self.forces.noted).into_values();
        all.map(|noted| (noted.name, noted.owner)).collect()
    }

    /// Removes and returns the forces that have ended without an order: their time has passed, or a
    /// reload has removed their point. Each entry is the point and the owner.
    pub(in crate::daemon) fn forces_over(&mut self, link: &mut ScanLink) -> Vec<(String, String)> {
        let mut over = Vec::new();
        let news = link.news();
        let Forces { noted, ordered, .. } = &mut self.forces;
        // Whether an order to end this force is on its way to the scan.
        let is_ended = |id: &PointId| {
            ordered.values().any(|change| match change {
                Change::Unforce(point) => point.is_none_or(|point| point == *id),
                Change::Force(..) => false,
            })
        };
        noted.retain(|id, noted| {
            let is_there = news.forces.iter().any(|force| force.point == *id);
            // A force that an order ends is recorded with this order, so it is not recorded here.
            if is_there || is_ended(id) || news.cycle < noted.cycle + 2 {
                return true;
            }
            over.push((noted.name.clone(), noted.owner.clone()));
            false
        });
        over
    }
}
