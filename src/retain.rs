//! RETAIN: values of variables on disk, in two files of which at least one is always whole.
//!
//! Each write is a new generation and replaces the file with the *older* one, so whatever happens
//! to a write, the newest whole generation stays where it is. Files carry a version, a checksum and
//! the wear so far. A generation is one snapshot: names, types and values of one cycle, and never a
//! mixture of two. Nothing here knows the program that wrote the values, because an edit of a
//! program must not lose them. Which variables are kept, and when, decides `daemon/retain.rs`.
//!
//! ```text
//! file    "camshaft retain\n", version u32 = 1, generation u64, bytes u64, count u32,
//!         count x value, BLAKE3 of all this
//! value   length of name u8, name, type u8, then 1 byte (boolean), 4 (int) or 8 (double)
//! ```
//! Numbers are little-endian. `generation` counts the writes and `bytes` adds up what they wrote,
//! this one included: together they say how much the disk was worn.

use std::fmt;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use serde::Deserialize;

use crate::file;
use crate::state::Folder;
use crate::variable::{MAX_NAME_BYTES, MAX_VARIABLES, Variable};

/// The two files; which is the newer one is written in them.
pub const FILES: [&str; 2] = ["retain.a", "retain.b"];

/// What a file begins with, so that people and `file` know it.
const MAGIC: &[u8; 16] = b"camshaft retain\n";

/// Raised when the layout changes; a file of another version is not guessed at.
const VERSION: u32 = 1;

/// Magic, version, generation, bytes, count.
const HEAD: usize = 16 + 4 + 8 + 8 + 4;

/// The checksum at the end.
const CHECKSUM: usize = blake3::OUT_LEN;

/// The longest file there can be: every variable with the longest name and a double.
const MAX_FILE_BYTES: u64 = (HEAD + MAX_VARIABLES * (1 + MAX_NAME_BYTES + 1 + 8) + CHECKSUM) as u64;

/// What to do when there are files and none of them is whole.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum OnCorrupt {
    /// Start with the declared initial values, and raise an alarm.
    #[default]
    Cold,
    /// Do not start.
    Refuse,
}

/// What to do when the state directory can be read and takes no writes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum OnReadonly {
    /// Start with the values that are there, and raise an alarm: what changes is lost at the end.
    #[default]
    Start,
    /// Do not start.
    Refuse,
}

/// What one file holds.
#[derive(Debug, Clone, PartialEq)]
pub struct Generation {
    /// Its number; the first is 1. It is also the number of writes so far.
    pub number: u64,
    /// Bytes written so far, this file included.
    pub bytes: u64,
    /// The values of one cycle, by name.
    pub values: Vec<(String, Variable)>,
}

/// What is wrong with a file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Damage {
    /// The disk does not give it.
    Unreadable(String),
    /// It is another kind of file, or cut very short.
    Foreign(usize),
    /// It is whole, but of a version that this daemon does not know.
    Version(u32),
    /// It is cut, or bytes of it have changed.
    Checksum,
    /// The checksum is right and the content is not: a defect of whoever wrote it.
    Content,
}

impl fmt::Display for Damage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Unreadable(error) => write!(f, "cannot be read: {error}"),
            Self::Foreign(bytes) => write!(f, "its {bytes} bytes are no retained values"),
            Self::Version(version) => {
                write!(f, "has version {version}, and this camshaft reads version {VERSION}")
            }
            Self::Checksum => f.write_str("torn or changed, its checksum is wrong"),
            Self::Content => f.write_str("its content makes no sense"),
        }
    }
}

/// The bytes of a file.
pub fn encode<'v>(
    number: u64,
    bytes_before: u64,
    values: impl ExactSizeIterator<Item = (&'v str, Variable)>,
) -> Vec<u8> {
    let mut file = Vec::with_capacity(HEAD + CHECKSUM + 32 * values.len());
    file.extend_from_slice(MAGIC);
    file.extend(VERSION.to_le_bytes());
    file.extend(number.to_le_bytes());
    file.extend([0; 8]); // the bytes so far, once they are known
    // The casts are safe: there are at most MAX_VARIABLES, with names of MAX_NAME_BYTES.
    file.extend((values.len() as u32).to_le_bytes());
    for (name, value) in values {
        file.push(name.len() as u8);
        file.extend_from_slice(name.as_bytes());
        match value {
            Variable::Boolean(value) => file.extend([0, value.into()]),
            Variable::Int(value) => {
                file.push(1);
                file.extend(value.to_le_bytes());
            }
            Variable::Double(value) => {
                file.push(2);
                file.extend(value.to_bits().to_le_bytes());
            }
        }
    }
    let bytes = bytes_before.saturating_add((file.len() + CHECKSUM) as u64);
    file[28..36].copy_from_slice(&bytes.to_le_bytes());
    let sum = blake3::hash(&file);
    file.extend_from_slice(sum.as_bytes());
    file
}

/// What the bytes of a file say.
///
/// # Errors
/// When they are not exactly what [`encode`] makes.
pub fn decode(file: &[u8]) -> Result<Generation, Damage> {
    if file.len() < HEAD + CHECKSUM || !file.starts_with(MAGIC) {
        return Err(Damage::Foreign(file.len()));
    }
    let (content, sum) = file.split_at(file.len() - CHECKSUM);
    // Before anything else is believed. Constant time is not needed: nobody guesses here.
    if blake3::hash(content).as_bytes()[..] != *sum {
        return Err(Damage::Checksum);
    }
    let mut rest = &content[MAGIC.len()..];
    let version = u32::from_le_bytes(take(&mut rest)?);
    if version != VERSION {
        return Err(Damage::Version(version));
    }
    let number = u64::from_le_bytes(take(&mut rest)?);
    let bytes = u64::from_le_bytes(take(&mut rest)?);
    let count = u32::from_le_bytes(take(&mut rest)?) as usize;
    if count > MAX_VARIABLES {
        return Err(Damage::Content);
    }
    let values = (0..count).map(|_| value(&mut rest)).collect::<Result<Vec<_>, _>>()?;
    if rest.is_empty() { Ok(Generation { number, bytes, values }) } else { Err(Damage::Content) }
}

fn value(rest: &mut &[u8]) -> Result<(String, Variable), Damage> {
    let [length] = take(rest)?;
    let (name, after) = rest.split_at_checked(length.into()).ok_or(Damage::Content)?;
    *rest = after;
    let name = std::str::from_utf8(name).map_err(|_| Damage::Content)?;
    let [kind] = take(rest)?;
    let value = match kind {
        0 => match take(rest)? {
            [0] => Variable::Boolean(false),
            [1] => Variable::Boolean(true),
            [_] => return Err(Damage::Content),
        },
        1 => Variable::Int(i32::from_le_bytes(take(rest)?)),
        2 => Variable::Double(f64::from_bits(u64::from_le_bytes(take(rest)?))),
        _ => return Err(Damage::Content),
    };
    Ok((name.to_owned(), value))
}

fn take<const N: usize>(rest: &mut &[u8]) -> Result<[u8; N], Damage> {
    let (first, after) = rest.split_first_chunk().ok_or(Damage::Content)?;
    *rest = after;
    Ok(*first)
}

/// What lies in a state directory.
#[derive(Debug, Default)]
pub struct Found {
    /// The newest generation that is whole, with its place in [`FILES`].
    pub newest: Option<(usize, Generation)>,
    /// The files that are there and not whole.
    pub damaged: Vec<(PathBuf, Damage)>,
}

/// Looks for the newest whole generation. Only reads.
pub fn look(folder: &Path) -> Found {
    let mut found = Found::default();
    for (place, name) in FILES.into_iter().enumerate() {
        let path = folder.join(name);
        let generation = match file::read(&path, MAX_FILE_BYTES) {
            Ok(None) => continue,
            Ok(Some(bytes)) => decode(&bytes),
            Err(error) => Err(Damage::Unreadable(error.to_string())),
        };
        match generation {
            Ok(new) => {
                if found.newest.as_ref().is_none_or(|(_, old)| old.number < new.number) {
                    found.newest = Some((place, new));
                }
            }
            Err(damage) => found.damaged.push((path, damage)),
        }
    }
    found
}

/// Writes generations.
#[derive(Debug, Clone)]
pub struct Store {
    folder: Arc<Folder>,
    /// Where the newest whole generation lies.
    newest: Option<usize>,
    /// Number of the newest generation, which is how often was written; 0 before the first.
    pub writes: u64,
    /// Bytes written so far.
    pub bytes: u64,
    /// Damaged files that lie where the next generations go.
    damaged: Vec<PathBuf>,
}

impl Store {
    /// A store that goes on from what was found in `folder`.
    pub fn new(folder: Arc<Folder>, found: &Found) -> Self {
        let newest = found.newest.as_ref();
        Self {
            folder,
            newest: newest.map(|(place, _)| *place),
            writes: newest.map_or(0, |(_, generation)| generation.number),
            bytes: newest.map_or(0, |(_, generation)| generation.bytes),
            damaged: found.damaged.iter().map(|(path, _)| path.clone()).collect(),
        }
    }

    /// Writes the next generation over the older one. May take as long as the disk likes.
    ///
    /// The first write renames damaged files to `NAME.damaged` before, for those who want to look
    /// into them: a start would wait for that, and a rename that comes late could take away what
    /// was written since. An older file of that name goes, so there is never more than one of each.
    ///
    /// # Errors
    /// Whatever the disk says; the newest generation is then still there.
    pub fn write<'v>(
        &mut self,
        values: impl ExactSizeIterator<Item = (&'v str, Variable)>,
    ) -> io::Result<()> {
        for path in std::mem::take(&mut self.damaged) {
            // Where it stays it is written over by and by, which is as good for us.
            let _ = fs::rename(&path, path.with_added_extension("damaged"));
        }
        let file = encode(self.writes + 1, self.bytes, values);
        let place = self.newest.map_or(0, |newest| 1 - newest);
        self.folder.replace(FILES[place], &file)?;
        self.newest = Some(place);
        self.writes += 1;
        self.bytes = self.bytes.saturating_add(file.len() as u64);
        Ok(())
    }
}

#[cfg(test)]
mod tests;
