//! A compiled module, and how large it may be for the module that it was made of.
//!
//! Code that is larger than its module costs the daemon memory for as long as an instance lives.
//! What all instances together may hold is bounded in `code.rs`.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use super::super::{ModuleHash, Refusal, cache};
use super::Workshop;

/// A compiled module.
#[derive(Debug, Clone)]
pub struct Artifact {
    /// Machine code, for this machine and this version of the program only.
    pub bytes: Arc<[u8]>,
    /// Whether it came from the cache.
    pub cached: bool,
    /// Set once it lies there. Whoever stores it writes, the daemon reads.
    pub(super) stored: Arc<AtomicBool>,
}

impl Artifact {
    /// Whether the cache has it, so that it need not be kept in memory.
    pub fn is_stored(&self) -> bool {
        self.stored.load(Ordering::Relaxed)
    }
}

/// How long the cache may take to answer. A disk that hangs must not keep a program from its
/// restart: it is compiled once more.
const MAX_CACHE_WAIT: Duration = Duration::from_secs(1);

impl Workshop {
    /// The artifact of a module of so many bytes, if the cache has it.
    pub async fn cached(&self, hash: ModuleHash, bytes: usize) -> Option<Artifact> {
        let cache = self.cache.clone()?;
        let key = cache::key(hash, self.compiler, &self.limits);
        let most = most_bytes(bytes, self.limits.functions);
        let found = tokio::task::spawn_blocking(move || cache.load(&key, most));
        let bytes = tokio::time::timeout(MAX_CACHE_WAIT, found).await.ok()?.ok()??;
        Some(Artifact { bytes: bytes.into(), cached: true, stored: Arc::new(true.into()) })
    }
}

/// Most bytes of an artifact for each byte of its module. What clang, rustc, Zig, AssemblyScript,
/// Emscripten and Go make becomes at most 14 times as large with Cranelift and 17 times with
/// Singlepass, beyond a few kilobytes that any module takes.
const MOST_GROWTH: u64 = 32;

/// What an artifact may have beyond that for each function, however small: places, frames and traps
/// are listed by function, some 300 bytes.
const MOST_PER_FUNCTION: u64 = 512;

/// What an artifact may have in any case.
const SMALL_ARTIFACT: u64 = 1 << 20;

/// Largest artifact that is accepted of a module of so many bytes and functions.
pub(super) fn most_bytes(module: usize, functions: u32) -> u64 {
    SMALL_ARTIFACT + MOST_GROWTH * module as u64 + MOST_PER_FUNCTION * u64::from(functions)
}

/// Checks the size of an artifact, in bytes.
///
/// # Errors
/// When a module of so many bytes and functions must not become so large.
pub(super) fn check(module: usize, functions: u32, artifact: usize) -> Result<(), Refusal> {
    let most = most_bytes(module, functions);
    if artifact as u64 <= most {
        return Ok(());
    }
    Err(Refusal::new(
        format!("its {module} bytes become {artifact} bytes of code"),
        format!("the limit is {most}, {MOST_GROWTH} times as much; no real module comes near"),
    ))
}
