//! Refused calls: what a guest asked for in vain, told once and then counted, so that no code of
//! the contract is silent.
//!
//! The scan's thread counts, whoever shows a plugin reads. There is an entry for each kind and name
//! that was refused; the first call is also a line of the log, which `guest.rs` makes. Nothing in
//! this file allocates or waits, but for the words, which are made elsewhere than on the scan.

use std::mem::discriminant;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU64, Ordering};

use super::abi::Code;
use super::guest::Phase;
use super::world::{Seat, Text};
use crate::variable::{MAX_MADE, MAX_NAME_BYTES, MAX_VARIABLES, VariableKind};

/// Kinds and names of one instance that are told apart: more than anybody reads. Calls beyond are
/// counted together.
const MAX_ENTRIES: usize = 32;

/// Why a call was refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Why {
    /// The output is not granted to it.
    NotGranted,
    /// The output belongs to this other program.
    Owned(Seat),
    /// An output was given bytes that are no finite number.
    NotFinite,
    /// The input is not granted to it.
    InputNotGranted,
    /// It wrote to an input.
    NoOutput,
    /// There is no point of this name.
    NoPoint,
    /// There is no point with this id.
    NoPointId(i32),
    /// The point has another type than the call takes.
    PointType,
    /// The point's type cannot hold the value, or the call's that of the point.
    OutOfRange,
    /// The variable is not granted to it.
    VariableNotGranted,
    /// It has made too many variables.
    VariableQuota,
    /// There are too many variables, or the name is empty.
    VariableLimit,
    /// The variable has the first type, and the call is for the second.
    VariableType(VariableKind, VariableKind),
    /// There is no variable of this name.
    NoVariable,
    /// The call is not for this phase.
    Phase(Phase),
    /// The address or the length is outside of the image.
    OutOfImage,
    /// A pointer, a length, a level or a text is wrong.
    Malformed,
}

impl Why {
    /// The code that the guest gets.
    pub(super) fn code(self) -> Code {
        match self {
            Self::NotFinite | Self::OutOfRange | Self::VariableQuota => Code::Error,
            Self::VariableLimit | Self::Malformed => Code::Error,
            Self::OutOfImage => Code::OutOfBounds,
            Self::NoPoint | Self::NoPointId(_) | Self::NoVariable => Code::Unknown,
            Self::PointType | Self::VariableType(..) => Code::OtherType,
            Self::NotGranted | Self::Owned(_) | Self::InputNotGranted => Code::Denied,
            Self::NoOutput | Self::VariableNotGranted | Self::Phase(_) => Code::Denied,
        }
    }

    /// What is wrong when a call says no more than its code.
    pub(super) fn of(code: Code, phase: Phase) -> Self {
        match code {
            Code::Success | Code::Error => Self::Malformed,
            Code::OutOfBounds => Self::OutOfImage,
            Code::Unknown => Self::NoVariable,
            Code::OtherType => Self::PointType,
            Code::Denied => Self::Phase(phase),
        }
    }
}

/// A call that was refused.
#[derive(Debug, Clone)]
pub struct RefusedCall {
    /// Why.
    pub why: Why,
    /// The function, such as `wasm_point_find`.
    pub call: &'static str,
    /// The point or variable; empty if there is none.
    pub name: Text<MAX_NAME_BYTES>,
}

impl RefusedCall {
    /// The code that the guest got: 1 to 5.
    pub fn code(&self) -> i32 {
        self.why.code() as i32
    }

    /// Whether the program is kept from something. A variable that is not there yet may well come.
    pub fn is_denial(&self) -> bool {
        self.why != Why::NoVariable
    }

    fn is(&self, why: Why, call: &str, name: &str) -> bool {
        let is_about_call = name.is_empty();
        discriminant(&self.why) == discriminant(&why)
            && self.name.as_str() == name
            && (!is_about_call || self.call == call)
    }

    /// What was refused, after the plugin's name and a colon; `owner` is whose the output is.
    pub fn words(&self, owner: Option<&str>) -> String {
        let (call, name, code) = (self.call, self.name.as_str(), self.code());
        let owner = owner.unwrap_or("another plugin");
        match self.why {
            Why::NotGranted => {
                format!("{name} is not granted to it; its writes are refused with code {code}")
            }
            Why::Owned(_) => format!("{name} belongs to {owner}; writes are refused with code 5"),
            Why::NotFinite => {
                format!("what it gives {name} is no finite number; it keeps its value")
            }
            Why::InputNotGranted => {
                format!("the input {name} is not granted to it; reads are refused with code {code}")
            }
            Why::NoOutput => format!("{name} is an input; {call} is refused with code {code}"),
            Why::NoPoint => format!("there is no point {name:?}"),
            Why::NoPointId(id) => format!(
                "there is no point with the id {id}, {call} is refused with code {code}; \
                 wasm_point_find gives the id of a name"
            ),
            Why::PointType => {
                format!("{name} has another type; {call} is refused with code {code}")
            }
            Why::OutOfRange => {
                format!("a value does not fit {name}; {call} is refused with code {code}")
            }
            Why::VariableNotGranted => format!(
                "the variable {name} is not granted to it; its writes are refused with code {code}"
            ),
            Why::VariableQuota => format!(
                "it has made {MAX_MADE} variables, and {name} is refused with code {code}; those \
                 that are declared as [[variable]] do not count"
            ),
            Why::VariableLimit => format!(
                "the variable {name:?} cannot be made: its name is empty, or there are \
                 {MAX_VARIABLES} already; {call} is refused with code {code}"
            ),
            Why::VariableType(is, asked) => format!(
                "the variable {name} has another type, {is} and not {asked}; {call} is refused \
                 with code {code}; `camshaft restart --cold` forgets variables that no \
                 [[variable]] declares"
            ),
            Why::NoVariable => {
                format!("there is no variable {name} yet; {call} is refused with code {code}")
            }
            Why::Phase(phase) => format!("{call} is refused with code {code} in {phase}"),
            Why::OutOfImage => format!(
                "{call} is refused with code {code}: its address and length are outside of the \
                 image"
            ),
            Why::Malformed => format!(
                "{call} is refused with code {code}: a pointer, a length, a level or a text is \
                 wrong"
            ),
        }
    }
}

/// The refused calls of one instance. The scan's thread writes, anybody may read.
#[derive(Debug, Default)]
pub struct Tally {
    entries: [Entry; MAX_ENTRIES],
    /// Refused calls for which there was no entry.
    others: AtomicU64,
    /// How many entries and calls belong to settings of before.
    past: AtomicU64,
    /// The newest cycle in which a call was refused, plus one.
    newest: AtomicU64,
}

#[derive(Debug, Default)]
struct Entry {
    /// Set once, by the first call.
    what: OnceLock<RefusedCall>,
    count: AtomicU64,
    last_cycle: AtomicU64,
}

/// One kind and name, with how often it was refused.
#[derive(Debug, Clone)]
pub struct Counted {
    /// The first call of this kind and name.
    pub first: RefusedCall,
    /// All of them.
    pub count: u64,
    /// The cycle of the last; 0 before the first poll.
    pub last_cycle: u64,
}

impl Tally {
    /// Counts a refused call; gives it back if it is the first of its kind and name.
    pub(super) fn count(
        &self,
        (why, call, name): (Why, &'static str, &str),
        cycle: u64,
    ) -> Option<RefusedCall> {
        self.newest.store(cycle + 1, Ordering::Relaxed);
        for entry in &self.entries {
            let is_first = entry.what.get().is_none();
            if is_first {
                let mut text = Text::default();
                text.push(name.as_bytes());
                // Only this thread writes, so it is still empty.
                let _ = entry.what.set(RefusedCall { why, call, name: text });
            }
            let Some(what) = entry.what.get().filter(|what| what.is(why, call, name)) else {
                continue;
            };
            entry.count.fetch_add(1, Ordering::Relaxed);
            entry.last_cycle.store(cycle, Ordering::Relaxed);
            return is_first.then(|| what.clone());
        }
        self.others.fetch_add(1, Ordering::Relaxed);
        None
    }

    /// Other rights count from now on: what was refused before is not shown any more.
    pub(super) fn begin_anew(&self) {
        self.past.store(self.newest.load(Ordering::Relaxed), Ordering::Relaxed);
    }

    /// What was refused since the rights are what they are.
    pub fn entries(&self) -> Vec<Counted> {
        let past = self.past.load(Ordering::Relaxed);
        let counted = |entry: &Entry| {
            let first = entry.what.get()?.clone();
            let count = entry.count.load(Ordering::Relaxed);
            let last_cycle = entry.last_cycle.load(Ordering::Relaxed);
            (last_cycle + 1 > past).then_some(Counted { first, count, last_cycle })
        };
        self.entries.iter().filter_map(counted).collect()
    }

    /// Refused calls of more kinds and names than are told apart.
    pub fn others(&self) -> u64 {
        self.others.load(Ordering::Relaxed)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_is_told_and_the_others_are_counted() {
        let tally = Tally::default();
        let count = |why, name: &str, cycle| tally.count((why, "f", name), cycle).is_some();
        assert!(count(Why::NotGranted, "a", 1) && count(Why::NotGranted, "b", 1));
        assert!(!count(Why::NotGranted, "a", 2) && count(Why::Owned(Seat(1)), "a", 2));
        assert!(!count(Why::Owned(Seat(2)), "a", 3), "whose it is makes no other kind");
        assert!(count(Why::Malformed, "", 3) && !count(Why::Malformed, "", 4));
        assert!(tally.count((Why::Malformed, "g", ""), 4).is_some(), "another function");
        let entries = tally.entries();
        let counts: Vec<_> = entries.iter().map(|entry| (entry.count, entry.last_cycle)).collect();
        assert_eq!(counts, [(2, 2), (1, 1), (2, 3), (2, 4), (1, 4)]);
        (0..100).for_each(|n| assert_eq!(count(Why::NoPoint, &n.to_string(), 5), n < 27));
        assert_eq!(
            (tally.entries().len(), tally.others()),
            (MAX_ENTRIES, 105 - MAX_ENTRIES as u64)
        );
        tally.begin_anew();
        assert_eq!(tally.entries().len(), 0);
        assert!(!count(Why::NotGranted, "a", 6));
        assert_eq!(tally.entries().len(), 1, "it is refused under the new rights, too");
    }
}
