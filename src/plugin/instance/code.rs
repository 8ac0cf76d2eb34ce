//! The limit of the compiled code that all instances of this process hold together.
//!
//! Each instance has code of its own, because wasmer's engine gives no code back before it is
//! dropped. A module of 1 MiB can become more than 100 MiB of code. So the code of all instances
//! together has a limit, and an instance beyond the limit is refused. How large a single artifact
//! may be is decided in `module/compile/artifact.rs`.

use std::sync::atomic::{AtomicU64, Ordering};

use crate::plugin::Refusal;

/// Bytes of all artifacts that are loaded. Every thread that prepares or drops an instance changes
/// it.
static LOADED: AtomicU64 = AtomicU64::new(0);

/// The share of one instance, in bytes. Dropping it gives the bytes back.
#[derive(Debug)]
pub(super) struct Share(u64);

impl Share {
    /// Takes `bytes` from the `limit` in bytes for all instances.
    ///
    /// # Errors
    /// When fewer bytes are left.
    pub(super) fn take(bytes: u64, limit: u64) -> Result<Self, Refusal> {
        let add = |loaded: u64| loaded.checked_add(bytes).filter(|sum| *sum <= limit);
        match LOADED.try_update(Ordering::Relaxed, Ordering::Relaxed, add) {
            Ok(_) => Ok(Self(bytes)),
            Err(loaded) => {
                let refusal = Refusal::new(
                    format!("its code has {bytes} bytes, and other programs hold {loaded}"),
                    format!(
                        "the limit for all is {limit} (plugins.code in the configuration); make \
                         it smaller or remove another plugin"
                    ),
                );
                // The refusal is accidental if the artifact alone is within the limit, because
                // other instances may give back their shares.
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
        // Other tests of this process hold little code compared with this limit.
        const LIMIT: u64 = 1 << 50;
        let most = Share::take(LIMIT - (1 << 40), LIMIT).expect("so much is left");
        let refusal = Share::take(2 << 40, LIMIT).expect_err("so much is not left");
        assert!(refusal.remedy.contains("plugins.code"), "{refusal}");
        assert!(refusal.is_accidental, "others may give back what they hold");
        let refusal = Share::take(LIMIT + 1, LIMIT).expect_err("it is more than the limit");
        assert!(!refusal.is_accidental, "it never fits");
        drop(most);
        Share::take(2 << 40, LIMIT).expect("so much is left again");
    }
}
