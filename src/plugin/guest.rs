//! What the host keeps for one instance: its rights, its staged outputs, its log allowance.
//!
//! A guest writes into its own scratch; [`Guest::commit`] moves that into the world after a good
//! poll and [`Guest::discard`] forgets it. What it may touch is in `rights.rs`, the scratch in
//! `scratch.rs`, what it was refused in `guest/refuse.rs`. The functions of the contract, which
//! come in here, are in `abi.rs`. Nothing in this file allocates after construction.

use std::ops::Range;
use std::sync::Arc;

mod refuse;

use super::Settings;
use super::pace::Pace;
use super::refused::Why;
use super::rights::Rights;
use super::scratch::Scratch;
use super::state::State;
use super::world::{Level, Line, MAX_LOG_BYTES, Message, Seat, Text, World};
use crate::image::{Direction, PointId, Points};
use crate::variable::{Denied, MAX_VARIABLES, Maker, Variable, Variables};
use refuse::Refused;

/// What a guest is doing; decides what it may do. The numbers are those on a tape.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub enum Phase {
    /// Start section, `_initialize` and `init`: output writes are refused.
    #[default]
    Init = 0,
    /// A poll.
    Poll,
    /// `save`: nothing is written but the state.
    Save,
    /// `restore`: variables may be written, outputs not.
    Restore,
}

impl std::fmt::Display for Phase {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Init => "its start",
            Self::Poll => "poll",
            Self::Save => "save",
            Self::Restore => "restore",
        })
    }
}

/// Why a guest ended itself, told by the host function that it called.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum ExitReason {
    /// `proc_exit` with this code.
    Exit(i32),
    /// `env.abort` with this message.
    Abort(String),
}

/// The host's side of one instance.
#[derive(Debug)]
pub(super) struct Guest {
    /// Lent for the length of a call.
    pub(super) world: Option<Box<World>>,
    pub(super) phase: Phase,
    pub(super) seat: Seat,
    pub(super) exit_reason: Option<ExitReason>,
    /// Seeded by the plugin's name, so that a run can be repeated.
    pub(super) random: fastrand::Rng,
    /// What `fd_write` has been given of a line so far.
    pub(super) printed: Text<MAX_LOG_BYTES>,
    /// How important that line is, by the descriptor that it was written to.
    pub(super) printed_level: Level,
    pub(super) scratch: Scratch,
    /// In `save` and `restore`.
    pub(super) state: State,
    /// Ids of the variables that its polls have written; only kept while somebody may want to know.
    wrote: Option<Vec<bool>>,
    rights: Rights,
    /// Whose quota the variables count against that it makes.
    maker: Maker,
    pace: Pace,
    /// What it was refused.
    refused: Refused,
}

impl Guest {
    /// For the program on `seat`, with the rights of `settings`; `seed` follows from its name.
    pub(super) fn new(
        seat: Seat,
        seed: u64,
        settings: &Settings,
        points: &Points,
        log_lines_per_s: u32,
    ) -> Self {
        Self {
            world: None,
            phase: Phase::Init,
            seat,
            exit_reason: None,
            random: fastrand::Rng::with_seed(seed),
            printed: Text::default(),
            printed_level: Level::Info,
            scratch: Scratch::new(points.image_bytes(Direction::Out)),
            state: State::default(),
            wrote: None,
            rights: Rights::new(settings, points),
            maker: Maker::program(seed),
            pace: Pace::new(log_lines_per_s),
            refused: Refused::new(points.ids()),
        }
    }

    /// The world; host functions run only while it is lent.
    pub(super) fn world(&mut self) -> &mut World {
        self.world.as_mut().expect("the world is lent for the length of every call")
    }

    /// Replaces the rights; what the program owns already is for the scan to settle. A claim on
    /// what is granted no more has ended, even if it is granted again later.
    pub(super) fn entitle(&mut self, settings: &Settings, points: &Points) {
        let mut claimed = std::mem::take(&mut self.rights.claimed);
        claimed.resize(points.ids(), false);
        self.refused.take_points(points.ids());
        let rights = Rights::new(settings, points);
        if let Some(granted) = &rights.outputs {
            claimed.iter_mut().zip(granted).for_each(|(claimed, granted)| *claimed &= granted);
        }
        self.rights = Rights { claimed, ..rights };
        let output_bytes = points.image_bytes(Direction::Out);
        if self.scratch.len() != output_bytes {
            // Nothing is staged between two calls.
            self.scratch = Scratch::new(output_bytes);
        }
    }

    /// Whether the guest may read all of these bytes of the input image.
    pub(super) fn may_read(&self, bytes: Range<usize>) -> bool {
        self.rights.readable.as_ref().is_none_or(|readable| !readable[bytes].contains(&false))
    }

    /// Whether it may read this input point.
    pub(super) fn may_read_point(&self, id: PointId) -> bool {
        self.rights.inputs.as_ref().is_none_or(|inputs| inputs[id.index()])
    }

    /// Whether [`Guest::claim`] would succeed.
    pub(super) fn may_claim(&mut self, id: PointId) -> bool {
        let seat = self.seat;
        let owner = self.world().owners[id.index()];
        let granted = self.rights.outputs.as_ref().is_none_or(|outputs| outputs[id.index()]);
        granted && owner.is_none_or(|owner| owner == seat)
    }

    /// Takes ownership of an output point, if it is granted and free.
    pub(super) fn claim(&mut self, id: PointId) -> bool {
        let seat = self.seat;
        let granted = self.rights.outputs.as_ref().is_none_or(|outputs| outputs[id.index()]);
        let owner = &mut self.world().owners[id.index()];
        let why = match *owner {
            _ if !granted => Why::NotGranted,
            Some(other) if other != seat => Why::Owned(other),
            before => {
                *owner = Some(seat);
                self.rights.claimed[id.index()] = true;
                if before.is_none() {
                    self.end_owned(id);
                }
                return true;
            }
        };
        self.refuse_point(why, id);
        false
    }

    /// Whether this instance has claimed that output.
    pub(super) fn has_claimed(&self, id: PointId) -> bool {
        self.rights.claimed.get(id.index()).is_some_and(|claimed| *claimed)
    }

    /// The outputs that this instance has claimed.
    pub(super) fn claimed(&self) -> Vec<PointId> {
        let claimed = self.rights.claimed.iter().zip(0u16..).filter(|(claimed, _)| **claimed);
        claimed.map(|(_, id)| PointId(id)).collect()
    }

    /// From now on remembers which variables its polls write, with those that are not committed
    /// yet, and those with an id in `earlier`.
    pub(super) fn trace_variables(&mut self, variables: &Variables, earlier: &[u16]) {
        let mut wrote = vec![false; MAX_VARIABLES];
        let earlier = earlier.iter().copied();
        variables.uncommitted().chain(earlier).for_each(|id| wrote[usize::from(id)] = true);
        self.wrote = Some(wrote);
    }

    /// Ids of the variables that its polls have written since; forgets them.
    pub(super) fn take_written(&mut self) -> Vec<u16> {
        let wrote = self.wrote.take().unwrap_or_default();
        wrote.iter().zip(0u16..).filter(|(wrote, _)| **wrote).map(|(_, id)| id).collect()
    }

    /// Writes a variable, if that is granted to it and it has not made too many.
    ///
    /// # Errors
    /// Why it was not written; nothing has changed then.
    pub(super) fn write_variable(&mut self, name: &str, value: Variable) -> Result<(), Denied> {
        let maker = self.maker;
        let result = match self.rights.variables.allows(name) {
            true => self.world().variables.write_as(maker, name, value),
            false => Err(Denied::NotGranted),
        };
        if let Err(denied) = result {
            let why = match denied {
                Denied::NotGranted => Why::VariableNotGranted,
                Denied::Quota => Why::VariableQuota,
                Denied::Limit => Why::VariableLimit,
                Denied::OtherType(is) => Why::VariableType(is, value.kind()),
            };
            self.refuse(why, name);
        }
        result
    }

    /// Puts a line of the host's about this program into the log.
    fn push(&mut self, message: Message) {
        let line = Line { seat: self.seat, cycle: self.world().cycle, message };
        self.world().log.push(line);
    }

    /// Logs what the guest says, unless it says too much.
    pub(super) fn say(&mut self, message: Message) {
        let now = self.world().now;
        if self.pace.allows(now) {
            self.tell_dropped();
            self.push(message);
        }
    }

    /// Logs what has been printed of a line, if anything.
    pub(super) fn flush(&mut self) {
        if !self.printed.is_empty() {
            let level = self.printed_level;
            let text = std::mem::take(&mut self.printed);
            self.say(Message::Said { level, file: Text::default(), line: 0, text });
        }
    }

    /// Says how many lines were dropped, as soon as there is allowance again.
    fn tell_dropped(&mut self) {
        if self.pace.dropped > 0 {
            let message = Message::Dropped(std::mem::take(&mut self.pace.dropped));
            self.push(message);
        }
    }

    /// Makes everything that the guest did in a good poll count. What it writes before its first
    /// poll stays provisional, so that whoever prepares it sees what that was.
    pub(super) fn commit(&mut self) {
        self.flush();
        if self.scratch.has_part() {
            self.drop_what_is_no_number();
        }
        let world = self.world.as_mut().expect("the world is lent for the length of every call");
        self.scratch.move_to(&mut world.outputs);
        if self.phase == Phase::Poll {
            if let Some(wrote) = &mut self.wrote {
                world.variables.uncommitted().for_each(|id| wrote[usize::from(id)] = true);
            }
            world.variables.commit_as(self.maker, world.now);
        }
        if self.pace.dropped > 0 && self.pace.has_allowance(world.now) {
            self.tell_dropped();
        }
    }

    /// Forgets the bytes that would make a float output something else than a finite number. No
    /// single call could tell: each has written a part of it.
    fn drop_what_is_no_number(&mut self) {
        let points = Arc::clone(&self.world().points);
        for (id, point) in points.float_outputs(self.scratch.touched()) {
            let world =
                self.world.as_ref().expect("the world is lent for the length of every call");
            if !point.is_finite(&point.raw_from(|at| self.scratch.over(at, &world.outputs))) {
                point.bytes().for_each(|at| self.scratch.forget(at));
                self.refuse_point(Why::NotFinite, id);
            } else {
                self.end_misgiven(id);
            }
        }
    }

    /// Forgets what the guest did in a call that failed.
    pub(super) fn discard(&mut self) {
        self.flush();
        self.tell_dropped();
        self.scratch.clear();
        self.world().variables.revert();
    }
}
