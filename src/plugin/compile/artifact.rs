//! A compiled module: how it goes to the cache and comes back, and how large it may be for the
//! module that it was made of.
//!
//! Code that is larger than its module costs the daemon memory for as long as an instance lives.
//! What all instances together may hold is bounded in `code.rs`.

use std::io;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, LazyLock};
use std::time::Duration;

use tokio::sync::Semaphore;

use super::super::cache::{self, Cache};
use super::super::note::Note;
use super::super::{ModuleHash, Refusal};
use super::CompileService;
use crate::patience::{self, Places};

/// How long the cache may take to answer. A disk that hangs must not keep a program from its
/// restart: it is compiled once more.
const MAX_CACHE_WAIT: Duration = Duration::from_secs(1);

/// Threads that wait for the cache at once, to read and to write. Each that meets a disk which does
/// not answer is lost until that does.
const MAX_WAITING: usize = 32;

/// See [`MAX_WAITING`]. The threads outlive whoever asked, so this belongs to the process.
static READING: LazyLock<Places> = LazyLock::new(|| Places::new(MAX_WAITING));

/// See [`MAX_WAITING`].
static WRITING: Semaphore = Semaphore::const_new(MAX_WAITING);

/// A compiled module.
#[derive(Debug, Clone)]
pub struct Artifact {
    /// Machine code, for this machine and this version of the program only.
    pub bytes: Arc<[u8]>,
    /// What is lawful in the module and nearly surely not meant.
    pub notes: Vec<Note>,
    /// Whether it came from the cache.
    pub cached: bool,
    /// Set once it lies there. Whoever stores it writes, the daemon reads.
    pub(super) stored: Arc<AtomicBool>,
}

impl Artifact {
    /// One that was just compiled.
    pub(super) fn new(bytes: Vec<u8>, notes: Vec<Note>) -> Self {
        Self { bytes: bytes.into(), notes, cached: false, stored: Arc::default() }
    }

    /// The one with this key, of `most` bytes at most, if the cache has it and answers in time.
    async fn load(cache: &Cache, key: &str, most: u64) -> Option<Self> {
        let (key, most) = (key.to_owned(), most + MAX_TAIL);
        let asked = cache.clone();
        let load = move || Ok(asked.load(&key, most));
        let loaded = patience::within(MAX_CACHE_WAIT, &READING, load).await;
        cache.heard(loaded.as_ref().err().or(no_room().as_ref()));
        let mut bytes = loaded.ok()??;
        let notes = take_tail(&mut bytes)?;
        Some(Self { cached: true, stored: Arc::new(true.into()), ..Self::new(bytes, notes) })
    }

    /// Lets a thread put it into the cache. A cache that cannot be written costs time at the next
    /// start and nothing else; it says so itself.
    pub(super) fn store(&self, cache: Cache, key: String) {
        let (bytes, tail) = (Arc::clone(&self.bytes), tail(&self.notes));
        let stored = Arc::clone(&self.stored);
        // A disk that gives no answer has enough threads that wait for it.
        let Ok(permit) = WRITING.try_acquire() else { return cache.heard(no_room().as_ref()) };
        tokio::task::spawn_blocking(move || {
            let _permit = permit;
            stored.store(cache.store(&key, &[&bytes, &tail]), Ordering::Relaxed);
        });
    }

    /// Whether the cache has it, so that it need not be kept in memory.
    pub fn is_stored(&self) -> bool {
        self.stored.load(Ordering::Relaxed)
    }
}

/// Why nothing can be put into the cache, if all threads that may write there wait for it.
fn no_room() -> Option<io::Error> {
    let words = || format!("{MAX_WAITING} artifacts wait to be written");
    (WRITING.available_permits() == 0).then(|| patience::late(words()))
}

impl CompileService {
    /// The artifact of a module of so many bytes, if the cache has it.
    pub async fn cached(&self, hash: ModuleHash, bytes: usize) -> Option<Artifact> {
        let key = cache::key(hash, self.compiler, &self.limits);
        let most = most_bytes(bytes, self.limits.functions);
        Artifact::load(self.cache.as_ref()?, &key, most).await
    }
}

/// Most bytes of what stands behind an artifact in the cache: a few words, and their length.
const MAX_TAIL: u64 = 1 << 10;

/// What stands behind an artifact in the cache: what is known of the module, and the length of that
/// in four bytes.
fn tail(notes: &[Note]) -> Vec<u8> {
    let mut tail = serde_json::to_vec(notes).expect("notes are words");
    let len = u32::try_from(tail.len()).expect("they are few");
    tail.extend(len.to_le_bytes());
    tail
}

/// Takes the tail off; `None` if there is none that makes sense.
fn take_tail(bytes: &mut Vec<u8>) -> Option<Vec<Note>> {
    let (rest, len) = bytes.split_last_chunk()?;
    let start = rest.len().checked_sub(u32::from_le_bytes(*len) as usize)?;
    let notes = serde_json::from_slice(&rest[start..]).ok()?;
    bytes.truncate(start);
    Some(notes)
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
