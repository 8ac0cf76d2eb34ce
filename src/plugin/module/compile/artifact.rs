//! Artifacts: compiled modules. This file writes artifacts to the cache, reads them back, and
//! limits the size of an artifact in proportion to its module.
//!
//! The size has a limit, because the code costs the daemon memory for as long as an instance
//! exists. The limit on the code of all instances together is in `instance/code.rs`. `compile.rs`
//! makes an artifact, and `cache.rs` defines the artifact's file on disk.

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

/// Longest wait for an answer of the cache. After this time the module is compiled again. So a disk
/// that does not answer cannot prevent the restart of a program.
const MAX_CACHE_WAIT: Duration = Duration::from_secs(1);

/// Most threads that may read from the cache at the same time, and most threads that may write to
/// the cache at the same time. If the disk does not answer, a thread that uses the disk stays
/// blocked until the disk answers.
const MAX_WAITING: usize = 32;

/// The [`MAX_WAITING`] permits for threads that read. A blocked thread exists longer than the call
/// that started it, so the permits belong to the whole process.
static READING: LazyLock<Places> = LazyLock::new(|| Places::new(MAX_WAITING));

/// The [`MAX_WAITING`] permits for threads that write. Like those of [`READING`], these permits
/// belong to the whole process.
static WRITING: Semaphore = Semaphore::const_new(MAX_WAITING);

/// An artifact: a compiled module, with the notes of the check about the module.
#[derive(Debug, Clone)]
pub struct Artifact {
    /// Machine code, valid only for this machine and this version of Camshaft.
    pub bytes: Arc<[u8]>,
    /// The warnings about probable mistakes in the module.
    pub notes: Vec<Note>,
    /// Whether the artifact came from the cache.
    pub cached: bool,
    /// Whether the cache contains the artifact. For an artifact from the cache, the flag is set at
    /// once. For a fresh artifact, the thread that stores it sets the flag. The daemon reads the
    /// flag.
    pub(super) stored: Arc<AtomicBool>,
}

impl Artifact {
    /// Makes an artifact from freshly compiled code.
    pub(super) fn new(bytes: Vec<u8>, notes: Vec<Note>) -> Self {
        Self { bytes: bytes.into(), notes, cached: false, stored: Arc::default() }
    }

    /// Reads the artifact with this key from the cache. Returns `None` if the cache does not have
    /// it, if the cached file is damaged or too long for machine code of `most` bytes, if the cache
    /// does not answer within [`MAX_CACHE_WAIT`], or if no permit of [`READING`] becomes free.
    async fn load(cache: &Cache, key: &str, most: u64) -> Option<Self> {
        let (key, most) = (key.to_owned(), most + MAX_TAIL);
        let asked = cache.clone();
        let load = move || {
            let found = asked.load(&key, most);
            // This line runs even if the answer comes too late for the caller. The cache then
            // records that the folder answers again, unless [`MAX_WAITING`] writes still wait for
            // the folder.
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

    /// Stores the artifact in the cache, on another thread. `cache.rs` logs a failure. After a
    /// failure, the module is compiled again at the next start.
    pub(super) fn store(&self, cache: Cache, key: String) {
        let (bytes, tail) = (Arc::clone(&self.bytes), tail(&self.notes));
        let stored = Arc::clone(&self.stored);
        // If no permit is free, [`MAX_WAITING`] threads already wait for a disk that does not
        // answer.
        let Ok(permit) = WRITING.try_acquire() else { return cache.heard(no_room().as_ref()) };
        tokio::task::spawn_blocking(move || {
            let _permit = permit;
            stored.store(cache.store(&key, &[&bytes, &tail]), Ordering::Relaxed);
        });
    }

    /// Whether the cache contains the artifact. If the cache has it, the daemon need not keep the
    /// bytes in memory.
    pub fn is_stored(&self) -> bool {
        self.stored.load(Ordering::Relaxed)
    }
}

/// Returns an error if no thread may write to the cache now, because all permits are taken by
/// threads that wait for the disk.
fn no_room() -> Option<io::Error> {
    let words = || format!("{MAX_WAITING} compiled modules wait to be written");
    (WRITING.available_permits() == 0).then(|| patience::late(words()))
}

impl CompileService {
    /// Returns the artifact of a module from the cache, if the cache has it. `hash` and `bytes` are
    /// the identity and the length of the module.
    pub async fn cached(&self, hash: ModuleHash, bytes: usize) -> Option<Artifact> {
        let key = cache::key(hash, self.compiler, &self.limits);
        let most = most_bytes(bytes, self.limits.functions);
        Artifact::load(self.cache.as_ref()?, &key, most).await
    }
}

/// Most bytes of the tail. The tail is the data after the machine code in a file of the cache: the
/// notes and their length.
const MAX_TAIL: u64 = 1 << 10;

/// Makes the tail of an artifact: the notes about the module, and then the length of the notes in
/// four bytes.
fn tail(notes: &[Note]) -> Vec<u8> {
    let mut tail = serde_json::to_vec(notes).expect("JSON can represent all notes");
    let len = u32::try_from(tail.len()).expect("the length of the notes fits a u32");
    tail.extend(len.to_le_bytes());
    tail
}

/// Removes the tail from the bytes, and returns the notes in it. Returns `None` if the bytes do not
/// end with a valid tail.
fn take_tail(bytes: &mut Vec<u8>) -> Option<Vec<Note>> {
    let (rest, len) = bytes.split_last_chunk()?;
    let start = rest.len().checked_sub(u32::from_le_bytes(*len) as usize)?;
    let notes = serde_json::from_slice(&rest[start..]).ok()?;
    bytes.truncate(start);
    Some(notes)
}

/// Most bytes of an artifact for each byte of its module. In measurements with modules of clang,
/// rustc, Zig, AssemblyScript, Emscripten and Go, the code was at most 14 times as long as the
/// module with Cranelift, and at most 17 times with Singlepass. The measured factors do not count
/// the few kilobytes that every artifact has in addition.
const MOST_GROWTH: u64 = 32;

/// Further bytes that an artifact may have for each function, however short the function is. An
/// artifact contains lists of addresses, frames and traps, with about 300 bytes for each function.
const MOST_PER_FUNCTION: u64 = 512;

/// Bytes that every artifact may have, even the artifact of the smallest module.
const SMALL_ARTIFACT: u64 = 1 << 20;

/// The size limit of an artifact in bytes. `module` is the length of its module in bytes, and
/// `functions` the number of its functions.
pub(super) fn most_bytes(module: usize, functions: u32) -> u64 {
    SMALL_ARTIFACT + MOST_GROWTH * module as u64 + MOST_PER_FUNCTION * u64::from(functions)
}

/// Checks that an artifact is not larger than [`most_bytes`] allows for its module.
///
/// # Errors
/// The artifact is too large.
pub(super) fn check(module: usize, functions: u32, artifact: usize) -> Result<(), Refusal> {
    let most = most_bytes(module, functions);
    if artifact as u64 <= most {
        return Ok(());
    }
    Err(Refusal::new(
        format!("its {module} bytes were compiled to {artifact} bytes of code"),
        format!(
            "the limit is {most} bytes, about {MOST_GROWTH} times the size of the module; usual \
             modules need far less"
        ),
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
