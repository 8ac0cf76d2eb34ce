//! Scripts: inputs that follow the rows of a CSV file.
//!
//! ```csv
//! # a line that begins with # is skipped
//! time_s,button.start,tank.temperature
//! 0,     false,       20.5
//! 1.5,   true,
//! 2,     false,       21
//! ```
//! A row is valid from the time in its first cell until the time of the next row. An empty cell
//! means the value of the row above. Before the first row, the inputs keep their values. After the
//! last row, the values of the last row stay.
//!
//! With `repeat`, the script starts again at the time of the last row. That time is the length of
//! the script. The time of the first row may be later than 0. In this case, each new pass shows the
//! values of the last row until the time of the first row. The file is read and checked only once,
//! when the device is opened.

use std::io;
use std::path::Path;
use std::time::Duration;

use super::config;
use super::wiring::Wiring;
use crate::driver::OpenError;
use crate::file;
use crate::process::image::{Point, PointId, PointKind, Points, Value};

/// The maximum size of the file in bytes. A file with five points and one row per second has about
/// 3 MB for one day.
const MAX_BYTES: u64 = 16 << 20;

/// The maximum number of cells with values, without the times. Each value needs 32 bytes of memory,
/// so all values need 16 MB.
const MAX_CELLS: usize = 500_000;

/// The name of the first column.
const TIME: &str = "time_s";

/// The content of a CSV file, checked and ready for use.
#[derive(Debug)]
pub(super) struct Script {
    points: Vec<PointId>,
    /// The times of the rows. Each time is later than the time before.
    times: Vec<Duration>,
    /// The values of all rows, one row after the other. Each row has a value for every point.
    values: Vec<Value>,
    repeat: bool,
}

impl Script {
    /// Reads and checks the CSV file of `config`.
    pub(super) fn open(
        config: &config::Script,
        points: &Points,
        wiring: &mut Wiring<'_>,
    ) -> Result<Self, OpenError> {
        let file = &config.file;
        let text = text(file).map_err(|error| {
            let wanted = format!("a readable CSV file of at most {} MiB", MAX_BYTES >> 20);
            let place = file.display().to_string();
            OpenError::new(place, error.to_string(), wanted).caused_by(&error)
        })?;
        parse(&text, config.repeat, points, wiring).map_err(|(line, found, wanted)| {
            OpenError::new(format!("{}:{line}", file.display()), found, wanted)
        })
    }

    /// Writes the values of the time `elapsed` into `field`.
    pub(super) fn show(&self, elapsed: Duration, points: &Points, field: &mut [u8]) {
        let Some(row) = self.row(elapsed) else { return };
        let width = self.points.len();
        for (id, value) in self.points.iter().zip(&self.values[row * width..]) {
            points[*id]
                .write(field, *value)
                .expect("every cell fits its point, as `parse_cell` has checked");
        }
    }

    /// The index of the row that is valid at the time `elapsed`; `None` before the first row.
    fn row(&self, elapsed: Duration) -> Option<usize> {
        let last = self.times.len() - 1;
        let length = self.times[last];
        if !self.repeat || elapsed < length {
            return self.times.partition_point(|time| *time <= elapsed).checked_sub(1);
        }
        let nanos = elapsed.as_nanos() % length.as_nanos();
        let after = self.times.partition_point(|time| time.as_nanos() <= nanos);
        Some(after.checked_sub(1).unwrap_or(last))
    }
}

/// Reads the whole file as text. Returns an error if the file cannot be read, is too large or is
/// not UTF-8.
fn text(file: &Path) -> io::Result<String> {
    let bytes = file::read_present(file, MAX_BYTES)?;
    let no_text = |error| {
        io::Error::new(io::ErrorKind::InvalidData, format!("text that is not UTF-8: {error}"))
    };
    String::from_utf8(bytes).map_err(no_text)
}

/// A mistake in the CSV file. The three parts are the line number, what was found there, and what
/// is expected there.
type Mistake = (u64, String, String);

fn mistake(line: u64, found: impl Into<String>, wanted: impl Into<String>) -> Mistake {
    (line, found.into(), wanted.into())
}

/// Parses the text of a file into a script.
fn parse(
    text: &str,
    repeat: bool,
    points: &Points,
    wiring: &mut Wiring<'_>,
) -> Result<Script, Mistake> {
    let mut rows = csv::ReaderBuilder::new()
        .has_headers(false)
        .flexible(true)
        .comment(Some(b'#'))
        .trim(csv::Trim::All)
        .from_reader(text.as_bytes());
    let mut script = Script { points: Vec::new(), times: Vec::new(), values: Vec::new(), repeat };
    let mut line = 1;
    let mut row = csv::StringRecord::new();
    let mut is_header = true;
    while rows
        .read_record(&mut row)
        .map_err(|error| mistake(line, error.to_string(), "plain CSV"))?
    {
        line = line_of(text, &row);
        if is_header {
            script.points = header(&row, line, wiring)?;
            is_header = false;
        } else {
            script.take(&row, line, points)?;
        }
    }
    let wanted = format!("a header `{TIME},POINT,...` and at least one row");
    match script.times.last() {
        None => Err(mistake(line, "a script without rows", wanted)),
        Some(&Duration::ZERO) if repeat => {
            let wanted = "a time above 0 in the last row, because `repeat` starts the script again \
                          after this time";
            Err(mistake(line, "the time 0 in the last row", wanted))
        }
        Some(_) => Ok(script),
    }
}

/// The number of the text line in which a CSV record begins. The CSV reader returns a position
/// before the blank lines and comments that it has skipped. Therefore this function skips the same
/// lines.
fn line_of(text: &str, row: &csv::StringRecord) -> u64 {
    let (start, line) = row.position().map_or((0, 1), |p| (p.byte() as usize, p.line()));
    let is_skipped = |line: &&str| line.trim().is_empty() || line.starts_with('#');
    line + text[start..].lines().take_while(is_skipped).count() as u64
}

/// Finds the points that the header names, in the order of their columns.
fn header(
    row: &csv::StringRecord,
    line: u64,
    wiring: &mut Wiring<'_>,
) -> Result<Vec<PointId>, Mistake> {
    if row.get(0) != Some(TIME) || row.len() < 2 {
        let found = format!("the header {:?}", row.iter().collect::<Vec<_>>().join(","));
        return Err(mistake(line, found, format!("a header `{TIME},POINT,...`")));
    }
    let point = |name| match wiring.input("script", name) {
        Ok((id, _)) => Ok(id),
        Err(error) => Err(mistake(line, error.found, error.wanted)),
    };
    row.iter().skip(1).map(point).collect()
}

impl Script {
    /// Parses a row and adds its time and values to the script.
    fn take(&mut self, row: &csv::StringRecord, line: u64, points: &Points) -> Result<(), Mistake> {
        let width = self.points.len();
        if row.len() != width + 1 {
            let wanted = format!("{} cells, as in the header", width + 1);
            return Err(mistake(line, format!("{} cells", row.len()), wanted));
        }
        if self.values.len() + width > MAX_CELLS {
            let wanted = format!("at most {MAX_CELLS} cells in one script");
            return Err(mistake(line, "a script with more cells", wanted));
        }
        let time = row[0].parse().ok().and_then(|s| Duration::try_from_secs_f64(s).ok());
        let Some(time) = time else {
            let wanted = "a number of seconds from the start, such as 1.5";
            return Err(mistake(line, format!("{:?} as {TIME}", &row[0]), wanted));
        };
        if let Some(before) = self.times.last().filter(|before| time <= **before) {
            let found = format!("{} s after {} s", time.as_secs_f64(), before.as_secs_f64());
            return Err(mistake(line, found, "a time later than that of the row above"));
        }
        for (column, id) in self.points.iter().enumerate() {
            let (point, cell) = (&points[*id], &row[column + 1]);
            let above = self.values.len().checked_sub(width).map(|index| self.values[index]);
            let value = match above {
                Some(above) if cell.is_empty() => above,
                _ => parse_cell(cell, point).map_err(|wanted| {
                    mistake(line, format!("{cell:?} for point {:?}", point.name), wanted)
                })?,
            };
            self.values.push(value);
        }
        self.times.push(time);
        Ok(())
    }
}

/// Parses a cell. The error is a text that says what is expected in the cell.
fn parse_cell(cell: &str, point: &Point) -> Result<Value, String> {
    if cell.is_empty() {
        return Err("a value for every point in the first row".into());
    }
    let value = match (point.kind, cell) {
        (PointKind::Bool, "true" | "1") => Value::Bool(true),
        (PointKind::Bool, "false" | "0") => Value::Bool(false),
        (PointKind::Bool, _) => return Err("true or false".into()),
        _ => match (cell.parse(), cell.parse()) {
            (Ok(whole), _) => Value::Int(whole),
            (_, Ok(number)) => Value::Real(number),
            _ => return Err("a number".into()),
        },
    };
    point.encode(value).map_err(|_| format!("a value that fits type {}", point.kind))?;
    Ok(value)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::driver::sim::tests::{BOOL_IN, INT_IN, points};

    /// Parses `text` as a script for the test device.
    fn script(text: &str, repeat: bool) -> Result<Script, Mistake> {
        let points = points();
        parse(text, repeat, &points, &mut Wiring::new(&points, 0))
    }

    const STEPS: &str = "time_s, int.in, bool.in\n1, 10, true\n2.5, 20,\n4, -5, false\n";

    /// Checks that the script shows `expected` at `seconds`. Before the script writes them, the
    /// inputs have the values 99 and false.
    fn check(text: &str, repeat: bool, seconds: f64, expected: (i128, bool)) {
        let (script, points) = (script(text, repeat).unwrap(), points());
        let mut field = vec![0; points.image_bytes(crate::process::image::Direction::In)];
        points[INT_IN].write(&mut field, Value::Int(99)).unwrap();
        script.show(Duration::from_secs_f64(seconds), &points, &mut field);
        let shown = (points[INT_IN].read(&field), points[BOOL_IN].read(&field));
        assert_eq!(shown, (Value::Int(expected.0), Value::Bool(expected.1)), "at {seconds}");
    }

    #[test]
    fn rows_hold_from_their_time_on() {
        check(STEPS, false, 0.999, (99, false));
        check(STEPS, false, 1.0, (10, true));
        check(STEPS, false, 2.499, (10, true));
        check(STEPS, false, 2.5, (20, true));
        check(STEPS, false, 4.0, (-5, false));
        check(STEPS, false, 1e9, (-5, false));
    }

    #[test]
    fn a_repeated_script_begins_again_at_its_last_row() {
        check(STEPS, true, 0.5, (99, false));
        check(STEPS, true, 3.9, (20, true));
        check(STEPS, true, 4.5, (-5, false));
        check(STEPS, true, 5.0, (10, true));
        check(STEPS, true, 4e6 + 3.0, (20, true));
        let blink = "time_s,int.in,bool.in\n0,1,1\n1,0,0\n2,0,0";
        check(blink, true, 1.5, (0, false));
        check(blink, true, 2.0, (1, true));
        check(blink, true, 3.0, (0, false));
    }

    /// Checks that `text` is refused at `line`, with a reason that contains `found`.
    fn refuse(text: &str, line: u64, found: &str) {
        let (at, reason, remedy) = script(text, false).map(|_| text).unwrap_err();
        assert_eq!(at, line, "{text}: {reason}; {remedy}");
        assert!(format!("{reason}; {remedy}").contains(found), "{text}: {reason}; {remedy}");
    }

    #[test]
    fn mistakes_have_a_line() {
        refuse("", 1, "without rows");
        refuse("time_s,int.in\n", 1, "without rows");
        refuse("time,int.in\n0,1", 1, "the header \"time,int.in\"");
        refuse("time_s\n0", 1, "the header");
        refuse("# note\n\ntime_s,int.inn\n0,1", 3, "\"int.inn\", which is not the name of a point");
        refuse("time_s,int.in,int.in\n0,1,2", 1, "which script drives already");
        refuse("time_s,int.out\n0,1", 1, "not an input");
        refuse("time_s,int.in\n0,1\n1", 3, "1 cells; 2 cells, as in the header");
        refuse("time_s,int.in\r\n0,1\r\n\r\n# note\r\n1,1,1\r\n", 5, "3 cells");
        refuse("time_s,int.in\nsoon,1", 2, "\"soon\" as time_s");
        refuse("time_s,int.in\r\n0,x\r\n", 2, "a number");
        refuse("\u{feff}time_s,int.in\n0,x\n", 2, "a number");
        refuse("time_s,int.in\n-1,1", 2, "\"-1\" as time_s");
        refuse("time_s,int.in\n0,1\n\n0,2", 4, "0 s after 0 s");
        refuse("time_s,int.in\n0,one", 2, "a number");
        refuse("time_s,int.in\n0,40000", 2, "\"40000\" for point \"int.in\"");
        refuse("time_s,int.in\n0,nan", 2, "a value that fits type i16");
        refuse("time_s,int.in\n0,", 2, "every point in the first row");
        refuse("time_s,bool.in\n0,2", 2, "true or false");
        let long = format!("time_s,int.in\n{}", "0,1\n".repeat(3));
        refuse(&long, 3, "later than that of the row above");
        let rows: String = (0..=MAX_CELLS).map(|time| format!("{time},1\n")).collect();
        refuse(&format!("time_s,int.in\n{rows}"), MAX_CELLS as u64 + 2, "more cells");
        let (_, reason, _) = script("time_s,int.in\n0,1", true).map(|_| ()).unwrap_err();
        assert_eq!(reason, "the time 0 in the last row");
    }

    #[test]
    fn the_file_is_named() {
        let config = config::Script { file: "/nowhere/inputs.csv".into(), repeat: false };
        let points = points();
        let error = Script::open(&config, &points, &mut Wiring::new(&points, 0)).unwrap_err();
        assert!(error.to_string().starts_with("/nowhere/inputs.csv: No such file"), "{error}");

        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("inputs.csv");
        std::fs::write(&file, "time_s,int.in\n0,x\n").unwrap();
        let config = config::Script { file: file.clone(), repeat: false };
        let error = Script::open(&config, &points, &mut Wiring::new(&points, 0)).unwrap_err();
        assert_eq!(error.place, format!("{}:2", file.display()));

        let large = std::fs::File::create(&file).unwrap();
        large.set_len(MAX_BYTES + 1).unwrap();
        let error = Script::open(&config, &points, &mut Wiring::new(&points, 0)).unwrap_err();
        assert_eq!(error.found, format!("it has more than {MAX_BYTES} bytes"));
    }
}
