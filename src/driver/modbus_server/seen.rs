//! What is known of a value at the moment of a request, and what may be answered then.
//!
//! A register has no place for doubt, so a number that is not good must not look like one that is.
//! Either a companion says how far it can be believed (the key `quality`), or it is not given:
//!
//! | the value is | with a companion | without |
//! |---|---|---|
//! | good | the value | the value |
//! | uncertain | the value | as if it were bad |
//! | bad | what `on_bad` says | what `on_bad` says |
//! | bad, and never was good | what `on_bad` says, but nothing to keep: exception 4 | the same |

use super::request::Exception;
use crate::driver::modbus::request::Table;
use crate::image::{Class, Quality, Raw};

/// What is known of a value.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Seen {
    /// As it was when it was good last, in the form of the wire; `None` if it never was, or does
    /// not fit there.
    pub(super) raw: Option<Raw>,
    pub(super) quality: Quality,
}

/// What is answered for a value that is bad.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) enum Instead {
    /// That the server has failed, which is exception 4.
    Exception,
    /// The value that was good last. There is a companion, so somebody can know.
    Keep,
    /// A value that means it.
    Value(Raw),
}

impl Seen {
    /// Nothing, for this reason.
    pub(super) const fn nothing(quality: Quality) -> Self {
        Self { raw: None, quality }
    }

    /// What may be answered.
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

    /// What its companion shows, in the same table: a register 0 for good, 1 for uncertain, 2 for
    /// bad; a bit whether it is good.
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
