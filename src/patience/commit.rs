//! A step that cannot be taken back, at the end of work whose caller may stop waiting before the
//! step.
//!
//! A caller that waits for a disk gives up after a limit, and must then know how far the work has
//! come. Without [`Commit`], two reports could be false. Work that was reported as failed could be
//! done a moment later. Work that is done could be reported as failed, because a later call hangs.
//! The waiting itself is in `../patience.rs`.

use std::io;
use std::sync::atomic::{AtomicU8, Ordering};

use super::{is_late, late};

/// The step has not begun, and no caller has given it up.
const OPEN: u8 = 0;
/// The step has begun, and may hang.
const UNDER_WAY: u8 = 1;
/// The step is done.
const DONE: u8 = 2;
/// The step is not done, and will never be done.
const OFF: u8 = 3;

/// A step that cannot be taken back, such as giving a file its name.
///
/// ```text
///  OPEN ──▶ UNDER_WAY ──▶ DONE
///    └──────────┴───────▶ OFF     given up before it begins, or it fails
/// ```
#[derive(Debug, Default)]
pub struct Commit(
    /// The state: one of the constants above. The thread that works and the caller that waits both
    /// write it. Each of them leaves OPEN in one atomic operation, so only one of them succeeds.
    AtomicU8,
);

/// The state of a step at the moment when the caller gave it up.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Committed {
    /// The step is not done, and will never be done.
    No,
    /// The step has begun, and has no result yet.
    Unknown,
    /// The step is done.
    Yes,
}

impl Commit {
    /// Does the step, unless the caller has given it up.
    ///
    /// # Errors
    /// The errors of `step`. If the caller has given up, an error for which [`is_late`] is true.
    pub fn make(&self, step: impl FnOnce() -> io::Result<()>) -> io::Result<()> {
        if self.leave_open(UNDER_WAY).is_err() {
            return Err(late("it is not wanted any more"));
        }
        let result = step();
        let outcome = match &result {
            Ok(()) => DONE,
            // A file server may have done the step although its answer was lost.
            Err(error) if is_late(error) => UNDER_WAY,
            Err(_) => OFF,
        };
        self.0.store(outcome, Ordering::Release);
        result
    }

    /// Gives the step up. If the step has not begun, it will never be done.
    pub fn give_up(&self) -> Committed {
        match self.leave_open(OFF) {
            Err(UNDER_WAY) => Committed::Unknown,
            Err(DONE) => Committed::Yes,
            _ => Committed::No,
        }
    }

    /// Changes the state if it is still OPEN; otherwise returns the present state as an error.
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

        // An NFS server may do the step after the kernel has stopped waiting.
        let lost = Commit::default();
        lost.make(|| Err(io::Error::from_raw_os_error(nix::libc::ETIMEDOUT))).unwrap_err();
        assert_eq!(lost.give_up(), Committed::Unknown);

        let given_up = Commit::default();
        assert_eq!(given_up.give_up(), Committed::No);
        let late = given_up.make(|| panic!("nobody waits any more")).unwrap_err();
        assert!(crate::patience::is_late(&late), "{late}");
    }
}
