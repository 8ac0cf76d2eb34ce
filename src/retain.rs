//! RETAIN: values of variables that survive the end of the daemon. The daemon stores these values
//! in two files, `retain.a` and `retain.b`.
//!
//! Each write stores a new generation: the names, types and values of one cycle. Values of two
//! cycles are never mixed. A write puts the new generation into a temporary file and then renames
//! this file to `retain.a` or `retain.b` (`Folder::replace` in `state.rs`). The write replaces the
//! retain file that does not have the newest complete generation. If the power fails during the
//! write, the other retain file still has that generation. So after the first write, one retain
//! file is always complete. Each retain file contains the version of the file format, a checksum,
//! the number of all writes, and the total length of all writes.
//!
//! The files contain no names of programs, because the values must survive a change of a program.
//! `daemon/field/retain.rs` decides which variables are stored, and when a generation is written.
//!
//! ```text
//! file    "camshaft retain\n", version u32 = 1, generation u64, bytes u64, count u32,
//!         count x value, BLAKE3 of all this
//! value   length of name u8, name, type u8, then 1 byte (boolean), 4 (int) or 8 (double)
//! ```
//! Numbers are little-endian. The type is 0 for a boolean, 1 for an int and 2 for a double.
//! `generation` is the number of all writes, up to and including the write of this file. `bytes` is
//! the sum of the lengths of these writes, in bytes. From these two numbers an operator can see how
//! much the writes have worn the disk.

use std::fmt;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use serde::Deserialize;

use crate::file;
use crate::process::variable::{MAX_NAME_BYTES, MAX_VARIABLES, Variable};
use crate::state::Folder;

/// The names of the two files. The `generation` in the files shows which file is newer.
pub const FILES: [&str; 2] = ["retain.a", "retain.b"];

/// The first bytes of a retain file. [`decode`] and a person recognise the format by these bytes.
const MAGIC: &[u8; 16] = b"camshaft retain\n";

/// The version of the file format. Each change of the format needs a new number here. [`decode`]
/// refuses a file with another number.
const VERSION: u32 = 1;

/// The length of the head of a retain file in bytes: magic, version, generation, bytes, count.
const HEAD: usize = 16 + 4 + 8 + 8 + 4;

/// Length of the checksum at the end of a file, in bytes.
const CHECKSUM: usize = blake3::OUT_LEN;

/// The maximum size of a retain file in bytes. A file has this size if there are [`MAX_VARIABLES`]
/// doubles and all their names have the maximum length.
const MAX_FILE_BYTES: u64 = (HEAD + MAX_VARIABLES * (1 + MAX_NAME_BYTES + 1 + 8) + CHECKSUM) as u64;

/// The reaction of the daemon at its start if at least one retain file exists, but none of them can
/// be used.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum OnCorrupt {
    /// The daemon starts with the initial values of the configuration, and raises an alarm.
    #[default]
    Cold,
    /// The daemon does not start.
    Refuse,
}

/// The reaction of the daemon at its start if the state directory cannot be written and the
/// configuration has retained variables.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum OnReadonly {
    /// The daemon starts with the values in the retain files, and raises an alarm. The reason for
    /// the alarm: later changes are lost when the daemon ends.
    #[default]
    Start,
    /// The daemon does not start.
    Refuse,
}

/// The contents of one retain file.
#[derive(Debug, Clone, PartialEq)]
pub struct Generation {
    /// The number of this generation; the first generation has number 1. Each write makes one
    /// generation, so this number is also the count of all writes, including this write.
    pub number: u64,
    /// Sum of the lengths of all writes, including this write, in bytes.
    pub bytes: u64,
    /// The values of one cycle, with the names of their variables.
    pub values: Vec<(String, Variable)>,
}

/// The reason why a retain file cannot be used.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Damage {
    /// The disk returned an error, the path is not a regular file, or the file is longer than a
    /// retain file can be. The text is the error message.
    Unreadable(String),
    /// The file does not begin with the first bytes of a retain file, or it is shorter than a head
    /// and a checksum. The number is the length of the file in bytes.
    Foreign(usize),
    /// The checksum is right, but this daemon cannot read this version of the format. The number is
    /// the version in the file.
    Version(u32),
    /// The checksum is wrong: the file is cut off, or some of its bytes have changed.
    Checksum,
    /// The checksum and the version are right, but the values cannot be decoded. The cause is a
    /// defect in the `camshaft` that wrote the file.
    Content,
}

impl fmt::Display for Damage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Unreadable(error) => write!(f, "cannot be read: {error}"),
            Self::Foreign(bytes) => {
                write!(f, "it is not a file of retained values ({bytes} bytes)")
            }
            Self::Version(version) => {
                write!(
                    f,
                    "its format has version {version}, and this camshaft reads version {VERSION}"
                )
            }
            Self::Checksum => {
                f.write_str("its checksum is wrong: the file is cut off or was changed")
            }
            Self::Content => f.write_str("its values cannot be decoded"),
        }
    }
}

/// Returns the bytes of a retain file with the generation `number`. `bytes_before` is the sum of
/// the lengths of all earlier writes.
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
    // The casts lose no bits: there are at most MAX_VARIABLES variables, and a name has at most
    // MAX_NAME_BYTES bytes.
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

/// Decodes the bytes of a retain file.
///
/// # Errors
/// When the bytes are not exactly in the format of [`encode`].
pub fn decode(file: &[u8]) -> Result<Generation, Damage> {
    if file.len() < HEAD + CHECKSUM || !file.starts_with(MAGIC) {
        return Err(Damage::Foreign(file.len()));
    }
    let (content, sum) = file.split_at(file.len() - CHECKSUM);
    // The checksum is compared before any other byte is used. The checksum is not secret, so the
    // time of the comparison may depend on the bytes.
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

/// Decodes one variable from the first bytes of `rest`, and removes these bytes from `rest`.
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

/// Returns the first `N` bytes of `rest`, and removes these bytes from `rest`.
fn take<const N: usize>(rest: &mut &[u8]) -> Result<[u8; N], Damage> {
    let (first, after) = rest.split_first_chunk().ok_or(Damage::Content)?;
    *rest = after;
    Ok(*first)
}

/// The retain files that [`find`] has found in a state directory.
#[derive(Debug, Default)]
pub struct Found {
    /// The newest complete generation, and the index in [`FILES`] of its file. `None` if no retain
    /// file is complete.
    pub newest: Option<(usize, Generation)>,
    /// The files that exist but cannot be used, each with the reason.
    pub damaged: Vec<(PathBuf, Damage)>,
}

/// Finds the newest complete generation. This function changes no file.
pub fn find(folder: &Path) -> Found {
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

/// Writes generations into the state directory.
#[derive(Debug, Clone)]
pub struct Store {
    folder: Arc<Folder>,
    /// Index in [`FILES`] of the file with the newest complete generation. `None` if no generation
    /// was found and none was written. Each successful write sets this field.
    newest: Option<usize>,
    /// The number of the newest generation, which is also the count of all writes. It is 0 if no
    /// complete generation was found and nothing was written after that.
    pub writes: u64,
    /// Sum of the lengths of all writes, in bytes.
    pub bytes: u64,
    /// Paths of the damaged retain files. The next write renames these files.
    damaged: Vec<PathBuf>,
}

impl Store {
    /// Makes a store for the files in `folder`. The counts of the store continue from the counts in
    /// the newest generation of `found`.
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

    /// Replaces the retain file that does not contain the newest generation by a file with the next
    /// generation. The call waits for the disk.
    ///
    /// The first call also renames damaged files to `NAME.damaged`, so that an engineer can examine
    /// them. The start of the daemon does not rename them, for two reasons. The start would have to
    /// wait for the disk. And if the disk hangs and does the rename late, the rename could move a
    /// newer file away. If a file `NAME.damaged` exists already, the rename replaces it.
    ///
    /// # Errors
    /// When the disk returns an error. The file with the newest generation is unchanged then.
    pub fn write<'v>(
        &mut self,
        values: impl ExactSizeIterator<Item = (&'v str, Variable)>,
    ) -> io::Result<()> {
        for path in std::mem::take(&mut self.damaged) {
            // If the rename fails, this write or a later write replaces the damaged file. Only the
            // chance to examine the file is then lost.
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
