//! The threads of the daemon: their names, and the size of their stacks.
//!
//! A Rust thread has a stack of 2 MiB by default. With `lock_memory` the kernel gives the thread
//! this whole stack in RAM, even if the thread uses a few KiB of it. So every thread that the
//! daemon itself starts has a smaller stack. Two threads of libraries keep the default: that of the
//! log and that of the folder's events. Guests do not use these stacks, because wasmer gives each
//! call its own.

use std::io;
use std::thread::Builder;
use std::time::Duration;

use tokio::runtime::{self, Runtime};

/// Size of a thread's stack in bytes: four times the stack that a TLS handshake needs, which is the
/// deepest work of a thread.
const STACK_BYTES: usize = 512 << 10;

/// Time after which a thread of a runtime's pool ends if it has no work. With tokio's default of
/// 10 s, a pool keeps every thread that it has ever started, because each thread gets a little work
/// within this time.
const IDLE_TIME: Duration = Duration::from_secs(1);

/// Prepares the start of a thread with this name and a stack of 512 KiB. Linux shows only the first
/// 15 bytes of the name.
pub fn named(name: impl Into<String>) -> Builder {
    Builder::new().name(name.into()).stack_size(STACK_BYTES)
}

/// Builds a runtime whose further threads have a stack of 512 KiB.
///
/// # Errors
/// When the operating system gives no threads or no files for the runtime.
pub fn runtime(mut builder: runtime::Builder) -> io::Result<Runtime> {
    builder.thread_stack_size(STACK_BYTES).thread_keep_alive(IDLE_TIME).enable_all().build()
}
