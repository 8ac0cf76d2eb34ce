//! The output of `camshaft modbus`: bits, registers in each byte order, and the units that answer.
//!
//! A user searches for the byte order in which a known number appears. For this search, the table
//! has one column for each byte order. With `--json` the same data are printed as JSON. This file
//! sends no requests.
//!
//! Example of two registers with the value 42.5 in the byte order ABCD:
//!
//! ```text
//! ADDRESS        HEX  ABCD          CDAB          BADC          DCBA
//!       7  422a 0000  42.5  2.373519e-41  1.723066e-13  1.515925e-41
//! ```

use serde::Serialize;
use serde_json::json;

use crate::cli::CommandResult;
use crate::cli::screen::Screen;
use crate::cli::table::{Cell, Paint, Side, Table as Columns};
use crate::cli::unit::time_us;
use crate::driver::modbus::wire::register::{Layout, WordOrder};
use crate::process::image::{Direction, Point, PointKind, Value};

use Side::{Left, Right};

/// Prints bits, each with its address.
pub(super) fn show_bits(
    address: u16,
    bits: &[bool],
    json: bool,
    screen: &mut Screen,
) -> CommandResult {
    let bits = (address..=u16::MAX).zip(bits);
    if json {
        let bits = bits.map(|(address, value)| json!({ "address": address, "value": value }));
        return Ok(screen.json(&bits.collect::<Vec<_>>())?);
    }
    let mut columns = Columns::new([(Right, "ADDRESS"), (Left, "VALUE")]);
    bits.for_each(|(at, bit)| columns.row([Cell::from(at.to_string()), bit.to_string().into()]));
    Ok(screen.print(&columns.render(screen.paint))?)
}

/// One value with its registers, in each possible byte order.
struct Row<'r> {
    address: u16,
    registers: &'r [u16],
    /// The value for each byte order; `None` if the bytes are a float that is not finite.
    values: Vec<(WordOrder, Option<Value>)>,
}

/// Divides the registers into values of this type. Returns one row for each value.
fn rows(address: u16, registers: &[u16], kind: PointKind) -> impl Iterator<Item = Row<'_>> {
    let width = kind.size() as usize / 2;
    let point = Point::new("", Direction::In, kind);
    let starts = (address..=u16::MAX).step_by(width);
    starts.zip(registers.chunks_exact(width)).map(move |(address, registers)| {
        let value = |order: &WordOrder| {
            let layout = Layout::new(kind, Some(*order), None, None).ok();
            let raw = layout.and_then(|layout| layout.read(registers).ok());
            (*order, raw.map(|raw| point.value_of(&raw)))
        };
        let values = WordOrder::of(width).iter().map(value).collect();
        Row { address, registers, values }
    })
}

/// Prints registers, with their values in each byte order.
pub(super) fn show_registers(
    address: u16,
    registers: &[u16],
    kind: PointKind,
    json: bool,
    screen: &mut Screen,
) -> CommandResult {
    let rows = rows(address, registers, kind);
    if json {
        let row = |row: Row<'_>| {
            let values = row.values.iter().map(|(order, value)| (order.word(), value));
            let values = values.collect::<std::collections::BTreeMap<_, _>>();
            json!({ "address": row.address, "registers": row.registers, "values": values })
        };
        return Ok(screen.json(&rows.map(row).collect::<Vec<_>>())?);
    }
    Ok(screen.print(&side_by_side(rows, kind, screen.paint))?)
}

/// Returns a table with one column for each byte order of this type.
fn side_by_side<'r>(rows: impl Iterator<Item = Row<'r>>, kind: PointKind, paint: Paint) -> String {
    match WordOrder::of(kind.size() as usize / 2) {
        [a, b] => table(["ADDRESS", "HEX", a.word(), b.word()], rows, paint),
        [a, b, c, d] => {
            table(["ADDRESS", "HEX", a.word(), b.word(), c.word(), d.word()], rows, paint)
        }
        _ => String::new(),
    }
}

/// Returns the table as text: the address, the registers in hexadecimal, and the values.
fn table<'r, const N: usize>(
    head: [&'static str; N],
    rows: impl Iterator<Item = Row<'r>>,
    paint: Paint,
) -> String {
    let mut columns = Columns::new(head.map(|name| (Right, name)));
    for row in rows {
        let values = row.values.iter().map(|(_, value)| value.map_or("-".to_owned(), short));
        let mut cells = [row.address.to_string(), hex(row.registers)].into_iter().chain(values);
        columns.row(std::array::from_fn(|_| Cell::from(cells.next().unwrap_or_default())));
    }
    columns.render(paint)
}

/// Returns registers as hexadecimal digits.
pub(super) fn hex(registers: &[u16]) -> String {
    let digits = registers.iter().map(|register| format!("{register:04x}"));
    digits.collect::<Vec<_>>().join(" ")
}

/// Returns a number as a short text. A float in a wrong byte order is mostly very large or very
/// small.
fn short(value: Value) -> String {
    match value {
        Value::Real(real)
            if real.is_finite() && real != 0.0 && !(1e-4..1e9).contains(&real.abs()) =>
        {
            format!("{real:.6e}")
        }
        value => value.to_string(),
    }
}

/// A unit that answers, with its answer and the time until the answer.
#[derive(Debug, Serialize)]
pub(super) struct Found {
    pub(super) unit: u8,
    pub(super) answer: String,
    pub(super) took_us: u64,
}

/// Prints the units that answered. If no unit answered, prints an empty JSON list with `json`, and
/// otherwise nothing.
pub(super) fn show_units(found: &[Found], json: bool, screen: &mut Screen) -> CommandResult {
    if json {
        return Ok(screen.json(&found)?);
    }
    if found.is_empty() {
        return Ok(());
    }
    Ok(screen.print(&unit_table(found, screen.paint))?)
}

/// Returns the table of the units that answered. Some devices answer at every address. Therefore
/// consecutive units with the same answer are one row, with the longest of their times.
fn unit_table(found: &[Found], paint: Paint) -> String {
    let mut columns = Columns::new([(Right, "UNIT"), (Right, "TOOK"), (Left, "ANSWER")]);
    let is_next = |one: &Found, next: &Found| {
        u16::from(one.unit) + 1 == u16::from(next.unit) && one.answer == next.answer
    };
    for alike in found.chunk_by(is_next) {
        let (first, last) = (&alike[0], &alike[alike.len() - 1]);
        let units = match alike.len() {
            1 => first.unit.to_string(),
            _ => format!("{} to {}", first.unit, last.unit),
        };
        let longest = alike.iter().map(|found| found.took_us).max().unwrap_or_default();
        columns.row([units.into(), time_us(longest).into(), first.answer.as_str().into()]);
    }
    columns.render(paint)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Units with the same answer are one row, but not across a unit without an answer.
    #[test]
    fn equal_answers_are_folded() {
        let found = |unit, answer: &str, took_us| Found { unit, answer: answer.into(), took_us };
        let units = [
            found(1, "answers", 900),
            found(2, "answers", 1200),
            found(3, "answers as unit 0", 800),
            found(5, "answers as unit 0", 700),
            found(254, "answers", 100),
            found(255, "answers", 100),
        ];
        let text = unit_table(&units, Paint(false));
        let cells = |line: &str| line.split_whitespace().map(str::to_owned).collect::<Vec<_>>();
        let rows: Vec<_> = text.lines().skip(1).map(cells).collect();
        assert_eq!(rows[0][..3], ["1", "to", "2"], "{text}");
        assert!(rows[0][3].starts_with("1.2"), "{text}");
        assert_eq!([&rows[1][0], &rows[2][0], &rows[3][0]], ["3", "5", "254"], "{text}");
        assert_eq!(rows.len(), 4, "{text}");
    }

    /// The table has one column for each byte order.
    #[test]
    fn orders_stand_side_by_side() {
        fn check(registers: &[u16], kind: PointKind, expected: &str) {
            let text = side_by_side(rows(7, registers, kind), kind, Paint(false));
            assert_eq!(text, expected, "{registers:x?} as {kind}");
        }
        check(
            &[0x0102, 0xffff],
            PointKind::I16,
            "ADDRESS   HEX   AB   BA\n      7  0102  258  513\n      8  ffff   -1   -1\n",
        );
        check(
            &[0x422a, 0x0000],
            PointKind::F32,
            "ADDRESS        HEX  ABCD          CDAB          BADC          DCBA\n      \
             7  422a 0000  42.5  2.373519e-41  1.723066e-13  1.515925e-41\n",
        );
        check(
            &[0x7fc0, 0x0000],
            PointKind::U32,
            "ADDRESS        HEX        ABCD   CDAB        BADC   DCBA\n      \
             7  7fc0 0000  2143289344  32704  3229548544  49279\n",
        );
    }
}
