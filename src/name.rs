//! Names that people give to plugins, points, devices and variables: one rule for all of them.
//!
//! A name can be typed on a command line without quotes, is never taken for an option, and can be
//! the name of a file: it has no slash and does not begin with a dot, so it leads out of no folder.
//! The plugin folder, the requests and the configuration ask the same question here, and answer it
//! with the same words. Programs may give other names to the variables that they make; those are
//! bounded in `process/variable.rs`. Names for strangers, such as MQTT topics, have rules of their
//! own.

use std::fmt;

/// The most bytes of a name. A file name may have 255 on Linux: this leaves room for `.wasm` and
/// for what is added while the file is written.
pub const MAX_BYTES: usize = 128;

/// The rule in words, to follow "expected" or "use".
pub const RULE: &str = "1 to 128 of the characters A-Z a-z 0-9 _ - . with - and . not first";

/// A text that is no name.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NoName(String);

impl fmt::Display for NoName {
    /// The words `expected ..., found "..."`, on one line.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "expected {RULE}, found {:?}", self.0)
    }
}

impl std::error::Error for NoName {}

/// Whether a text is a name.
pub fn is_name(text: &str) -> bool {
    let is_part = |byte: u8| byte.is_ascii_alphanumeric() || b"_-.".contains(&byte);
    (1..=MAX_BYTES).contains(&text.len())
        && text.bytes().all(is_part)
        && !text.starts_with(['-', '.'])
}

/// Checks that a text is a name.
///
/// # Errors
/// It is none.
pub fn check(text: &str) -> Result<(), NoName> {
    match is_name(text) {
        true => Ok(()),
        false => Err(NoName(text.to_owned())),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_rule_for_all_names() {
        let check = |text: &str, expected| assert_eq!(is_name(text), expected, "{text:?}");
        for name in ["tank", "Tank-2_b.v1", "tank-level_2.old", "_x", "7", &"x".repeat(MAX_BYTES)] {
            check(name, true);
        }
        check(&"x".repeat(MAX_BYTES + 1), false);
        for text in ["", ".", "..", ".hidden", "-x", "a/b", "../x", "a b", "a\0b", "pümpe", "a\n"]
        {
            check(text, false);
        }
    }

    #[test]
    fn the_message_names_the_rule_and_the_text() {
        let message = check("a\nb").unwrap_err().to_string();
        assert_eq!(message, format!("expected {RULE}, found \"a\\nb\""));
        assert!(RULE.contains(&MAX_BYTES.to_string()), "the number in the words");
    }
}
