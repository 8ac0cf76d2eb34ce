//! What is known about a value at the moment of a request, and what the server may answer.
//!
//! A register cannot express doubt, so a bad number must not look like a good one. Either a
//! companion cell says how far it can be trusted (the key `quality`), or the number is not given.
//! The table says what the server answers:
//!
//! | the value is | with a companion | without |
//! |---|---|---|
//! | good | the value | the value |
//! | uncertain | the value | as if it were bad |
//! | bad | what `on_bad` says | what `on_bad` says |
//! | bad, and never was good | what `on_bad` says; exception 4 for `keep` | what `on_bad` says |

use super::request::Exception;
use crate::driver::modbus::wire::table::Table;
use crate::process::image::{Class, Quality, Raw};

/// What is known about a value.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Seen {
    /// The last good value, in its form on the wire; `None` if it never was good or does not fit
    /// there.
    pub(super) raw: Option<Raw>,
    pub(super) quality: Quality,
}

/// The answer in place of a bad value.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) enum Instead {
    /// Exception 4, which says that the server has failed.
    Exception,
    /// The last good value. A companion is there, so the client can know that it is old.
    Keep,
    /// A value that is agreed to mean a bad one.
    Value(Raw),
}

impl Seen {
    /// No value, for this reason.
    pub(super) const fn nothing(quality: Quality) -> Self {
        Self { raw: None, quality }
    }

    /// The raw value that the server may answer, or the exception.
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

    /// The companion's cell in the same table. In a register: 0 for good, 1 for uncertain, 2 for
    /// bad. As a bit: whether the value is good.
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
