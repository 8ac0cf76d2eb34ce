//! The replay of a crash report, and the verdict: whether the trap was reproduced.
//!
//! A trap is reproduced if the replay makes the calls on the tape, and then ends with the same kind
//! of trap at the same place. There is one exception. If the host stopped a call because its budget
//! was exceeded, the place of the stop is random. This trap is reproduced if the replay also
//! exceeds the budget, or makes all calls on the tape and then one further call to the host.
//! `crash/history.rs` shows the tape as text. `plugin/replay.rs` plays the tape.

use std::sync::Arc;

use anyhow::{Context, anyhow, bail};
use serde::Serialize;

use super::brought::lowered;
use super::{CrashReport, Cycle, Head, StartHead, history, join};
use crate::plugin::instance::stop::Timekeeper;
use crate::plugin::module::compile::CompileService;
use crate::plugin::replay::{self, Ending, Played, Recording};
use crate::plugin::trace::backtrace::Frame;
use crate::plugin::trace::checkpoint::Noted;
use crate::plugin::trace::player::Divergence;
use crate::plugin::{ModuleHash, Trap};
use crate::process::call::Phase;

/// The verdict on a replay.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Verdict {
    /// The trap was reproduced. The rule for this verdict is in the header of this file.
    Reproduced,
    /// The program made a call that is not the next call on the tape, or it ended in another way.
    Diverged,
    /// The tape is not enough for a verdict. The end of the tape is missing, or the tape has no
    /// place at which a replay can start.
    Undecided,
}

/// The result of a replay.
#[derive(Debug, Clone, Serialize)]
pub struct Judgement {
    /// The verdict: what the replay proves.
    pub verdict: Verdict,
    /// The verdict as text, with its details.
    pub words: String,
    /// Name of the plugin.
    pub plugin: String,
    /// BLAKE3 hash of the module, in hexadecimal digits.
    pub hash: String,
    /// Time at which the report was made, in UTC.
    pub written: String,
    /// The trap in the report, not the trap of the replay.
    pub trap: Trap,
    /// The backtrace of the trap in the report. The innermost call comes first.
    pub frames: Vec<Frame>,
    /// Number of calls from the host into the module that were played.
    pub sections: usize,
    /// Number of calls from the module to the host that were equal to those on the tape.
    pub calls: usize,
    /// Whether the memory after the replay has the same bytes as the memory in the report. `None`
    /// if the trap was not reproduced, or if the budget was exceeded.
    pub same_memory: Option<bool>,
    /// One text for each limit of the report that was lowered to the limit of this machine.
    pub lowered: Vec<String>,
    /// The last polls on the tape, as text.
    pub cycles: Vec<Cycle>,
}

/// Replays a report: runs its module with the calls on the tape. The result shows the last `cycles`
/// polls. `module` is used only if the report contains no module. If a limit in the report is
/// higher than the limit of the compile service, the limit of the compile service is used.
///
/// # Errors
/// When there is no module, when the given module is not the module of the report, when the module
/// cannot be compiled or run, when the timekeeper thread cannot start, or when the tape is empty or
/// not valid.
pub fn replay(
    compile_service: &CompileService,
    report: &CrashReport,
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
        let StartHead::Nowhere { reason } = &head.start else {
            bail!("the tape of the report is empty")
        };
        let words = format!("undecided: the tape cannot be replayed: {reason}");
        return Ok(judgement(Verdict::Undecided, words, 0, 0, None));
    };
    let (hash, module) = the_module(report, module)?;
    let compile_service =
        CompileService { limits, compiler: head.compiler, ..compile_service.clone() };
    // The error does not always show which limit caused it. Therefore the text lists all lowered
    // limits.
    let explain = |error: anyhow::Error| match allowed.is_empty() {
        true => error,
        false => error.context(format!("limits of the report were lowered ({allowed})")),
    };
    let artifact = compile_service.artifact_now(hash, module).map_err(explain)?;
    let keeper = Arc::new(
        Timekeeper::start(|| {}).context("the thread that measures CPU time cannot start")?,
    );
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

/// Returns the recording to replay. `None` if the report has no place at which a replay can start,
/// or if the tape has no calls after this place.
fn recording(report: &CrashReport) -> anyhow::Result<Option<Recording>> {
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

/// Returns the module of the report or, if the report contains none, the given module. The hash of
/// the module must be the hash in the report.
fn the_module(
    report: &CrashReport,
    module: Option<Vec<u8>>,
) -> anyhow::Result<(ModuleHash, Vec<u8>)> {
    let head = &report.head;
    let Some(module) = report.module.clone().or(module) else {
        bail!(
            "the report does not contain the module ({}, hash {}); name the file of the module \
             with --module FILE",
            head.path.display(),
            head.hash
        );
    };
    let hash = ModuleHash::of(&module);
    if format!("{hash:#}") != head.hash {
        bail!("the module has the hash {hash:#}; the report needs the hash {}", head.hash);
    }
    Ok((hash, module))
}

/// Returns the verdict and its text. `is_at_end` is true if all calls from the host into the module
/// were played.
fn judge(head: &Head, ending: &Ending, is_at_end: bool) -> (Verdict, String) {
    let recorded = &head.trap;
    match ending {
        Ending::Diverged(Divergence { cycle, phase, call, did, tape }) => {
            let place = match phase {
                Phase::Init => "in `init`".to_string(),
                Phase::Poll => format!("in cycle {cycle}"),
                Phase::Save | Phase::Restore => format!("in cycle {cycle}, in {phase}"),
            };
            let words = format!("diverged {place} at call {call}: {did}, the tape has {tape}");
            (Verdict::Diverged, words)
        }
        Ending::Beyond if head.is_over => (
            Verdict::Reproduced,
            "reproduced: the program made all calls on the tape, and then did not return".into(),
        ),
        Ending::Beyond => (
            Verdict::Undecided,
            "undecided: all calls are the same, but a part of the last call is missing on the tape"
                .into(),
        ),
        Ending::Trapped { is_over: true, .. } if head.is_over => {
            (Verdict::Reproduced, format!("reproduced: {}", recorded.kind))
        }
        Ending::Trapped { trap, .. } if is_at_end && **trap == *recorded => {
            (Verdict::Reproduced, format!("reproduced: {trap}"))
        }
        Ending::Trapped { trap, .. } => {
            (Verdict::Diverged, format!("diverged: the program trapped at another place: {trap}"))
        }
        Ending::Returned(took) if head.is_over => {
            let words = format!(
                "diverged: in the replay, the last call returned after {took:.1?} by the clock; \
                 the budget of a call is {:.1?} of CPU time",
                head.poll_budget
            );
            (Verdict::Diverged, words)
        }
        Ending::Returned(_) => {
            (Verdict::Diverged, "diverged: the program did not trap in the replay".into())
        }
    }
}
