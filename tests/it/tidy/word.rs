//! The rule about words that must not be used: private words in code, and vague words in comments.
//!
//! A private word is a name that is known only in this code. A vague word hides which part acts.
//! Texts in strings are not checked here, because other tests compare these texts.

use super::source::scrubbed;

/// Names that only this code gave to things. Beside each stands what a reader expects.
const PRIVATE: [(&str, &str); 15] = [
    ("reins", "a handle"),
    ("cargo", "the parts of the scan"),
    ("refit", "to reconfigure"),
    ("refitted", "reconfigured"),
    ("beaten", "rolled back"),
    ("bury", "to report a crash"),
    ("vacate", "to release a seat or outputs"),
    ("hurry", "to make safe now"),
    ("debts", "outstanding replies"),
    ("reel", "a recording"),
    ("farewell", "an exit reason, or the time that a device has to leave"),
    ("shelf", "a store"),
    ("door", "the state of the API"),
    ("workshop", "the compile service"),
    ("heed", "on_ and the event"),
];

/// Words of comments that hide who acts, or what a thing is.
const VAGUE: [&str; 6] = ["somebody", "nobody", "whoever", "everybody", "anybody", "likewise"];

/// Beginnings of a doc that point elsewhere and do not say what the thing is.
const POINTERS: [&str; 3] = ["The same", "Likewise", "See"];

/// Finds the words in a file.
pub(super) fn words(_: &str, text: &str) -> Vec<String> {
    let mut findings = Vec::new();
    let (code, mut was_doc) = (scrubbed(text), false);
    for (n, (line, code)) in text.lines().zip(code.lines()).enumerate() {
        let parts: Vec<_> = parts(code).collect();
        for (word, instead) in
            PRIVATE.iter().filter(|(word, _)| parts.iter().any(|part| part == word))
        {
            findings.push(format!("{}: `{word}` is a private word; say {instead}", n + 1));
        }
        let comment = comment(line, code);
        let lower = comment.to_lowercase();
        let said: Vec<_> = lower.split(|c: char| !c.is_alphanumeric()).collect();
        let pointer = doc(line).filter(|_| !was_doc).and_then(pointer);
        was_doc = doc(line).is_some();
        if let Some(pointer) = pointer {
            findings
                .push(format!("{}: a doc that begins with `{pointer}` names another thing", n + 1));
        }
        let vague = VAGUE.iter().filter(|word| said.contains(word));
        findings.extend(
            vague
                .filter(|_| pointer.is_none_or(|pointer| pointer != "Likewise"))
                .map(|word| format!("{}: `{word}` names no part that acts", n + 1)),
        );
    }
    findings
}

/// The comment at the end of a line: the code has it blanked out, a string too.
fn comment<'l>(line: &'l str, code: &str) -> &'l str {
    let is_blank = |at: usize| code.as_bytes().get(at).is_some_and(|byte| *byte == b' ');
    let starts = line.match_indices("//").map(|(at, _)| at);
    let code_ends = code.trim_end().len();
    let start = starts.into_iter().find(|at| is_blank(*at) && *at >= code_ends);
    start.map_or("", |at| &line[at..])
}

/// The text of a line of documentation.
fn doc(line: &str) -> Option<&str> {
    let line = line.trim_start();
    line.strip_prefix("///").or_else(|| line.strip_prefix("//!")).map(str::trim)
}

fn pointer(text: &str) -> Option<&'static str> {
    let begins = |word: &&&str| {
        let rest = text.strip_prefix(**word);
        rest.is_some_and(|rest| !rest.starts_with(|c: char| c.is_alphanumeric()))
    };
    POINTERS.iter().find(begins).copied()
}

/// The words of the names in a line of code: `take_reins` has `take` and `reins`.
fn parts(code: &str) -> impl Iterator<Item = String> + '_ {
    let names = code.split(|c: char| !c.is_alphanumeric());
    names.flat_map(|name| {
        let mut all = vec![String::new()];
        for c in name.chars() {
            if c.is_uppercase() && all.last().is_some_and(|last| last.ends_with(char::is_lowercase))
            {
                all.push(String::new());
            }
            all.last_mut().expect("there is one").extend(c.to_lowercase());
        }
        all
    })
}
