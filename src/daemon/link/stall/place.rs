//! The location of a thread in the kernel: its state, its wait channel, its system call and its
//! kernel stack. The log line about a stall shows these facts.
//!
//! A separate thread reads the facts from `/proc/self/task` and logs them. These reads may block
//! for the same reason as the scan, and the main loop must not block. The scan's report about its
//! present step is in `scan/position.rs`.

use std::fs::File;
use std::io::Read;
use std::time::Duration;

use crate::scan::position::Position;
use crate::thread::named;

/// The largest number of bytes that are read from each file of `/proc`. Only a kernel stack with
/// about 100 frames or more is longer, and its first frames are enough for the log line.
const MOST_BYTES: u64 = 4096;

/// The largest number of kernel stack frames in the log line. The later frames only show how the
/// thread entered the kernel.
const MOST_FRAMES: usize = 12;

/// Logs the stall with the location of the scan's thread.
pub(super) fn log_stall(position: &Position, cycle: u64, doing: &str, stall_exit: Duration) {
    let (doing, thread) = (doing.to_owned(), position.thread().unwrap_or_default());
    let log = move |place: &str| {
        tracing::error!(
            cycle,
            thread,
            "the scan has been STALLED since cycle {cycle}, {doing}; {place}; outputs are made \
             safe, and the process ends with exit code 70 if the stall lasts for {stall_exit:?}"
        );
    };
    let log_later = log.clone();
    let find = move || log_later(&of(thread));
    // If no thread can be started, the line is logged without the location.
    if named("stall").spawn(find).is_err() {
        log(&format!("thread {thread}"));
    }
}

/// Returns the location of a thread of this process, as text for the log.
fn of(thread: i32) -> String {
    let read = |file: &str| {
        let mut text = String::new();
        let path = format!("/proc/self/task/{thread}/{file}");
        let read = File::open(path).and_then(|it| it.take(MOST_BYTES).read_to_string(&mut text));
        read.map(|_| text.trim().to_owned()).map_err(|error| error.to_string())
    };
    let word = |file: &str| read(file).unwrap_or_else(|error| format!("unknown ({error})"));
    let stat = word("stat");
    let (name, state) = name_and_state(&stat);
    let call = word("syscall");
    let stack = read("stack").map_or_else(|error| format!("unknown ({error})"), |it| frames(&it));
    format!(
        "thread {name} ({thread}), state {state}, waits in {}, system call {call}, kernel stack \
         {stack}",
        word("wchan")
    )
}

/// Returns the name and the state of a thread from a line of its file `stat`, proc(5). The line has
/// the form `number (name) state ...`. The name may contain any characters, even `)`.
fn name_and_state(stat: &str) -> (&str, &str) {
    let Some((front, back)) = stat.rsplit_once(')') else { return ("unknown", "unknown") };
    let name = front.split_once('(').map_or("unknown", |(_, name)| name);
    (name, back.split_whitespace().next().unwrap_or("unknown"))
}

/// Returns the names of the functions in a kernel stack, the innermost function first. A line of
/// the stack has the form `[<0>] futex_wait+0x1/0x2`.
fn frames(stack: &str) -> String {
    let function = |line: &str| {
        let line = line.rsplit(' ').next().unwrap_or_default();
        line.split('+').next().unwrap_or_default().to_owned()
    };
    let functions: Vec<_> = stack.lines().take(MOST_FRAMES).map(function).collect();
    if functions.is_empty() { "empty".into() } else { functions.join(" < ") }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_kernels_texts_are_understood() {
        let check = |stat, expected| assert_eq!(name_and_state(stat), expected, "{stat}");
        check("42 (scan) S 1 42", ("scan", "S"));
        check("42 (a) b (c) D 1", ("a) b (c", "D"));
        check("", ("unknown", "unknown"));
        check("unknown (no)", ("no", "unknown"));
        let stack = "[<0>] futex_wait_queue+0x60/0x90\n[<0>] do_futex+0x1/0x2\n";
        assert_eq!(frames(stack), "futex_wait_queue < do_futex");
        assert_eq!(frames(""), "empty");
    }

    #[test]
    fn this_thread_is_found_where_it_is() {
        let place = of(nix::unistd::gettid().as_raw());
        // The state is R (running), because this thread itself reads the file.
        assert!(place.contains("state R") && place.contains("waits in"), "{place}");
    }
}
