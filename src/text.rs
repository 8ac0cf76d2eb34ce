//! Text for people: the word that somebody probably meant.
//!
//! Only what several floors need in the same form. How a message is put together is decided where
//! it is said.

/// The known word that `word` is probably a slip of: at most a third of it is different.
pub fn nearest<'k>(word: &str, known: impl IntoIterator<Item = &'k str>) -> Option<&'k str> {
    let most = (word.chars().count() / 3).max(1);
    known
        .into_iter()
        .map(|known| (strsim::damerau_levenshtein(word, known), known))
        .filter(|&(distance, _)| distance <= most)
        .min_by_key(|&(distance, _)| distance)
        .map(|(_, known)| known)
}

#[cfg(test)]
mod tests {
    use super::*;

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
