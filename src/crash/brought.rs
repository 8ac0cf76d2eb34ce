//! Limits for crash reports from other machines. A report must not use too much memory or CPU time
//! of the machine that replays it.
//!
//! Five limits are lowered: memory, module, table, functions and stack. If one of these limits in a
//! report is higher than the limit of this machine, the limit of this machine is used. The user
//! gets a list of the lowered limits. The parser counts the entries of a list in the head while it
//! parses the list. The reason: a head of some hundred kilobytes could contain a hundred thousand
//! empty entries, and each entry uses memory. `crash/file.rs` has all other checks of a report,
//! including the check of the two budgets.

use std::fmt;

use serde::de::{Error, SeqAccess, Visitor};
use serde::{Deserialize, Deserializer};

use crate::plugin::Limits;

/// Returns the limits for a replay, and a text for each lowered limit. The text contains the key of
/// the limit in the configuration.
pub(super) fn lowered(brought: &Limits, most: &Limits) -> (Limits, Vec<String>) {
    let mut limits = *brought;
    let mut words = Vec::new();
    let mut lower = |key: &str, brought: u64, most: u64| {
        if brought > most {
            words.push(format!("plugins.{key}: {brought} in the report, lowered to {most}"));
        }
        brought.min(most)
    };
    limits.memory_bytes = lower("memory", limits.memory_bytes, most.memory_bytes);
    limits.module_bytes = lower("module", limits.module_bytes, most.module_bytes);
    // `lower` never returns more than the limit in the report. So the result fits into the type of
    // that limit.
    let small = |number: u64| u32::try_from(number).unwrap_or(u32::MAX);
    let table = lower("table", limits.table_elements.into(), most.table_elements.into());
    limits.table_elements = small(table);
    limits.functions = small(lower("functions", limits.functions.into(), most.functions.into()));
    let stack = lower("stack", limits.stack_bytes as u64, most.stack_bytes as u64);
    limits.stack_bytes = usize::try_from(stack).unwrap_or(most.stack_bytes);
    (limits, words)
}

/// Parses a list with at most `MAX` entries.
pub(super) fn list<'de, const MAX: usize, T, D>(json: D) -> Result<Vec<T>, D::Error>
where
    T: Deserialize<'de>,
    D: Deserializer<'de>,
{
    json.deserialize_seq(List::<MAX, T>(std::marker::PhantomData))
}

/// Parses a list with at most `MAX` entries, or `null`.
pub(super) fn optional_list<'de, const MAX: usize, T, D>(
    json: D,
) -> Result<Option<Vec<T>>, D::Error>
where
    T: Deserialize<'de>,
    D: Deserializer<'de>,
{
    #[derive(Deserialize)]
    #[serde(bound = "T: Deserialize<'de>")]
    struct Listed<const MAX: usize, T>(#[serde(deserialize_with = "list::<MAX, _, _>")] Vec<T>);
    Ok(Option::<Listed<MAX, T>>::deserialize(json)?.map(|Listed(list)| list))
}

/// A visitor that parses a list with at most `MAX` entries.
struct List<const MAX: usize, T>(std::marker::PhantomData<T>);

impl<'de, const MAX: usize, T: Deserialize<'de>> Visitor<'de> for List<MAX, T> {
    type Value = Vec<T>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "a list of at most {MAX} entries")
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut entries: A) -> Result<Vec<T>, A::Error> {
        let mut list = Vec::new();
        while let Some(entry) = entries.next_element()? {
            if list.len() == MAX {
                return Err(A::Error::invalid_length(MAX + 1, &self));
            }
            list.push(entry);
        }
        Ok(list)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn limits_are_lowered_to_what_is_allowed_and_no_further() {
        let most = Limits::default();
        assert_eq!(lowered(&most, &most), (most, vec![]));
        let less = Limits { memory_bytes: 1, stack_bytes: 2, functions: 3, ..most };
        assert_eq!(lowered(&less, &most), (less, vec![]));
        let more = Limits {
            memory_bytes: 3 << 30,
            table_elements: u32::MAX,
            stack_bytes: 100 << 20,
            module_bytes: u64::MAX,
            functions: u32::MAX,
            ..most
        };
        let (limits, words) = lowered(&more, &most);
        assert_eq!(limits, most);
        assert_eq!(words[0], "plugins.memory: 3221225472 in the report, lowered to 16777216");
        let keys = words.iter().map(|words| words.split(':').next().unwrap_or_default());
        let all = [
            "plugins.memory",
            "plugins.module",
            "plugins.table",
            "plugins.functions",
            "plugins.stack",
        ];
        assert_eq!(keys.collect::<Vec<_>>(), all);
    }

    #[test]
    fn a_list_is_read_up_to_its_limit() {
        #[derive(Debug, PartialEq, Deserialize)]
        struct Head {
            #[serde(deserialize_with = "list::<2, _, _>")]
            list: Vec<u8>,
            #[serde(deserialize_with = "optional_list::<2, _, _>")]
            optional: Option<Vec<u8>>,
        }
        let check =
            |list: &str, optional: &str, expected: Result<(Vec<u8>, Option<Vec<u8>>), &str>| {
                let json = format!("{{\"list\":{list},\"optional\":{optional}}}");
                match (serde_json::from_str::<Head>(&json), expected) {
                    (Ok(head), expected) => assert_eq!(Ok((head.list, head.optional)), expected),
                    (Err(error), expected) => {
                        let words = error.to_string();
                        let expected = expected.expect_err(&words);
                        assert!(words.starts_with(expected), "{words}");
                    }
                }
            };
        check("[]", "null", Ok((vec![], None)));
        check("[1,2]", "[3,4]", Ok((vec![1, 2], Some(vec![3, 4]))));
        let long = "invalid length 3, expected a list of at most 2 entries";
        check("[1,2,3]", "null", Err(long));
        check("[]", "[1,2,3]", Err(long));
        check("7", "null", Err("invalid type: integer `7`, expected a list of at most 2 entries"));
    }
}
