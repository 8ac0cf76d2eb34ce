//! What one guest is refused: counted, logged once, and ended when the like of it goes well.
//!
//! The counts are in `refused/tally.rs`, where others read them. What is kept here beside them lets
//! a call that goes well know without a search that there is nothing to end. Refusals that end
//! without a call of the guest, because a point or a variable has come, are for whoever shows them.

use std::sync::Arc;

use super::super::abi::{Code, Outcome};
use super::super::refused::{Counted, RefusedCall, Tally, Why};
use super::super::tape;
use super::super::world::{Line, Message, World};
use super::Guest;
use super::Phase;
use crate::image::PointId;
use crate::variable::{Denied, VariableKind};

/// What a guest is refused.
#[derive(Debug)]
pub(super) struct Refused {
    /// The counts, under the rights that it has.
    tally: Arc<Tally>,
    /// The function of the contract that it has called, by its number on a tape.
    call: u8,
    /// Whether it is counted already that this call was refused.
    is_counted: bool,
    /// Functions of which a call was refused for what it was given, and none went well since; a bit
    /// for each.
    mistaken: u128,
    /// Points, by id, of which it was refused to read a value, and none was given since.
    misread: Vec<bool>,
    /// Points, by id, for which a value was refused, and none was taken since.
    misgiven: Vec<bool>,
    /// Points and variables that were not there before the first poll, and that it has not asked
    /// for with success since.
    unmet: usize,
    /// Whether the first call that is not told apart from others was a write of its start that does
    /// not count, so that the log does not have it yet.
    has_lost_more: bool,
}

impl Refused {
    /// Nothing yet, of this many points.
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

    /// There are this many points from now on. Allocates.
    pub(super) fn take_points(&mut self, points: usize) {
        self.misread.resize(points, false);
        self.misgiven.resize(points, false);
    }

    /// The bit of the function that it has called; 0 for one that is not known.
    fn call_bit(&self) -> u128 {
        1u128.checked_shl(self.call.into()).unwrap_or(0)
    }
}

/// Whether a value was refused to the guest, and not to the point.
fn is_misread(why: Why, call: &str) -> bool {
    why == Why::OutOfRange && call.starts_with("wasm_point_read")
}

impl Guest {
    /// What it was refused; others may look at it while it runs.
    pub(in super::super) fn tally(&self) -> &Arc<Tally> {
        &self.refused.tally
    }

    /// What it was refused so far is no measure of what it may do from now on. Allocates.
    pub(in super::super) fn forget_refusals(&mut self) {
        if let Some(next) = self.refused.tally.begin_anew() {
            self.refused.tally = next;
        }
    }

    /// It calls this function of the contract.
    pub(in super::super) fn begin_call(&mut self, call: u8) {
        (self.refused.call, self.refused.is_counted) = (call, false);
    }

    /// The code that the call gets. Whoever refused it may have counted it, with a name; otherwise
    /// the function and the code have to do.
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

    /// Counts that a call was refused, and logs the first of its kind and name; gives its code.
    pub(in super::super) fn refuse(&mut self, why: Why, name: &str) -> Code {
        let cycle = self.world().cycle;
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

    /// Counts that a call about this point was refused; gives its code.
    pub(in super::super) fn refuse_point(&mut self, why: Why, id: PointId) -> Code {
        if why.is_mistake() {
            let is_misread = is_misread(why, tape::name(self.refused.call));
            let Refused { misread, misgiven, .. } = &mut self.refused;
            let points = if is_misread { misread } else { misgiven };
            points.get_mut(id.index()).into_iter().for_each(|is_so| *is_so = true);
        }
        let points = Arc::clone(&self.world().points);
        self.refuse(why, points.get(id).map_or("", |point| &point.name))
    }

    /// What its start wrote to a variable does not count any more, for this reason.
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

    /// Logs what of its start does not count.
    pub(in super::super) fn tell_lost_writes(&mut self, world: &mut World) {
        let has_lost_more = std::mem::take(&mut self.refused.has_lost_more);
        let dropped = self.tally().calls().filter(|call| matches!(call.why, Why::Dropped(..)));
        let dropped = dropped.map(|call| Message::Refused(call.clone()));
        let others = has_lost_more.then_some(Message::OthersRefused { is_denial: true });
        for message in dropped.chain(others) {
            world.log.push(Line { seat: self.seat, cycle: world.cycle, message });
        }
    }

    /// A call went well: what is known of others by their function only is over.
    fn end_mistake(&mut self) {
        let refused = &mut self.refused;
        let bit = refused.call_bit();
        if refused.mistaken & bit != 0 {
            refused.mistaken &= !bit;
            let call = tape::name(refused.call);
            refused.tally.end(|it| it.is_mistake() && it.name.is_empty() && it.call == call);
        }
    }

    /// A value of this point was given to it.
    pub(in super::super) fn end_misread(&mut self, id: PointId) {
        if self.refused.misread.get_mut(id.index()).is_some_and(std::mem::take) {
            self.end_about(id, |call| is_misread(call.why, call.call));
        }
    }

    /// A value for this point was taken from it.
    pub(in super::super) fn end_misgiven(&mut self, id: PointId) {
        if self.refused.misgiven.get_mut(id.index()).is_some_and(std::mem::take) {
            self.end_about(id, |call| call.is_mistake() && !is_misread(call.why, call.call));
        }
    }

    /// It owns this output from now on.
    pub(super) fn end_owned(&mut self, id: PointId) {
        self.end_about(id, |call| matches!(call.why, Why::Owned(_)));
    }

    fn end_about(&mut self, id: PointId, is_it: impl Fn(&RefusedCall) -> bool) {
        let points = Arc::clone(&self.world().points);
        let name = points.get(id).map_or("", |point| &point.name);
        self.refused.tally.end(|call| is_it(call) && call.name.as_str() == name);
    }

    /// It has found this point or variable, of which there was none `why`.
    pub(in super::super) fn end_absence(&mut self, why: Why, name: &str) {
        let Refused { tally, unmet, .. } = &mut self.refused;
        if *unmet > 0 {
            *unmet -= tally.end(|call| call.why == why && call.name.as_str() == name).min(*unmet);
        }
    }
}
