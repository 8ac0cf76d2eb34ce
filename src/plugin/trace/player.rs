//! The player of a tape: compares each call of a guest to the host with the recorded call, and
//! returns the recorded answer to the guest.
//!
//! At the first difference the player ends the replay. The player does not know the instance, and
//! does not decide what the result of the replay means. `instance/bind/played.rs` passes the
//! guest's calls to the player. `replay.rs` runs the guest.

use wasmer::MemoryView;

use super::tape::{Called, Section};
use crate::plugin::Trap;
use crate::plugin::module::offer;
use crate::process::call::Phase;

/// Largest number of bytes that a message shows of a byte string.
const SHOWN: usize = 16;

/// The first difference between a replay and its tape.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Divergence {
    /// The recorded cycle of the call into the guest in which the difference was found. If the tape
    /// has no section for this call, the cycle of the last section; 0 for an empty tape.
    pub cycle: u64,
    /// The recorded kind of the call into the guest, from the same section as `cycle`; `Init` for
    /// an empty tape.
    pub phase: Phase,
    /// The number of the call to the host within this call into the guest, counted from 1.
    pub call: usize,
    /// Text that describes what the module did.
    pub did: String,
    /// Text that describes what the module did when the tape was recorded.
    pub tape: String,
}

/// The player: answers the calls of a guest from the tape.
#[derive(Debug)]
pub(in crate::plugin) struct Player {
    sections: Vec<Section>,
    /// Number of calls into the guest that have begun.
    pub(in crate::plugin) begun: usize,
    /// Number of matching calls to the host in the present call into the guest.
    made: usize,
    /// Number of matching calls to the host in the whole replay.
    pub(in crate::plugin) calls: usize,
    /// The first difference, if a difference was found.
    pub(in crate::plugin) divergence: Option<Divergence>,
    /// Whether the last recorded call had used up its budget.
    is_over: bool,
    /// Whether the guest made all recorded calls and then one further call to the host, although
    /// this is no difference: the last recorded call used up its budget, or its section is
    /// incomplete.
    pub(in crate::plugin) is_beyond: bool,
}

impl Player {
    /// Makes a player at the beginning of these recorded calls. `is_over` is true if the last
    /// recorded call had used up its budget.
    pub(in crate::plugin) fn new(sections: Vec<Section>, is_over: bool) -> Self {
        let (begun, made, calls) = (0, 0, 0);
        let (divergence, is_beyond) = (None, false);
        Self { sections, begun, made, calls, divergence, is_over, is_beyond }
    }

    /// Begins the next call into the guest. If the kind of this call differs from the recorded
    /// kind, or if the tape has no further call into the guest, the function records the
    /// difference.
    pub(in crate::plugin) fn begin(&mut self, phase: Phase) {
        self.begun += 1;
        self.made = 0;
        match self.section().map(|section| section.phase) {
            Some(recorded) if recorded == phase => {}
            Some(recorded) => self.diverge(format!("{phase} was run"), format!("{recorded}")),
            None => self.diverge(format!("{phase} was run"), "no further call".into()),
        }
    }

    /// Returns the next recorded call into the guest with its number, counted from 1. Returns
    /// `None` at the end of the tape or after a difference.
    pub(in crate::plugin) fn next(&self) -> Option<(usize, &Section)> {
        let section = self.sections.get(self.begun)?;
        self.divergence.is_none().then_some((self.begun + 1, section))
    }

    /// Compares the end of a call into the guest with the tape. `trap` is `None` if the call ended
    /// without a trap. The function records a difference in two cases. First: the tape has more
    /// calls to the host for this section than the guest has made. This is no difference after a
    /// trap in the last section, if the recorded call had used up its budget. Second: the call
    /// trapped, but its section is not the last section.
    pub(in crate::plugin) fn end(&mut self, trap: Option<&Trap>) {
        let Some(section) = self.section() else { return };
        let is_last = self.begun == self.sections.len();
        let next = section.calls.get(self.made).map(describe);
        let stays_open = is_last && self.is_over && trap.is_some();
        match (trap, next) {
            (None, Some(next)) => self.diverge("it returned".into(), next),
            (Some(trap), Some(next)) if !stays_open => {
                self.diverge(format!("it trapped ({trap})"), next)
            }
            (Some(trap), None) if !is_last => {
                self.diverge(format!("it trapped ({trap})"), "a return without a trap".into())
            }
            _ => {}
        }
    }

    /// Returns the recorded call into the guest that is being played.
    fn section(&self) -> Option<&Section> {
        self.sections.get(self.begun.checked_sub(1)?)
    }

    /// Records the first difference. Later differences are consequences of the first and are not
    /// recorded.
    fn diverge(&mut self, did: String, tape: String) {
        if self.divergence.is_some() || self.is_beyond {
            return;
        }
        let section = self.section().or(self.sections.last());
        let (cycle, phase) = section.map_or((0, Phase::Init), |s| (s.cycle, s.phase));
        self.divergence = Some(Divergence { cycle, phase, call: self.made + 1, did, tape });
    }

    /// Returns the recorded answer to a call to the host. Returns `None` if the call is not the
    /// next call on the tape, if the guest's memory differs from the tape, or if an earlier call
    /// has ended the replay. The caller then stops the guest.
    pub(in crate::plugin) fn answer(
        &mut self,
        id: u8,
        words: Vec<u64>,
        memory: Option<&MemoryView<'_>>,
    ) -> Option<i32> {
        if self.divergence.is_some() || self.is_beyond {
            return None;
        }
        let is_last = self.begun == self.sections.len();
        let section = self.section()?;
        let did = Called { function: id, arguments: words, ..nothing() };
        let Some(called) = section.calls.get(self.made) else {
            match is_last && (self.is_over || section.is_cut) {
                true => self.is_beyond = true,
                false => self.diverge(called_it(&did), "no more calls".into()),
            }
            return None;
        };
        if (called.function, &called.arguments) != (id, &did.arguments) {
            let tape = describe(called);
            self.diverge(called_it(&did), tape);
            return None;
        }
        let code = called.code;
        if let Err((did, tape)) = exchange(called, memory) {
            let call = describe(called);
            self.diverge(format!("it called {call} {did}"), format!("{call} {tape}"));
            return None;
        }
        self.made += 1;
        self.calls += 1;
        Some(code)
    }
}

/// Compares the guest's present memory with the bytes that the host read from it when the call was
/// recorded. If they are equal, the function writes into the memory the bytes that the host wrote
/// there when the call was recorded. The error has two texts: one describes the guest's memory, the
/// other describes the tape.
fn exchange(called: &Called, memory: Option<&MemoryView<'_>>) -> Result<(), (String, String)> {
    let lost = |_| ("with too little memory".to_string(), "with more memory".to_string());
    let Some(memory) = memory else {
        return if called.taken.is_empty() && called.given.is_empty() {
            Ok(())
        } else {
            Err(("without a memory".into(), "with a memory".into()))
        };
    };
    for (at, bytes) in &called.taken {
        let mut present = vec![0; bytes.len()];
        memory.read(u64::from(*at), &mut present).map_err(lost)?;
        if present != *bytes {
            return Err((format!("with {}", hex(&present)), format!("with {}", hex(bytes))));
        }
    }
    for (at, bytes) in &called.given {
        memory.write(u64::from(*at), bytes).map_err(lost)?;
    }
    Ok(())
}

fn called_it(called: &Called) -> String {
    format!("it called {}", describe(called))
}

fn nothing() -> Called {
    Called { function: 0, arguments: vec![], taken: vec![], given: vec![], code: 0 }
}

fn hex(bytes: &[u8]) -> String {
    let mut text: String = bytes.iter().take(SHOWN).map(|byte| format!("{byte:02x}")).collect();
    if bytes.len() > SHOWN {
        text += &format!("… ({} bytes)", bytes.len());
    }
    text
}

/// Formats a call to the host as source code, for example `wasm_point_find(1024, 5, 2048)`. An
/// unknown function is shown with its number only.
pub fn describe(called: &Called) -> String {
    let Some(offer) = offer::offers().nth(called.function.into()) else {
        return format!("function {}", called.function);
    };
    let word = |(word, ty): (&u64, char)| match ty {
        'd' => format!("{}", f64::from_bits(*word)),
        _ => word.to_string(),
    };
    let arguments: Vec<_> =
        called.arguments.iter().zip(offer.parameters.chars()).map(word).collect();
    format!("{}({})", offer.name, arguments.join(", "))
}
