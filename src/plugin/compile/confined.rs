//! What a compile worker takes away from itself, and when.
//!
//! Nearly all before it reads its job. Threads go last, because the compilers make one: wasmer asks
//! for a pool of its own in each compilation, and a pool of one is still a thread beside the one
//! that asks. The steps themselves, and what the system may lack of them, are in `confine.rs`.

use std::time::Duration;

use thread_priority::{
    NormalThreadSchedulePolicy, ThreadPriority, ThreadSchedulePolicy,
    set_thread_priority_and_policy, thread_native_id,
};
use wasmer::LocalFunctionIndex;
use wasmer::sys::{FunctionMiddleware, ModuleMiddleware};

use crate::confine::{self, Bounds, Memory, Reach};

/// CPU time of one compilation. A module at every limit of `check.rs` stays below it with
/// Cranelift.
const MAX_CPU: Duration = Duration::from_secs(20);

/// Address space of the worker: enough for a module at the limits, survivable on a 2 GB board.
const MAX_ADDRESS_SPACE: u64 = 1 << 30;

/// Takes away what a compilation does not need; says what of that the system does not have.
pub(super) fn confine() -> Vec<String> {
    // Everybody else has the CPU first. Where the system refuses, a compilation takes its share
    // like any other process.
    let idle = ThreadSchedulePolicy::Normal(NormalThreadSchedulePolicy::Idle);
    let _ = set_thread_priority_and_policy(thread_native_id(), ThreadPriority::Min, idle);
    confine::confine(&Bounds {
        cpu: MAX_CPU,
        memory: Memory::Addresses(MAX_ADDRESS_SPACE),
        reach: Reach::Nothing,
    })
}

/// How many bytes of addresses the worker may use, where the system allows it less than it would
/// take for itself.
pub(super) fn inherited_memory() -> Option<u64> {
    confine::address_limit().filter(|bytes| *bytes < MAX_ADDRESS_SPACE)
}

/// What was not taken away, in the words of the daemon's log: steps that are `missing`, and what
/// the worker finds that it can do.
pub(super) fn still_open(missing: Vec<String>) -> Vec<String> {
    let threads = confine::forbid_threads().err().map(|why| format!("no threads: {why}"));
    missing.into_iter().chain(threads).chain(confine::escapes()).collect()
}

/// Has the compiler do what it does beside its functions on this thread, instead of on a pool with
/// one thread for each CPU.
pub(super) fn keep_to_this_thread() {
    // It fails only when there is such a pool already, and this comes before it.
    let _ = rayon::ThreadPoolBuilder::new().num_threads(1).use_current_thread().build_global();
}

/// Forbids threads when the compiler has made the only one that it needs: that thread asks for this
/// when it begins with the first function.
#[derive(Debug)]
pub(super) struct LastThread;

impl ModuleMiddleware for LastThread {
    fn generate_function_middleware<'a>(
        &self,
        _: LocalFunctionIndex,
    ) -> Box<dyn FunctionMiddleware<'a> + 'a> {
        // Where the system refuses, a thread more uses up the same limits.
        let _ = confine::forbid_threads();
        Box::new(Unchanged)
    }
}

/// Passes the code of a function on as it is.
#[derive(Debug)]
struct Unchanged;

impl FunctionMiddleware<'_> for Unchanged {}
