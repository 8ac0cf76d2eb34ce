//! The state of a value at the moment of a request, and the answer that this state allows.
//!
//! A register cannot show that its number is bad, so the server must not send a bad number as if
//! the number were good. The key `quality` adds a companion: a second register or bit that shows
//! the quality of the value. Without a companion, the server does not send a number that is
//! uncertain or bad. The table lists the answers. A usable value is the last value that was not
//! bad, if it fits its type on the wire. For a command, it is the last written value. The key
//! `on_bad` of an entry of `show` selects the answer for a bad value, and for an uncertain value
//! without a companion. A command, which is an input that clients write, has no key `on_bad`;
//! `Command::instead` selects its answer.
//!
//! | the value is | with a companion | without a companion |
//! |---|---|---|
//! | good | the value | the value |
//! | uncertain | the value | the answer from `on_bad` |
//! | bad | the answer from `on_bad` | the answer from `on_bad` |
//! | bad, no usable value | exception 4, or a fixed value | the answer from `on_bad` |

use super::request::Exception;
use crate::driver::modbus::wire::table::Table;
use crate::process::image::{Class, Quality, Raw};

/// The state of a value at the moment of a request: its last usable value and its quality.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Seen {
    /// The last usable value in its form on the wire; `None` if there is no usable value.
    pub(super) raw: Option<Raw>,
    pub(super) quality: Quality,
}

/// The answer that the server sends in place of a bad value, or in place of an uncertain value
/// without a companion.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) enum Instead {
    /// Exception 4, "server device failure".
    Exception,
    /// The last usable value. The value has a companion, so the client can see that the value is
    /// old. If there is no usable value, the server sends exception 4.
    Keep,
    /// A fixed value from the configuration. The client must know that this value means "bad".
    Value(Raw),
}

impl Seen {
    /// Makes the state of a value that is not known. `quality` shows the reason.
    pub(super) const fn nothing(quality: Quality) -> Self {
        Self { raw: None, quality }
    }

    /// Returns the raw value that the server may send, or the exception that the server must send.
    pub(super) fn answer(self, instead: Instead, has_companion: bool) -> Result<Raw, Exception> {
        let is_shown = match self.quality.class() {
            Class::Good => true,
            Class::Uncertain => has_companion,
            Class::Bad => false,
        };
        match instead {
            _ if is_shown => self.raw,
            Instead::Exception => None,
            Instead::Keep => self.raw,
            Instead::Value(raw) => Some(raw),
        }
        .ok_or(Exception::Failure)
    }

    /// Returns the content of the companion. A register contains 0 for good, 1 for uncertain or 2
    /// for bad. A bit is 1 if the value is good, and 0 if not.
    pub(super) fn companion(self, table: Table) -> Raw {
        let class = self.quality.class();
        let shown = match table.is_bits() {
            true => u8::from(class == Class::Good),
            false => class as u8,
        };
        [shown, 0, 0, 0, 0, 0, 0, 0]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn doubt_is_never_hidden() {
        let raw = |n| [n, 0, 0, 0, 0, 0, 0, 0];
        fn check(seen: Seen, instead: Instead, with: Option<Raw>, without: Option<Raw>) {
            assert_eq!(seen.answer(instead, true).ok(), with, "{seen:?} {instead:?}");
            assert_eq!(seen.answer(instead, false).ok(), without, "{seen:?} {instead:?}");
        }
        let seen = |quality| Seen { raw: Some(raw(7)), quality };
        for instead in [Instead::Exception, Instead::Keep, Instead::Value(raw(9))] {
            check(seen(Quality::Good), instead, Some(raw(7)), Some(raw(7)));
            check(seen(Quality::Forced), instead, Some(raw(7)), Some(raw(7)));
        }
        check(seen(Quality::Stale), Instead::Exception, Some(raw(7)), None);
        check(seen(Quality::Stale), Instead::Value(raw(9)), Some(raw(7)), Some(raw(9)));
        check(seen(Quality::NoComm), Instead::Exception, None, None);
        check(seen(Quality::NoComm), Instead::Value(raw(9)), Some(raw(9)), Some(raw(9)));
        assert_eq!(seen(Quality::NoComm).answer(Instead::Keep, true), Ok(raw(7)));
        check(Seen::nothing(Quality::Waiting), Instead::Keep, None, None);
        check(Seen::nothing(Quality::Good), Instead::Keep, None, None);
        let failed = Seen::nothing(Quality::Waiting).answer(Instead::Exception, true);
        assert_eq!(failed, Err(Exception::Failure));
    }
}
