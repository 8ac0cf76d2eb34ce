//! Names that people give to plugins, points, devices and variables: one rule for all of them.
//!
//! A name can be typed on a command line without quotes, and the command line never takes it for an
//! option. A name can be part of a file's name: it has no slash and does not begin with a dot, so a
//! path made from it stays inside its folder.
//!
//! A [`Name`] is a text that keeps the rule. Names are made only where text enters the daemon: in
//! the configuration, in the path of a request, from a file of the plugin folder, on the command
//! line. All these places refuse a wrong text with the same words. All code behind these places
//! takes a [`Name`] and does not check the text again.
//!
//! Programs may give other names to the variables that they make; `process/variable.rs` bounds
//! those names. Names for other systems, such as MQTT topics, have rules of their own.

use std::borrow::Borrow;
use std::fmt;
use std::marker::PhantomData;
use std::ops::Deref;
use std::str::FromStr;

/// The most bytes of a name. A file name may have 255 bytes on Linux. The limit leaves room for
/// `.wasm` and for a suffix that a copying program adds while it writes the file.
pub const MAX_BYTES: usize = 128;

/// The rule in words, to follow "expected" or "use".
pub const RULE: &str = "1 to 128 of the characters A-Z a-z 0-9 _ - . with - and . not first";

/// A text that keeps the rule, as the name of one kind of thing. The type parameter prevents that
/// the name of a plugin is given where the name of a device is meant. A name can be used wherever a
/// text can be used.
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

/// The name of a plugin: the name of its file, without `.wasm`.
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

/// The name of a variable that the configuration declares. Only the configuration makes such names.
/// Once the daemon runs, declared variables are in one list with variables that programs make, and
/// an operator may ask for any of them.
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

/// A map whose keys are names can be asked with a text, because a name and its text have the same
/// order and the same hash.
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
