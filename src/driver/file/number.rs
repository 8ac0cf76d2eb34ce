//! Numbers in files: finds the file of a path, and reads or writes its number. Each function may
//! wait for the disk or the device, so `file.rs` calls these functions on a thread that may wait.
//!
//! The number is the first line of the file that is not empty, and all later lines are ignored. The
//! later lines may be remains of an older, longer text, because `write` does not truncate the file.
//! For example, "7\n" written over "255\n" gives "7\n5\n". Because `write` does not truncate the
//! file, another program never sees an empty file. Files of sysfs need no truncation.
//!
//! This file does not decide when to read and write; `file.rs` does. `words.rs` decides which texts
//! are values.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Read, Write};
use std::path::{Path, PathBuf};

use super::identity::{Identity, Progress};
use crate::driver::words::{self, Bases, Bools, Rules, Units};
use crate::process::image::{Direction, Point, PointKind, Raw, Value};

/// The maximum length of the line in bytes, without the blanks and NUL characters around the value.
/// An integer of any type has at most 20 decimal digits, and a float in its shortest form has at
/// most 24 characters.
const MAX_LINE: usize = 64;

/// The maximum number of bytes that are read. A file of sysfs has at most a page, which is 4096
/// bytes on most machines. A line that is not complete in these bytes is refused, because its first
/// bytes alone may be a different number.
const MAX_READ: usize = 4096;

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

/// Opens the file to which a path leads now. `progress` gets the identity of this file, before the
/// call waits for the file and again when the file is open.
fn open(path: &Path, options: &OpenOptions, progress: &Progress) -> io::Result<File> {
    let path = find(path)?;
    progress.reaches(fs::metadata(&path)?.into())?;
    let file = options.open(&path)?;
    progress.reaches(file.metadata()?.into())?;
    Ok(file)
}

/// Reads the number in the file of an input and returns its raw bytes.
pub(super) fn read(path: &Path, point: &Point, progress: &Progress) -> io::Result<Raw> {
    let file = open(path, OpenOptions::new().read(true), progress)?;
    let mut start = Vec::new();
    file.take(MAX_READ as u64 + 1).read_to_end(&mut start)?;
    parse(&start, point).map_err(|why| io::Error::new(io::ErrorKind::InvalidData, why))
}

/// Returns the raw bytes of the number in the first bytes of a file. The number is the first line
/// that is not empty.
///
/// # Errors
/// When this line has no meaning or more than one, or does not fit the type of the point. The error
/// contains the line.
fn parse(start: &[u8], point: &Point) -> Result<Raw, String> {
    let mut lines = start.split(|byte| *byte == b'\n');
    let line = lines.find(|line| !line.trim_ascii().is_empty()).unwrap_or_default();
    // A text that is not UTF-8 is most probably Latin-1, where each byte is one character. An
    // example is the degree sign in the byte 0xb0.
    let text = String::from_utf8(line.to_vec())
        .unwrap_or_else(|_| line.iter().copied().map(char::from).collect());
    let bare = words::bare(&text);
    let is_cut = start.len() > MAX_READ && lines.next().is_none();
    if bare.len() > MAX_LINE || is_cut {
        let found = words::shown(bare);
        return Err(format!("expected a line of at most {MAX_LINE} bytes, found {found}"));
    }
    let raw = raw_point(point.kind);
    let value = words::value(bare, rules(point))?;
    raw.raw_of(value).map_err(|_| {
        let number = if raw.is_whole() { "a whole number" } else { "a number" };
        let found = words::shown(bare);
        format!("expected {number} that fits type {}, found {found}", point.kind)
    })
}

/// Returns a point without scaling, whose value is the number in the file.
fn raw_point(kind: PointKind) -> Point {
    Point::new("", Direction::In, kind)
}

/// Returns the rules for the line. A file of a device never changes its unit or its form, so all
/// forms with one meaning are accepted. The number is the raw number of the point.
fn rules(point: &Point) -> Rules<'_> {
    // The unit of the point is that of the value after scaling. Without scaling, the number in the
    // file has this unit too.
    let units = match &*point.unit {
        unit if point.is_plain() && !unit.is_empty() => Units::Only(unit),
        _ => Units::Known,
    };
    let is_whole = raw_point(point.kind).is_whole();
    Rules { kind: point.kind, is_whole, units, bases: Bases::All, bools: Bools::AnyWhole }
}

/// Writes a number. Returns the identity of the file that was written.
pub(super) fn write(
    path: &Path,
    kind: PointKind,
    raw: Raw,
    progress: &Progress,
) -> io::Result<Identity> {
    let text = match raw_point(kind).value_of(&raw) {
        Value::Bool(on) => u8::from(on).to_string(),
        number => number.to_string(),
    };
    let mut file = open(path, OpenOptions::new().write(true), progress)?;
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
            let raw = parse(text.as_bytes(), &Point::new("", Direction::In, kind));
            let expected = expected.map(|bytes| {
                let mut raw = [0; 8];
                raw[..bytes.len()].copy_from_slice(bytes);
                raw
            });
            assert_eq!(raw.ok(), expected, "{text:?} as {kind}");
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
        check("45.2 C", PointKind::F32, Some(&45.2f32.to_le_bytes()));
        check("0x1f", PointKind::U8, Some(&[31]));
        check("-0x1f", PointKind::I8, Some(&[0xe1]));
        check("0xffff", PointKind::I16, None);
        check("Y\n", PointKind::Bool, Some(&[1]));
        check("disabled\n", PointKind::Bool, Some(&[0]));
        check("23.000000\n", PointKind::U16, Some(&[23, 0]));
        check("18446744073709551615.0", PointKind::U64, Some(&[0xff; 8]));
        check("1e300", PointKind::F32, None);
        check("\r\n \r\n7\r\n5", PointKind::U8, Some(&[7]));
        check(&format!("7{}", "\0".repeat(4095)), PointKind::U8, Some(&[7]));
    }

    #[test]
    fn what_is_refused_is_shown() {
        fn check(text: &[u8], point: &Point, expected: &str) {
            assert_eq!(parse(text, point), Err(expected.to_owned()));
        }
        let point = |kind, scale, unit: &str| {
            let point = Point::new("", Direction::In, kind);
            Point { scale, unit: unit.into(), ..point }
        };
        let byte = point(PointKind::U8, 1.0, "");
        check(b"300\n", &byte, "expected a whole number that fits type u8, found \"300\"");
        check(b"2.5\n", &byte, "expected a whole number that fits type u8, found \"2.5\"");
        check(b"hot\n", &byte, "expected a number of type u8, found \"hot\"");
        let long = format!("expected a line of at most 64 bytes, found \"{}\"", "0".repeat(65));
        check("0".repeat(65).as_bytes(), &byte, &long);
        let cut = "expected a line of at most 64 bytes, found \"7\"";
        check(format!("7{}", " ".repeat(MAX_READ)).as_bytes(), &byte, cut);
        // The degree sign is a byte of Latin-1 here.
        let warm = point(PointKind::F64, 1.0, "°C");
        assert_eq!(parse(b"45.5 \xb0C", &warm), Ok(45.5f64.to_le_bytes()));
        let other = "expected a number in the unit of the point, °C, found \"45.5 F\"";
        check(b"45.5 F\n", &warm, other);
        // With a scale, the number in the file has another unit than the value of the point.
        let scaled = point(PointKind::I32, 0.001, "°C");
        assert_eq!(parse(b"7 m\xb0C", &scaled), Ok([7, 0, 0, 0, 0, 0, 0, 0]));
    }
}
