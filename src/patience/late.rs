//! The error for an answer that did not come in time.
//!
//! [`is_late`] detects this error by its type. It does not use the [`io::ErrorKind`], because the
//! kernel can return an error of the same kind at once, for example for a file that is in use.
//! [`is_late`] also accepts the kernel's error ETIMEDOUT, which comes from a network file system
//! that has its own time limit. `patience.rs` and `patience/places.rs` make such errors.

use std::error::Error;
use std::fmt;
use std::io;
use std::time::Duration;

use nix::libc::ETIMEDOUT;

/// The reason why no answer came, as text for the operator.
#[derive(Debug)]
struct Late(String);

impl fmt::Display for Late {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl Error for Late {}

/// Returns an error that [`is_late`] detects. `words` is its text.
pub fn late(words: impl Into<String>) -> io::Error {
    io::Error::new(io::ErrorKind::TimedOut, Late(words.into()))
}

/// Whether the error means that no answer came in time. After such an error, another try may
/// succeed.
pub fn is_late(error: &io::Error) -> bool {
    let is_ours = error.get_ref().is_some_and(|inner| inner.is::<Late>());
    is_ours || error.raw_os_error() == Some(ETIMEDOUT)
}

/// Returns the error for an answer that did not come within `limit`.
pub fn no_answer(limit: Duration) -> io::Error {
    // The limit may be the remaining part of a longer limit, for example 4.999913 s. The text
    // rounds this example to 5 s.
    let hundredths = (limit.as_millis() as u64).saturating_add(5) / 10;
    let limit = Duration::from_millis(hundredths * 10);
    late(format!("no answer for {limit:?}"))
}

#[cfg(test)]
mod tests {
    use nix::libc::{EAGAIN, EBUSY, ETXTBSY};

    use super::*;

    /// An earlier version of the daemon reported that a disk did not answer. But the kernel had
    /// answered at once that the file was in use.
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
