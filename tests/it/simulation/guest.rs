//! The program of the simulation, in two forms: a module for the scan, and a description of the
//! expected results for the model.
//!
//! In one poll the program reads its orders, the clock, sensors and the last outputs. It writes
//! shared variables and a few outputs, and sometimes traps, in one of four places. It combines all
//! answers of the host in one number and writes this number into a variable, so a wrong answer is
//! always visible. It counts its polls twice: in its memory, which only a hand-over preserves, and
//! in a variable.
//!
//! One module serves for all names of plugins. An instance finds its name by its permissions: of
//! the inputs `cmd0` to `cmd7` it may read only its own. `version.rs` makes the versions of the
//! program.

use std::collections::BTreeSet;
use std::ops::Range;
use std::sync::Arc;

use camshaft::plugin::Settings;
use camshaft::process::grant::{Grant, VariableGrant};
use camshaft::process::image::{Class, Direction, Point, PointId, PointKind, Points};
use camshaft::process::seat::Seat;
use camshaft::process::variable::Variable;

use super::model::{Said, World};
use super::plant::{BACK, LAMP, OUT, OUT_BYTES, PROGRAMS, RAMP};
use super::version::{Failure, HandOver, Version};

/// Orders with this bit allow traps.
pub const MAY_TRAP: u32 = 1 << 31;

/// Bytes for raw writes: none is 0, so no number becomes 0 by them. Two of them make a float that
/// ends there something else than a finite number.
pub const RAW: [u8; 16] = *b"\x55\xaa\x33\xcc\x0f\xf0\xf8\x7f\x44\x88\x77\xee\xdd\xbb\x99\x66";

/// The names of the variables.
pub const CHAIN: &str = "chain";
pub const MIX: [&str; 4] = ["mix0", "mix1", "mix2", "mix3"];
pub const BOOT: [&str; PROGRAMS] =
    ["boot0", "boot1", "boot2", "boot3", "boot4", "boot5", "boot6", "boot7"];
pub const FOLD: [&str; PROGRAMS] =
    ["fold0", "fold1", "fold2", "fold3", "fold4", "fold5", "fold6", "fold7"];
/// What the last good `restore` found in its state.
pub const HANDED: [&str; PROGRAMS] =
    ["back0", "back1", "back2", "back3", "back4", "back5", "back6", "back7"];
/// Polls as the program's memory has them.
pub const COUNT: [&str; PROGRAMS] =
    ["count0", "count1", "count2", "count3", "count4", "count5", "count6", "count7"];
/// Polls as the variable itself has them.
pub const TALLY: [&str; PROGRAMS] =
    ["tally0", "tally1", "tally2", "tally3", "tally4", "tally5", "tally6", "tally7"];

/// What one version hands to the next: its polls, and what it has folded.
pub type State = [i32; 2];
/// Its size in bytes.
pub const STATE_BYTES: u64 = 8;

fn mix(mut x: u32) -> u32 {
    x = (x ^ x >> 16).wrapping_mul(0x7feb_352d);
    x = (x ^ x >> 15).wrapping_mul(0x846c_a68b);
    x ^ x >> 16
}

/// One step of the variable `chain`: the order of the programs matters to it.
pub fn link(chain: i32, id: usize) -> i32 {
    chain.wrapping_mul(31).wrapping_add(id as i32 + 1)
}

/// What an instance ought to be.
#[derive(Debug, Clone)]
pub struct Instance {
    pub id: usize,
    pub version: Version,
    fold: i32,
    /// Polls of this instance, and polls of it and of all whose state it has.
    polls: u32,
    count: i32,
    /// Its orders as it last could read them: on a seat that was given away it may not.
    command: u32,
    inputs: Grant,
    outputs: Grant,
    variables: VariableGrant,
    /// Outputs whose refusal was logged, and whether because they are another's; variables of
    /// which it was, and outputs that were given no number.
    told: Vec<(PointId, bool)>,
    told_variables: Vec<&'static str>,
    told_numbers: Vec<PointId>,
    /// Outputs that it ever owned.
    pub claimed: BTreeSet<PointId>,
    /// Variables that it has written since it took over.
    pub wrote: BTreeSet<&'static str>,
}

/// One poll on its way.
struct Poll<'a> {
    me: &'a mut Instance,
    seat: Seat,
    world: &'a mut World,
    /// Byte, value and mask of everything written.
    staged: Vec<(usize, u8, u8)>,
    /// Whether a part of a float is among that.
    has_part: bool,
    r: u32,
}

impl Instance {
    /// After `init`, which found these inputs and `chain` like this; and the variable that it
    /// wrote, if it may.
    pub fn new(
        id: usize,
        version: Version,
        inputs: &[u8],
        chain: Option<Variable>,
        settings: &Settings,
    ) -> (Self, Option<(&'static str, Variable)>) {
        let Variable::Int(chain) = chain.unwrap_or(Variable::Int(0)) else {
            panic!("chain is an int");
        };
        let boot = Variable::Int(chain.wrapping_add(version.salt as i32));
        let mut instance = Self {
            id,
            version,
            fold: 5, // output writes are refused in `init`
            polls: 0,
            count: 0,
            command: word(inputs, 4 * id) as u32,
            inputs: Grant::All,
            outputs: Grant::All,
            variables: VariableGrant::default(),
            told: Vec::new(),
            told_variables: Vec::new(),
            told_numbers: Vec::new(),
            claimed: BTreeSet::new(),
            wrote: BTreeSet::new(),
        };
        instance.entitle(settings);
        let is_written = settings.variables.allows(BOOT[id]);
        (instance, is_written.then_some((BOOT[id], boot)))
    }

    pub fn entitle(&mut self, settings: &Settings) {
        self.inputs = settings.inputs.clone();
        self.outputs = settings.outputs.clone();
        self.variables = settings.variables.clone();
        self.claimed.retain(|id| is_granted(&settings.outputs, *id));
    }

    /// There are other rights, points or variables: what is refused from now on is said again.
    pub fn forget_refusals(&mut self) {
        self.told.clear();
        self.told_variables.clear();
        self.told_numbers.clear();
    }

    /// One poll; what it wrote is in `world` when it returns well. Otherwise the kind of trap.
    pub fn poll(&mut self, seat: Seat, world: &mut World) -> Result<(), &'static str> {
        let variables = world.variables.clone();
        world.written.clear();
        (self.polls, self.count) = (self.polls + 1, self.count.wrapping_add(1));
        let mut poll = Poll { me: self, seat, world, staged: Vec::new(), has_part: false, r: 0 };
        let result = poll.run();
        if result.is_ok() && poll.has_part {
            poll.drop_what_is_no_number();
        }
        let staged = poll.staged;
        match result {
            Ok(()) => {
                self.wrote.extend(world.written.drain(..));
                for (at, raw, mask) in staged {
                    world.outputs[at] = world.outputs[at] & !mask | raw & mask;
                }
            }
            Err(_) => world.variables = variables,
        }
        result
    }

    /// Whether it knows how to hand over.
    pub fn hands_over(&self) -> bool {
        self.version.hand_over != HandOver::Unknown
    }

    /// The state for a successor. It is the same as before, whatever comes of it.
    pub fn save(&self, seat: Seat, world: &mut World) -> Result<State, Failure> {
        world.say(seat, Said::Words);
        // A variable, an output and somebody's state are refused, the first half goes out.
        let fold = [5, 5, 5, 0].into_iter().fold(self.fold, folded);
        match self.version.hand_over.fails_to_save(self.count) {
            Some(failure) => Err(failure),
            None => Ok([self.count, fold]),
        }
    }

    /// Takes the state of the version before. What it wrote counts if all goes well.
    pub fn restore(&mut self, [count, fold]: State, world: &mut World) -> Result<(), Failure> {
        let first = [0, 4];
        let second = [0, 4, fold];
        let nothing_more = [0, 0];
        let denied = [5, 5];
        for number in [&first[..], &second, &nothing_more, &denied].into_iter().flatten() {
            self.fold = folded(self.fold, *number);
        }
        self.count = count;
        let code = world.write(HANDED[self.id], Variable::Int(count));
        self.fold = folded(self.fold, code);
        self.version.hand_over.fails_to_restore(count).map_or(Ok(()), Err)
    }
}

fn folded(fold: i32, number: i32) -> i32 {
    fold.wrapping_mul(31).wrapping_add(number)
}

pub fn is_granted(grant: &Grant, id: PointId) -> bool {
    match grant {
        Grant::All => true,
        Grant::Only(ids) => ids.contains(&id),
    }
}

impl Poll<'_> {
    fn run(&mut self) -> Result<(), &'static str> {
        let (id, version) = (self.me.id, self.me.version);
        let (cycle, now) = (self.world.cycle as u32, self.world.now);
        self.take(0);
        self.take(cycle as i32);
        self.take(0);
        self.take(now.as_secs() as i32);
        self.take(now.subsec_nanos() as i32);
        if is_granted(&self.me.inputs, PointId(id as u16)) {
            self.me.command = word(&self.world.inputs.bytes, 4 * id) as u32;
        }
        self.r = mix(self.me.command ^ mix(cycle.wrapping_add(version.salt)));
        let r = self.r;
        for sensor in [BACK, LAMP, RAMP] {
            self.sense(sensor);
        }
        self.trap(0)?;

        let chain = match self.world.read(CHAIN) {
            Some(Variable::Int(chain)) => chain,
            _ => 0,
        };
        let chain = link(chain, id);
        self.set(CHAIN, Variable::Int(chain));
        self.take(0);
        self.take(chain);
        let value = match version.is_double {
            true => Variable::Double((r as i32).into()),
            false => Variable::Int(r as i32),
        };
        self.set(MIX[(r >> 4) as usize & 3], value);
        self.trap(1)?;

        for turn in 0..3 {
            self.write((r >> (8 + 3 * turn)) as u16 & 7, turn);
        }
        if r & 0x10_0000 != 0 {
            self.raw((r >> 21) as usize & 31, (r >> 21) as usize & 7, (r >> 26) as usize & 7);
        }
        self.trap(2)?;

        self.take(0);
        for at in (0..OUT_BYTES).step_by(4) {
            self.take(word(&self.world.before, at));
        }
        if r >> 28 & 3 == 0 {
            self.world.say(self.seat, Said::Words);
            self.take(0);
        }
        let Instance { fold, count, .. } = *self.me;
        self.world.write(COUNT[id], Variable::Int(count));
        let tally = match self.world.read(TALLY[id]) {
            Some(Variable::Int(tally)) => tally,
            _ => 0,
        };
        self.world.write(TALLY[id], Variable::Int(tally.wrapping_add(1)));
        self.world.write(FOLD[id], Variable::Int(fold));
        self.trap(3)
    }

    fn take(&mut self, number: i32) {
        self.me.fold = folded(self.me.fold, number);
    }

    fn trap(&self, place: u32) -> Result<(), &'static str> {
        let Version { salt, trap_mask, trap_at, is_endless, .. } = self.me.version;
        let t = mix(self.r.wrapping_add(salt));
        if self.me.command & MAY_TRAP == 0 {
            return Ok(());
        }
        if place == 2 && self.me.polls == trap_at {
            return Err("unreachable");
        }
        if t & trap_mask != 0 || t >> 16 & 3 != place {
            return Ok(());
        }
        Err(match t >> 18 & 7 {
            _ if is_endless => "budget of 50ms exceeded",
            1 => "integer divide by zero",
            2 => "out of bounds memory access",
            3 => "stack overflow",
            4 => "proc_exit(3)",
            _ => "unreachable",
        })
    }

    fn sense(&mut self, id: PointId) {
        if !is_granted(&self.me.inputs, id) {
            return self.take(5);
        }
        let bytes = &self.world.inputs.bytes;
        let value = match id {
            BACK => word(bytes, 32),
            RAMP => i16::from_le_bytes([bytes[40], bytes[41]]).into(),
            _ => return self.take(4), // a bool is no int
        };
        let quality = match self.world.inputs.quality[id.index()].class() {
            Class::Good => 0,
            Class::Uncertain => 1,
            Class::Bad => 2,
        };
        [0, value, quality].into_iter().for_each(|number| self.take(number));
    }

    fn set(&mut self, name: &'static str, value: Variable) {
        let code = match self.me.variables.allows(name) {
            true => self.world.write(name, value),
            false => {
                if !self.me.told_variables.contains(&name) {
                    self.me.told_variables.push(name);
                    self.world.say(self.seat, Said::VariableNotGranted(name));
                }
                5
            }
        };
        self.take(code);
    }

    fn refuse_number(&mut self, id: PointId) {
        if !self.me.told_numbers.contains(&id) {
            self.me.told_numbers.push(id);
            self.world.say(self.seat, Said::NotFinite(id));
        }
    }

    /// Floats of which parts were written are judged when all is written.
    fn drop_what_is_no_number(&mut self) {
        let mut image = self.world.outputs.clone();
        for (at, raw, mask) in &self.staged {
            image[*at] = image[*at] & !mask | raw & mask;
        }
        let points = Arc::clone(&self.world.points);
        for (id, point) in floats(&points) {
            if !is_finite(&image[point.bytes()]) {
                self.staged.retain(|(at, ..)| !point.bytes().contains(at));
                self.refuse_number(id);
            }
        }
    }

    fn write(&mut self, which: u16, turn: u32) {
        let id = PointId(OUT + which);
        let points = Arc::clone(&self.world.points);
        let point = &points[id];
        let r = self.r;
        let raw = if point.kind == PointKind::Bool {
            // As an int it is of another type.
            if r >> turn & 1 == 0 { Err(4) } else { Ok(bit(point, r >> (turn + 16) & 1 != 0)) }
        } else {
            let number = (r as i32) >> (turn + 5);
            let number = if r >> (turn + 1) & 1 != 0 { number & 0x7f } else { number };
            encode(point.kind, number | 1)
        };
        let code = match raw {
            Err(code) => code,
            Ok(_) if !self.claim(id) => 5,
            Ok(raw) => {
                let bytes = point.bytes().zip(raw);
                self.staged.extend(bytes.map(|(at, raw)| (at, raw, point.mask())));
                0
            }
        };
        self.take(code);
    }

    fn raw(&mut self, address: usize, first: usize, len: usize) {
        let bytes = address..address + len;
        let points = Arc::clone(&self.world.points);
        let mut touched = Vec::new();
        for at in bytes.clone() {
            let on_it = points.iter().filter(|(_, point)| {
                point.direction == Direction::Out && point.bytes().contains(&at)
            });
            touched.extend(on_it.map(|(id, _)| id));
        }
        let code = if bytes.end > self.world.outputs.len() {
            2
        } else if let Some(refused) = touched.iter().find(|&&id| !self.may_claim(id)) {
            self.claim(*refused);
            5
        } else if let Some(id) = self.bad_float(&bytes, &RAW[first..]) {
            self.refuse_number(id);
            1
        } else {
            for id in touched {
                assert!(self.claim(id));
            }
            self.staged.extend(bytes.zip(&RAW[first..]).map(|(at, &raw)| (at, raw, 0xff)));
            0
        };
        self.take(code);
    }

    /// A float that would become no number, all of which lies in these bytes.
    fn bad_float(&mut self, bytes: &Range<usize>, raw: &[u8]) -> Option<PointId> {
        let points = Arc::clone(&self.world.points);
        for (id, point) in floats(&points) {
            let own = point.bytes();
            let is_whole = bytes.start <= own.start && own.end <= bytes.end;
            if is_whole && !is_finite(&raw[own.start - bytes.start..][..own.len()]) {
                return Some(id);
            }
            self.has_part |= !is_whole && own.start < bytes.end && bytes.start < own.end;
        }
        None
    }

    fn may_claim(&self, id: PointId) -> bool {
        let owner = self.world.owners[id.index()];
        is_granted(&self.me.outputs, id) && owner.is_none_or(|owner| owner == self.seat)
    }

    fn claim(&mut self, id: PointId) -> bool {
        if self.may_claim(id) {
            if self.world.owners[id.index()].replace(self.seat).is_none() {
                self.me.told.retain(|told| *told != (id, true));
            }
            self.me.claimed.insert(id);
            return true;
        }
        let said = match self.world.owners[id.index()] {
            Some(owner) if is_granted(&self.me.outputs, id) => Said::Owned(id, owner),
            _ => Said::NotGranted(id),
        };
        let told = (id, matches!(said, Said::Owned(..)));
        if !self.me.told.contains(&told) {
            self.me.told.push(told);
            self.world.say(self.seat, said);
        }
        false
    }
}

/// The float outputs, by address.
fn floats(points: &Points) -> Vec<(PointId, &Point)> {
    let floats = points.iter().filter(|(_, point)| {
        point.direction == Direction::Out && matches!(point.kind, PointKind::F32 | PointKind::F64)
    });
    let mut floats: Vec<_> = floats.collect();
    floats.sort_by_key(|(_, point)| point.byte);
    floats
}

pub fn is_finite(float: &[u8]) -> bool {
    match float.try_into() {
        Ok(bytes) => f32::from_le_bytes(bytes).is_finite(),
        Err(_) => f64::from_le_bytes(float.try_into().expect("8 bytes")).is_finite(),
    }
}

fn word(bytes: &[u8], at: usize) -> i32 {
    i32::from_le_bytes([bytes[at], bytes[at + 1], bytes[at + 2], bytes[at + 3]])
}

fn bit(point: &Point, on: bool) -> Vec<u8> {
    vec![u8::from(on) << point.bit]
}

/// The bytes of a number, or code 1 if the type cannot hold it.
fn encode(kind: PointKind, number: i32) -> Result<Vec<u8>, i32> {
    let bytes = match kind {
        PointKind::U8 => u8::try_from(number).map(|n| n.to_le_bytes().to_vec()),
        PointKind::I16 => i16::try_from(number).map(|n| n.to_le_bytes().to_vec()),
        PointKind::U32 => u32::try_from(number).map(|n| n.to_le_bytes().to_vec()),
        PointKind::I32 => Ok(number.to_le_bytes().to_vec()),
        PointKind::F32 => Ok((number as f32).to_le_bytes().to_vec()),
        PointKind::F64 => Ok(f64::from(number).to_le_bytes().to_vec()),
        other => panic!("there is no output of type {other}"),
    };
    bytes.map_err(|_| 1)
}
