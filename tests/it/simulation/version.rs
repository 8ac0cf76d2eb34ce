//! The versions of the program of the simulation: one text with different values filled in.
//!
//! What a version does is described in `guest.rs`, and programmed in `guest.wat` and
//! `hand_over.wat`. So each version exists twice, once for the model and once for the scan.

/// What makes one version of the program different from the others.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Version {
    pub name: &'static str,
    pub salt: u32,
    /// It traps when all these bits of a random number are 0, and its orders allow it.
    pub trap_mask: u32,
    /// It traps in its poll of this number as well, if its orders allow it; 0 is no poll.
    pub trap_at: u32,
    /// Instead of a trap, it does not return.
    pub is_endless: bool,
    /// Writes the variables `mix0` to `mix3` as doubles instead of ints.
    pub is_double: bool,
    /// Its `init` traps.
    pub is_unable: bool,
    pub hand_over: HandOver,
}

/// How it hands over.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum HandOver {
    /// It does not know how.
    Unknown,
    Good,
    /// Its `save` fails when all bits of the mask are 0 in the number of its polls.
    BadSave(Failure, u32),
    /// Its `restore` does, likewise.
    BadRestore(Failure, u32),
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Failure {
    Trap,
    Endless,
    /// Its state is larger than allowed.
    TooMuch,
}

const fn version(name: &'static str, salt: u32, trap_mask: u32) -> Version {
    Version {
        name,
        salt,
        trap_mask,
        trap_at: 0,
        is_endless: false,
        is_double: false,
        is_unable: false,
        hand_over: HandOver::Good,
    }
}

/// One that has something wrong with its hand-over.
const fn clumsy(name: &'static str, salt: u32, hand_over: HandOver) -> Version {
    Version { hand_over, ..version(name, salt, 0xff) }
}

/// Whatever is endless is so seldom, because each time takes a whole budget.
const SELDOM: u32 = 0x1f;

pub const VERSIONS: [Version; 14] = [
    version("good", 0x1111, 0xff),
    Version { is_double: true, ..version("better", 0x2222, 0xff) },
    version("flaky", 0x3333, 0x0f),
    Version { is_endless: true, ..version("stuck", 0x4444, 0x1ff) },
    Version { is_unable: true, ..version("unable", 0x5555, 0xff) },
    Version { trap_at: 1, ..version("hasty", 0x6666, 0xff) },
    Version { trap_at: 12, is_double: true, ..version("tired", 0x7777, 0xff) },
    clumsy("plain", 0x8888, HandOver::Unknown),
    clumsy("mute", 0x9999, HandOver::BadSave(Failure::Trap, 1)),
    clumsy("greedy", 0xaaaa, HandOver::BadSave(Failure::TooMuch, 1)),
    clumsy("miser", 0xbbbb, HandOver::BadSave(Failure::Endless, SELDOM)),
    clumsy("deaf", 0xcccc, HandOver::BadRestore(Failure::Trap, 1)),
    clumsy("lost", 0xdddd, HandOver::BadRestore(Failure::Endless, SELDOM)),
    Version { trap_at: 1, ..clumsy("raw", 0xeeee, HandOver::Unknown) },
];

impl Version {
    /// The module as text; `raw` are bytes for raw writes.
    pub fn wat(&self, raw: &[u8]) -> String {
        let Self { salt, trap_mask, trap_at, .. } = self;
        let mix = match self.is_double {
            true => {
                "(call $setd (i32.const 110) (i32.const 4) (f64.convert_i32_s (global.get $r)))"
            }
            false => "(call $set (i32.const 110) (i32.const 4) (global.get $r))",
        };
        let endless = if self.is_endless { "(loop (br 0))" } else { "" };
        let unable = if self.is_unable { "unreachable" } else { "" };
        let raw: String = raw.iter().map(|byte| format!("\\{byte:02x}")).collect();
        include_str!("guest.wat")
            .replace("{hand_over}", &self.hand_over.wat())
            .replace("{salt}", &salt.to_string())
            .replace("{trap_mask}", &trap_mask.to_string())
            .replace("{trap_at}", &trap_at.to_string())
            .replace("{mix}", mix)
            .replace("{endless}", endless)
            .replace("{unable}", unable)
            .replace("{raw}", &raw)
    }
}

impl HandOver {
    fn wat(self) -> String {
        let (save, restore) = match self {
            Self::Unknown => return String::new(),
            Self::Good => (String::new(), String::new()),
            Self::BadSave(failure, mask) => (failure.wat(mask), String::new()),
            Self::BadRestore(failure, mask) => (String::new(), failure.wat(mask)),
        };
        include_str!("hand_over.wat").replace("{save}", &save).replace("{restore}", &restore)
    }

    /// How `save` after so many polls fails.
    pub fn fails_to_save(self, count: i32) -> Option<Failure> {
        match self {
            Self::BadSave(failure, mask) if count as u32 & mask == 0 => Some(failure),
            _ => None,
        }
    }

    /// How `restore` fails with the state of so many polls.
    pub fn fails_to_restore(self, count: i32) -> Option<Failure> {
        match self {
            Self::BadRestore(failure, mask) if count as u32 & mask == 0 => Some(failure),
            _ => None,
        }
    }
}

impl Failure {
    fn wat(self, mask: u32) -> String {
        let then = match self {
            Self::Trap => "unreachable",
            Self::Endless => "(loop (br 0))",
            Self::TooMuch => {
                "(local.set $count (i32.const 17))
                 (loop (drop (call $give (i32.const 0) (i32.const 65536)))
                   (br_if 0 (local.tee $count (i32.sub (local.get $count) (i32.const 1)))))"
            }
        };
        format!("(if (i32.eqz (i32.and (local.get $count) (i32.const {mask}))) (then {then}))")
    }

    /// What the scan calls it.
    pub fn kind(self) -> &'static str {
        match self {
            Self::Trap => "unreachable",
            Self::Endless => "budget of 50ms exceeded",
            Self::TooMuch => "the saved state has more than 1048576 bytes",
        }
    }
}
