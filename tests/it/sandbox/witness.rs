//! The witness of the sandbox tests: another program on another thread.
//!
//! After each probe, the witness must poll and trap as before. If it does not, the probe has harmed
//! another program, and the witness returns an error that says what is wrong.

use camshaft::plugin::Settings;
use camshaft::process::image::Value;

use super::guest::Compiled;
use crate::rig::{COUNTER, Rig, compiled, points, wat};

/// Another program on another thread: it polls and traps as ever, or says what is wrong.
pub struct Witness {
    rig: Rig,
    polls: i128,
    traps: [(Compiled, &'static str); 2],
}

impl Witness {
    pub fn new() -> Self {
        let mut rig = Rig::new(points(), Vec::new());
        rig.install("witness", 1, COUNTER, Settings::default());
        let trapping = |code: &str| {
            let text = format!("(module (memory 1) (func (export \"init\") {code}) {POLL})");
            compiled(&wat(&text), rig.limits).expect("it is good")
        };
        let fill = "(memory.fill (i32.const 0) (i32.const 0) (i32.const 65537))";
        let traps =
            [(trapping("unreachable"), "unreachable"), (trapping(fill), "out of bounds memory")];
        Self { rig, polls: 1, traps }
    }

    /// # Errors
    /// What it sees that it should not.
    pub fn look(&mut self) -> Result<(), String> {
        let news = self.rig.cycle();
        self.polls += 1;
        while self.rig.samples.pop().is_ok() {}
        let count = self.rig.value(&news, "out.count");
        if count != Value::Int(self.polls) {
            return Err(format!("{} polls are expected, it counts {count:?}", self.polls));
        }
        for (module, kind) in &self.traps {
            let preparation = self.rig.instance("trapping", 2, module, Settings::default());
            match preparation.result {
                Err(refusal) if refusal.reason.contains(kind) => {}
                other => return Err(format!("{kind} is expected: {other:?}")),
            }
        }
        Ok(())
    }
}

const POLL: &str = "(func (export \"poll\"))";
