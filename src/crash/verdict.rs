//! The replay of a report, and what it proves.
//!
//! A trap is reproduced if the same kind of trap comes at the same place, after the same calls. A
//! call that was stopped because its budget was used up never stops at the same place twice. Such a
//! trap is reproduced if all calls are the same and the poll again uses up its budget. The tape in
//! words is in `history.rs`; how the tape is played is in `plugin/replay.rs`.

use std::sync::Arc;

use anyhow::{Context, anyhow, bail};
use serde::Serialize;

use super::brought::lowered;
use super::{Cycle, Head, Report, StartHead, history, join};
use crate::plugin::instance::stop::Timekeeper;
use crate::plugin::module::compile::CompileService;
use crate::plugin::replay::{self, Ending, Played, Recording};
use crate::plugin::trace::backtrace::Frame;
use crate::plugin::trace::checkpoint::Noted;
use crate::plugin::trace::player::Divergence;
use crate::plugin::{ModuleHash, Trap};
use crate::process::call::Phase;

/// What a replay proves.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Verdict {
    /// The program failed again, in the same way as in the report.
    Reproduced,
    /// The program did something other than the tape says.
    Diverged,
    /// The tape can show neither: it ends too early, or begins too late.
    Undecided,
}

/// The result of a replay.
#[derive(Debug, Clone, Serialize)]
pub struct Judgement {
    /// What the replay proves.
    pub verdict: Verdict,
    /// The verdict in words.
    pub words: String,
    /// Name of the plugin.
    pub plugin: String,
    /// BLAKE3 of the module, in hexadecimal digits.
    pub hash: String,
    /// When the report was written.
    pub written: String,
    /// The trap in the report.
    pub trap: Trap,
    /// The backtrace of that trap, from the innermost call on.
    pub frames: Vec<Frame>,
    /// Number of calls into the module that were played.
    pub sections: usize,
    /// Number of calls of the module to its host that were the same as on the tape.
    pub calls: usize,
    /// Whether the memory at the end is the same as in the report, byte by byte. `None` if the trap
    /// was not reproduced, or if the budget was used up.
    pub same_memory: Option<bool>,
    /// Limits of the report that were lowered to those of the replaying machine, in words.
    pub lowered: Vec<String>,
    /// The last polls before the trap.
    pub cycles: Vec<Cycle>,
}

/// Runs the module of a report on its tape. The result shows the last `cycles` polls. `module` is
/// used if the report contains no module. A limit of the report counts only up to the same limit of
/// the compile service.
///
/// # Errors
/// There is no module, the given module is not that of the report, or it cannot be run.
pub fn replay(
    compile_service: &CompileService,
    report: &Report,
    module: Option<Vec<u8>>,
    cycles: usize,
) -> anyhow::Result<Judgement> {
    let head = &report.head;
    let cycles = history(report, cycles).map_err(|why| anyhow!(why))?;
    let (limits, lowered) = lowered(&head.limits, &compile_service.limits);
    let allowed = lowered.join("; ");
    let judgement = |verdict, words, sections, calls, same_memory| Judgement {
        verdict,
        words,
        plugin: head.plugin.clone(),
        hash: head.hash.clone(),
        written: head.written.clone(),
        trap: head.trap.clone(),
        frames: head.frames.clone(),
        sections,
        calls,
        same_memory,
        lowered,
        cycles,
    };
    let Some(recording) = recording(report)? else {
        let StartHead::Nowhere { reason } = &head.start else { bail!("its tape is empty") };
        let words = format!("cannot be played: {reason}");
        return Ok(judgement(Verdict::Undecided, words, 0, 0, None));
    };
    let (hash, module) = the_module(report, module)?;
    let compile_service =
        CompileService { limits, compiler: head.compiler, ..compile_service.clone() };
    // The error itself does not always show which limit caused it. Therefore all lowered limits are
    // added to its text.
    let explain = |error: anyhow::Error| match allowed.is_empty() {
        true => error,
        false => error.context(format!("its limits were lowered ({allowed})")),
    };
    let artifact = compile_service.artifact_now(hash, module).map_err(explain)?;
    let keeper = Arc::new(Timekeeper::start(|| {}).context("the timekeeper does not start")?);
    let last = recording.sections.len();
    let Played { ending, sections, calls, memory } =
        replay::replay(&artifact, recording, &limits, &keeper)
            .map_err(|why| explain(why.into()))?;
    let (verdict, words) = judge(head, &ending, sections == last);
    let same_memory = (verdict == Verdict::Reproduced && !head.is_over).then(|| {
        let recorded = join(&head.memory, &report.memory);
        recorded.is_same(&memory)
    });
    Ok(judgement(verdict, words, sections, calls, same_memory))
}

/// The recording to play; `None` if the tape cannot be played.
fn recording(report: &Report) -> anyhow::Result<Option<Recording>> {
    let head = &report.head;
    let (from, noted) = match &head.start {
        StartHead::Birth => (0, None),
        StartHead::Nowhere { .. } => return Ok(None),
        StartHead::Checkpoint { tape_at, memory, globals } => {
            let picture = join(memory, &report.checkpoint);
            (*tape_at, Some(Noted { picture, globals: globals.clone() }))
        }
    };
    let wanted = report.sections().filter_map(|section| match section {
        Ok((at, section)) => (at >= from).then_some(Ok(section)),
        Err(why) => Some(Err(anyhow!(why))),
    });
    let sections: Vec<_> = wanted.collect::<anyhow::Result<_>>()?;
    let Some(last) = sections.last() else { return Ok(None) };
    let budget = match last.phase {
        Phase::Init => head.limits.init_budget,
        _ => head.poll_budget,
    };
    Ok(Some(Recording { noted, sections, is_over: head.is_over, budget }))
}

/// The module of the report, or the given module if the report contains none. The module's hash
/// must be that of the report.
fn the_module(report: &Report, module: Option<Vec<u8>>) -> anyhow::Result<(ModuleHash, Vec<u8>)> {
    let head = &report.head;
    let Some(module) = report.module.clone().or(module) else {
        bail!(
            "the module was not at hand when the report was written ({}, hash {}); give it with \
             --module FILE",
            head.path.display(),
            head.hash
        );
    };
    let hash = ModuleHash::of(&module);
    if format!("{hash:#}") != head.hash {
        bail!("the module has the hash {hash:#}; the report is about {}", head.hash);
    }
    Ok((hash, module))
}

/// The verdict on the end of a replay. `is_at_end` is true if the replay has played the whole tape.
fn judge(head: &Head, ending: &Ending, is_at_end: bool) -> (Verdict, String) {
    let recorded = &head.trap;
    match ending {
        Ending::Diverged(Divergence { cycle, phase, call, did, tape }) => {
            let place = match phase {
                Phase::Init => "in its start".to_string(),
                Phase::Poll => format!("in cycle {cycle}"),
                Phase::Save | Phase::Restore => format!("in cycle {cycle}, in {phase}"),
            };
            let words = format!("diverged {place} at call {call}: {did}, the tape has {tape}");
            (Verdict::Diverged, words)
        }
        Ending::Beyond if head.is_over => (
            Verdict::Reproduced,
            "reproduced: it made all calls of the tape and then did not return".into(),
        ),
        Ending::Beyond => (
            Verdict::Undecided,
            "undecided: the same up to the end of the tape, which lacks a part of the last call"
                .into(),
        ),
        Ending::Trapped { is_over: true, .. } if head.is_over => {
            (Verdict::Reproduced, format!("reproduced: {}", recorded.kind))
        }
        Ending::Trapped { trap, .. } if is_at_end && **trap == *recorded => {
            (Verdict::Reproduced, format!("reproduced: {trap}"))
        }
        Ending::Trapped { trap, .. } => {
            (Verdict::Diverged, format!("diverged: it trapped elsewhere: {trap}"))
        }
        Ending::Returned(took) if head.is_over => {
            let words = format!(
                "diverged: the last call came to an end this time, after {took:.1?} by the clock; \
                 its budget is {:.1?} of CPU time",
                head.poll_budget
            );
            (Verdict::Diverged, words)
        }
        Ending::Returned(_) => (Verdict::Diverged, "diverged: it did not trap this time".into()),
    }
}
