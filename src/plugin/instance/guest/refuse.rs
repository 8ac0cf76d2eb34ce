//! The refused calls of one guest: each refusal is counted, the first of its kind and name is
//! logged, and a later good call ends the refusal.
//!
//! The counts are in `process/refused/tally.rs`, where other threads read them. The fields here are
//! an index of the counts: by them, a good call finds without a search that it ends no refusal.
//! Some refusals end without a call of the guest, because a point or a variable has appeared. This
//! file does not notice their end: the code that shows the counts does.

use std::sync::Arc;

use super::Guest;
use crate::plugin::trace::tape;
use crate::process::call::{Code, Outcome, Phase};
use crate::process::image::PointId;
use crate::process::line::{Line, Message};
use crate::process::refused::{Counted, RefusedCall, Tally, Why};
use crate::process::variable::{Denied, VariableKind};
use crate::process::world::World;

/// The host's data about the refused calls of one guest.
#[derive(Debug)]
pub(super) struct Refused {
    /// The counts, under the rights that the guest has now. The thread that calls the guest writes,
    /// the daemon reads.
    tally: Arc<Tally>,
    /// The function of the contract that the guest is calling, by its number on a tape.
    call: u8,
    /// Whether the refusal of the present call is counted already.
    is_counted: bool,
    /// Functions of which a call was refused because of its arguments, and no call has gone well
    /// since; one bit for each function.
    mistaken: u128,
    /// By point id, whether reading a value was refused and has not succeeded since.
    misread: Vec<bool>,
    /// By point id, whether writing a value was refused and has not succeeded since.
    misgiven: Vec<bool>,
    /// Number of points and variables that were missing before the first poll, and that the guest
    /// has not found since.
    unmet: usize,
    /// Whether the first call without an entry of its own was a lost write: a write of the guest's
    /// start that is not valid any more. The log does not have that call yet.
    has_lost_more: bool,
}

impl Refused {
    /// No refused calls yet, for this number of points.
    pub(super) fn new(points: usize) -> Self {
        Self {
            tally: Arc::default(),
            call: u8::MAX,
            is_counted: false,
            mistaken: 0,
            misread: vec![false; points],
            misgiven: vec![false; points],
            unmet: 0,
            has_lost_more: false,
        }
    }

    /// Sets the number of points. The call allocates.
    pub(super) fn take_points(&mut self, points: usize) {
        self.misread.resize(points, false);
        self.misgiven.resize(points, false);
    }

    /// The bit of the function that the guest is calling; 0 for an unknown function.
    fn call_bit(&self) -> u128 {
        1u128.checked_shl(self.call.into()).unwrap_or(0)
    }
}

/// Whether the guest was refused a value to read; otherwise it was refused a value to write.
fn is_misread(why: Why, call: &str) -> bool {
    why == Why::OutOfRange && call.starts_with("wasm_point_read")
}

impl Guest {
    /// The refused calls. Other threads may read them while the guest runs.
    pub(in super::super) fn tally(&self) -> &Arc<Tally> {
        &self.refused.tally
    }

    /// Begins new counts, because a refusal under the old rights says nothing about the new rights.
    /// The call allocates.
    pub(in super::super) fn forget_refusals(&mut self) {
        if let Some(next) = self.refused.tally.begin_anew() {
            self.refused.tally = next;
        }
    }

    /// Notes that the guest calls this function of the contract.
    pub(in super::super) fn begin_call(&mut self, call: u8) {
        (self.refused.call, self.refused.is_counted) = (call, false);
    }

    /// Ends the present call and returns its code. A check that refused the call may have counted
    /// the refusal already, with a name. Otherwise the refusal is counted here by function and
    /// code.
    pub(in super::super) fn end_call(&mut self, result: Outcome) -> i32 {
        match result {
            Ok(()) => self.end_mistake(),
            Err(code) if !self.refused.is_counted => {
                self.refuse(Why::of(code, self.phase), "");
            }
            Err(_) => {}
        }
        result.err().unwrap_or(Code::Success) as i32
    }

    /// Counts a refused call, and logs the first of its kind and name. Returns the call's code.
    pub(in super::super) fn refuse(&mut self, why: Why, name: &str) -> Code {
        let cycle = self.world.cycle;
        let refused = &mut self.refused;
        refused.is_counted = true;
        if name.is_empty() && why.is_mistake() {
            refused.mistaken |= refused.call_bit();
        }
        match refused.tally.count((why, tape::name(refused.call), name), cycle) {
            Counted::First(call) => {
                let is_absent = matches!(why, Why::NoPoint | Why::NoVariable);
                refused.unmet += usize::from(is_absent && self.phase == Phase::Init);
                self.push(Message::Refused(call));
            }
            Counted::Full => self.push(Message::OthersRefused { is_denial: why.is_denial() }),
            Counted::Again => {}
        }
        why.code()
    }

    /// Counts a refused call about this point. Returns the call's code.
    pub(in super::super) fn refuse_point(&mut self, why: Why, id: PointId) -> Code {
        if why.is_mistake() {
            let is_misread = is_misread(why, tape::name(self.refused.call));
            let Refused { misread, misgiven, .. } = &mut self.refused;
            let points = if is_misread { misread } else { misgiven };
            points.get_mut(id.index()).into_iter().for_each(|is_so| *is_so = true);
        }
        let points = Arc::clone(&self.world.points);
        self.refuse(why, points.get(id).map_or("", |point| &point.name))
    }

    /// Counts a lost write: a write of the guest's start to a variable that is not valid any more,
    /// for this reason.
    pub(in super::super) fn note_lost_write(
        &mut self,
        why: Denied,
        name: &str,
        kind: VariableKind,
    ) {
        let call = match kind {
            VariableKind::Boolean => "wasm_variable_write_boolean",
            VariableKind::Int => "wasm_variable_write_int",
            VariableKind::Double => "wasm_variable_write_double",
        };
        let counted = self.tally().count((Why::Dropped(why, kind), call, name), 0);
        self.refused.has_lost_more |= matches!(counted, Counted::Full);
    }

    /// Logs the lost writes of the guest's start.
    pub(in super::super) fn tell_lost_writes(&mut self, world: &mut World) {
        let has_lost_more = std::mem::take(&mut self.refused.has_lost_more);
        let dropped = self.tally().calls().filter(|call| matches!(call.why, Why::Dropped(..)));
        let dropped = dropped.map(|call| Message::Refused(call.clone()));
        let others = has_lost_more.then_some(Message::OthersRefused { is_denial: true });
        for message in dropped.chain(others) {
            world.log.push(Line { seat: self.seat, cycle: world.cycle, message });
        }
    }

    /// Ends the refusals of the present function that have no name, because a call of the function
    /// has gone well.
    fn end_mistake(&mut self) {
        let refused = &mut self.refused;
        let bit = refused.call_bit();
        if refused.mistaken & bit != 0 {
            refused.mistaken &= !bit;
            let call = tape::name(refused.call);
            refused.tally.end(|it| it.is_mistake() && it.name.is_empty() && it.call == call);
        }
    }

    /// Ends refusals to read this point, because the guest has read a value of it.
    pub(in super::super) fn end_misread(&mut self, id: PointId) {
        if self.refused.misread.get_mut(id.index()).is_some_and(std::mem::take) {
            self.end_about(id, |call| is_misread(call.why, call.call));
        }
    }

    /// Ends refusals to write this point, because the guest has written a value for it.
    pub(in super::super) fn end_misgiven(&mut self, id: PointId) {
        if self.refused.misgiven.get_mut(id.index()).is_some_and(std::mem::take) {
            self.end_about(id, |call| call.is_mistake() && !is_misread(call.why, call.call));
        }
    }

    /// Ends the refusals of this output that were due to another owner, because the guest owns the
    /// output from now on.
    pub(super) fn end_owned(&mut self, id: PointId) {
        self.end_about(id, |call| matches!(call.why, Why::Owned(_)));
    }

    /// Ends the refusals about this point for which `is_it` is true.
    fn end_about(&mut self, id: PointId, is_it: impl Fn(&RefusedCall) -> bool) {
        let points = Arc::clone(&self.world.points);
        let name = points.get(id).map_or("", |point| &point.name);
        self.refused.tally.end(|call| is_it(call) && call.name.as_str() == name);
    }

    /// Ends the refusals that were due to a missing point or variable, because the guest has found
    /// it. `why` says whether it is a point or a variable.
    pub(in super::super) fn end_absence(&mut self, why: Why, name: &str) {
        let Refused { tally, unmet, .. } = &mut self.refused;
        if *unmet > 0 {
            *unmet -= tally.end(|call| call.why == why && call.name.as_str() == name).min(*unmet);
        }
    }
}
