//! Counts the refused calls of one guest, and logs the first refused call of each kind and name. A
//! later good call ends the refusal.
//!
//! The counts are in `process/refused/tally.rs`, where other threads read them. The fields of
//! [`Refused`] are an index of these counts. With the index, the host finds out quickly whether a
//! good call ends a refusal. Most good calls end no refusal.
//!
//! Some refusals end without a call of the guest, because the missing point or variable now exists.
//! The code that shows the counts finds these cases; this file does not.

use std::sync::Arc;

use super::Guest;
use crate::plugin::trace::tape;
use crate::process::call::{CallResult, Code, Phase};
use crate::process::image::PointId;
use crate::process::line::{Line, Message};
use crate::process::refused::{Counted, RefusedCall, Tally, Why};
use crate::process::variable::{Denied, VariableKind};
use crate::process::world::World;

/// The counts of the refused calls of one guest, with their index.
#[derive(Debug)]
pub(super) struct Refused {
    /// The present counts, which [`Guest::forget_refusals`] replaces. The thread that calls the
    /// guest writes the counts, and other threads of the daemon read them.
    tally: Arc<Tally>,
    /// The number of the function that the guest is calling. The tape uses the same numbers.
    call: u8,
    /// Whether the refusal of the present call has been counted.
    is_counted: bool,
    /// One bit for each function. The bit is 1 if a call of the function was refused because of its
    /// arguments, and no later call of the function has succeeded.
    mistaken: u128,
    /// For each point id, whether reading was refused because the value did not fit the type of the
    /// call, and no later reading has succeeded.
    misread: Vec<bool>,
    /// For each point id, whether writing was refused because of its value or its phase, and no
    /// later writing has succeeded.
    misgiven: Vec<bool>,
    /// Number of points and variables that the guest did not find before its first poll and has not
    /// found later.
    unmet: usize,
    /// Whether a lost write had no room in the list of counts, and the log has no line about it
    /// yet. A lost write is a write of a variable in the guest's start (start section,
    /// `_initialize` or `init`) that did not become valid at the swap.
    has_lost_more: bool,
}

impl Refused {
    /// Makes empty counts. `points` is the number of points.
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

    /// Changes the number of points. This function allocates memory, so it is not called during a
    /// poll.
    pub(super) fn take_points(&mut self, points: usize) {
        self.misread.resize(points, false);
        self.misgiven.resize(points, false);
    }

    /// Returns the bit of the function that the guest is calling; 0 for an unknown function.
    fn call_bit(&self) -> u128 {
        1u128.checked_shl(self.call.into()).unwrap_or(0)
    }
}

/// Whether the call tried to read a point and was refused because the point's value did not fit the
/// type of the call.
fn is_misread(why: Why, call: &str) -> bool {
    why == Why::OutOfRange && call.starts_with("wasm_point_read")
}

impl Guest {
    /// Returns the counts of refused calls. Other threads may read the counts while the guest runs.
    pub(in super::super) fn tally(&self) -> &Arc<Tally> {
        &self.refused.tally
    }

    /// Begins new counts, if a call was refused. The new counts take over only refusals of the
    /// guest's start that have not ended. The caller does this after a change of rights, points or
    /// variables, because calls that were refused before may now succeed. This function allocates
    /// memory.
    pub(in super::super) fn forget_refusals(&mut self) {
        if let Some(next) = self.refused.tally.begin_anew() {
            self.refused.tally = next;
        }
    }

    /// Stores which function of the contract the guest is calling.
    pub(in super::super) fn begin_call(&mut self, call: u8) {
        (self.refused.call, self.refused.is_counted) = (call, false);
    }

    /// Ends the present call and returns the code for the guest. If the call was refused and the
    /// refusal is not counted yet, this function counts it under the called function and the code,
    /// without a name.
    pub(in super::super) fn end_call(&mut self, result: CallResult) -> i32 {
        match result {
            Ok(()) => self.end_mistake(),
            Err(code) if !self.refused.is_counted => {
                self.refuse(Why::of(code, self.phase), "");
            }
            Err(_) => {}
        }
        result.err().unwrap_or(Code::Success) as i32
    }

    /// Counts a refused call, and logs the first refusal of this kind and name. Returns the code
    /// for the guest.
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

    /// Counts a refused call that concerns this point. Returns the code for the guest.
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

    /// Counts a lost write: in its start the guest wrote a variable, and this write did not become
    /// valid at the swap. `why` is the reason.
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
    pub(in super::super) fn report_lost_writes(&mut self, world: &mut World) {
        let has_lost_more = std::mem::take(&mut self.refused.has_lost_more);
        let dropped = self.tally().calls().filter(|call| matches!(call.why, Why::Dropped(..)));
        let dropped = dropped.map(|call| Message::Refused(call.clone()));
        let others = has_lost_more.then_some(Message::OthersRefused { is_denial: true });
        for message in dropped.chain(others) {
            world.log.push(Line { seat: self.seat, cycle: world.cycle, message });
        }
    }

    /// Ends the refusals that were counted without a name for the function that the guest is
    /// calling, because a call of this function has now succeeded.
    fn end_mistake(&mut self) {
        let refused = &mut self.refused;
        let bit = refused.call_bit();
        if refused.mistaken & bit != 0 {
            refused.mistaken &= !bit;
            let call = tape::name(refused.call);
            refused.tally.end(|it| it.is_mistake() && it.name.is_empty() && it.call == call);
        }
    }

    /// Ends the refusals in `Refused::misread` for this point, because the guest has now read the
    /// point.
    pub(in super::super) fn end_misread(&mut self, id: PointId) {
        if self.refused.misread.get_mut(id.index()).is_some_and(std::mem::take) {
            self.end_about(id, |call| is_misread(call.why, call.call));
        }
    }

    /// Ends the refusals in `Refused::misgiven` for this point, because the guest has now written
    /// the point.
    pub(in super::super) fn end_misgiven(&mut self, id: PointId) {
        if self.refused.misgiven.get_mut(id.index()).is_some_and(std::mem::take) {
            self.end_about(id, |call| call.is_mistake() && !is_misread(call.why, call.call));
        }
    }

    /// Ends the refusals that were caused by another owner of this output, because the guest now
    /// owns the output.
    pub(super) fn end_owned(&mut self, id: PointId) {
        self.end_about(id, |call| matches!(call.why, Why::Owned(_)));
    }

    /// Ends the refusals that concern this point and for which `is_it` returns true.
    fn end_about(&mut self, id: PointId, is_it: impl Fn(&RefusedCall) -> bool) {
        let points = Arc::clone(&self.world.points);
        let name = points.get(id).map_or("", |point| &point.name);
        self.refused.tally.end(|call| is_it(call) && call.name.as_str() == name);
    }

    /// Ends the refusals that were caused by the missing point or variable `name`, because the
    /// guest has now found it. `why` is `NoPoint` or `NoVariable`.
    pub(in super::super) fn end_absence(&mut self, why: Why, name: &str) {
        let Refused { tally, unmet, .. } = &mut self.refused;
        if *unmet > 0 {
            *unmet -= tally.end(|call| call.why == why && call.name.as_str() == name).min(*unmet);
        }
    }
}
