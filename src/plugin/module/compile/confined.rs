//! The rights that a compile worker gives up, and when it does so.
//!
//! The worker gives up nearly all rights before it reads its job. The worker gives up the right to
//! make threads last, because wasmer makes a pool of threads for each compilation. Even a pool of
//! one thread is a thread beside the calling thread. The steps themselves, and what the system may
//! lack of them, are in `confine.rs`.

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

/// Address space of the worker, in bytes: enough for a module at every limit, and not too much for
/// a board with 2 GB.
const MAX_ADDRESS_SPACE: u64 = 1 << 30;

/// Gives up what a compilation does not need. Returns the steps that the system does not offer.
pub(super) fn confine() -> Vec<String> {
    // The worker gets the CPU only when no other process wants it. If the system refuses this, the
    // compilation takes its share of the CPU like any other process.
    let idle = ThreadSchedulePolicy::Normal(NormalThreadSchedulePolicy::Idle);
    let _ = set_thread_priority_and_policy(thread_native_id(), ThreadPriority::Min, idle);
    confine::confine(&Bounds {
        cpu: MAX_CPU,
        memory: Memory::Addresses(MAX_ADDRESS_SPACE),
        reach: Reach::Nothing,
    })
}

/// The address space that the worker may use, in bytes, if the system allows it less than
/// [`MAX_ADDRESS_SPACE`].
pub(super) fn inherited_memory() -> Option<u64> {
    confine::address_limit().filter(|bytes| *bytes < MAX_ADDRESS_SPACE)
}

/// The rights that were not taken away from the worker, as text for the daemon's log. The list has
/// the steps that are `missing`, and the actions that the worker finds still possible.
pub(super) fn still_open(missing: Vec<String>) -> Vec<String> {
    let threads = confine::forbid_threads().err().map(|why| format!("no threads: {why}"));
    missing.into_iter().chain(threads).chain(confine::escapes()).collect()
}

/// Makes the compiler do its work beside the functions on this thread. Otherwise it would use a
/// pool with one thread for each CPU.
pub(super) fn keep_to_this_thread() {
    // The call fails only if the process has such a pool already, and no earlier code makes one.
    let _ = rayon::ThreadPoolBuilder::new().num_threads(1).use_current_thread().build_global();
}

/// A compiler middleware that changes no code. It forbids new threads once the compiler has made
/// the only thread that it needs: the compiler's thread calls the middleware when it begins with
/// the first function.
#[derive(Debug)]
pub(super) struct LastThread;

impl ModuleMiddleware for LastThread {
    fn generate_function_middleware<'a>(
        &self,
        _: LocalFunctionIndex,
    ) -> Box<dyn FunctionMiddleware<'a> + 'a> {
        // If the system refuses this, a further thread does little harm, because it has the same
        // limits.
        let _ = confine::forbid_threads();
        Box::new(Unchanged)
    }
}

/// Leaves the code of a function unchanged.
#[derive(Debug)]
struct Unchanged;

impl FunctionMiddleware<'_> for Unchanged {}
