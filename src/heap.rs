//! The heap of the process: limits the memory that the C library keeps after the program has freed
//! it.
//!
//! A daemon runs for years while plugins come and go. By default the C library keeps up to eight
//! heaps for each CPU. It also raises the size from which it returns freed memory to the system, up
//! to 32 MiB. In a test in which 250 programs came and went four times, the process then kept
//! 182 MB.
#![allow(unsafe_code)]

use std::time::{Duration, Instant};

use nix::libc::{M_ARENA_MAX, M_MMAP_THRESHOLD, c_int, malloc_trim, mallopt};

/// Largest number of heaps. Threads that allocate at the same time wait for each other for less
/// than a microsecond. The scan does not allocate, so it does not wait.
const MOST_HEAPS: c_int = 2;

/// Size in bytes from which an allocation gets pages of its own. The system gets these pages back
/// when the allocation is freed. The value is the initial value of the C library, which raises this
/// size only if the program has not set it.
const OWN_PAGES_BYTES: c_int = 128 << 10;

/// Sets the limits for the whole process. The command line calls this before it starts the daemon.
/// If the C library refuses a limit, the process only uses more memory.
pub fn limit() {
    for (setting, value) in [(M_ARENA_MAX, MOST_HEAPS), (M_MMAP_THRESHOLD, OWN_PAGES_BYTES)] {
        // SAFETY: `mallopt` takes two numbers, and it is safe to call at any time. It locks the
        // heap while it changes a setting.
        let _ = unsafe { mallopt(setting, value) };
    }
}

/// Returns the pages to the system that the C library keeps between blocks in use. Memory that is
/// locked in RAM stays, except at the end of a heap. The call takes a few milliseconds, and threads
/// that allocate wait for it.
fn trim() {
    // SAFETY: `malloc_trim` takes a number, and it is safe to call at any time.
    let _ = unsafe { malloc_trim(0) };
}

/// The time from the first freed program to the next `trim`. Programs that are freed in between
/// have the same trim.
const PAUSE: Duration = Duration::from_secs(5);

/// Decides when the daemon returns freed memory to the system.
#[derive(Debug, Default)]
pub struct Trimming {
    freed: Option<Instant>,
}

impl Trimming {
    /// Notes that a program was freed, or soon will be.
    pub fn note(&mut self) {
        self.freed.get_or_insert_with(Instant::now);
    }

    /// Starts a `trim` on a thread of the runtime's pool, if one is due.
    pub fn pursue(&mut self) {
        if self.freed.take_if(|freed| freed.elapsed() >= PAUSE).is_some() {
            tokio::task::spawn_blocking(trim);
        }
    }
}
