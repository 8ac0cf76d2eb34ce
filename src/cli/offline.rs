//! Verbs that read bytes from outside, in a child process with bounds.
//!
//! `check`, `test` and `replay` parse files of unknown origin and run their modules on the user's
//! machine. So this program starts itself once more with the same arguments, and the child bounds
//! itself before it opens a file: CPU time, memory, no writing, no network. The child has the same
//! standard output, so it prints as usual, and its exit code is passed on. The parent watches the
//! clock and says why a child did not come to its end. The bounds are in `confine.rs`.
//!
//! Inside the child, a compile worker compiles modules, as in the daemon.

use std::ffi::OsString;
use std::io::{self, Write};
use std::process::{ExitCode, ExitStatus, Stdio};
use std::time::Duration;

use tokio::io::{AsyncBufReadExt, AsyncReadExt, BufReader};
use tokio::process::{ChildStderr, Command};

use super::args::Verb;
use super::{Exit, Failed, limits};
use crate::confine::{self, Bounds, Death, Memory, Reach, is_out_of_memory};
use crate::plugin::Limits;

/// The hidden verb of the child: `camshaft within SECONDS BYTES VERB ...`.
pub const CHILD_VERB: &str = "within";

/// Number of arguments before the child's verb: the program, [`CHILD_VERB`], seconds, bytes.
const PREFIX: usize = 4;

/// CPU time of `check`, without that of its compile workers. A configuration of the largest size
/// takes a tenth of a second.
const CHECK_CPU: Duration = Duration::from_secs(30);

/// CPU time of `replay`, without that of its compile worker: twice the longest time that a report
/// can give to one call.
const REPLAY_CPU: Duration = Duration::from_secs(120);

/// CPU time of `test`. The passes of a day at one per second take seven minutes, if each needs its
/// whole budget of 5 ms.
const TEST_CPU: Duration = Duration::from_secs(600);

/// Memory in bytes besides that of the guest. The compile worker may have as much, and inherits
/// this bound. A report or a recipe of the largest size takes 150 MB.
const MEMORY_BYTES: u64 = 1 << 30;

/// Factor from the CPU time to the limit by the clock. The machine may be busy with other work, but
/// a child that stands still is ended.
const PATIENCE: u32 = 10;

/// Most bytes of the child's standard error that are passed on.
const MAX_WORDS: u64 = 1 << 20;

/// The bounds of a verb that reads bytes from outside; `None` for any other verb.
pub(super) fn bounds(verb: &Verb) -> Option<Result<Bounds, Failed>> {
    let bounds = |cpu, limits: Limits| Bounds {
        cpu,
        memory: Memory::Writable(MEMORY_BYTES.saturating_add(limits.memory_bytes)),
        reach: Reach::Read,
    };
    let allowed = |config, cpu| limits(config).map(|limits| bounds(cpu, limits));
    match verb {
        Verb::Check { .. } => Some(Ok(bounds(CHECK_CPU, Limits::default()))),
        Verb::Test(what) => Some(allowed(what.config.as_deref(), TEST_CPU)),
        Verb::Replay(what) => Some(allowed(what.config.as_deref(), REPLAY_CPU)),
        _ => None,
    }
}

/// Runs this program once more with the same arguments, within bounds. Returns the child's exit
/// code; the child has then printed everything. If the child was ended, the error says why.
pub(super) fn run_in_child(bounds: Bounds) -> Result<ExitCode, Failed> {
    let bounds = bounds.or_inherited();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let (status, words) = runtime.block_on(run(&bounds))?;
    if let Some(code) = status.and_then(|status| status.code()) {
        return Ok(u8::try_from(code).map_or(ExitCode::FAILURE, ExitCode::from));
    }
    Err(ended(&bounds, status, &words))
}

/// Runs the child. Returns its exit status, unless it was over its time, and its message if it ran
/// out of memory.
async fn run(bounds: &Bounds) -> io::Result<(Option<ExitStatus>, String)> {
    let memory = match bounds.memory {
        Memory::Addresses(bytes) | Memory::Writable(bytes) => bytes,
    };
    let mut child = Command::new("/proc/self/exe")
        .args([CHILD_VERB, &bounds.cpu.as_secs().to_string(), &memory.to_string()])
        .args(std::env::args_os().skip(1))
        .stderr(Stdio::piped())
        .kill_on_drop(true)
        .spawn()?;
    let stderr = child.stderr.take().expect("it was asked for above");
    let whole = async {
        let words = pass_on(stderr).await;
        (child.wait().await, words)
    };
    match tokio::time::timeout(bounds.cpu * PATIENCE, whole).await {
        Ok((status, words)) => Ok((Some(status?), words)),
        // The drop of the child ends it.
        Err(_) => Ok((None, String::new())),
    }
}

/// Passes on the child's standard error. If the child is out of memory, its message is returned
/// instead, because the parent has a better one.
async fn pass_on(stderr: ChildStderr) -> String {
    let mut lines = BufReader::new(stderr.take(MAX_WORDS)).split(b'\n');
    let mut last = String::new();
    while let Ok(Some(line)) = lines.next_segment().await {
        if last.is_empty() {
            let words = String::from_utf8_lossy(&line);
            if is_out_of_memory(&words) {
                last = words.into_owned();
                continue;
            }
            let mut ours = io::stderr().lock();
            // The reader may have left; the exit code also reports the failure.
            let _ = ours.write_all(&line).and_then(|()| ours.write_all(b"\n"));
        }
    }
    last
}

/// The failure of a child that has no exit code.
fn ended(bounds: &Bounds, status: Option<ExitStatus>, words: &str) -> Failed {
    let (cpu, clock) = (bounds.cpu, bounds.cpu * PATIENCE);
    let Some(status) = status else {
        let clock = humantime::format_duration(clock);
        return Failed::new(Exit::TooMuch, format!("it stands still: {clock} have passed"));
    };
    match Death::of(status, words) {
        Death::OutOfTime => {
            let cpu = humantime::format_duration(cpu);
            Failed::new(Exit::TooMuch, format!("ran out of CPU time: the limit is {cpu}"))
        }
        Death::OutOfMemory => Failed::new(Exit::TooMuch, out_of_memory(bounds)),
        Death::Killed => Failed::new(
            Exit::TooMuch,
            format!("it was ended from outside ({status}); the machine may be short of memory"),
        ),
        Death::Other => Failed::new(Exit::Failure, format!("it broke off ({status})")),
    }
}

/// The message for a child that ran out of memory.
fn out_of_memory(bounds: &Bounds) -> String {
    let (Memory::Addresses(bytes) | Memory::Writable(bytes)) = bounds.memory;
    format!("ran out of memory: the limit is {} MiB", bytes >> 20)
}

/// A failure of the child in the words of its parent: one for lack of memory names the limit. Such
/// a message ends with the words of the standard library or of the system. A module whose
/// compilation ran out of memory has a reason of its own.
pub(super) fn explained(failed: Failed, bounds: &Bounds) -> Failed {
    let words = [": out of memory", "Cannot allocate memory (os error 12)"];
    match words.iter().any(|words| failed.message.ends_with(words)) {
        true => {
            let message = format!("{} ({})", out_of_memory(bounds), failed.message);
            Failed::new(Exit::TooMuch, message)
        }
        false => failed,
    }
}

/// The child's first step: it bounds itself, and returns the arguments of its parent and the
/// bounds.
pub(super) fn confine() -> (Vec<OsString>, Bounds) {
    let mut arguments: Vec<OsString> = std::env::args_os().collect();
    let number = |n: usize| arguments.get(n).and_then(|word| word.to_str()?.parse::<u64>().ok());
    let (cpu, bytes) = (number(2), number(3));
    let bounds = Bounds {
        cpu: cpu.map_or(CHECK_CPU, Duration::from_secs),
        memory: Memory::Writable(bytes.unwrap_or(MEMORY_BYTES)),
        reach: Reach::Read,
    };
    // Bounds that the system lacks are not reported here: the daemon reports them for the compile
    // worker.
    confine::confine(&bounds);
    let end = arguments.len().min(PREFIX);
    arguments.drain(1.min(end)..end);
    (arguments, bounds)
}
