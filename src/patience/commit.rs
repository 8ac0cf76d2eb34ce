//! A step that cannot be taken back, in work that may be given up before it.
//!
//! Whoever waits for a disk gives up after a while, and is told how far the work had come by then.
//! Without this, what was said to have failed may be done a moment later, and what is done may be
//! said to have failed, because something behind it hangs.

use std::io;
use std::sync::atomic::{AtomicU8, Ordering};

use super::{is_late, late};

/// Nobody has given it up, and it is not taken yet.
const OPEN: u8 = 0;
/// It is being taken, and may hang.
const UNDER_WAY: u8 = 1;
/// It is taken.
const DONE: u8 = 2;
/// It is not taken and will not be.
const OFF: u8 = 3;

/// One such step, such as giving a file its name.
///
/// ```text
///  OPEN ──▶ UNDER_WAY ──▶ DONE
///    └──────────┴───────▶ OFF     given up before it, or it has failed
/// ```
#[derive(Debug, Default)]
pub struct Commit(
    /// Written by the thread that works and by whoever waits for it; both leave OPEN in one step.
    AtomicU8,
);

/// What has become of a step at the moment at which it was given up.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Committed {
    /// It is not taken and will not be.
    No,
    /// It has begun, and has no answer yet.
    Unknown,
    /// It is taken.
    Yes,
}

impl Commit {
    /// Takes the step, unless it was given up.
    ///
    /// # Errors
    /// Those of `step`, and one that [`is_late`] if it was given up.
    pub fn make(&self, step: impl FnOnce() -> io::Result<()>) -> io::Result<()> {
        if self.leave_open(UNDER_WAY).is_err() {
            return Err(late("it is not wanted any more"));
        }
        let result = step();
        let outcome = match &result {
            Ok(()) => DONE,
            // The other side may have taken it, and its answer was lost.
            Err(error) if is_late(error) => UNDER_WAY,
            Err(_) => OFF,
        };
        self.0.store(outcome, Ordering::Release);
        result
    }

    /// Gives it up: if it has not begun it never does.
    pub fn give_up(&self) -> Committed {
        match self.leave_open(OFF) {
            Err(UNDER_WAY) => Committed::Unknown,
            Err(DONE) => Committed::Yes,
            _ => Committed::No,
        }
    }

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

        // An NFS server may do it after the kernel has given it up.
        let lost = Commit::default();
        lost.make(|| Err(io::Error::from_raw_os_error(nix::libc::ETIMEDOUT))).unwrap_err();
        assert_eq!(lost.give_up(), Committed::Unknown);

        let given_up = Commit::default();
        assert_eq!(given_up.give_up(), Committed::No);
        let late = given_up.make(|| panic!("nobody waits any more")).unwrap_err();
        assert!(crate::patience::is_late(&late), "{late}");
    }
}
