//! A simple reader of Rust source for the rules: it finds words, functions and test modules.
//!
//! It is not a parser. It recognises comments, literals and braces, but does not know the grammar
//! of Rust.

/// What follows `word` in `line`, if it stands there as a word of its own.
pub(super) fn after_word<'a>(line: &'a str, word: &str) -> Option<&'a str> {
    let is_part = |c: char| c.is_alphanumeric() || c == '_';
    line.match_indices(word).find_map(|(at, _)| {
        let rest = &line[at + word.len()..];
        (!line[..at].ends_with(is_part) && !rest.starts_with(is_part)).then_some(rest)
    })
}

/// The text with comments, strings and characters blanked out; lines stay where they are.
pub(super) fn scrubbed(text: &str) -> String {
    let bytes = text.as_bytes();
    let mut out = bytes.to_vec();
    let mut at = 0;
    while at < bytes.len() {
        let end = at + literal(&bytes[at..], at.checked_sub(1).map(|before| bytes[before]));
        for byte in &mut out[at..end] {
            if *byte != b'\n' {
                *byte = b' ';
            }
        }
        at = end.max(at + 1);
    }
    String::from_utf8(out).expect("whole comments and literals were replaced")
}

/// How many bytes of comment, string or character `rest` begins with.
fn literal(rest: &[u8], before: Option<u8>) -> usize {
    let find = |needle: &[u8], from: usize| {
        let found = rest[from..].windows(needle.len()).position(|window| window == needle);
        found.map_or(rest.len(), |found| from + found)
    };
    let is_inside_a_word = before.is_some_and(|b| b.is_ascii_alphanumeric() || b == b'_');
    match rest {
        [b'/', b'/', ..] => find(b"\n", 0),
        [b'/', b'*', ..] => (find(b"*/", 2) + 2).min(rest.len()),
        [b'r', b'"' | b'#', ..] if !is_inside_a_word => {
            let hashes = rest[1..].iter().take_while(|byte| **byte == b'#').count();
            if rest.get(1 + hashes) != Some(&b'"') {
                return 0; // a raw identifier
            }
            let end = [b"\"".as_slice(), &rest[1..=hashes]].concat();
            (find(&end, 2 + hashes) + end.len()).min(rest.len())
        }
        [b'"', ..] => quoted(rest, b'"'),
        // Anything else with one quote is a lifetime.
        [b'\'', b'\\', ..] => quoted(rest, b'\''),
        [b'\'', _, b'\'', ..] => 3,
        [b'\'', first, ..] if !first.is_ascii() => quoted(rest, b'\''),
        _ => 0,
    }
}

/// The length of a literal up to its closing quote.
fn quoted(rest: &[u8], quote: u8) -> usize {
    let mut at = 1;
    while at < rest.len() && rest[at] != quote {
        at += if rest[at] == b'\\' { 2 } else { 1 };
    }
    (at + 1).min(rest.len())
}

pub(super) struct Function {
    pub(super) name: String,
    /// Where it begins, counted from 1.
    pub(super) line: usize,
    /// From there to its closing brace.
    pub(super) lines: usize,
}

/// Every function with a body.
pub(super) fn functions(text: &str) -> Vec<Function> {
    let scrubbed = scrubbed(text);
    let mut found = Vec::new();
    for (at, _) in scrubbed.match_indices("fn ") {
        let rest = &scrubbed[at + 3..];
        let name: String = rest.chars().take_while(|c| c.is_alphanumeric() || *c == '_').collect();
        let is_word = !scrubbed[..at].ends_with(|c: char| c.is_alphanumeric() || c == '_');
        // A declaration ends before any body begins. An array type has a semicolon, in brackets.
        let mut brackets = 0;
        let body = rest.find(|c: char| {
            brackets += i32::from(c == '[') - i32::from(c == ']');
            c == '{' || (c == ';' && brackets == 0)
        });
        let Some(body) = body.filter(|body| rest[*body..].starts_with('{')) else { continue };
        if !is_word || name.is_empty() {
            continue;
        }
        let end = body + block(&rest[body..]);
        let line = scrubbed[..at].matches('\n').count() + 1;
        found.push(Function { name, line, lines: rest[..end].matches('\n').count() + 1 });
    }
    found
}

/// The length of the block in braces that `text` begins with.
fn block(text: &str) -> usize {
    let mut depth = 0;
    for (at, c) in text.char_indices() {
        depth += i32::from(c == '{') - i32::from(c == '}');
        if depth == 0 {
            return at + 1;
        }
    }
    text.len()
}

/// For each line, whether it belongs to a test module.
pub(super) fn test_lines(text: &str) -> Vec<bool> {
    let scrubbed = scrubbed(text);
    let mut tests = vec![false; text.lines().count()];
    for (at, _) in scrubbed.match_indices("#[cfg(test)]\n") {
        let rest = &scrubbed[at..];
        let Some(end) = rest.find(['{', ';']) else { continue };
        let length = if rest[end..].starts_with('{') { end + block(&rest[end..]) } else { end };
        let first = scrubbed[..at].matches('\n').count();
        let last = first + rest[..length].matches('\n').count();
        tests[first..=last].fill(true);
    }
    tests
}

/// Every path in the code that begins with `crate` or `super`, by line; a group in braces gives one
/// path for each of its entries.
pub(super) fn paths(text: &str) -> Vec<(usize, Vec<String>)> {
    let code = scrubbed(text);
    let mut found = Vec::new();
    for start in ["crate::", "super::"] {
        for (at, _) in code.match_indices(start) {
            let is_part = |c: char| c.is_alphanumeric() || c == '_' || c == ':';
            if code[..at].ends_with(is_part) {
                continue;
            }
            let line = code[..at].matches('\n').count() + 1;
            let mut all = Vec::new();
            walk(&code[at..], &mut Vec::new(), &mut all);
            found.extend(all.into_iter().map(|path| (line, path)));
        }
    }
    found
}

/// Reads one path that begins with the names of `before`; returns its length.
fn walk(text: &str, before: &mut Vec<String>, found: &mut Vec<Vec<String>>) -> usize {
    let is_name = |c: char| c.is_alphanumeric() || c == '_';
    let known = before.len();
    let mut at = 0;
    let mut goes_on = false;
    loop {
        at += text[at..].len() - text[at..].trim_start().len();
        if goes_on && text[at..].starts_with('{') {
            let end = at + block(&text[at..]);
            at += 1;
            while at + 1 < end {
                at += walk(&text[at..end - 1], before, found);
                // An entry may have another name behind it, up to the comma.
                at = text[at..end - 1].find(',').map_or(end, |comma| at + comma + 1);
            }
            at = end;
            break;
        }
        let name = text[at..].chars().take_while(|c| is_name(*c)).collect::<String>();
        at += name.len();
        let is_end = name.is_empty() || !text[at..].starts_with("::");
        if !name.is_empty() {
            before.push(name);
        }
        if is_end {
            found.extend((before.len() > known).then(|| before.clone()));
            break;
        }
        at += 2;
        goes_on = true;
    }
    before.truncate(known);
    at
}
