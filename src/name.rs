//! Names of plugins, points, devices and variables, and the one rule for all these names.
//!
//! The rule is the text [`RULE`]; an example of a name is `tank-level_2`. The rule has two
//! purposes. An operator can type a name on a command line without quotes, and the command line
//! never treats a name as an option. A name can also be part of a file name. A name has no slash
//! and does not begin with a dot. So a path that consists of a folder and a name always leads into
//! this folder.
//!
//! A [`Name`] is a text that follows the rule. The text is checked when the [`Name`] is created,
//! and not again later. Names are created only from texts that come from outside of Camshaft. The
//! sources are the configuration, the path of a request, a file of the plugin folder, and the
//! command line. For a text that does not follow the rule, the code for each of these sources
//! reports the error [`NoName`].
//!
//! Two kinds of names do not follow this rule. A variable that a program creates may have any name
//! up to the length limit of `process/variable.rs`. Names in other systems, such as MQTT topics,
//! follow the rules of those systems.

use std::borrow::Borrow;
use std::fmt;
use std::marker::PhantomData;
use std::ops::Deref;
use std::str::FromStr;

/// The maximum length of a name, in bytes. On Linux a file name may have 255 bytes. The limit
/// leaves room for `.wasm`, and for a suffix that some copy tools add to the file name during a
/// copy.
pub const MAX_BYTES: usize = 128;

/// The rule as a text for messages. The text comes after "expected" or "use" in a message.
pub const RULE: &str =
    "1 to 128 of the characters A-Z a-z 0-9 _ - . beginning with a letter, a digit or _";

/// A name that follows the rule. The type parameter `K` is the kind of thing that has the name, for
/// example a plugin. So the compiler refuses the name of a plugin where the name of a device is
/// expected. A [`Name`] can be used wherever a `&str` can be used.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Name<K> {
    text: String,
    kind: PhantomData<K>,
}

/// A kind of thing that has a name: a plugin, a device, a point or a variable.
pub trait NameKind {
    /// The word for the kind with its article, for messages.
    const A_THING: &'static str;
}

/// The type argument of [`Name`] in [`PluginName`].
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct OfPlugin;

impl NameKind for OfPlugin {
    const A_THING: &'static str = "a plugin";
}

/// The name of a plugin: the name of its file, without `.wasm`.
pub type PluginName = Name<OfPlugin>;

/// The type argument of [`Name`] in [`DeviceName`].
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct OfDevice;

impl NameKind for OfDevice {
    const A_THING: &'static str = "a device";
}

/// The name of a device in the field.
pub type DeviceName = Name<OfDevice>;

/// The type argument of [`Name`] in [`PointName`].
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct OfPoint;

impl NameKind for OfPoint {
    const A_THING: &'static str = "a point";
}

/// The name of a point: an input or an output.
pub type PointName = Name<OfPoint>;

/// The type argument of [`Name`] in [`VariableName`].
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct OfVariable;

impl NameKind for OfVariable {
    const A_THING: &'static str = "a variable";
}

/// The name of a variable that the configuration declares. Only the code for the configuration
/// creates values of this type. In the running daemon, declared variables and variables that
/// programs have created are in one list. An operator may ask for any variable of this list, so an
/// operator's command contains the name of a variable as a plain text.
pub type VariableName = Name<OfVariable>;

/// The error for a text that does not follow the rule. The error contains the text.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NoName(String);

impl fmt::Display for NoName {
    /// Writes `expected ..., found "..."`, on one line.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "expected {RULE}, found {:?}", self.0)
    }
}

impl std::error::Error for NoName {}

impl<K> Name<K> {
    /// Returns the text of the name.
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

/// With this implementation, a map whose keys are names can be searched with a plain text. This is
/// correct, because a name and its text have equal order and equal hashes.
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
    /// Writes the text in quotes, as in messages.
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
