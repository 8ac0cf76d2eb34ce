//! Refused calls: calls of a guest that the host has answered with an error code. The first refused
//! call of a kind and name gets a log line, and later calls of this kind and name are counted. So
//! an operator sees the refusals of a guest, but a call that is repeated in every cycle does not
//! fill the log.
//!
//! The kind is the variant of [`Why`], and the name is the name of the point or variable. Each
//! combination of kind and name has an entry with a counter, in `refused/tally.rs`.
//! `plugin/instance/guest/refuse.rs` counts each refused call. For the first call of an entry, the
//! code there puts a [`Message::Refused`](super::line::Message::Refused) into the queue of log
//! lines. The daemon takes the message out of the queue and logs it (`daemon/plugins/line.rs`).
//! [`RefusedCall::words`] makes the text of the log line. No function in this file waits. Only the
//! functions that make texts allocate memory; these functions run outside of the scan.

mod tally;

use std::mem::discriminant;

use super::call::{Code, MAX_STATE_BYTES, Phase};
use super::image::Unfit;
use super::seat::Seat;
use super::variable::{Denied, MAX_MADE, MAX_NAME_BYTES, MAX_VARIABLES, VariableKind};
use crate::text::FixedText;
pub(crate) use tally::Counted;
pub use tally::{Others, Refusals, Tally};

/// Maximum number of entries of one instance for denials. The instance has the same number of
/// further entries for refusals that are no denials. The number is limited because an operator does
/// not read more log lines. The denials for which no entry is free share one counter; the other
/// refusals without an entry share another counter.
pub const MAX_ENTRIES: usize = 32;

/// The reason why a call was refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Why {
    /// The configuration does not grant the output to the program.
    NotGranted,
    /// The output is owned by the program on this other seat.
    Owned(Seat),
    /// The bytes for a float output are infinite or not a number.
    NotFinite,
    /// The configuration does not grant the input to the program.
    InputNotGranted,
    /// The program has tried to write an input.
    NoOutput,
    /// No point has this name.
    NoPoint,
    /// No point has this id; the field is the id.
    NoPointId(i32),
    /// The point has another type than the called function needs.
    PointType,
    /// In a write, the value is outside the range of the point's type. In a read, the value of the
    /// point is outside the range of the called function's type.
    OutOfRange,
    /// The value is outside the range that the configuration gives the output.
    OutsideRange,
    /// The configuration does not grant the variable to the program.
    VariableNotGranted,
    /// The program has already created [`MAX_MADE`] variables.
    VariableQuota,
    /// The table of variables is full, its free places are reserved for declared variables, or the
    /// name is empty. (A name that is too long is `Malformed`.)
    VariableLimit,
    /// The variable has the type of the first field, but the call needs the type of the second
    /// field.
    VariableType(VariableKind, VariableKind),
    /// No variable has this name.
    NoVariable,
    /// The program wrote the variable in its start, when the write was allowed. When the program
    /// took its seat, the write was no longer possible and was dropped. The first field is the
    /// reason. The second field is the type of the dropped value.
    Dropped(Denied, VariableKind),
    /// The called function is not allowed in this phase.
    Phase(Phase),
    /// The address or the length is outside of the image.
    OutOfImage,
    /// The state that the guest writes in `save` is too long.
    StateLimit,
    /// A pointer, a length, a log level or a text in the arguments is wrong.
    Malformed,
}

impl Why {
    /// Returns the code that the guest gets as the result of the call.
    pub(crate) fn code(self) -> Code {
        match self {
            Self::NotFinite | Self::OutOfRange | Self::OutsideRange => Code::Error,
            Self::VariableQuota => Code::Error,
            Self::VariableLimit | Self::StateLimit | Self::Malformed => Code::Error,
            Self::OutOfImage => Code::OutOfBounds,
            Self::NoPoint | Self::NoPointId(_) | Self::NoVariable => Code::Unknown,
            Self::PointType | Self::VariableType(..) => Code::OtherType,
            Self::NotGranted | Self::Owned(_) | Self::InputNotGranted => Code::Denied,
            Self::NoOutput | Self::VariableNotGranted | Self::Phase(_) => Code::Denied,
            Self::Dropped(denied, _) => denied.into(),
        }
    }

    /// Whether the refusal is a denial: the program does not get an effect or a value that it asked
    /// for. A call about a missing variable is no denial, because the variable may be created
    /// later.
    pub(crate) fn is_denial(self) -> bool {
        self != Self::NoVariable
    }

    /// Whether the name in the refused call is the name of a variable. If not, the name is the name
    /// of a point, or it is empty.
    pub fn is_about_variable(self) -> bool {
        match self {
            Self::VariableNotGranted | Self::VariableQuota | Self::VariableLimit => true,
            Self::VariableType(..) | Self::NoVariable | Self::Dropped(..) => true,
            Self::NotGranted | Self::Owned(_) | Self::NotFinite | Self::InputNotGranted => false,
            Self::NoOutput | Self::NoPoint | Self::NoPointId(_) | Self::PointType => false,
            Self::OutOfRange | Self::OutsideRange => false,
            Self::Phase(_) | Self::OutOfImage => false,
            Self::StateLimit | Self::Malformed => false,
        }
    }

    /// Whether only the arguments or the phase of the call were wrong. In that case another call of
    /// the same function may succeed.
    pub(crate) fn is_mistake(self) -> bool {
        match self {
            Self::NotFinite | Self::OutOfRange | Self::OutsideRange => true,
            Self::NoPointId(_) | Self::Phase(_) => true,
            Self::OutOfImage | Self::StateLimit | Self::Malformed => true,
            Self::NotGranted | Self::Owned(_) | Self::InputNotGranted | Self::NoOutput => false,
            Self::NoPoint | Self::PointType | Self::NoVariable | Self::VariableLimit => false,
            Self::VariableNotGranted | Self::VariableQuota | Self::VariableType(..) => false,
            Self::Dropped(..) => false,
        }
    }

    /// Returns the reason for a refusal of raw bytes that a program writes to an output of a
    /// numeric type.
    pub(crate) fn of_number(unfit: Unfit) -> Self {
        match unfit {
            Unfit::WrongType(_) => Self::PointType,
            Unfit::OutOfRange(_) => Self::NotFinite,
            Unfit::OutsideRange(_) => Self::OutsideRange,
        }
    }

    /// Returns the most probable reason for a refusal if only the code and the phase are known.
    pub(crate) fn of(code: Code, phase: Phase) -> Self {
        match code {
            Code::Success | Code::Error => Self::Malformed,
            Code::OutOfBounds => Self::OutOfImage,
            Code::Unknown => Self::NoVariable,
            Code::OtherType => Self::PointType,
            Code::Denied => Self::Phase(phase),
        }
    }
}

/// The cause of a refused call, as far as the daemon knows it: the programs that use the output or
/// the variable, or the configuration that declares the variable. [`RefusedCall::words`] names this
/// cause in the text for the operator.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub enum Keeper<'a> {
    /// The caller does not know which program uses the output or variable.
    #[default]
    Unknown,
    /// Another program, with this name. The named program owns the output, or has written or
    /// created the variable. The named program runs, or will run.
    Program(&'a str),
    /// The refused program. It has written the variable with the type that the variable has.
    Itself,
    /// The refused program and another program, with this name. The two programs have written the
    /// variable with the type that the variable has. The named program runs, or will run.
    Both(&'a str),
    /// Two other programs. The first program wrote the variable last, and the second program
    /// created the variable. Both programs run, or will run.
    Two(&'a str, &'a str),
    /// No running program uses the output or variable.
    Nobody,
    /// The configuration, which declares the variable.
    Configuration,
}

impl<'a> Keeper<'a> {
    /// Returns the name of another program, for a text; `None` if no other program is known.
    fn name(self) -> Option<&'a str> {
        match self {
            Self::Program(name) | Self::Both(name) | Self::Two(name, _) => Some(name),
            Self::Unknown | Self::Itself | Self::Nobody | Self::Configuration => None,
        }
    }

    /// Returns the text with the reason why a write in the start of a program was dropped.
    fn why_dropped(self, why: Denied, asked: VariableKind) -> String {
        match why {
            Denied::NotGranted => "the variable is not granted to the plugin".into(),
            Denied::OtherType(is) => {
                format!(
                    "the variable has the type {is}, and the plugin asked for {asked}; {}",
                    self.way_out(is, asked)
                )
            }
            Denied::Quota => {
                format!("the plugin has already created {MAX_MADE} variables, which is the maximum")
            }
            Denied::Limit => format!("the limit of {MAX_VARIABLES} variables is reached"),
        }
    }

    /// Returns the text with the steps by which the variable can get another type. A cold restart
    /// removes the variable, and the next program that writes the variable creates it again.
    /// Therefore the operator must first stop or replace the programs that write the old type, and
    /// then make the cold restart.
    fn way_out(self, is: VariableKind, asked: VariableKind) -> String {
        match self {
            Self::Unknown => format!(
                "hold the program that writes the variable as {is} (`camshaft vars` shows the \
                 writer), then run `camshaft restart --cold`"
            ),
            Self::Program(name) => format!(
                "{name} writes the variable as {is}: hold {name} or deploy a version of {name} \
                 that writes {asked}, then run `camshaft restart --cold`"
            ),
            Self::Itself => format!(
                "the plugin itself writes the variable as {is}: deploy a version of the plugin \
                 that writes {asked} only, then run `camshaft restart --cold`"
            ),
            Self::Both(name) => format!(
                "{name} and the plugin itself write the variable as {is}: hold {name} or deploy a \
                 version of {name} that writes {asked}, deploy a version of the plugin that writes \
                 {asked} only, then run `camshaft restart --cold`"
            ),
            Self::Two(one, two) => format!(
                "{one} and {two} write the variable as {is}: hold both or deploy versions that \
                 write {asked}, then run `camshaft restart --cold`"
            ),
            Self::Nobody => {
                "no other program writes the variable: run `camshaft restart --cold` to remove the \
                 variable"
                    .to_owned()
            }
            Self::Configuration => "the configuration declares the type of the variable: change \
                                    the type there, or change the plugin"
                .to_owned(),
        }
    }
}

/// A refused call: the reason, the function and the name.
#[derive(Debug, Clone)]
pub struct RefusedCall {
    /// The reason why the call was refused.
    pub why: Why,
    /// The name of the called function, for example `wasm_point_find`.
    pub call: &'static str,
    /// The name of the point or variable; empty if the call is not about a point or variable.
    pub name: FixedText<MAX_NAME_BYTES>,
}

impl RefusedCall {
    /// Returns the code of the refusal, 1 to 5. For most reasons, the guest got this code as the
    /// result of the call. For [`Why::Dropped`], the call succeeded at first, and the guest would
    /// get this code now.
    pub fn code(&self) -> i32 {
        self.why.code() as i32
    }

    /// Returns the seat that owned the output at the first refused call of this entry; `None` if
    /// the reason is not [`Why::Owned`].
    pub fn owner(&self) -> Option<Seat> {
        match self.why {
            Why::Owned(seat) => Some(seat),
            _ => None,
        }
    }

    /// Whether the refusal is a denial: the program does not get an effect or a value that it asked
    /// for.
    pub fn is_denial(&self) -> bool {
        self.why.is_denial()
    }

    /// Whether a new refused call belongs to the entry of this refused call.
    fn is(&self, why: Why, call: &str, name: &str) -> bool {
        // If the quota is used up or the table of variables is full, a program may try new names
        // without end. Therefore each of these two reasons has one entry for all names.
        let is_any_name = matches!(why, Why::VariableQuota | Why::VariableLimit);
        let is_about_call = name.is_empty();
        discriminant(&self.why) == discriminant(&why)
            && (is_any_name || self.name.as_str() == name && (!is_about_call || self.call == call))
    }

    /// Whether only the arguments or the phase of the call were wrong. In that case another call of
    /// the same function may succeed.
    pub fn is_mistake(&self) -> bool {
        self.why.is_mistake()
    }

    /// Returns the text for this case: the call was refused in the start of the program, the host
    /// would allow the call now, but the program has not repeated the call. The caller puts the
    /// plugin's name and a colon before the text.
    pub fn words_of_the_start(&self) -> String {
        let name = self.name.as_str();
        let what = match self.why {
            Why::NoPoint => format!("there was no point {name:?}"),
            Why::NoVariable => format!("there was no variable {name}"),
            Why::VariableType(is, _) => format!("the variable {name} had another type ({is})"),
            Why::Dropped(..) => format!("the write to the variable {name} was dropped"),
            _ => format!("{name} was not granted to the plugin"),
        };
        format!(
            "{what} at the plugin's start; the call would succeed now: run `camshaft restart`, and \
             the plugin repeats its start"
        )
    }

    /// Returns the text about the refused call, for a log line or for a list of refusals. The
    /// caller puts the plugin's name and a colon before the text.
    pub fn words(&self, keeper: Keeper<'_>) -> String {
        let (call, name, code) = (self.call, self.name.as_str(), self.code());
        let refused = format!("{call} is refused with code {code}");
        let its = format!("writes of the plugin are refused with code {code}");
        let retains = format!("{name} retains its value");
        match self.why {
            Why::NotGranted => format!("{name} is not granted to the plugin; {its}"),
            Why::Owned(_) => {
                let owner = keeper.name().unwrap_or("another plugin");
                format!("{name} belongs to {owner}; writes are refused with code 5")
            }
            Why::NotFinite => format!("the plugin writes NaN or infinity to {name}; {retains}"),
            Why::OutsideRange => {
                format!("the plugin writes a value outside the `range` of {name}; {retains}")
            }
            Why::InputNotGranted => format!(
                "the input {name} is not granted to the plugin; reads are refused with code {code}"
            ),
            Why::NoOutput => format!("{name} is an input; {refused}"),
            Why::NoPoint => format!("there is no point {name:?}"),
            Why::NoPointId(id) => format!(
                "there is no point with the id {id}; {refused}; wasm_point_find returns the id of \
                 a point"
            ),
            Why::PointType => format!("{name} has another type than the call needs; {refused}"),
            Why::OutOfRange => format!("a value of {name} does not fit the type; {refused}"),
            Why::VariableNotGranted => {
                format!("the variable {name} is not granted to the plugin; {its}")
            }
            Why::VariableQuota => format!(
                "the plugin has already created {MAX_MADE} variables, which is the maximum, and \
                 the variable {name} is refused with code {code}; variables with a [[variable]] \
                 entry in the configuration are not counted"
            ),
            Why::VariableLimit => format!(
                "the variable {name:?} cannot be created: its name is empty, or the limit of \
                 {MAX_VARIABLES} variables is reached; {refused}"
            ),
            Why::VariableType(is, asked) => format!(
                "the variable {name} has the type {is}, and the plugin asks for {asked}; \
                 {refused}; {}",
                keeper.way_out(is, asked)
            ),
            Why::NoVariable => format!("there is no variable {name} yet; {refused}"),
            Why::Dropped(why, asked) => format!(
                "the write to the variable {name} in the plugin's start was dropped: {}",
                keeper.why_dropped(why, asked)
            ),
            Why::Phase(phase) => format!("{refused}: the call is not allowed in {phase}"),
            Why::OutOfImage => {
                format!("{refused}: the address and length are outside the process image")
            }
            Why::StateLimit => format!("{refused}: a state has at most {MAX_STATE_BYTES} bytes"),
            Why::Malformed => {
                format!("{refused}: a pointer, a length, a log level or a text is wrong")
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;

    /// Counts a refused call of a function `f`. Returns whether the call is the first of its kind
    /// and name.
    fn is_first(tally: &Tally, why: Why, name: &str, cycle: u64) -> bool {
        matches!(tally.count((why, "f", name), cycle), Counted::First(_))
    }

    #[test]
    fn the_first_is_told_and_the_others_are_counted() {
        let tally = Tally::default();
        let count = |why, name: &str, cycle| is_first(&tally, why, name, cycle);
        assert!(count(Why::NotGranted, "a", 1) && count(Why::NotGranted, "b", 1));
        assert!(!count(Why::NotGranted, "a", 2) && count(Why::Owned(Seat(1)), "a", 2));
        assert!(!count(Why::Owned(Seat(2)), "a", 3), "the owner is not a part of the kind");
        assert!(count(Why::Malformed, "", 3) && !count(Why::Malformed, "", 4));
        let another = tally.count((Why::Malformed, "g", ""), 4);
        assert!(matches!(another, Counted::First(_)), "another function");
        assert!(count(Why::VariableQuota, "x", 4) && !count(Why::VariableQuota, "y", 4));
        let entries = tally.entries();
        let counts: Vec<_> = entries.iter().map(|entry| (entry.count, entry.last_cycle)).collect();
        assert_eq!(counts, [(2, 2), (1, 1), (2, 3), (2, 4), (1, 4), (2, 4)]);
        (0..26).for_each(|n| assert!(count(Why::NoPoint, &n.to_string(), 5)));
        let beyond = |n: u32| tally.count((Why::NoPoint, "f", &n.to_string()), 5);
        assert!(matches!(beyond(26), Counted::Full) && matches!(beyond(27), Counted::Again));
        assert_eq!(tally.entries().len(), MAX_ENTRIES);
        assert_eq!(tally.others(), Others { denials: 2, absences: 0 });
    }

    #[test]
    fn what_denies_nothing_takes_no_place_of_a_denial() {
        let tally = Tally::default();
        for n in 0..40 {
            is_first(&tally, Why::NoVariable, &n.to_string(), 1);
        }
        assert_eq!(tally.others(), Others { denials: 0, absences: 40 - MAX_ENTRIES as u64 });
        assert!(is_first(&tally, Why::NoPoint, "pump", 2));
        assert_eq!(tally.entries()[0].first.name.as_str(), "pump");
    }

    #[test]
    fn under_other_rights_every_place_is_free_again() {
        let tally = Tally::default();
        assert!(tally.begin_anew().is_none() && tally.newest().is_none(), "no call is counted yet");
        is_first(&tally, Why::NoPoint, "early", 0);
        for n in 0..40 {
            is_first(&tally, Why::NotGranted, &n.to_string(), 1);
        }
        let next = tally.begin_anew().unwrap();
        assert!(Arc::ptr_eq(&next, tally.newest().unwrap()));
        let entries = next.entries();
        let names: Vec<_> = entries.iter().map(|entry| entry.first.name.as_str()).collect();
        assert_eq!((names, next.others()), (vec!["early"], Others::default()));
        next.end(|call| call.why == Why::NoPoint);
        assert!(next.begin_anew().unwrap().entries().is_empty(), "the point was found later");
        let next = tally.begin_anew().unwrap();
        assert!(is_first(&next, Why::NoPoint, "early", 2), "the guest repeats the call");
        assert!(is_first(&next, Why::NotGranted, "0", 2), "refused again under the new rights");
        let third = next.begin_anew().unwrap();
        assert!(third.entries().is_empty());
        assert!(Arc::ptr_eq(&third, tally.newest().unwrap()));
    }

    #[test]
    fn what_is_allowed_since_is_over() {
        let tally = Tally::default();
        let owned = Why::Owned(Seat(1));
        let over = || tally.entries().iter().map(|entry| entry.is_over).collect::<Vec<_>>();
        let end = |why: Why, name: &str| {
            tally.end(|call| {
                discriminant(&call.why) == discriminant(&why) && call.name.as_str() == name
            })
        };
        assert!(is_first(&tally, Why::NotGranted, "a", 1) && is_first(&tally, owned, "a", 1));
        assert!(is_first(&tally, Why::NotFinite, "a", 1));
        assert_eq!((end(owned, "b"), over()), (0, vec![false; 3]));
        assert_eq!((end(Why::Owned(Seat(0)), "a"), over()), (1, vec![false, true, false]));
        assert_eq!((end(owned, "a"), end(Why::NotFinite, "a")), (0, 1));
        assert!(is_first(&tally, owned, "a", 3), "another program took the output again");
        assert!(!is_first(&tally, Why::NotFinite, "a", 3), "a repeated mistake");
        assert_eq!(over(), [false; 3]);
    }
}
