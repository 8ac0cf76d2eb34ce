//! The limit on the compiled code of all instances of this process together.
//!
//! Each instance loads its own copy of the code into its own wasmer engine. The reason: an engine
//! frees its code only when the engine is dropped. A module of 1 MiB can become more than 100 MiB
//! of code. So the code of all instances together has a limit, and a new instance that would exceed
//! the limit is refused. The limit on a single artifact is in `module/compile/artifact.rs`.

use std::sync::atomic::{AtomicU64, Ordering};

use crate::plugin::Refusal;

/// Sum of the sizes of all loaded artifacts, in bytes. Each thread that prepares an instance adds
/// to this number; each thread that drops an instance subtracts from it.
static LOADED: AtomicU64 = AtomicU64::new(0);

/// The number of bytes that one instance has added to [`LOADED`]. Dropping this value subtracts
/// this number.
#[derive(Debug)]
pub(super) struct Share(u64);

impl Share {
    /// Adds `bytes` to [`LOADED`] for a new instance. `limit` is the largest sum for all instances.
    ///
    /// # Errors
    /// When the sum would exceed the limit.
    pub(super) fn take(bytes: u64, limit: u64) -> Result<Self, Refusal> {
        let add = |loaded: u64| loaded.checked_add(bytes).filter(|sum| *sum <= limit);
        match LOADED.try_update(Ordering::Relaxed, Ordering::Relaxed, add) {
            Ok(_) => Ok(Self(bytes)),
            Err(loaded) => {
                let refusal = Refusal::new(
                    format!(
                        "its compiled code has {bytes} bytes, and the code of all other programs \
                         together has {loaded} bytes"
                    ),
                    format!(
                        "the limit for all programs together is {limit} bytes (plugins.code in the \
                         configuration); make the plugin smaller or remove another plugin"
                    ),
                );
                // If this artifact alone does not exceed the limit, the refusal is temporary,
                // because other instances may be dropped later.
                Err(if bytes <= limit { refusal.by_accident() } else { refusal })
            }
        }
    }
}

impl Drop for Share {
    fn drop(&mut self) {
        LOADED.fetch_sub(self.0, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_given_back_can_be_taken_again() {
        // The limit is far above the size of the code that other tests in this process load.
        const LIMIT: u64 = 1 << 50;
        let most = Share::take(LIMIT - (1 << 40), LIMIT).expect("it fits the limit");
        let refusal = Share::take(2 << 40, LIMIT).expect_err("it exceeds the limit");
        assert!(refusal.remedy.contains("plugins.code"), "{refusal}");
        assert!(refusal.is_accidental, "other programs may end");
        let refusal = Share::take(LIMIT + 1, LIMIT).expect_err("it exceeds the limit alone");
        assert!(!refusal.is_accidental, "a retry cannot help");
        drop(most);
        Share::take(2 << 40, LIMIT).expect("it fits the limit again");
    }
}
