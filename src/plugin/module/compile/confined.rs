//! The rights that a compile worker gives up, so that a hostile module can do little harm.
//!
//! The worker gives up nearly all rights before it reads its job. It gives up only one right later:
//! the right to start threads. wasmer starts a pool of threads for each compilation, and even a
//! pool of one thread needs a new thread. So the worker gives up this right when that thread runs.
//! The code of each step is in `confine.rs`, which also reports steps that the system does not
//! support.

use std::time::Duration;

use thread_priority::{
    NormalThreadSchedulePolicy, ThreadPriority, ThreadSchedulePolicy,
    set_thread_priority_and_policy, thread_native_id,
};
use wasmer::LocalFunctionIndex;
use wasmer::sys::{FunctionMiddleware, ModuleMiddleware};

use crate::confine::{self, Bounds, Memory, Reach};

/// Most CPU time of one compilation. Cranelift needs less time, even for a module that reaches
/// every limit of `check.rs`.
const MAX_CPU: Duration = Duration::from_secs(20);

/// Most address space of the worker, in bytes. This is enough for a module that reaches every
/// limit, and not too much for a board with 2 GB of memory.
const MAX_ADDRESS_SPACE: u64 = 1 << 30;

/// Gives up all rights that a compilation does not need. Returns the steps that the system does not
/// support.
pub(super) fn confine() -> Vec<String> {
    // With this policy the worker gets the CPU only when no other process needs it. If the system
    // refuses the policy, the worker uses the CPU like any other process.
    let idle = ThreadSchedulePolicy::Normal(NormalThreadSchedulePolicy::Idle);
    let _ = set_thread_priority_and_policy(thread_native_id(), ThreadPriority::Min, idle);
    confine::confine(&Bounds {
        cpu: MAX_CPU,
        memory: Memory::Addresses(MAX_ADDRESS_SPACE),
        reach: Reach::Nothing,
    })
}

/// Returns the address space that the worker may use, in bytes, if the worker has inherited a lower
/// limit than [`MAX_ADDRESS_SPACE`]. Otherwise returns `None`.
pub(super) fn inherited_memory() -> Option<u64> {
    confine::address_limit().filter(|bytes| *bytes < MAX_ADDRESS_SPACE)
}

/// Lists, as text for the daemon's log, the rights that the worker still has. The list contains the
/// steps that are `missing`, and the harmful actions that the worker has tried with success.
pub(super) fn still_open(missing: Vec<String>) -> Vec<String> {
    let threads =
        confine::forbid_threads().err().map(|why| format!("the ban on new threads: {why}"));
    missing.into_iter().chain(threads).chain(confine::escapes()).collect()
}

/// The compiler does some parallel work besides the compilation of functions. This function makes
/// the compiler use the present thread for that work. Otherwise the library rayon would start one
/// thread for each CPU.
pub(super) fn keep_to_this_thread() {
    // The call fails only if the process already has such a pool of threads. No earlier code makes
    // such a pool.
    let _ = rayon::ThreadPoolBuilder::new().num_threads(1).use_current_thread().build_global();
}

/// A compiler middleware that changes no code. The compiler's thread calls this middleware before
/// each function. At the first call the compiler needs no further thread, so the middleware gives
/// up the right to start threads.
#[derive(Debug)]
pub(super) struct LastThread;

impl ModuleMiddleware for LastThread {
    fn generate_function_middleware<'a>(
        &self,
        _: LocalFunctionIndex,
    ) -> Box<dyn FunctionMiddleware<'a> + 'a> {
        // If the system refuses this step, a further thread does little harm, because the same
        // limits apply to it.
        let _ = confine::forbid_threads();
        Box::new(Unchanged)
    }
}

/// A function middleware that leaves the code of a function unchanged.
#[derive(Debug)]
struct Unchanged;

impl FunctionMiddleware<'_> for Unchanged {}
