//! RETAIN: values of variables on disk, in two files. At least one of the two files is always
//! whole.
//!
//! Each write is a new generation. It overwrites the file with the *older* generation, so the
//! newest whole generation stays intact, whatever happens during the write. A file has a version, a
//! checksum and counts of all writes so far. A generation is one snapshot: names, types and values
//! of one cycle, never a mixture of two cycles. This module knows no programs, because the values
//! must survive when a program is changed. `daemon/field/retain.rs` decides which variables are
//! kept, and when.
//!
//! ```text
//! file    "camshaft retain\n", version u32 = 1, generation u64, bytes u64, count u32,
//!         count x value, BLAKE3 of all this
//! value   length of name u8, name, type u8, then 1 byte (boolean), 4 (int) or 8 (double)
//! ```
//! Numbers are little-endian. `generation` counts the writes, and `bytes` is the sum of the bytes
//! of all writes, this one included. The two numbers show how much the writes have worn the disk.

use std::fmt;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use serde::Deserialize;

use crate::file;
use crate::process::variable::{MAX_NAME_BYTES, MAX_VARIABLES, Variable};
use crate::state::Folder;

/// Names of the two files; the content shows which one is newer.
pub const FILES: [&str; 2] = ["retain.a", "retain.b"];

/// The first bytes of a file, by which a person or the command `file` recognises it.
const MAGIC: &[u8; 16] = b"camshaft retain\n";

/// Version of the layout. A change of the layout raises it, and a file of another version is not
/// read.
const VERSION: u32 = 1;

/// Bytes of the head: magic, version, generation, bytes, count.
const HEAD: usize = 16 + 4 + 8 + 8 + 4;

/// Length of the checksum at the end of a file, in bytes.
const CHECKSUM: usize = blake3::OUT_LEN;

/// Most bytes of a file: its size if every variable has the longest name and is a double.
const MAX_FILE_BYTES: u64 = (HEAD + MAX_VARIABLES * (1 + MAX_NAME_BYTES + 1 + 8) + CHECKSUM) as u64;

/// The behaviour of the daemon at its start if there are retain files and none of them is whole.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum OnCorrupt {
    /// Start with the declared initial values, and raise an alarm.
    #[default]
    Cold,
    /// Do not start.
    Refuse,
}

/// The behaviour of the daemon at its start if the state directory can be read but not written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum OnReadonly {
    /// Start with the values in the files, and raise an alarm, because later changes are lost when
    /// the daemon ends.
    #[default]
    Start,
    /// Do not start.
    Refuse,
}

/// The content of one file.
#[derive(Debug, Clone, PartialEq)]
pub struct Generation {
    /// Number of the generation; the first is 1. The number is also the count of writes so far.
    pub number: u64,
    /// Sum of the bytes of all writes so far, this file included.
    pub bytes: u64,
    /// The values of one cycle, with the names of their variables.
    pub values: Vec<(String, Variable)>,
}

/// What is wrong with a file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Damage {
    /// The disk gives an error.
    Unreadable(String),
    /// The file is of another kind, or is cut very short; its length in bytes.
    Foreign(usize),
    /// The file is whole, but of a version that this daemon does not know.
    Version(u32),
    /// The file is cut, or some of its bytes have changed.
    Checksum,
    /// The checksum is right but the content is not. The cause is a defect of the program that
    /// wrote the file.
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

/// Makes the bytes of a file. `bytes_before` is the sum of the bytes of all writes before this one.
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
    // The casts are safe: there are at most MAX_VARIABLES variables, and a name has at most
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

/// Reads the generation from the bytes of a file.
///
/// # Errors
/// The bytes are not exactly the bytes that [`encode`] makes.
pub fn decode(file: &[u8]) -> Result<Generation, Damage> {
    if file.len() < HEAD + CHECKSUM || !file.starts_with(MAGIC) {
        return Err(Damage::Foreign(file.len()));
    }
    let (content, sum) = file.split_at(file.len() - CHECKSUM);
    // The checksum is tested before any other byte is trusted. The comparison need not take
    // constant time, because the checksum is no secret.
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

/// Takes one variable from the front of the bytes.
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

/// Takes `N` bytes from the front.
fn take<const N: usize>(rest: &mut &[u8]) -> Result<[u8; N], Damage> {
    let (first, after) = rest.split_first_chunk().ok_or(Damage::Content)?;
    *rest = after;
    Ok(*first)
}

/// The retain files in a state directory.
#[derive(Debug, Default)]
pub struct Found {
    /// The newest whole generation, with its index in [`FILES`].
    pub newest: Option<(usize, Generation)>,
    /// The files that exist but are not whole.
    pub damaged: Vec<(PathBuf, Damage)>,
}

/// Looks for the newest whole generation. This function only reads.
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

/// Writes generations into the state directory.
#[derive(Debug, Clone)]
pub struct Store {
    folder: Arc<Folder>,
    /// Index in [`FILES`] of the newest whole generation.
    newest: Option<usize>,
    /// Number of the newest generation, which is also the number of writes. 0 before the first
    /// write.
    pub writes: u64,
    /// Sum of the bytes of all writes so far.
    pub bytes: u64,
    /// Damaged files. The next generations are written in their places.
    damaged: Vec<PathBuf>,
}

impl Store {
    /// A store that continues from the files in `folder`.
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

    /// Writes the next generation over the older one. The call may take as long as the disk needs.
    ///
    /// Before the first write, damaged files are renamed to `NAME.damaged`, so that people can
    /// examine them. The start of the daemon does not rename them, because it would have to wait
    /// for the disk, and because a rename that comes late could take away a newer file. A rename
    /// replaces an older file of that name, so there is at most one damaged file for each name.
    ///
    /// # Errors
    /// The errors of the disk. In that case the newest generation is still whole.
    pub fn write<'v>(
        &mut self,
        values: impl ExactSizeIterator<Item = (&'v str, Variable)>,
    ) -> io::Result<()> {
        for path in std::mem::take(&mut self.damaged) {
            // If the rename fails, a later generation overwrites the file, which does no harm.
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
