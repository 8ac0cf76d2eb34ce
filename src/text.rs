//! Functions for texts that people read. They make texts from outside safe, find the known word
//! that is similar to a misspelt word, and write numbers with their nouns.
//!
//! This file contains only functions that several Rust modules use. The Rust module that prints or
//! logs a message also makes the message.

mod fixed;

pub use fixed::FixedText;

/// Returns the text with all control and formatting characters escaped. The caller passes names,
/// messages and reasons that may come from an unknown source. In these texts, control characters
/// could disturb a terminal or a log. No character of the result moves the cursor, changes the
/// direction of writing or begins a new line.
pub fn legible(text: &str) -> String {
    legible_up_to(usize::MAX, text)
}

/// Returns a text of several lines. Each line is escaped by [`legible`], but the line ends are not
/// escaped.
pub fn legible_lines(text: &str) -> String {
    text.split('\n').map(legible).collect::<Vec<_>>().join("\n")
}

/// Returns the text, escaped as [`legible`] does. If the escaped text has more than `max` bytes,
/// returns at most its first `max` bytes and a `…`.
pub fn legible_up_to(max: usize, text: &str) -> String {
    let mut words = String::new();
    for c in text.chars() {
        let len = words.len();
        match c {
            '"' | '\'' | '\\' => words.push(c),
            _ => words.extend(c.escape_debug()),
        }
        if words.len() > max {
            words.truncate(len);
            words.push('…');
            break;
        }
    }
    words
}

/// Returns a number with its noun: `1 device`, `2 devices`.
pub fn counted<N: TryInto<u64>>(number: N, thing: &str) -> String {
    match number.try_into().unwrap_or(u64::MAX) {
        1 => format!("1 {thing}"),
        number => format!("{number} {thing}s"),
    }
}

/// Returns the verb for a number of things: `is` for 1, `are` for all other numbers.
pub fn is_or_are<N: TryInto<u64>>(number: N) -> &'static str {
    if number.try_into().is_ok_and(|number| number == 1) { "is" } else { "are" }
}

/// Returns the first `most` names and the number of the other names: `a, b and 3 more`. If there
/// are no other names: `a, b`.
pub fn first_of<S: AsRef<str>>(names: &[S], most: usize) -> String {
    let shown: Vec<_> = names.iter().take(most).map(AsRef::as_ref).collect();
    match names.len().saturating_sub(most) {
        0 => shown.join(", "),
        more => format!("{} and {more} more", shown.join(", ")),
    }
}

/// Returns the text for a number of events: `once`, `2 times`.
pub fn times(number: u64) -> String {
    if number == 1 { "once".into() } else { format!("{number} times") }
}

/// Returns the known word that is most similar to `word`. At most a third of the letters of `word`
/// may differ. In a word of one or two letters, one letter may differ. `None` if no known word is
/// that similar.
pub fn nearest<'k>(word: &str, known: impl IntoIterator<Item = &'k str>) -> Option<&'k str> {
    let len = word.chars().count();
    let most = (len / 3).max(1);
    known
        .into_iter()
        // The difference in length is never greater than the distance. The difference is faster to
        // compute, so this code checks the difference first.
        .filter(|known| known.chars().count().abs_diff(len) <= most)
        .map(|known| (strsim::damerau_levenshtein(word, known), known))
        .filter(|&(distance, _)| distance <= most)
        .min_by_key(|&(distance, _)| distance)
        .map(|(_, known)| known)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_of_many_are_named() {
        let names = ["a", "b", "c"];
        assert_eq!(["a, b, c", "a, b and 1 more"], [first_of(&names, 3), first_of(&names, 2)]);
        assert_eq!(first_of(&names[..1], 2), "a");
        assert_eq!(first_of(&names[..0], 2), "");
    }

    #[test]
    fn what_strangers_say_cannot_disturb_a_terminal() {
        let check = |text: &str, expected: &str| assert_eq!(legible_up_to(10, text), expected);
        check("it's \"ü\"\\", "it's \"ü\"\\");
        check("a\nb\x1b[", "a\\nb\\u{1b}…");
        check("\u{202e}", "\\u{202e}");
        check("1234567890", "1234567890");
        check("12345678901", "1234567890…");
        check("123456789ü", "123456789…");
        check("12345678\x1b9", "12345678…");
        assert_eq!(legible("a\x1b[2Jb\n\u{9b}"), "a\\u{1b}[2Jb\\n\\u{9b}");
        assert_eq!(legible("grün °C"), "grün °C");
        assert_eq!(legible_lines("a\n\x1b[2J\tb\n"), "a\n\\u{1b}[2J\\tb\n");
    }

    #[test]
    fn one_is_no_plural() {
        let all = [0u64, 1, 2].map(|number| counted(number, "device"));
        assert_eq!(all, ["0 devices", "1 device", "2 devices"]);
        assert_eq!([1, 2].map(times), ["once", "2 times"]);
    }

    #[test]
    fn a_slip_is_near_and_another_word_is_not() {
        fn check(word: &str, expected: Option<&str>) {
            assert_eq!(nearest(word, ["tank.level", "tank.lever", "ok"]), expected, "{word}");
        }
        check("tank.levle", Some("tank.level"));
        check("tank.lever", Some("tank.lever"));
        check("k", Some("ok"));
        check("pump.speed", None);
        check("", None);
    }
}
