//! Numbers in files: finds the file of a path, and reads or writes its number. Each function may
//! wait for the disk or the device, so `file.rs` calls these functions on a thread that may wait.
//!
//! The number is the first line of the file, and all other lines are ignored. The other lines may
//! be remains of an older, longer text, because `write` does not truncate the file. For example,
//! "7\n" written over "255\n" gives "7\n5\n". Because `write` does not truncate the file, another
//! program never sees an empty file. Files of sysfs need no truncation.
//!
//! This file does not decide when to read and write; `file.rs` does.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Read, Write};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use crate::process::image::{Direction, Point, PointKind, Raw, Value};

/// The maximum length of the first line in bytes. The limit is more than the digits of the longest
/// number of any type. A longer line is refused, because its first bytes alone may be a different
/// number.
const MAX_LINE: usize = 64;

/// The identity of a file: the device number of its file system, its inode number and its time of
/// creation. A file system may give the inode number of a deleted file to a new file. The time of
/// creation distinguishes the two, if the file system stores that time.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Identity {
    device: u64,
    number: u64,
    began: Option<SystemTime>,
}

impl From<fs::Metadata> for Identity {
    fn from(known: fs::Metadata) -> Self {
        Self { device: known.dev(), number: known.ino(), began: known.created().ok() }
    }
}

/// Returns the file to which a path leads now. A `*` in the path is replaced so that the path leads
/// to an existing file. No such file, or two or more such files, are an error.
fn find(path: &Path) -> io::Result<PathBuf> {
    let text = path.to_string_lossy();
    let Some((before, after)) = text.split_once('*') else { return Ok(path.to_owned()) };
    let (folder, start) = before.rsplit_once('/').unwrap_or_default();
    let (end, below) = after.split_once('/').unwrap_or((after, ""));
    let mut found = Vec::new();
    for entry in fs::read_dir(format!("{folder}/"))? {
        let entry = entry?;
        let name = entry.file_name();
        let middle = name.to_str().and_then(|name| name.strip_prefix(start)?.strip_suffix(end));
        // `join` with an empty path would add a slash, so an empty `below` is not joined.
        let file = if below.is_empty() { entry.path() } else { entry.path().join(below) };
        if middle.is_some() && file.exists() {
            found.push(file);
        }
    }
    match &found[..] {
        [file] => Ok(file.clone()),
        [] => Err(io::Error::new(io::ErrorKind::NotFound, "no file matches this path")),
        [first, second, ..] => {
            let message = format!(
                "the path must match one file, but matches {} and {}",
                first.display(),
                second.display()
            );
            Err(io::Error::new(io::ErrorKind::InvalidFilename, message))
        }
    }
}

/// Reads the number in a file and returns its raw bytes.
pub(super) fn read(path: &Path, kind: PointKind) -> io::Result<Raw> {
    let wrong = |message| io::Error::new(io::ErrorKind::InvalidData, message);
    let mut start = Vec::new();
    File::open(find(path)?)?.take(MAX_LINE as u64 + 1).read_to_end(&mut start)?;
    let line = start.split(|byte| *byte == b'\n').next().unwrap_or_default();
    if line.len() > MAX_LINE {
        return Err(wrong(format!("the first line of the file has more than {MAX_LINE} bytes")));
    }
    let text = String::from_utf8_lossy(line);
    parse(&text, kind)
        .ok_or_else(|| wrong(format!("{:?} is not a number of type {kind}", text.trim())))
}

/// Converts text to the raw bytes of a number. A bool is false for 0 and true for any other
/// integer. Returns `None` if the text is not a number of this type.
fn parse(text: &str, kind: PointKind) -> Option<Raw> {
    let plain = |kind| Point::new("", Direction::In, kind);
    let text = text.trim();
    let value = match kind {
        PointKind::Bool => Value::Bool(text.parse::<i64>().ok()? != 0),
        PointKind::F32 | PointKind::F64 => Value::Real(text.parse().ok()?),
        _ => Value::Int(text.parse().ok()?),
    };
    plain(kind).raw_of(value).ok()
}

/// Writes a number. Returns the identity of the file that was written.
pub(super) fn write(path: &Path, kind: PointKind, raw: Raw) -> io::Result<Identity> {
    let text = match Point::new("", Direction::Out, kind).value_of(&raw) {
        Value::Bool(on) => u8::from(on).to_string(),
        number => number.to_string(),
    };
    let mut file = OpenOptions::new().write(true).open(find(path)?)?;
    file.write_all(format!("{text}\n").as_bytes())?;
    Ok(file.metadata()?.into())
}

/// Returns the identity of the file to which the path leads now.
pub(super) fn identity(path: &Path) -> io::Result<Identity> {
    Ok(fs::metadata(find(path)?)?.into())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_star_stands_for_what_is_there() {
        let folder = tempfile::tempdir().unwrap();
        let path = |name: &str| folder.path().join(name);
        for name in ["hwmon3/temp1_input", "hwmon4/in0_input", "fan"] {
            fs::create_dir_all(path(name).parent().unwrap()).unwrap();
            fs::write(path(name), "1").unwrap();
        }
        let check = |pattern: &str, expected: Result<&str, io::ErrorKind>| {
            let found = find(&path(pattern)).map_err(|error| error.kind());
            assert_eq!(found, expected.map(path), "{pattern}");
        };
        check("fan", Ok("fan"));
        check("none", Ok("none"));
        check("hwmon*/temp1_input", Ok("hwmon3/temp1_input"));
        check("hwmon3/temp*_input", Ok("hwmon3/temp1_input"));
        check("*n", Ok("fan"));
        check("fan*fan", Err(io::ErrorKind::NotFound));
        check("hwmon*/temp2_input", Err(io::ErrorKind::NotFound));
        check("hwmon*", Err(io::ErrorKind::InvalidFilename));
        check("none/*", Err(io::ErrorKind::NotFound));
    }

    #[test]
    fn numbers_are_of_their_type() {
        fn check(text: &str, kind: PointKind, expected: Option<&[u8]>) {
            let raw = parse(text, kind);
            let expected = expected.map(|bytes| {
                let mut raw = [0; 8];
                raw[..bytes.len()].copy_from_slice(bytes);
                raw
            });
            assert_eq!(raw, expected, "{text:?} as {kind}");
        }
        check("42500\n", PointKind::I32, Some(&42_500i32.to_le_bytes()));
        check(" -3 ", PointKind::I8, Some(&[0xfd]));
        check("300", PointKind::U8, None);
        check("1.5", PointKind::F64, Some(&1.5f64.to_le_bytes()));
        check("nan", PointKind::F64, None);
        check("1", PointKind::Bool, Some(&[1]));
        check("0", PointKind::Bool, Some(&[0]));
        check("", PointKind::I32, None);
        check("12 apples", PointKind::I32, None);
    }
}
