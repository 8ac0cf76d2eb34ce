//! Reads the TOML text. A [`Section`] returns its keys one after the other. Each key has its line
//! and its full name.
//!
//! Serde alone stops at the first mistake, and the values that it returns have no line numbers.
//! Later checks need the lines for their messages. For this reason, the text is first parsed into a
//! table with positions. Serde then converts only one value at a time.
//!
//! This file defines no keys: they are listed in `file.rs`.

use serde::Deserialize;
use toml::Spanned;
use toml::de::{DeTable, DeValue, ValueDeserializer};

use super::problem::{ProblemReport, Said};

/// A TOML table of the file. When a key is read, it is removed from the table. The keys that remain
/// at the end are unknown.
pub(super) struct Section<'a, 't> {
    pub(super) report: &'a ProblemReport<'t>,
    table: DeTable<'t>,
    /// Line of the table's header. For a table that the file does not have, this is the line of the
    /// table around it.
    pub(super) line: usize,
    /// Full name of the table, such as `plugins.swap`; empty for the whole file.
    pub(super) key: String,
    /// All keys that [`Section::raw`] was asked for, present or absent. A message about an unknown
    /// key suggests a key from this list.
    known: Vec<&'static str>,
}

/// Reads `text` as one section. If the syntax is wrong, the first mistake is reported and no key is
/// read.
pub(super) fn document<'a, 't, T>(
    text: &'t str,
    report: &'a ProblemReport<'t>,
    read: impl FnOnce(&mut Section<'a, 't>) -> T,
) -> Option<T> {
    let (table, errors) = DeTable::parse_recoverable(text);
    let place = |error: &toml::de::Error| error.span().map_or(0, |span| span.start);
    // Only the first mistake is reported, because the later mistakes mostly follow from the first.
    if let Some(error) = errors.iter().min_by_key(|error| place(error)) {
        let message = error.message().split_whitespace().collect::<Vec<_>>().join(" ");
        let (found, right) = split(&message);
        report.unreadable(place(error), found, right.unwrap_or("valid TOML"));
    }
    errors.is_empty().then(|| Section::new(report, table.into_inner(), 1, String::new()).read(read))
}

/// Splits a message of the parser into two texts: what the parser found, and what it expected.
pub(super) fn split(message: &str) -> (&str, Option<&str>) {
    match message.split_once(", expected ") {
        Some((found, right)) => (found, Some(right)),
        None => (message, None),
    }
}

impl<'a, 't> Section<'a, 't> {
    /// Makes a section in which no key has been read yet.
    fn new(report: &'a ProblemReport<'t>, table: DeTable<'t>, line: usize, key: String) -> Self {
        Self { report, table, line, key, known: Vec::new() }
    }

    /// Calls `read`, which removes all known keys from the table. After that, reports the remaining
    /// keys as unknown.
    fn read<T>(mut self, read: impl FnOnce(&mut Self) -> T) -> T {
        let result = read(&mut self);
        for key in self.table.keys() {
            let line = self.report.line(key.span().start);
            self.report.unknown_key(line, &self.full(key.get_ref()), key.get_ref(), &self.known);
        }
        result
    }

    /// Returns the full name of a key in this section.
    fn full(&self, key: &str) -> String {
        if self.key.is_empty() { key.to_owned() } else { format!("{}.{key}", self.key) }
    }

    /// Returns the unconverted value of `key`, with the line of the key; `None` if the key is
    /// absent.
    pub(super) fn raw(&mut self, key: &'static str) -> Option<Said<Spanned<DeValue<'t>>>> {
        self.known.push(key);
        let (name, value) = self.table.remove_entry(key)?;
        let line = self.report.line(name.span().start);
        Some(Said { value, line, key: self.full(key) })
    }

    /// Returns the value of `key`. Returns `None` if the key is absent, or if its type is not `T`.
    /// A wrong type is reported, and `right` describes the type in the message.
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

    /// Returns the value of `key` as [`Section::take`] does, and also reports a missing key.
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

    /// Reads the table under `key`. An absent table is read as an empty table.
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

    /// Reads each table of the list `[[key]]`, in the order of the file.
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

    /// Removes and returns all keys that were not read yet. These keys belong to a driver. The
    /// driver reports the keys that it does not know.
    pub(super) fn rest(&mut self) -> DeTable<'t> {
        std::mem::take(&mut self.table)
    }

    /// Returns the keys that [`Section::raw`] was asked for, present or absent.
    pub(super) fn known(&self) -> &[&'static str] {
        &self.known
    }
}

/// Returns the name of a list item for messages: the key `name` of the item, or its number from 1.
fn name_of(table: &DeTable<'_>, index: usize) -> String {
    match table.get("name").map(Spanned::get_ref) {
        Some(DeValue::String(name)) => name.to_string(),
        _ => format!("#{}", index + 1),
    }
}

/// Returns a full key without the names in brackets, such as `device.point` for `device[d].point`.
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
