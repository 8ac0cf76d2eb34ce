//! The program of the simulation, twice: as a module, and as what it ought to do.
//!
//! One poll reads its orders, the clock, sensors and the last outputs, writes shared variables and a
//! few outputs, and traps now and then, in one of four places. Everything that the host answers is
//! folded into one number, which ends up in a variable: a wrong code anywhere shows there.
//!
//! An instance learns who it is from what it may read: of the inputs `cmd0` to `cmd7` only its own
//! is granted. So one module serves every name.

use std::sync::Arc;

use camshaft::image::{Direction, Kind, Point, PointId, Points, Quality};
use camshaft::plugin::world::Seat;
use camshaft::plugin::{Grant, Settings};
use camshaft::variable::Variable;

use super::model::{Said, World};
use super::plant::{BACK, LAMP, OUT, OUT_BYTES, PROGRAMS, RAMP};

/// What makes one version of the program different from the others.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Version {
    pub name: &'static str,
    salt: u32,
    /// It traps when all these bits of a random number are 0, and its orders allow it.
    trap_mask: u32,
    /// Instead of a trap, it does not return.
    is_endless: bool,
    /// Writes the variables `mix0` to `mix3` as doubles instead of ints.
    is_double: bool,
    /// Its `init` traps.
    pub is_unable: bool,
}

const fn version(name: &'static str, salt: u32, trap_mask: u32) -> Version {
    Version { name, salt, trap_mask, is_endless: false, is_double: false, is_unable: false }
}

pub const VERSIONS: [Version; 5] = [
    version("good", 0x1111, 0xff),
    Version { is_double: true, ..version("better", 0x2222, 0xff) },
    version("flaky", 0x3333, 0x0f),
    // Seldom, because each time takes a whole budget.
    Version { is_endless: true, ..version("stuck", 0x4444, 0x1ff) },
    Version { is_unable: true, ..version("unable", 0x5555, 0xff) },
];

/// Orders with this bit allow traps.
pub const MAY_TRAP: u32 = 1 << 31;

/// Bytes for raw writes: none is 0, so no number becomes 0 by them.
const RAW: [u8; 16] = *b"\x55\xaa\x33\xcc\x0f\xf0\x11\x22\x44\x88\x77\xee\xdd\xbb\x99\x66";

/// The names of the variables.
pub const CHAIN: &str = "chain";
pub const MIX: [&str; 4] = ["mix0", "mix1", "mix2", "mix3"];
pub const BOOT: [&str; PROGRAMS] =
    ["boot0", "boot1", "boot2", "boot3", "boot4", "boot5", "boot6", "boot7"];
pub const FOLD: [&str; PROGRAMS] =
    ["fold0", "fold1", "fold2", "fold3", "fold4", "fold5", "fold6", "fold7"];

impl Version {
    /// The module as text.
    pub fn wat(&self) -> String {
        let Self { salt, trap_mask, .. } = self;
        let mix = match self.is_double {
            true => {
                "(call $setd (i32.const 110) (i32.const 4) (f64.convert_i32_s (global.get $r)))"
            }
            false => "(call $set (i32.const 110) (i32.const 4) (global.get $r))",
        };
        let endless = if self.is_endless { "(loop (br 0))" } else { "" };
        let unable = if self.is_unable { "unreachable" } else { "" };
        let raw: String = RAW.iter().map(|byte| format!("\\{byte:02x}")).collect();
        include_str!("guest.wat")
            .replace("{salt}", &salt.to_string())
            .replace("{trap_mask}", &trap_mask.to_string())
            .replace("{mix}", mix)
            .replace("{endless}", endless)
            .replace("{unable}", unable)
            .replace("{raw}", &raw)
    }
}

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
    version: Version,
    fold: i32,
    points: Arc<Points>,
    inputs: Grant,
    outputs: Grant,
    /// Outputs whose refusal was logged.
    told: Vec<PointId>,
}

/// One poll on its way.
struct Poll<'a> {
    me: &'a mut Instance,
    seat: Seat,
    world: &'a mut World,
    /// Byte, value and mask of everything written.
    staged: Vec<(usize, u8, u8)>,
    command: u32,
    r: u32,
}

impl Instance {
    /// After `init`, which found `chain` like this; and the variable that it wrote.
    pub fn new(
        id: usize,
        version: Version,
        chain: Option<Variable>,
        points: &Arc<Points>,
        settings: &Settings,
    ) -> (Self, (&'static str, Variable)) {
        let Variable::Int(chain) = chain.unwrap_or(Variable::Int(0)) else {
            panic!("chain is an int");
        };
        let boot = Variable::Int(chain.wrapping_add(version.salt as i32));
        let mut instance = Self {
            id,
            version,
            fold: 5, // output writes are refused in `init`
            points: Arc::clone(points),
            inputs: Grant::All,
            outputs: Grant::All,
            told: Vec::new(),
        };
        instance.entitle(settings);
        (instance, (BOOT[id], boot))
    }

    pub fn entitle(&mut self, settings: &Settings) {
        self.inputs = settings.inputs.clone();
        self.outputs = settings.outputs.clone();
        self.told.clear();
    }

    /// One poll; what it wrote is in `world` when it returns well. Otherwise the kind of trap.
    pub fn poll(&mut self, seat: Seat, world: &mut World) -> Result<(), &'static str> {
        let variables = world.variables.clone();
        let mut poll = Poll { me: self, seat, world, staged: Vec::new(), command: 0, r: 0 };
        let result = poll.run();
        let staged = poll.staged;
        match result {
            Ok(()) => {
                for (at, raw, mask) in staged {
                    world.outputs[at] = world.outputs[at] & !mask | raw & mask;
                }
            }
            Err(_) => world.variables = variables,
        }
        result
    }
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
        self.command = word(&self.world.inputs.bytes, 4 * id) as u32;
        self.r = mix(self.command ^ mix(cycle.wrapping_add(version.salt)));
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
        let fold = self.me.fold;
        self.world.write(FOLD[id], Variable::Int(fold));
        self.trap(3)
    }

    fn take(&mut self, number: i32) {
        self.me.fold = self.me.fold.wrapping_mul(31).wrapping_add(number);
    }

    fn trap(&self, place: u32) -> Result<(), &'static str> {
        let Version { salt, trap_mask, is_endless, .. } = self.me.version;
        let t = mix(self.r.wrapping_add(salt));
        if self.command & MAY_TRAP == 0 || t & trap_mask != 0 || t >> 16 & 3 != place {
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
        let quality = match self.world.inputs.quality[id.index()] {
            Quality::Good => 0,
            Quality::Uncertain => 1,
            Quality::Bad => 2,
        };
        [0, value, quality].into_iter().for_each(|number| self.take(number));
    }

    fn set(&mut self, name: &'static str, value: Variable) {
        let code = self.world.write(name, value);
        self.take(code);
    }

    fn write(&mut self, which: u16, turn: u32) {
        let id = PointId(OUT + which);
        let points = Arc::clone(&self.me.points);
        let point = &points[id];
        let r = self.r;
        let raw = if point.kind == Kind::Bool {
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
        let points = Arc::clone(&self.me.points);
        let mut touched = Vec::new();
        for at in bytes.clone() {
            let on_it = points.iter().filter(|(_, point)| {
                point.direction == Direction::Out && point.bytes().contains(&at)
            });
            touched.extend(on_it.map(|(id, _)| id));
        }
        let code = if bytes.end > OUT_BYTES {
            2
        } else if let Some(refused) = touched.iter().find(|&&id| !self.may_claim(id)) {
            self.claim(*refused);
            5
        } else {
            for id in touched {
                assert!(self.claim(id));
            }
            self.staged.extend(bytes.zip(&RAW[first..]).map(|(at, &raw)| (at, raw, 0xff)));
            0
        };
        self.take(code);
    }

    fn may_claim(&self, id: PointId) -> bool {
        let owner = self.world.owners[id.index()];
        is_granted(&self.me.outputs, id) && owner.is_none_or(|owner| owner == self.seat)
    }

    fn claim(&mut self, id: PointId) -> bool {
        if self.may_claim(id) {
            self.world.owners[id.index()] = Some(self.seat);
            return true;
        }
        if !self.me.told.contains(&id) {
            self.me.told.push(id);
            let said = match self.world.owners[id.index()] {
                Some(owner) if is_granted(&self.me.outputs, id) => Said::Owned(id, owner),
                _ => Said::NotGranted(id),
            };
            self.world.say(self.seat, said);
        }
        false
    }
}

fn word(bytes: &[u8], at: usize) -> i32 {
    i32::from_le_bytes([bytes[at], bytes[at + 1], bytes[at + 2], bytes[at + 3]])
}

fn bit(point: &Point, on: bool) -> Vec<u8> {
    vec![u8::from(on) << point.bit]
}

/// The bytes of a number, or code 1 if the type cannot hold it.
fn encode(kind: Kind, number: i32) -> Result<Vec<u8>, i32> {
    let bytes = match kind {
        Kind::U8 => u8::try_from(number).map(|n| n.to_le_bytes().to_vec()),
        Kind::I16 => i16::try_from(number).map(|n| n.to_le_bytes().to_vec()),
        Kind::U32 => u32::try_from(number).map(|n| n.to_le_bytes().to_vec()),
        Kind::I32 => Ok(number.to_le_bytes().to_vec()),
        Kind::F32 => Ok((number as f32).to_le_bytes().to_vec()),
        Kind::F64 => Ok(f64::from(number).to_le_bytes().to_vec()),
        other => panic!("there is no output of type {other}"),
    };
    bytes.map_err(|_| 1)
}
