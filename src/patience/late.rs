//! The error for an answer that does not come in time.
//!
//! [`is_late`] recognises the error by its type, not by its [`io::ErrorKind`], because the kernel
//! gives the same kinds for files that are in use, and such an answer comes at once. A time-out of
//! the kernel itself counts as this error too, because it comes from a network file system with a
//! limit of its own. `../patience.rs` and `places.rs` make such errors.

use std::error::Error;
use std::fmt;
use std::io;
use std::time::Duration;

use nix::libc::ETIMEDOUT;

/// The reason why there is no answer, in words for the operator.
#[derive(Debug)]
struct Late(String);

impl fmt::Display for Late {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl Error for Late {}

/// An error that says with `words` that there was no answer in time.
pub fn late(words: impl Into<String>) -> io::Error {
    io::Error::new(io::ErrorKind::TimedOut, Late(words.into()))
}

/// Whether the error says that there was no answer in time. If so, another try may succeed.
pub fn is_late(error: &io::Error) -> bool {
    let is_ours = error.get_ref().is_some_and(|inner| inner.is::<Late>());
    is_ours || error.raw_os_error() == Some(ETIMEDOUT)
}

/// The error for an answer that has not come within this limit.
pub fn no_answer(limit: Duration) -> io::Error {
    // The time that is left of a limit is no round number, so the text rounds it.
    let hundredths = (limit.as_millis() as u64).saturating_add(5) / 10;
    let limit = Duration::from_millis(hundredths * 10);
    late(format!("no answer for {limit:?}"))
}

#[cfg(test)]
mod tests {
    use nix::libc::{EAGAIN, EBUSY, ETXTBSY};

    use super::*;

    /// A file that was in use was reported as one on a disk that gives no answer, although the
    /// answer had come at once.
    #[test]
    fn only_what_has_no_answer_is_late() {
        let check = |error: io::Error, expected| assert_eq!(is_late(&error), expected, "{error:?}");
        check(no_answer(Duration::from_secs(5)), true);
        check(late("so many earlier calls wait"), true);
        check(io::Error::from_raw_os_error(ETIMEDOUT), true);
        for code in [EBUSY, EAGAIN, ETXTBSY] {
            check(io::Error::from_raw_os_error(code), false);
        }
        for kind in [io::ErrorKind::ResourceBusy, io::ErrorKind::TimedOut] {
            check(io::Error::new(kind, "of somebody else"), false);
            check(kind.into(), false);
        }
    }

    #[test]
    fn a_limit_is_said_in_hundredths_of_a_second() {
        let check = |micros, words: &str| {
            assert_eq!(no_answer(Duration::from_micros(micros)).to_string(), words);
        };
        check(4_999_913, "no answer for 5s");
        check(50_000, "no answer for 50ms");
    }
}
