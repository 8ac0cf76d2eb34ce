//! Grants: the points and variables that the configuration allows a program to use.
//!
//! Points are granted by id. Variables are granted by name, because a program can create variables
//! while it runs. Every program may read all variables; a grant for variables concerns only writes.
//!
//! This file only stores the grants. `plugin/instance/rights.rs` makes lists from the grants of an
//! instance, and `plugin/instance/guest.rs` checks each call of the guest against these lists. The
//! present owner of each output is in `world.rs`.

use std::sync::Arc;

use super::image::PointId;

/// The points of one direction that a program may use.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub enum Grant {
    /// Every point of that direction. For outputs, the daemon replaces `All` by a list when it
    /// reads the configuration. If `[plugins] grant` is `"all"`, the list contains all outputs that
    /// are not in the list of any `[[plugin]]` entry. Otherwise the list is empty.
    #[default]
    All,
    /// Only these points. The list may be empty.
    Only(Vec<PointId>),
}

impl Grant {
    /// Whether the program may use the point `id`. The point must have the direction of this grant.
    pub fn allows(&self, id: PointId) -> bool {
        match self {
            Self::All => true,
            Self::Only(ids) => ids.contains(&id),
        }
    }
}

/// A list of variables in the configuration: whole names, and prefixes of names.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct VariableNames {
    /// Whole names, in alphabetical order.
    names: Vec<Box<str>>,
    /// Prefixes of names, in alphabetical order. No prefix in this list begins with another prefix
    /// in this list.
    beginnings: Vec<Box<str>>,
}

impl VariableNames {
    /// Makes the list from the entries in the configuration, for example from `["tank.setpoint",
    /// "alarm.*"]`. An entry that ends in `*` matches every name that begins with the text before
    /// the `*`.
    pub fn new<'n>(entries: impl IntoIterator<Item = &'n str>) -> Self {
        let (mut names, mut beginnings) = (Vec::<Box<str>>::new(), Vec::<Box<str>>::new());
        for entry in entries {
            match entry.strip_suffix('*') {
                Some(beginning) => beginnings.push(beginning.into()),
                None => names.push(entry.into()),
            }
        }
        names.sort_unstable();
        names.dedup();
        // A prefix that begins with another prefix is redundant. After the sort, a redundant prefix
        // directly follows the prefix that makes it redundant, so `dedup_by` removes it.
        beginnings.sort_unstable();
        beginnings.dedup_by(|next, kept| next.starts_with(&**kept));
        Self { names, beginnings }
    }

    /// Whether the list contains the variable `name`, as a whole name or by a prefix.
    pub fn contains(&self, name: &str) -> bool {
        if self.names.binary_search_by(|other| (**other).cmp(name)).is_ok() {
            return true;
        }
        // Only one prefix can match: the last prefix that is not after `name` in alphabetical
        // order.
        let behind = self.beginnings.partition_point(|beginning| **beginning <= *name);
        behind.checked_sub(1).is_some_and(|last| name.starts_with(&*self.beginnings[last]))
    }
}

/// The variables that a program may write. Two programs may have a grant for the same variable;
/// then both programs write this variable.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum VariableGrant {
    /// All variables except the variables in this list. The configuration grants the variables in
    /// the list to other programs.
    AllBut(Arc<VariableNames>),
    /// Only these variables. The list may be empty.
    Only(Arc<VariableNames>),
}

impl VariableGrant {
    /// Whether the program may write the variable `name`.
    pub fn allows(&self, name: &str) -> bool {
        match self {
            Self::AllBut(names) => !names.contains(name),
            Self::Only(names) => names.contains(name),
        }
    }
}

impl Default for VariableGrant {
    /// Returns the grant for all variables.
    fn default() -> Self {
        Self::AllBut(Arc::default())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_list_names_variables_and_beginnings() {
        let names = VariableNames::new([
            "tank.setpoint",
            "alarm.*",
            "alarm.high.*",
            "a*",
            "x",
            "x",
            "zz.*",
        ]);
        let check = |name: &str, expected| assert_eq!(names.contains(name), expected, "{name}");
        check("tank.setpoint", true);
        check("tank.setpoint2", false);
        check("tank.", false);
        check("alarm.low", true);
        check("alarm.high.3", true);
        check("a", true);
        check("b", false);
        check("x", true);
        check("xy", false);
        check("zz", false);
        check("zz.", true);
        check("zzz", false);
        check("", false);
        assert!(VariableNames::new(["*"]).contains("anything"));
        assert!(!VariableNames::default().contains("anything"));
    }

    #[test]
    fn beginnings_are_found_wherever_they_stand() {
        // The result is compared with a plain search, for all names of three letters.
        let letters = ["a", "b", "."];
        let words: Vec<String> = letters
            .iter()
            .flat_map(|x| letters.iter().map(move |y| format!("{x}{y}")))
            .flat_map(|xy| letters.iter().map(move |z| format!("{xy}{z}")))
            .collect();
        let mut random = fastrand::Rng::with_seed(7);
        for _ in 0..200 {
            let count = random.usize(..4);
            let picked: Vec<String> = (0..count)
                .map(|_| words[random.usize(..words.len())][..random.usize(..3)].to_owned())
                .collect();
            let entries: Vec<String> = picked.iter().map(|word| format!("{word}*")).collect();
            let names = VariableNames::new(entries.iter().map(String::as_str));
            for word in &words {
                let expected = picked.iter().any(|beginning| word.starts_with(&**beginning));
                assert_eq!(names.contains(word), expected, "{word} in {entries:?}");
            }
        }
    }
}
