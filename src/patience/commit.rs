//! A final step of some work: a step that cannot be undone. The caller of the work may stop waiting
//! at any time.
//!
//! Example: a thread writes a file and then renames it, and the rename is the final step. The
//! caller waits up to a limit and then reports the result. Without [`Commit`] the report could be
//! wrong in two ways. The caller could report a failure, and a moment later the thread could do the
//! step. Or the thread could do the step, and the caller could report a failure, because a later
//! call hangs. `patience.rs` implements the wait.

use std::io;
use std::sync::atomic::{AtomicU8, Ordering};

use super::{is_late, late};

/// The step has not begun, and the caller has not given up.
const OPEN: u8 = 0;
/// The step has begun and has no result yet; it may hang. Or the step has ended with an error for
/// which [`is_late`] is true, so its result is not known.
const UNDER_WAY: u8 = 1;
/// The step is done.
const DONE: u8 = 2;
/// The step is not done and will never be done.
const OFF: u8 = 3;

/// A step that cannot be undone, such as renaming a file.
///
/// ```text
///  OPEN ──▶ UNDER_WAY ──▶ DONE
///    └──────────┴───────▶ OFF     given up before it begins, or it fails
/// ```
#[derive(Debug, Default)]
pub struct Commit(
    /// The state: one of the constants above. The working thread and the waiting caller both change
    /// it. Each of them leaves OPEN by one atomic operation, so only one of the two succeeds.
    AtomicU8,
);

/// The state of the step at the time when the caller gave up.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Committed {
    /// The step is not done and will never be done.
    No,
    /// The step has begun and has no result yet, or its answer was lost. Later the step may be done
    /// or not.
    Unknown,
    /// The step is done.
    Yes,
}

impl Commit {
    /// Does the step, unless the caller has given up before.
    ///
    /// # Errors
    /// Returns the errors of `step`. If the caller has given up, returns an error for which
    /// [`is_late`] is true.
    pub fn make(&self, step: impl FnOnce() -> io::Result<()>) -> io::Result<()> {
        if self.leave_open(UNDER_WAY).is_err() {
            return Err(late("the step is not done, because the caller no longer waits"));
        }
        let result = step();
        let outcome = match &result {
            Ok(()) => DONE,
            // The answer of a file server was lost: the server may have done the step, or not.
            Err(error) if is_late(error) => UNDER_WAY,
            Err(_) => OFF,
        };
        self.0.store(outcome, Ordering::Release);
        result
    }

    /// Gives up the step and returns its state. If the step has not begun, it will never be done.
    pub fn give_up(&self) -> Committed {
        match self.leave_open(OFF) {
            Err(UNDER_WAY) => Committed::Unknown,
            Err(DONE) => Committed::Yes,
            _ => Committed::No,
        }
    }

    /// Changes the state from OPEN to `to`. If the state is not OPEN, returns that state as an
    /// error.
    fn leave_open(&self, to: u8) -> Result<u8, u8> {
        self.0.compare_exchange(OPEN, to, Ordering::AcqRel, Ordering::Acquire)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn whoever_gives_up_hears_how_far_it_has_come() {
        let commit = Commit::default();
        commit
            .make(|| {
                assert_eq!(commit.give_up(), Committed::Unknown);
                Ok(())
            })
            .unwrap();
        assert_eq!(commit.give_up(), Committed::Yes);

        let failed = Commit::default();
        failed.make(|| Err(io::Error::other("no room"))).unwrap_err();
        assert_eq!(failed.give_up(), Committed::No);

        // An NFS server may do the step after the kernel has stopped waiting for the answer.
        let lost = Commit::default();
        lost.make(|| Err(io::Error::from_raw_os_error(nix::libc::ETIMEDOUT))).unwrap_err();
        assert_eq!(lost.give_up(), Committed::Unknown);

        let given_up = Commit::default();
        assert_eq!(given_up.give_up(), Committed::No);
        let late = given_up.make(|| panic!("nobody waits any more")).unwrap_err();
        assert!(crate::patience::is_late(&late), "{late}");
    }
}
