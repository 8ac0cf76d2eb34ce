//! Where a thread stands, as the kernel reports it: the thread's state, what it waits for, its
//! system call and its stack.
//!
//! A thread of its own reads these facts from `/proc/self/task` and writes them to the log, because
//! what has stopped the scan must not stop the loop. What the scan itself says about its work is in
//! `scan/position.rs`.

use std::fs::File;
use std::io::Read;
use std::time::Duration;

use crate::scan::position::Position;

/// The number of bytes that are read of each file. Only a stack of hundreds of frames is longer,
/// and the first frames tell enough.
const MOST_BYTES: u64 = 4096;

/// The largest number of frames of the kernel's stack that are logged. The frames after these only
/// show how the thread entered the kernel.
const MOST_FRAMES: usize = 12;

/// Logs where the scan's thread stands.
pub(super) fn say(position: &Position, cycle: u64, doing: &str, stall_exit: Duration) {
    let (doing, thread) = (doing.to_owned(), position.thread().unwrap_or_default());
    let tell = move |place: &str| {
        tracing::error!(
            cycle,
            thread,
            "the scan STANDS since cycle {cycle}, {doing}; {place}; outputs are made safe, and the \
             process ends with 70 if that lasts for {stall_exit:?}"
        );
    };
    let said = tell.clone();
    let looks = move || said(&of(thread));
    // If no thread can be started, the line is logged without the place.
    if std::thread::Builder::new().name("stall".into()).spawn(looks).is_err() {
        tell(&format!("thread {thread}"));
    }
}

/// Where a thread of this process stands, as text for the log.
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

/// Name and state of a thread from a line of `stat`, proc(5): `number (name) state ...`. The name
/// may contain any text, also `)`.
fn name_and_state(stat: &str) -> (&str, &str) {
    let Some((front, back)) = stat.rsplit_once(')') else { return ("unknown", "unknown") };
    let name = front.split_once('(').map_or("unknown", |(_, name)| name);
    (name, back.split_whitespace().next().unwrap_or("unknown"))
}

/// The functions of a kernel stack, innermost first. A line of the stack is `[<0>]
/// futex_wait+0x1/0x2`.
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
        // The state is R (running), because this thread itself asks the kernel.
        assert!(place.contains("state R") && place.contains("waits in"), "{place}");
    }
}
