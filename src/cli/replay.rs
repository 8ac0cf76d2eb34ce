//! `camshaft replay`: prints a crash report, and repeats the recorded cycles of the program.
//!
//! `crash/verdict.rs` decides the verdict of a replay, and this file prints it. The verb runs in
//! the child process of `offline.rs`.

use super::args::Replay;
use super::screen::Screen;
use super::table::{Paint, Side, Style, Table};
use super::{CommandResult, Exit, Failed, compile_service, failure, limits};
use crate::crash::{self, CrashReport, Judgement, Verdict};
use crate::plugin::read_module;
use crate::plugin::trace::backtrace::Frame;
use crate::text::{counted, legible, legible_up_to, times};

/// The largest number of frames in a printed backtrace. A recursion is visible in fewer frames.
const MAX_FRAMES: usize = 16;

/// The largest number of bytes in a cell of the table of cycles. Longer rows are hard to read.
const MAX_CELL: usize = 120;

/// Runs the verb `camshaft replay`: replays a crash report and prints the result. The exit code is
/// 1 unless the trap of the report happens again.
pub(super) fn replay(what: &Replay) -> CommandResult {
    let Replay { report, module, cycles, json, .. } = what;
    let compile_service = compile_service(limits(what.config.as_deref())?)?;
    let name = report.display();
    let failed = |why: &dyn std::fmt::Display| {
        Failed::new(Exit::Failure, format!("{name}: {}", legible(&why.to_string())))
    };
    let report = CrashReport::read(report).map_err(|why| failed(&why))?;
    let module =
        match module {
            Some(file) => Some(read_module(file, &compile_service.limits).map_err(|error| {
                Failed::new(Exit::Failure, format!("{}: {error}", file.display()))
            })?),
            None => None,
        };
    let judgement = crash::replay(&compile_service, &report, module, *cycles).map_err(|error| {
        let Failed { message, .. } = failure(error);
        failed(&message)
    })?;
    Screen::new().show(&judgement, *json, show)?;
    match judgement.verdict {
        Verdict::Reproduced => Ok(()),
        // The message is empty because the printed text already contains the verdict.
        Verdict::Diverged | Verdict::Undecided => Err(Failed::new(Exit::Failure, "")),
    }
}

/// Returns the result as text: facts, backtrace, last cycles, verdict.
fn show(judgement: &Judgement, paint: Paint) -> String {
    let Judgement { plugin, hash, written, trap, frames, sections, calls, .. } = judgement;
    let places = [
        ("plugin", legible(plugin)),
        ("module", legible(hash)),
        ("written", legible(written)),
        ("trap", legible(&trap.to_string())),
    ];
    let label = |label: &str| paint.with(Style::Dim, &format!("{label:<8}"));
    let mut text = String::new();
    for (name, found) in places {
        text += &format!("{}  {found}\n", label(name));
    }
    text += "\n";
    text += &backtrace(frames, paint);
    text += &cycles(judgement, paint);
    text += &format!(
        "{}  {} into the module, in which the program called the host {}\n",
        label("replay"),
        counted(*sections, "call"),
        times(*calls as u64)
    );
    let same = match judgement.same_memory {
        Some(true) => {
            Some("at the end of the replay, every byte is equal to the memory in the report")
        }
        Some(false) => Some("at the end of the replay, different from the memory in the report"),
        None => None,
    };
    if let Some(same) = same {
        text += &format!("{}  {same}\n", label("memory"));
    }
    if !judgement.lowered.is_empty() {
        let lowered = legible(&judgement.lowered.join("; "));
        text +=
            &format!("{}  {lowered}; --config FILE can allow higher limits\n", label("lowered"));
    }
    let style = match judgement.verdict {
        Verdict::Reproduced => Style::Good,
        Verdict::Diverged => Style::Bad,
        Verdict::Undecided => Style::Warn,
    };
    text + &format!("{}  {}\n", label("verdict"), paint.with(style, &legible(&judgement.words)))
}

/// Returns the backtrace as a table; an empty text without frames.
fn backtrace(frames: &[Frame], paint: Paint) -> String {
    let head = [(Side::Right, "FRAME"), (Side::Left, "FUNCTION"), (Side::Right, "OFFSET")];
    let mut table = Table::new(head);
    for (n, frame) in frames.iter().take(MAX_FRAMES).enumerate() {
        table.row([
            n.to_string().into(),
            (&frame.function).into(),
            format!("{:#x}", frame.offset).into(),
        ]);
    }
    let more = frames.len().saturating_sub(MAX_FRAMES);
    let more = if more > 0 { format!("       and {more} more\n") } else { String::new() };
    if frames.is_empty() { String::new() } else { table.render(paint) + &more + "\n" }
}

/// Returns the last cycles as a table, with the values that the program read and wrote.
fn cycles(judgement: &Judgement, paint: Paint) -> String {
    let head = [
        (Side::Right, "CYCLE"),
        (Side::Right, "TIME"),
        (Side::Left, "READ"),
        (Side::Left, "WROTE"),
    ];
    let mut table = Table::new(head);
    for cycle in &judgement.cycles {
        let cell = |words: &[String]| legible_up_to(MAX_CELL, &words.join(" "));
        table.row([
            cycle.cycle.to_string().into(),
            format!("{:.3} s", cycle.now.as_secs_f64()).into(),
            cell(&cycle.got).into(),
            cell(&cycle.did).into(),
        ]);
    }
    if judgement.cycles.is_empty() { String::new() } else { table.render(paint) + "\n" }
}
