//! `camshaft modbus`: single requests by hand, to find out what a device has and how its bytes are
//! ordered.
//!
//! These verbs speak to the device themselves, with the transport of the driver. They need no
//! daemon; a daemon on the same serial line disturbs them. No request is repeated and nothing is
//! assumed: what is printed was answered.

use std::time::{Duration, Instant};

use clap::{Args as Group, Subcommand};
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::json;

use super::help::{MODBUS_READ_HELP, MODBUS_SCAN_HELP, MODBUS_WRITE_HELP};
use super::screen::Screen;
use super::table::{Cell, Paint, Side, Table as Columns};
use super::unit::time_us;
use super::{Exit, Failed, Outcome};
use crate::driver::modbus::line::{Line, Parity, Serial, Target};
use crate::driver::modbus::register::{Layout, MAX_REGISTERS, Order};
use crate::driver::modbus::request::{Ask, Reply, Request, Table, WireError, exception};
use crate::driver::modbus::transport::Transport;
use crate::process::image::{Direction, Kind, Point, Value};

use Side::{Left, Right};

/// Time limit for each unit of a scan: most devices answer faster. 247 units take 50 s at most over
/// TCP.
const SCAN_TIMEOUT: Duration = Duration::from_millis(200);

/// Addresses that a unit can have (Modbus over serial line 1.02, 2.2).
const UNITS: std::ops::RangeInclusive<i64> = 1..=247;

/// The verbs for a bus.
#[derive(Debug, Subcommand)]
pub(super) enum Modbus {
    /// Read registers or bits
    #[command(after_help = MODBUS_READ_HELP)]
    Read(Reading),
    /// Write one value
    #[command(after_help = MODBUS_WRITE_HELP)]
    Write(Writing),
    /// Find out which units answer
    #[command(after_help = MODBUS_SCAN_HELP)]
    Scan(Scanning),
}

/// Where a bus is, and how it speaks.
#[derive(Debug, Group)]
pub(super) struct Bus {
    /// tcp://HOST or tcp://HOST:PORT, rtu:///dev/..., rtu+tcp://HOST:PORT
    target: Target,
    /// How long to wait for an answer
    #[arg(long, value_name = "TIME", value_parser = humantime::parse_duration)]
    timeout: Option<Duration>,
    /// Bits in a second on a serial line [default: 19200]
    #[arg(long)]
    baud: Option<u32>,
    /// Parity on a serial line: even, odd or none [default: even]
    #[arg(long, value_parser = word::<Parity>)]
    parity: Option<Parity>,
    /// Stop bits on a serial line
    #[arg(long, value_name = "N", default_value = "1",
        value_parser = clap::value_parser!(u8).range(1..=2))]
    stop_bits: u8,
}

/// What to read.
#[derive(Debug, Group)]
pub(super) struct Reading {
    #[command(flatten)]
    bus: Bus,
    /// coil, discrete, holding or input
    #[arg(value_parser = word::<Table>)]
    table: Table,
    /// The first register or bit, counted from 0
    address: u16,
    /// How many registers or bits [default: as many as one value takes]
    #[arg(value_parser = clap::value_parser!(u16).range(1..=2000))]
    count: Option<u16>,
    /// The unit
    #[arg(long, default_value = "1")]
    unit: u8,
    /// Type of the values in registers, such as i16, u32 or f32
    #[arg(long = "type", value_name = "TYPE", default_value = "u16", value_parser = number)]
    kind: Kind,
    /// Print JSON, for programs
    #[arg(long)]
    json: bool,
}

/// What to write.
#[derive(Debug, Group)]
pub(super) struct Writing {
    #[command(flatten)]
    bus: Bus,
    /// coil or holding
    #[arg(value_parser = writable)]
    table: Table,
    /// The first register, or the coil, counted from 0
    address: u16,
    /// A number, or true, false, on, off for a coil
    #[arg(allow_negative_numbers = true, value_parser = super::args::value)]
    value: Value,
    /// The unit
    #[arg(long, default_value = "1")]
    unit: u8,
    /// Type of the value in registers, such as i16, u32 or f32
    #[arg(long = "type", value_name = "TYPE", default_value = "u16", value_parser = number)]
    kind: Kind,
    /// Order of its bytes on the wire, A the most significant, such as CDAB
    #[arg(long, value_parser = word::<Order>)]
    order: Option<Order>,
    /// Function code 5 or 6, for devices that lack 15 and 16
    #[arg(long)]
    single: bool,
}

/// Where to look for units.
#[derive(Debug, Group)]
pub(super) struct Scanning {
    #[command(flatten)]
    bus: Bus,
    /// The first unit to ask
    #[arg(long, default_value = "1", value_parser = clap::value_parser!(u8).range(UNITS))]
    from: u8,
    /// The last unit to ask
    #[arg(long, default_value = "247", value_parser = clap::value_parser!(u8).range(UNITS))]
    to: u8,
    /// Print JSON, for programs
    #[arg(long)]
    json: bool,
}

/// Parses a word that the configuration has too.
fn word<T: DeserializeOwned>(text: &str) -> Result<T, String> {
    serde_json::from_value(text.into()).map_err(|error| error.to_string())
}

fn number(text: &str) -> Result<Kind, String> {
    match word(text)? {
        Kind::Bool | Kind::U8 | Kind::I8 => Err("wanted is a type of 16 bits or more".into()),
        kind => Ok(kind),
    }
}

fn writable(text: &str) -> Result<Table, String> {
    match word(text)? {
        table @ (Table::Coil | Table::Holding) => Ok(table),
        table => Err(format!("{} cannot be written; wanted is coil or holding", table.word())),
    }
}

/// Runs a verb for a bus.
pub(super) async fn modbus(verb: Modbus, screen: &mut Screen) -> Outcome {
    match verb {
        Modbus::Read(what) => read(what, screen).await,
        Modbus::Write(what) => write(what, screen).await,
        Modbus::Scan(what) => scan(what, screen).await,
    }
}

fn failed(message: impl Into<String>) -> Failed {
    Failed::new(Exit::Failure, message)
}

impl Bus {
    /// The settings of the line; options of a serial line are refused for another one.
    fn line(&self) -> Result<Line, Failed> {
        let mut line = Line::new(self.target.clone());
        line.timeout = self.timeout;
        let is_serial = matches!(self.target, Target::Rtu(_));
        if let (false, true) = (is_serial, self.baud.is_some() || self.parity.is_some()) {
            let message = "--baud and --parity are for serial lines, rtu:///dev/...";
            return Err(Failed::new(Exit::Usage, message));
        }
        line.serial = line.serial.map(|usual| Serial {
            baud: self.baud.unwrap_or(usual.baud),
            parity: self.parity.unwrap_or(usual.parity),
            stop_bits: self.stop_bits,
        });
        Ok(line)
    }
}

async fn open(line: &Line) -> Result<Transport, Failed> {
    let why = |error| failed(format!("{}: {error}", line.target));
    Transport::open(line).await.map_err(why)
}

/// Sends one request; an error names the line and the unit.
async fn ask(bus: &Bus, request: &Request) -> Result<Reply, Failed> {
    let line = bus.line()?;
    let reply = open(&line).await?.transact(request).await;
    reply.map_err(|why| failed(format!("{}, unit {}: {why}", line.target, request.unit)))
}

/// The verb `read`: the values of one request, in each order that their bytes can have.
async fn read(what: Reading, screen: &mut Screen) -> Outcome {
    let Reading { bus, table, address, count, unit, kind, json } = what;
    let (most, width) = (table.most(), (kind.size() as u16 / 2).max(1));
    let count = count.unwrap_or(if table.is_bits() { 1 } else { width });
    if count > most || u32::from(address) + u32::from(count) > 0x1_0000 {
        let message = format!(
            "there is no {} {address} to {}; one request reads {most} at most, up to 65535",
            table.word(),
            u32::from(address) + u32::from(count) - 1
        );
        return Err(Failed::new(Exit::Usage, message));
    }
    if !table.is_bits() && !count.is_multiple_of(width) {
        let message = format!("a {kind} takes {width} registers; {count} are no whole number");
        return Err(Failed::new(Exit::Usage, message));
    }
    let request = Request { unit, ask: Ask::Read { table, address, count } };
    match ask(&bus, &request).await? {
        Reply::Bits(bits) => show_bits(address, &bits, json, screen),
        Reply::Registers(registers) => show_registers(address, &registers, kind, json, screen),
        Reply::Written => Err(failed("what was answered is no answer to a read")),
    }
}

fn show_bits(address: u16, bits: &[bool], json: bool, screen: &mut Screen) -> Outcome {
    let bits = (address..=u16::MAX).zip(bits);
    if json {
        let bits = bits.map(|(address, value)| json!({ "address": address, "value": value }));
        return Ok(screen.json(&bits.collect::<Vec<_>>())?);
    }
    let mut columns = Columns::new([(Right, "ADDRESS"), (Left, "VALUE")]);
    bits.for_each(|(at, bit)| columns.row([Cell::from(at.to_string()), bit.to_string().into()]));
    Ok(screen.print(&columns.render(screen.paint))?)
}

/// One value of some registers, in every order that its bytes can have.
struct Row<'r> {
    address: u16,
    registers: &'r [u16],
    /// The value for each order; `None` if the bytes are a float that is not finite.
    values: Vec<(Order, Option<Value>)>,
}

fn rows(address: u16, registers: &[u16], kind: Kind) -> impl Iterator<Item = Row<'_>> {
    let width = kind.size() as usize / 2;
    let point = Point::new("", Direction::In, kind);
    let starts = (address..=u16::MAX).step_by(width);
    starts.zip(registers.chunks_exact(width)).map(move |(address, registers)| {
        let value = |order: &Order| {
            let layout = Layout::new(kind, Some(*order), None, None).ok();
            let raw = layout.and_then(|layout| layout.read(registers).ok());
            (*order, raw.map(|raw| point.value_of(&raw)))
        };
        let values = Order::of(width).iter().map(value).collect();
        Row { address, registers, values }
    })
}

fn show_registers(
    address: u16,
    registers: &[u16],
    kind: Kind,
    json: bool,
    screen: &mut Screen,
) -> Outcome {
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

/// A table with a column for each order that bytes of this type can have.
fn side_by_side<'r>(rows: impl Iterator<Item = Row<'r>>, kind: Kind, paint: Paint) -> String {
    match Order::of(kind.size() as usize / 2) {
        [a, b] => table(["ADDRESS", "HEX", a.word(), b.word()], rows, paint),
        [a, b, c, d] => {
            table(["ADDRESS", "HEX", a.word(), b.word(), c.word(), d.word()], rows, paint)
        }
        _ => String::new(),
    }
}

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

fn hex(registers: &[u16]) -> String {
    let digits = registers.iter().map(|register| format!("{register:04x}"));
    digits.collect::<Vec<_>>().join(" ")
}

/// A number as a short text: in most orders of its bytes a float is very large or very small.
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

async fn write(what: Writing, screen: &mut Screen) -> Outcome {
    let Writing { bus, table, address, value, unit, kind, order, single } = what;
    let usage = |message: String| Failed::new(Exit::Usage, message);
    let (ask_for, registers) = if table == Table::Coil {
        let Value::Bool(on) = value else {
            return Err(usage(format!("{value} for a coil; wanted is true, false, on or off")));
        };
        (Ask::WriteCoil { address, on, single }, Vec::new())
    } else {
        let layout = Layout::new(kind, order, None, None).map_err(|why| {
            usage(format!("--{}: {}; wanted is {}", why.key, why.found, why.wanted))
        })?;
        let raw = Point::new("", Direction::Out, kind).raw_of(value);
        let raw = raw.map_err(|why| usage(format!("{value}: {why}")))?;
        let mut registers = [0; MAX_REGISTERS];
        layout.write(raw, &mut registers);
        let values = registers[..layout.registers()].to_vec();
        if single && values.len() > 1 {
            return Err(usage(format!("--single writes one register; a {kind} takes more")));
        }
        (Ask::WriteRegisters { address, values: values.clone(), single }, values)
    };
    ask(&bus, &Request { unit, ask: ask_for }).await?;
    let hex = match registers.is_empty() {
        true => String::new(),
        false => format!(" ({})", hex(&registers)),
    };
    let place = format!("{} {address}", table.word());
    Ok(screen.print(&format!("unit {unit} has acknowledged {place}: {value}{hex}\n"))?)
}

/// A unit that answers.
#[derive(Debug, Serialize)]
struct Found {
    unit: u8,
    answer: String,
    took_us: u64,
}

/// The verb `scan`: reads one register of each unit; a unit that refuses that answers too.
async fn scan(what: Scanning, screen: &mut Screen) -> Outcome {
    let Scanning { bus, from, to, json } = what;
    let mut line = bus.line()?;
    line.timeout = Some(bus.timeout.unwrap_or(SCAN_TIMEOUT));
    let mut transport = open(&line).await?;
    let mut found = Vec::new();
    for unit in from..=to {
        let ask = Ask::Read { table: Table::Holding, address: 0, count: 1 };
        let started = Instant::now();
        let outcome = transport.transact(&Request { unit, ask }).await;
        let answer = match outcome {
            Ok(_) => "answers".to_owned(),
            // A gateway answers for a unit that is not there.
            Err(WireError::Exception(10 | 11) | WireError::Timeout) => continue,
            Err(WireError::Exception(code)) => {
                format!("answers with exception {code} ({})", exception(code))
            }
            Err(WireError::Closed(_)) => {
                transport = open(&line).await?;
                continue;
            }
            Err(why) => why.to_string(),
        };
        found.push(Found { unit, answer, took_us: started.elapsed().as_micros() as u64 });
    }
    if json {
        screen.json(&found)?;
    } else if !found.is_empty() {
        let mut columns = Columns::new([(Right, "UNIT"), (Right, "TOOK"), (Left, "ANSWER")]);
        for Found { unit, answer, took_us } in &found {
            let took = Cell::from(time_us(*took_us));
            columns.row([Cell::from(unit.to_string()), took, answer.as_str().into()]);
        }
        screen.print(&columns.render(screen.paint))?;
    }
    if found.is_empty() {
        return Err(failed(format!("{}: none of the units {from} to {to} answers", line.target)));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn orders_stand_side_by_side() {
        fn check(registers: &[u16], kind: Kind, expected: &str) {
            let text = side_by_side(rows(7, registers, kind), kind, Paint(false));
            assert_eq!(text, expected, "{registers:x?} as {kind}");
        }
        check(
            &[0x0102, 0xffff],
            Kind::I16,
            "ADDRESS   HEX   AB   BA\n      7  0102  258  513\n      8  ffff   -1   -1\n",
        );
        check(
            &[0x422a, 0x0000],
            Kind::F32,
            "ADDRESS        HEX  ABCD          CDAB          BADC          DCBA\n      \
             7  422a 0000  42.5  2.373519e-41  1.723066e-13  1.515925e-41\n",
        );
        check(
            &[0x7fc0, 0x0000],
            Kind::U32,
            "ADDRESS        HEX        ABCD   CDAB        BADC   DCBA\n      \
             7  7fc0 0000  2143289344  32704  3229548544  49279\n",
        );
    }

    #[test]
    fn words_are_those_of_the_configuration() {
        assert_eq!(word::<Table>("holding"), Ok(Table::Holding));
        assert!(word::<Table>("register").unwrap_err().contains("`holding`"));
        assert_eq!(number("f32"), Ok(Kind::F32));
        assert!(number("bool").is_err() && number("f16").is_err());
        assert!(writable("input").unwrap_err().contains("cannot be written"));
    }
}
