//! Names that people give to plugins, points, devices and variables: one rule for all of them.
//!
//! A name can be typed on a command line without quotes, is never taken for an option, and can be
//! the name of a file: it has no slash and does not begin with a dot, so it leads out of no folder.
//!
//! A [`Name`] is a text that keeps the rule. It comes into being where text comes in, and only
//! there: in the configuration, in the path of a request, from a file of the plugin folder, on the
//! command line. All of them refuse another text with the same words. Behind these places a name
//! is read as the text that it is.
//!
//! Programs may give other names to the variables that they make; those are bounded in
//! `process/variable.rs`. Names for strangers, such as MQTT topics, have rules of their own.

use std::borrow::Borrow;
use std::fmt;
use std::marker::PhantomData;
use std::ops::Deref;
use std::str::FromStr;

/// The most bytes of a name. A file name may have 255 on Linux: this leaves room for `.wasm` and
/// for what is added while the file is written.
pub const MAX_BYTES: usize = 128;

/// The rule in words, to follow "expected" or "use".
pub const RULE: &str = "1 to 128 of the characters A-Z a-z 0-9 _ - . with - and . not first";

/// A text that keeps the rule, as the name of one kind of thing: the name of a plugin cannot be
/// given where that of a device is meant. Every use of the text works on a name, too.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Name<K> {
    text: String,
    kind: PhantomData<K>,
}

/// A kind of thing that has names.
pub trait Kind {
    /// The thing with its article, for messages.
    const A_THING: &'static str;
}

/// The kind of [`PluginName`].
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct OfPlugin;

impl Kind for OfPlugin {
    const A_THING: &'static str = "a plugin";
}

/// The name of a plugin: that of its file, without `.wasm`.
pub type PluginName = Name<OfPlugin>;

/// The kind of [`DeviceName`].
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct OfDevice;

impl Kind for OfDevice {
    const A_THING: &'static str = "a device";
}

/// The name of a device in the field.
pub type DeviceName = Name<OfDevice>;

/// The kind of [`PointName`].
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct OfPoint;

impl Kind for OfPoint {
    const A_THING: &'static str = "a point";
}

/// The name of an input or an output.
pub type PointName = Name<OfPoint>;

/// The kind of [`VariableName`].
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct OfVariable;

impl Kind for OfVariable {
    const A_THING: &'static str = "a variable";
}

/// The name of a variable that the configuration declares. Only the configuration reads such names:
/// behind it these variables stand in one list with those that programs make, and an operator may
/// ask for any of them.
pub type VariableName = Name<OfVariable>;

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

impl<K> Name<K> {
    /// The text of the name.
    pub fn as_str(&self) -> &str {
        &self.text
    }
}

impl<K> FromStr for Name<K> {
    type Err = NoName;

    fn from_str(text: &str) -> Result<Self, NoName> {
        let is_part = |byte: u8| byte.is_ascii_alphanumeric() || b"_-.".contains(&byte);
        let is_name = (1..=MAX_BYTES).contains(&text.len())
            && text.bytes().all(is_part)
            && !text.starts_with(['-', '.']);
        match is_name {
            true => Ok(Self { text: text.to_owned(), kind: PhantomData }),
            false => Err(NoName(text.to_owned())),
        }
    }
}

impl<K> Deref for Name<K> {
    type Target = str;

    fn deref(&self) -> &str {
        &self.text
    }
}

impl<K> AsRef<str> for Name<K> {
    fn as_ref(&self) -> &str {
        self
    }
}

/// A map that is keyed by names can be asked with a text: both have the same order and hash.
impl<K> Borrow<str> for Name<K> {
    fn borrow(&self) -> &str {
        self
    }
}

impl<K> From<Name<K>> for String {
    fn from(name: Name<K>) -> Self {
        name.text
    }
}

impl<K> PartialEq<str> for Name<K> {
    fn eq(&self, text: &str) -> bool {
        self.text == *text
    }
}

impl<K> PartialEq<&str> for Name<K> {
    fn eq(&self, text: &&str) -> bool {
        self.text == **text
    }
}

impl<K> PartialEq<Name<K>> for String {
    fn eq(&self, name: &Name<K>) -> bool {
        *self == name.text
    }
}

impl<K> fmt::Display for Name<K> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(&self.text, f)
    }
}

impl<K> fmt::Debug for Name<K> {
    /// The text in quotes, as messages show it.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(&self.text, f)
    }
}

#[cfg(test)]
mod tests {
    use std::collections::{BTreeMap, HashMap};

    use super::*;

    #[test]
    fn one_rule_for_all_names() {
        let check = |text: &str, expected| {
            assert_eq!(text.parse::<PluginName>().is_ok(), expected, "{text:?}");
        };
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
        let message = "a\nb".parse::<PluginName>().unwrap_err().to_string();
        assert_eq!(message, format!("expected {RULE}, found \"a\\nb\""));
        assert!(RULE.contains(&MAX_BYTES.to_string()), "the number in the words");
    }

    #[test]
    fn a_map_of_names_is_asked_with_a_text() {
        let name: PluginName = "tank".parse().unwrap();
        assert_eq!(HashMap::from([(name.clone(), 1)]).get("tank"), Some(&1));
        assert_eq!(BTreeMap::from([(name.clone(), 1)]).get("tank"), Some(&1));
        assert_eq!(format!("{name} {name:?} {name:>5}"), "tank \"tank\"  tank");
    }
}
