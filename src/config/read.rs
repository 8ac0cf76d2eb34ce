//! Reads the TOML text: a [`Section`] gives its keys one by one, each with its line and full name.
//!
//! Serde alone stops at the first mistake and has no lines for later checks. So the text is parsed
//! into a table with spans, and serde only turns one value into one type. What the keys are is in
//! `file.rs`.

use serde::Deserialize;
use toml::Spanned;
use toml::de::{DeTable, DeValue, ValueDeserializer};

use super::problem::{Report, Said};

/// A table of the file. Each key that is read is taken out of it.
pub(super) struct Section<'a, 't> {
    pub(super) report: &'a Report<'t>,
    table: DeTable<'t>,
    /// Line of the table's header.
    pub(super) line: usize,
    /// Full name of the table; empty for the file itself.
    pub(super) key: String,
    /// All keys that were read or looked for; any other key is unknown.
    known: Vec<&'static str>,
}

/// Reads `text` as one section. The first mistake in its syntax is reported, and then nothing is
/// read.
pub(super) fn document<'a, 't, T>(
    text: &'t str,
    report: &'a Report<'t>,
    read: impl FnOnce(&mut Section<'a, 't>) -> T,
) -> Option<T> {
    let (table, errors) = DeTable::parse_recoverable(text);
    let place = |error: &toml::de::Error| error.span().map_or(0, |span| span.start);
    // Only the first mistake is reported: the others mostly follow from it.
    if let Some(error) = errors.iter().min_by_key(|error| place(error)) {
        let message = error.message().split_whitespace().collect::<Vec<_>>().join(" ");
        let (found, right) = split(&message);
        report.unreadable(place(error), found, right.unwrap_or("valid TOML"));
    }
    errors.is_empty().then(|| Section::new(report, table.into_inner(), 1, String::new()).read(read))
}

/// Splits a parser's message into what it found and what it expected.
pub(super) fn split(message: &str) -> (&str, Option<&str>) {
    match message.split_once(", expected ") {
        Some((found, right)) => (found, Some(right)),
        None => (message, None),
    }
}

impl<'a, 't> Section<'a, 't> {
    fn new(report: &'a Report<'t>, table: DeTable<'t>, line: usize, key: String) -> Self {
        Self { report, table, line, key, known: Vec::new() }
    }

    /// Lets `read` take the keys it knows, then reports the remaining keys as unknown.
    fn read<T>(mut self, read: impl FnOnce(&mut Self) -> T) -> T {
        let result = read(&mut self);
        for key in self.table.keys() {
            let line = self.report.line(key.span().start);
            self.report.unknown_key(line, &self.full(key.get_ref()), key.get_ref(), &self.known);
        }
        result
    }

    /// The full name of a key in this section.
    fn full(&self, key: &str) -> String {
        if self.key.is_empty() { key.to_owned() } else { format!("{}.{key}", self.key) }
    }

    /// The untouched value of `key`, with the key's line.
    pub(super) fn raw(&mut self, key: &'static str) -> Option<Said<Spanned<DeValue<'t>>>> {
        self.known.push(key);
        let (name, value) = self.table.remove_entry(key)?;
        let line = self.report.line(name.span().start);
        Some(Said { value, line, key: self.full(key) })
    }

    /// The value of `key` if the key is present and of type `T`; `right` describes the type.
    pub(super) fn take<T: Deserialize<'t>>(
        &mut self,
        key: &'static str,
        right: &str,
    ) -> Option<Said<T>> {
        let Said { value, line, key } = self.raw(key)?;
        let span = value.span();
        match T::deserialize(ValueDeserializer::from(value)) {
            Ok(value) => Some(Said { value, line, key }),
            Err(_) => {
                self.report.wrong(line, &key, self.report.quote(span), right);
                None
            }
        }
    }

    /// The value of `key` as [`Section::take`] gives it; a missing key is reported.
    pub(super) fn need<T: Deserialize<'t>>(
        &mut self,
        key: &'static str,
        right: &str,
    ) -> Option<Said<T>> {
        if !self.table.contains_key(key) {
            self.report.wrong(self.line, &self.full(key), "nothing", right);
        }
        self.take(key, right)
    }

    /// Reads the table under `key`; an absent one is read as an empty one.
    pub(super) fn section<T>(&mut self, key: &'static str, read: impl FnOnce(&mut Self) -> T) -> T {
        let said = self.raw(key);
        let line = said.as_ref().map_or(self.line, |said| said.line);
        let mut table = DeTable::new();
        if let Some(said) = said {
            let span = said.value.span();
            match said.value.into_inner() {
                DeValue::Table(found) => table = found,
                _ => {
                    let right = format!("a table [{}]", said.key);
                    self.report.wrong(line, &said.key, self.report.quote(span), right);
                }
            }
        }
        Self::new(self.report, table, line, self.full(key)).read(read)
    }

    /// Reads each table of the list `[[key]]`, in order.
    pub(super) fn list<T>(
        &mut self,
        key: &'static str,
        mut read: impl FnMut(&mut Self) -> T,
    ) -> Vec<T> {
        let Some(said) = self.raw(key) else { return Vec::new() };
        let right = format!("a list of tables [[{}]]", plain(&said.key));
        let span = said.value.span();
        let DeValue::Array(items) = said.value.into_inner() else {
            self.report.wrong(said.line, &said.key, self.report.quote(span), right);
            return Vec::new();
        };
        let mut all = Vec::new();
        for (index, item) in items.into_iter().enumerate() {
            let span = item.span();
            let line = self.report.line(span.start);
            match item.into_inner() {
                DeValue::Table(table) => {
                    let key = format!("{}[{}]", said.key, name_of(&table, index));
                    all.push(Self::new(self.report, table, line, key).read(&mut read));
                }
                _ => self.report.wrong(line, &said.key, self.report.quote(span), &right),
            }
        }
        all
    }

    /// Takes all keys that were not read yet. They belong to a driver, which reports the unknown
    /// ones.
    pub(super) fn rest(&mut self) -> DeTable<'t> {
        std::mem::take(&mut self.table)
    }

    /// The keys that were read or looked for.
    pub(super) fn known(&self) -> &[&'static str] {
        &self.known
    }
}

/// How a message names an item of a list: by its own name, or by its number if it has none.
fn name_of(table: &DeTable<'_>, index: usize) -> String {
    match table.get("name").map(Spanned::get_ref) {
        Some(DeValue::String(name)) => name.to_string(),
        _ => format!("#{}", index + 1),
    }
}

/// A key without the names of list items, as it stands in a header.
fn plain(key: &str) -> String {
    let mut depth = 0;
    let outside = key.chars().filter(|&c| {
        depth += i32::from(c == '[');
        let keep = depth == 0;
        depth -= i32::from(c == ']');
        keep
    });
    outside.collect()
}
