//! Runs the verbs `check`, `test` and `replay` in a child process with limits.
//!
//! ```text
//! camshaft check x.wasm                                  parent: measures the time
//!    └─ camshaft within SECONDS BYTES check x.wasm       child: sets its limits, runs the verb
//!          └─ compile worker                             parses and compiles the modules
//! ```
//!
//! These verbs parse files of unknown origin and run modules of unknown origin. A defect in a
//! parser, or an endless loop in a module, must not harm the user's machine. For this reason, this
//! program starts itself again with the same arguments. Before the child opens a file, it limits
//! its CPU time and its memory. The child gives up the rights to write files and to use the
//! network.
//!
//! The child writes directly to the standard output of its parent. The parent returns the child's
//! exit code. If the child ends without an exit code, for example because it exceeded a limit, the
//! parent prints the reason. The limits are set in `confine.rs`.

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

/// Number of arguments before the verb of the child: the program, [`CHILD_VERB`], seconds, bytes.
const PREFIX: usize = 4;

/// Limit of the CPU time of `check`, without the time of its compile workers. A configuration of
/// the largest size takes 0.1 s.
const CHECK_CPU: Duration = Duration::from_secs(30);

/// Limit of the CPU time of `replay`, without the time of its compile worker. The limit is twice
/// the longest time that a crash report can allow for one call.
const REPLAY_CPU: Duration = Duration::from_secs(120);

/// Limit of the CPU time of `test`. A recipe for one day with one poll per second takes seven
/// minutes, if each poll uses a whole budget of 5 ms.
const TEST_CPU: Duration = Duration::from_secs(600);

/// Limit of the memory in bytes, without the memory of the plugin's instance. The compile worker
/// inherits this limit and may use the same amount. A crash report or a recipe of the largest size
/// needs 150 MB.
const MEMORY_BYTES: u64 = 1 << 30;

/// The limit of real time is this number times the limit of CPU time, because the child may be slow
/// on a busy machine. A child that exceeds the limit of real time is killed.
const PATIENCE: u32 = 10;

/// The largest number of bytes of the child's standard error that the parent prints.
const MAX_WORDS: u64 = 1 << 20;

/// Returns the limits for a verb that reads files of unknown origin; `None` for any other verb.
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

/// Starts this program again with the same arguments, within limits. Returns the child's exit code
/// after the child has printed all output. If the child was killed, or exceeded the limit of real
/// time, the error contains the reason.
pub(super) fn run_in_child(bounds: Bounds) -> Result<ExitCode, Failed> {
    let bounds = bounds.or_inherited();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let (status, words) = runtime.block_on(run(&bounds))?;
    if let Some(code) = status.and_then(|status| status.code()) {
        return Ok(u8::try_from(code).map_or(ExitCode::FAILURE, ExitCode::from));
    }
    Err(ended(&bounds, status, &words))
}

/// Runs the child. Returns its exit status, or `None` after the limit of real time. If the child
/// ran out of memory, also returns its last message.
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
    let stderr = child.stderr.take().expect("the standard error of the child process is a pipe");
    let whole = async {
        let words = pass_on(stderr).await;
        (child.wait().await, words)
    };
    match tokio::time::timeout(bounds.cpu * PATIENCE, whole).await {
        Ok((status, words)) => Ok((Some(status?), words)),
        // Dropping `child` kills the process.
        Err(_) => Ok((None, String::new())),
    }
}

/// Copies the child's standard error to that of the parent. A message about missing memory is
/// returned and not copied, because the parent prints a clearer message. Lines after this message
/// are not copied.
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
            // The write may fail because the pipe has no reader. The exit code still reports the
            // failure.
            let _ = ours.write_all(&line).and_then(|()| ours.write_all(b"\n"));
        }
    }
    last
}

/// Returns the failure of a child that ended without an exit code.
fn ended(bounds: &Bounds, status: Option<ExitStatus>, words: &str) -> Failed {
    let (cpu, clock) = (bounds.cpu, bounds.cpu * PATIENCE);
    let Some(status) = status else {
        let clock = humantime::format_duration(clock);
        return Failed::new(
            Exit::TooMuch,
            format!("no result after {clock}, so camshaft has ended the process for this file"),
        );
    };
    match Death::of(status, words) {
        Death::OutOfTime => {
            let cpu = humantime::format_duration(cpu);
            Failed::new(Exit::TooMuch, format!("ran out of CPU time: the limit is {cpu}"))
        }
        Death::OutOfMemory => Failed::new(Exit::TooMuch, out_of_memory(bounds)),
        Death::Killed => Failed::new(
            Exit::TooMuch,
            format!(
                "the process was ended from outside ({status}); the machine may be short of memory"
            ),
        ),
        Death::Other => {
            Failed::new(Exit::Failure, format!("the process ended unexpectedly ({status})"))
        }
    }
}

/// Returns the message for a child that ran out of memory.
fn out_of_memory(bounds: &Bounds) -> String {
    let (Memory::Addresses(bytes) | Memory::Writable(bytes)) = bounds.memory;
    format!("ran out of memory: the limit is {} MiB", bytes >> 20)
}

/// Runs in the child after its verb has failed. A failure because of missing memory gets a message
/// with the memory limit, and exit code 65. The original message of such a failure ends with a text
/// of the standard library or of the system. If a compile worker runs out of memory, the message
/// has another end, and this function does not change it.
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

/// The first step of the child: sets the limits of this process. Returns the arguments of the
/// parent, and the limits.
pub(super) fn confine() -> (Vec<OsString>, Bounds) {
    let mut arguments: Vec<OsString> = std::env::args_os().collect();
    let number = |n: usize| arguments.get(n).and_then(|word| word.to_str()?.parse::<u64>().ok());
    let (cpu, bytes) = (number(2), number(3));
    let bounds = Bounds {
        cpu: cpu.map_or(CHECK_CPU, Duration::from_secs),
        memory: Memory::Writable(bytes.unwrap_or(MEMORY_BYTES)),
        reach: Reach::Read,
    };
    // The system may not support each kind of limit. The child does not report this, because the
    // daemon reports missing limits for its compile worker.
    confine::confine(&bounds);
    let end = arguments.len().min(PREFIX);
    arguments.drain(1.min(end)..end);
    (arguments, bounds)
}
