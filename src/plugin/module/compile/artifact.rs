//! Artifacts: how a compiled module goes to the cache and comes back, and how large it may be in
//! proportion to its module.
//!
//! Code that is far larger than its module costs the daemon memory for as long as an instance
//! lives. The limit on the code of all instances together is in `instance/code.rs`. How an artifact
//! is made is in `compile.rs`, and how it lies on disk, in `cache.rs`.

use std::io;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, LazyLock};
use std::time::Duration;

use tokio::sync::Semaphore;

use super::super::cache::{self, Cache};
use super::super::note::Note;
use super::CompileService;
use crate::patience::{self, Places};
use crate::plugin::{ModuleHash, Refusal};

/// How long the cache may take to answer. After this time the module is compiled once more, because
/// a disk that hangs must not keep a program from its restart.
const MAX_CACHE_WAIT: Duration = Duration::from_secs(1);

/// Threads that may wait for the cache at once: so many to read, and as many to write. A thread
/// that meets a disk without an answer is lost until the disk answers.
const MAX_WAITING: usize = 32;

/// The places for threads that read, [`MAX_WAITING`] of them. The threads outlive their callers, so
/// this belongs to the process.
static READING: LazyLock<Places> = LazyLock::new(|| Places::new(MAX_WAITING));

/// The permits for threads that write, [`MAX_WAITING`] of them.
static WRITING: Semaphore = Semaphore::const_new(MAX_WAITING);

/// A compiled module.
#[derive(Debug, Clone)]
pub struct Artifact {
    /// Machine code, valid for this machine and this version of the program only.
    pub bytes: Arc<[u8]>,
    /// The probable mistakes in the valid module.
    pub notes: Vec<Note>,
    /// Whether the artifact came from the cache.
    pub cached: bool,
    /// Set once the artifact lies in the cache. The thread that stores it writes this; the daemon
    /// reads it.
    pub(super) stored: Arc<AtomicBool>,
}

impl Artifact {
    /// An artifact that was just compiled.
    pub(super) fn new(bytes: Vec<u8>, notes: Vec<Note>) -> Self {
        Self { bytes: bytes.into(), notes, cached: false, stored: Arc::default() }
    }

    /// The artifact with this key, if the cache has it and answers in time. The artifact may have
    /// at most `most` bytes.
    async fn load(cache: &Cache, key: &str, most: u64) -> Option<Self> {
        let (key, most) = (key.to_owned(), most + MAX_TAIL);
        let asked = cache.clone();
        let load = move || {
            let found = asked.load(&key, most);
            // An answer that comes too late is noted too: the folder answers again, unless writes
            // still wait.
            asked.heard(no_room().as_ref());
            Ok(found)
        };
        let loaded = patience::within(MAX_CACHE_WAIT, &READING, load).await;
        if let Err(late) = &loaded {
            cache.heard(Some(late));
        }
        let mut bytes = loaded.ok()??;
        let notes = take_tail(&mut bytes)?;
        Some(Self { cached: true, stored: Arc::new(true.into()), ..Self::new(bytes, notes) })
    }

    /// Has a thread put the artifact into the cache. If the cache cannot be written, the only cost
    /// is time at the next start. The cache logs its failures itself.
    pub(super) fn store(&self, cache: Cache, key: String) {
        let (bytes, tail) = (Arc::clone(&self.bytes), tail(&self.notes));
        let stored = Arc::clone(&self.stored);
        // If all permits are taken, enough threads already wait for a disk that gives no answer.
        let Ok(permit) = WRITING.try_acquire() else { return cache.heard(no_room().as_ref()) };
        tokio::task::spawn_blocking(move || {
            let _permit = permit;
            stored.store(cache.store(&key, &[&bytes, &tail]), Ordering::Relaxed);
        });
    }

    /// Whether the cache has the artifact, so that the daemon need not keep it in memory.
    pub fn is_stored(&self) -> bool {
        self.stored.load(Ordering::Relaxed)
    }
}

/// The reason why no artifact can be stored, if all threads that may write to the cache wait for
/// the disk.
fn no_room() -> Option<io::Error> {
    let words = || format!("{MAX_WAITING} artifacts wait to be written");
    (WRITING.available_permits() == 0).then(|| patience::late(words()))
}

impl CompileService {
    /// The artifact of a module with this hash and size in bytes, if the cache has it.
    pub async fn cached(&self, hash: ModuleHash, bytes: usize) -> Option<Artifact> {
        let key = cache::key(hash, self.compiler, &self.limits);
        let most = most_bytes(bytes, self.limits.functions);
        Artifact::load(self.cache.as_ref()?, &key, most).await
    }
}

/// Most bytes of the tail behind an artifact in the cache: a few words, and their length.
const MAX_TAIL: u64 = 1 << 10;

/// The tail behind an artifact in the cache: what is known of the module, then the length of that
/// in four bytes.
fn tail(notes: &[Note]) -> Vec<u8> {
    let mut tail = serde_json::to_vec(notes).expect("notes are words");
    let len = u32::try_from(tail.len()).expect("they are few");
    tail.extend(len.to_le_bytes());
    tail
}

/// Takes the tail off. `None` if there is no valid tail.
fn take_tail(bytes: &mut Vec<u8>) -> Option<Vec<Note>> {
    let (rest, len) = bytes.split_last_chunk()?;
    let start = rest.len().checked_sub(u32::from_le_bytes(*len) as usize)?;
    let notes = serde_json::from_slice(&rest[start..]).ok()?;
    bytes.truncate(start);
    Some(notes)
}

/// Most bytes of an artifact for each byte of its module. The modules of clang, rustc, Zig,
/// AssemblyScript, Emscripten and Go become at most 14 times as large with Cranelift and 17 times
/// with Singlepass. These factors do not count the few kilobytes that any artifact has.
const MOST_GROWTH: u64 = 32;

/// Further bytes that an artifact may have for each function, however small the function is. An
/// artifact lists addresses, frames and traps by function, in some 300 bytes.
const MOST_PER_FUNCTION: u64 = 512;

/// Bytes that any artifact may have.
const SMALL_ARTIFACT: u64 = 1 << 20;

/// Largest accepted artifact, in bytes, of a module of so many bytes and functions.
pub(super) fn most_bytes(module: usize, functions: u32) -> u64 {
    SMALL_ARTIFACT + MOST_GROWTH * module as u64 + MOST_PER_FUNCTION * u64::from(functions)
}

/// Checks the size of an artifact, in bytes.
///
/// # Errors
/// When the artifact is larger than a module of so many bytes and functions may become.
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_known_of_a_module_comes_back_with_its_artifact() {
        fn check(notes: &[Note]) {
            let mut bytes = [b"code", &tail(notes)[..]].concat();
            assert_eq!(take_tail(&mut bytes).as_deref(), Some(notes));
            assert_eq!(bytes, b"code");
        }
        check(&[]);
        check(&[Note::Command, Note::ConstructorsUncalled]);
    }

    #[test]
    fn a_tail_that_makes_no_sense_is_none() {
        for bytes in
            [&b""[..], b"co", b"code", b"\x05\0\0\0", b"[]x\x02\0\0\0", b"\xff\xff\xff\xff"]
        {
            assert_eq!(take_tail(&mut bytes.to_vec()), None, "{bytes:?}");
        }
    }
}
